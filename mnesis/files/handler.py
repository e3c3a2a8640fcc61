"""Turn a file into message content: inline text if it is small, otherwise a reference to a stored copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, model_validator

from mnesis.config import FileConfig
from mnesis.encryption import EncryptionKey
from mnesis.errors import UnsuitableFileError
from mnesis.files.explorers import Exploration
from mnesis.files.llm_summary import FileSummarizer
from mnesis.files.object_storage import open_storage
from mnesis.files.object_store import ObjectStore
from mnesis.files.source_file import read_chunks, retry_while_changing, suitable_file_size
from mnesis.files.storage import StoredFile
from mnesis.files.summary_cache import explore_cached, load_exploration, save_exploration
from mnesis.files.token_size import MAX_BYTES_PER_TOKEN, decode_text, estimate_file_tokens, exceeds
from mnesis.llm.resolve import resolve
from mnesis.models.message import FileRefPart
from mnesis.redaction import Redaction
from mnesis.tokens.estimator import TokenCounter, TokenEstimator

T = TypeVar("T")


class FileHandleResult(BaseModel):
    """The content of a handled file: either `inline_content`, its text, or `file_ref`, the reference to a stored copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    inline_content: str | None = None
    file_ref: FileRefPart | None = None

    @property
    def is_inline(self) -> bool:
        """Whether the text is part of the message itself."""
        return self.inline_content is not None

    @model_validator(mode="after")
    def _exactly_one(self) -> FileHandleResult:
        if (self.inline_content is None) == (self.file_ref is None):
            raise ValueError("a file is either inline or stored; pass exactly one of inline_content and file_ref")
        return self


class HasFiles(Protocol):
    """An object with a file handler, such as a session."""

    @property
    def files(self) -> LargeFileHandler: ...


class LargeFileHandler:
    """A handler that keeps text of at most `config.inline_threshold` tokens inline and stores everything else.

    Stored content is a copy in `config.storage_dir`, at `config.storage_url` or in `objects`, under the hash of its
    bytes, with a summary. Binary content, and text that is not valid UTF-8 (or UTF-16 with a byte order mark), is
    always stored, because inline text could not reproduce it.

    `estimator` is a `TokenEstimator` or a function from text to tokens; it counts for `model` if one is given. `llm` is the
    client for `config.exploration_summary_model` (as in `Engine`), and `llm_options` are further arguments of its calls.
    With `redaction`, secrets in files are replaced before they are stored. With `read_key`, which returns the key of
    encrypted files, they are stored encrypted. `objects` is the object store to use instead of `config.storage_url`.
    `store` is only kept as an attribute: references are stored in messages, so the handler does not need a database.
    """

    def __init__(
        self,
        store: object | None = None,
        estimator: TokenEstimator | TokenCounter | None = None,
        config: FileConfig | None = None,
        *,
        llm: object | None = None,
        model: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        redaction: Redaction | None = None,
        read_key: Callable[[], EncryptionKey | None] | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        self.store = store
        self._has_noted_database = False
        self.config = config or FileConfig()
        self.storage = open_storage(self.config, redaction=redaction, read_key=read_key, objects=objects)
        estimator = estimator or TokenEstimator()
        self.count: TokenCounter = (
            partial(estimator.estimate, model=model) if isinstance(estimator, TokenEstimator) else estimator
        )
        summary_model = self.config.exploration_summary_model
        self._summarizer = FileSummarizer(resolve(llm), summary_model, llm_options or {}) if summary_model else None

    @classmethod
    def from_session(cls, session: HasFiles) -> LargeFileHandler:
        """Return the handler of a session, with its settings, token estimator and client."""
        return session.files

    async def handle_file(
        self, path: str | os.PathLike[str], *, content: str | bytes | None = None
    ) -> FileHandleResult:
        """Read a file from disk, or take `content` under that name, and keep it inline or store it.

        If this method raises, nothing was stored. Raises:
        - `MissingFileError` if the file does not exist;
        - `UnsuitableFileError` if it is not a readable regular file, is too large, belongs to an open database, is outside
          `config.allowed_roots` once links are followed, or `content` is not text or bytes;
        - `ChangedFileError` if it keeps changing while it is read;
        - `FileError` if it cannot be stored.
        """
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(name, str) or not name:
            raise UnsuitableFileError(f"{name!r} is not a path; pass the path of a file", path=str(name))
        if not isinstance(content, str | bytes | None):
            given_type = type(content).__name__
            raise UnsuitableFileError(f"the content of {name!r} must be text or bytes, not {given_type}", path=name)
        text, stored = await _run_in_thread(partial(self._inline_or_store, name, content))
        if stored is None:
            return FileHandleResult(path=name, inline_content=text)
        await self._note_database()
        return FileHandleResult(path=name, file_ref=await self.build_reference(stored, name))

    async def store_content(self, content: bytes, name: str, name_for_type: str | None = None) -> FileRefPart:
        """Store content of any size. `name_for_type` is the name used to detect its type (None: `name`)."""
        stored = await _run_in_thread(partial(self.storage.add, content, name))
        await self._note_database()
        return await self.build_reference(stored, name, name_for_type)

    async def build_reference(self, stored: StoredFile, name: str, name_for_type: str | None = None) -> FileRefPart:
        """Build the reference to a stored file, with its type, tokens and summary."""
        name_for_type = name if name_for_type is None else name_for_type
        exploration = await _run_in_thread(partial(explore_cached, self.storage, stored, name_for_type))
        if exploration.is_prose and self._summarizer is not None:
            exploration = await self._add_model_summary(self._summarizer, stored, name_for_type, exploration)
        return FileRefPart(
            content_id=stored.content_id,
            path=name,
            file_type=exploration.file_type,
            token_count=await _run_in_thread(partial(estimate_file_tokens, stored, self.count)),
            exploration_summary=exploration.text,
        )

    async def _note_database(self) -> None:
        location = getattr(self.store, "location", None)
        if isinstance(location, str) and os.path.isabs(location) and not self._has_noted_database:
            await _run_in_thread(partial(self.storage.note_database, location))
            self._has_noted_database = True

    async def exceeds_threshold(self, text: str) -> bool:
        """Return whether a text has more tokens than the inline threshold."""
        return await _run_in_thread(partial(exceeds, text, self.config.inline_threshold, self.count))

    def _inline_or_store(self, name: str, content: str | bytes | None) -> tuple[str, StoredFile | None]:
        """Return the text to keep inline, or the stored file. Blocking."""
        if isinstance(content, str):
            if not exceeds(content, self.config.inline_threshold, self.count):
                return content, None
            return "", self.storage.add(content.encode("utf-8", "surrogatepass"), name)
        location = os.path.expanduser(name)
        if content is None:
            max_inline_bytes = self.config.inline_threshold * MAX_BYTES_PER_TOKEN
            limits = self.config.max_file_bytes, self.config.allowed_roots
            if suitable_file_size(location, *limits) > max_inline_bytes:
                return "", self.storage.add_file(location)
            content = retry_while_changing(lambda: b"".join(read_chunks(location, *limits)))
        text = decode_text(content)
        if text is not None and not exceeds(text, self.config.inline_threshold, self.count):
            return text, None
        return "", self.storage.add(content, name)

    async def _add_model_summary(
        self, summarizer: FileSummarizer, stored: StoredFile, name: str, exploration: Exploration
    ) -> Exploration:
        """Add a model's summary, which is created once per content. Without a summary, returns the exploration
        unchanged.
        """
        cached = await _run_in_thread(partial(load_exploration, self.storage, stored, name, summarizer.model))
        if cached is not None:
            return cached
        improved = await summarizer.summarize(stored, exploration)
        if improved is None:
            return exploration
        await _run_in_thread(partial(save_exploration, self.storage, stored, name, improved, summarizer.model))
        return improved


async def _run_in_thread(work: Callable[[], T]) -> T:
    """Run blocking work off the event loop. Cancelling does not wait. The work finishes in its thread and leaves no
    partial files.
    """
    return await to_thread.run_sync(work, abandon_on_cancel=True)
