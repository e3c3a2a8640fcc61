"""`lcm_read_file` and `lcm_search_file`: tools that let a model read the stored files its context refers to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread

from mnesis.files.grep import FileMatches
from mnesis.files.paging import FilePage
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.models.tool import ToolSpec
from mnesis.recall.fence import quote
from mnesis.recall.grants import Grant, RecallToolName
from mnesis.recall.stored_files import read_file_page, resolve_file_id, search_stored_file
from mnesis.store.base import Store
from mnesis.tokens.estimator import TokenCounter
from mnesis.tools.recall import FENCE_TOKENS, MORE_TOKENS

CHARS_PER_TOKEN = 4
"""The first guess for the length of a page; pages with more tokens are read again, shorter."""
MIN_PAGE_CHARS = 80

_FILE = {"type": "string", "description": "The id of a file as shown in the context, or its first 12 characters."}
_CURSOR = {"type": "string", "description": "The cursor at the end of the last result, to read what follows."}
_READ = {
    "type": "object",
    "properties": {
        "file_id": _FILE,
        "line": {"type": "integer", "minimum": 1, "description": "The first line to read; 1 by default."},
        "offset": {"type": "integer", "minimum": 0, "description": "The first byte to read, instead of a line."},
        "lines": {"type": "integer", "minimum": 1, "description": "How many lines at most."},
        "cursor": _CURSOR,
    },
    "required": ["file_id"],
}
_SEARCH = {
    "type": "object",
    "properties": {
        "file_id": _FILE,
        "pattern": {"type": "string", "description": "A regular expression."},
        "ignore_case": {"type": "boolean"},
        "cursor": _CURSOR,
    },
    "required": ["file_id", "pattern"],
}

FILE_TOOL_SPECS = (
    ToolSpec(
        "lcm_read_file",
        "Read a file that is kept outside the messages, from a line or a byte on. Long files come in pages; pass the"
        " cursor to go on. Binary files are shown in hex.",
        _READ,
        read_only=True,
    ),
    ToolSpec(
        "lcm_search_file",
        "Find the lines of a file kept outside the messages that match a regular expression, with their numbers; read"
        " around them with lcm_read_file.",
        _SEARCH,
        read_only=True,
    ),
)
"""The file tools without handlers: names, descriptions and JSON schemas."""


def file_tools(
    store: Store, storage: FileStorage, session_id: str, count: TokenCounter, grant: Grant | None = None
) -> list[ToolSpec]:
    """Return the two file tools of a session, which share one grant. The default is a new `Grant()`."""
    handlers = FileToolHandlers(store, storage, session_id, count, grant or Grant())
    by_name: dict[str, Callable[..., Any]] = {
        "lcm_read_file": handlers.read_file,
        "lcm_search_file": handlers.search_file,
    }
    return [replace(spec, handler=by_name[spec.name]) for spec in FILE_TOOL_SPECS]


@dataclass(frozen=True)
class FileToolHandlers:
    """The handlers of the file tools for one session and grant. Errors are raised; the caller reports them to the model."""

    store: Store
    storage: FileStorage
    session_id: str
    count: TokenCounter
    grant: Grant

    async def read_file(
        self,
        file_id: str,
        line: int | None = None,
        offset: int | None = None,
        lines: int | None = None,
        cursor: str | None = None,
    ) -> str:
        """Return a page of a file that fits the grant."""
        remaining_tokens = self.grant.remaining("lcm_read_file", file_id)
        stored = await self._find_file(file_id, "lcm_read_file")
        available_tokens = remaining_tokens - FENCE_TOKENS - 2 * MORE_TOKENS
        position = {"cursor": cursor} if cursor else {"offset": offset} if offset is not None else {"line": line}
        limits = {} if lines is None else {"max_lines": lines}
        max_chars = available_tokens * CHARS_PER_TOKEN
        while True:
            page = await read_file_page(stored, **position, **limits, max_chars=max_chars)
            tokens = self.count(page.text)
            if tokens <= available_tokens or max_chars <= MIN_PAGE_CHARS:
                break
            # The text has more tokens per character than assumed: read it again, shorter by the ratio.
            max_chars = max(int(max_chars * available_tokens / tokens * 0.9), MIN_PAGE_CHARS)
        return self._finish("lcm_read_file", page.content_id, _page_lines(page))

    async def search_file(
        self, file_id: str, pattern: str, ignore_case: bool = False, cursor: str | None = None
    ) -> str:
        """Return as many matching lines of a file as fit the grant."""
        remaining_tokens = self.grant.remaining("lcm_search_file", f"{file_id}: {pattern}")
        stored = await self._find_file(file_id, "lcm_search_file")
        page = await search_stored_file(stored, pattern, ignore_case=ignore_case, cursor=cursor or None)
        lines = self._match_lines(page, remaining_tokens - FENCE_TOKENS - MORE_TOKENS)
        return self._finish("lcm_search_file", f"{stored.content_id}: {pattern}", lines)

    async def _find_file(self, file_id: str, tool: RecallToolName) -> StoredFile:
        content_id = await resolve_file_id(self.store, self.session_id, file_id)
        await self._check_grant(content_id, tool)
        return await to_thread.run_sync(self.storage.find, content_id, abandon_on_cancel=True)

    async def _check_grant(self, content_id: str, tool: RecallToolName) -> None:
        """Raise unless a limited grant names a summary that refers to the file."""
        if self.grant.summary_ids is None:
            return
        for summary_id in self.grant.summary_ids:
            if content_id in (await self.store.summary(self.session_id, summary_id)).file_ids:
                return
        raise self.grant.deny(tool, content_id, "the grant does not cover this file")

    def _match_lines(self, page: FileMatches, available_tokens: int) -> list[str]:
        lines: list[str] = []
        cursor = page.next_cursor
        for number, match in enumerate(page.matches):
            line = f"{match.line}: {match.text}"
            if number and self.count(line) >= available_tokens:
                cursor = page.matches[number - 1].next_cursor
                break
            lines.append(self._truncate_line(line, available_tokens))
            available_tokens -= self.count(lines[-1]) + 1
        if page.timed_out:
            lines.append(
                f"The time limit ended the search after {page.searched_bytes:,} bytes; the cursor continues there."
            )
        return [*lines, f"More: cursor={cursor}"] if cursor else lines or ["No line matches."]

    def _truncate_line(self, line: str, available_tokens: int) -> str:
        """Truncate a line to fewer than `available_tokens`."""
        while line and (tokens := self.count(line)) >= available_tokens:
            line = line[: len(line) * max(available_tokens, 0) // (tokens + 1)]
        return line

    def _finish(self, tool: RecallToolName, target: str, lines: Sequence[str]) -> str:
        result = quote("From a stored file", lines)
        self.grant.record_use(tool, target[:200], self.count(result))
        return result


def _page_lines(page: FilePage) -> list[str]:
    location = f"from line {page.first_line:,}, " if page.first_line else ""
    kind = "binary, in hex: " if page.is_binary else ""
    head = f"{page.content_id[:12]}, {kind}{location}bytes {page.offset:,} to {page.end:,} of {page.size_bytes:,}:"
    body = page.text.removesuffix("\n") if page.text else "That was all."
    return [head, body, f"More: cursor={page.next_cursor}"] if page.next_cursor else [head, body]
