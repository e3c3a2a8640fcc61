"""What becomes of a file on its way into a conversation: its text, or a reference to a stored copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, model_validator

from mnesis.config import FileConfig
from mnesis.errors import UnsuitableFileError
from mnesis.files.explorers import Exploration
from mnesis.files.llm_summary import Summariser
from mnesis.files.source_file import chunks_of, size_of, until_stable
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.files.summary_cache import explored, load, save
from mnesis.files.token_size import MAX_BYTES_PER_TOKEN, exceeds, file_tokens, plain_text
from mnesis.llm.resolve import resolve
from mnesis.models.message import FileRefPart
from mnesis.tokens.estimator import TokenEstimator

T = TypeVar("T")
Count = Callable[[str], int]


class FileHandleResult(BaseModel):
    """What a file became: `inline_content`, its text, or `file_ref`, where it is stored; exactly one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    inline_content: str | None = None
    file_ref: FileRefPart | None = None

    @property
    def is_inline(self) -> bool:
        """Whether the text goes into the message itself."""
        return self.inline_content is not None

    @model_validator(mode="after")
    def _exactly_one(self) -> FileHandleResult:
        if (self.inline_content is None) == (self.file_ref is None):
            raise ValueError(
                "a file is either inline or stored: give inline_content or file_ref, not both, not neither"
            )
        return self


class HasFiles(Protocol):
    """Something with a handler of its own, such as a session."""

    @property
    def files(self) -> LargeFileHandler: ...


class LargeFileHandler:
    """Takes files in: text of at most `config.inline_threshold` tokens stays text, everything else is stored.

    What is stored is a copy under the hash of its bytes in `config.storage_dir`, with a summary of what is in it. Binary
    content and text that is not valid UTF-8 (or UTF-16 with its mark) are stored whatever their size: as text they would not
    be what they were.

    `estimator` counts (a `TokenEstimator`, or a function from text to tokens), for `model` if one is named. `llm` is the
    client of `config.exploration_summary_model` (as in `Engine`), `llm_options` further arguments of its calls. `store` is
    kept as it is: references are stored with the messages that hold them, so the handler itself needs no database.
    """

    def __init__(
        self,
        store: object | None = None,
        estimator: TokenEstimator | Count | None = None,
        config: FileConfig | None = None,
        *,
        llm: object | None = None,
        model: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self.config = config or FileConfig()
        self.storage = FileStorage(self.config.storage_dir, max_file_bytes=self.config.max_file_bytes)
        estimator = estimator or TokenEstimator()
        self.count: Count = (
            partial(estimator.estimate, model=model) if isinstance(estimator, TokenEstimator) else estimator
        )
        chosen = self.config.exploration_summary_model
        self._summariser = Summariser(resolve(llm), chosen, llm_options or {}) if chosen else None

    @classmethod
    def from_session(cls, session: HasFiles) -> LargeFileHandler:
        """The handler a session uses for the files it is given: its settings, its model's tokens, its client."""
        return session.files

    async def handle_file(
        self, path: str | os.PathLike[str], *, content: str | bytes | None = None
    ) -> FileHandleResult:
        """Take in a file from the disk, or `content` under that name.

        Raises `MissingFileError`, `UnsuitableFileError` (no regular file, no permission, too large, no text or bytes),
        `ChangedFileError` (it would not stay the same while it was read), `FileError` (it cannot be stored). Then nothing
        was stored.
        """
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(name, str) or not name:
            raise UnsuitableFileError(f"{name!r} is no path; give the name of a file", path=str(name))
        if not isinstance(content, str | bytes | None):
            given = type(content).__name__
            raise UnsuitableFileError(f"the content of {name!r} is text or bytes, not {given}", path=name)
        text, stored = await _in_thread(partial(self._settled, name, content))
        if stored is None:
            return FileHandleResult(path=name, inline_content=text)
        return FileHandleResult(path=name, file_ref=await self.reference(stored, name))

    async def keep(self, content: bytes, name: str, kind_name: str | None = None) -> FileRefPart:
        """Store content whatever its size. `kind_name` is the name that tells its type, if `name` does not."""
        stored = await _in_thread(partial(self.storage.add, content, name))
        return await self.reference(stored, name, kind_name)

    async def reference(self, stored: StoredFile, name: str, kind_name: str | None = None) -> FileRefPart:
        """The reference to a stored file, with what is known of it."""
        kind_name = name if kind_name is None else kind_name
        found = await _in_thread(partial(explored, self.storage, stored, kind_name))
        if found.is_prose and self._summariser is not None:
            found = await self._summarised(self._summariser, stored, kind_name, found)
        return FileRefPart(
            content_id=stored.content_id,
            path=name,
            file_type=found.file_type,
            token_count=await _in_thread(partial(file_tokens, stored.path, self.count)),
            exploration_summary=found.text,
        )

    async def exceeds_threshold(self, text: str) -> bool:
        """Whether a text has more tokens than may stay in a message."""
        return await _in_thread(partial(exceeds, text, self.config.inline_threshold, self.count))

    def _settled(self, name: str, content: str | bytes | None) -> tuple[str, StoredFile | None]:
        """The text that stays inline, or the stored file. Blocking."""
        if isinstance(content, str):
            if not exceeds(content, self.config.inline_threshold, self.count):
                return content, None
            return "", self.storage.add(content.encode("utf-8", "surrogatepass"), name)
        where = os.path.expanduser(name)
        if content is None:
            if size_of(where, self.config.max_file_bytes) > self.config.inline_threshold * MAX_BYTES_PER_TOKEN:
                return "", self.storage.add_file(where)
            content = until_stable(lambda: b"".join(chunks_of(where, self.config.max_file_bytes)))
        text = plain_text(content)
        if text is not None and not exceeds(text, self.config.inline_threshold, self.count):
            return text, None
        return "", self.storage.add(content, name)

    async def _summarised(
        self, summariser: Summariser, stored: StoredFile, name: str, found: Exploration
    ) -> Exploration:
        """With a model's summary, made once for each content; as it is if the model gives none."""
        kept = await _in_thread(partial(load, self.storage, stored, name, summariser.model))
        if kept is not None:
            return kept
        improved = await summariser.improved(stored, found)
        if improved is None:
            return found
        await _in_thread(partial(save, self.storage, stored, name, improved, summariser.model))
        return improved


async def _in_thread(work: Callable[[], T]) -> T:
    """Off the event loop. Whoever is cancelled does not wait: what goes on alone leaves nothing half done."""
    return await to_thread.run_sync(work, abandon_on_cancel=True)
