"""`lcm_read_file` and `lcm_search_file`: the tools with which a model looks into the files its context refers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anyio import to_thread

from mnesis.files.grep import FileMatches
from mnesis.files.paging import FilePage, read_page
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.models.tool import ToolSpec
from mnesis.recall.fence import fenced
from mnesis.recall.grants import Grant, LookupTool
from mnesis.recall.stored_files import resolve_file, searched
from mnesis.store.base import Store
from mnesis.tools.recall import FENCE_TOKENS, MORE_TOKENS, Count

NAMES = ("lcm_read_file", "lcm_search_file")
CHARS_PER_TOKEN = 4
SMALLEST_PAGE_CHARS = 80

_FILE = {"type": "string", "description": "The id of a file as it stands in the context, or its first 12 characters."}
_CURSOR = {"type": "string", "description": "Where the last result said it goes on."}
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


def file_tools(
    store: Store, storage: FileStorage, session_id: str, count: Count, grant: Grant | None = None
) -> list[ToolSpec]:
    """The two tools for one session's files, drawing on one grant. Without one, a bounded grant."""
    desk = FileDesk(store, storage, session_id, count, grant or Grant())
    return [
        ToolSpec(
            "lcm_read_file",
            "Read a file that is kept outside the messages, from a line or a byte on. Long files come in pages; pass the"
            " cursor to go on. Binary files are shown in hex.",
            _READ,
            desk.read_file,
            True,
        ),
        ToolSpec(
            "lcm_search_file",
            "Find the lines of a file kept outside the messages that match a regular expression, with their numbers; read"
            " around them with lcm_read_file.",
            _SEARCH,
            desk.search_file,
            True,
        ),
    ]


@dataclass(frozen=True)
class FileDesk:
    """Where the file tools of one grant are answered. Errors are raised; who runs the tool shows them to the model."""

    store: Store
    storage: FileStorage
    session_id: str
    count: Count
    grant: Grant

    async def read_file(
        self,
        file_id: str,
        line: int | None = None,
        offset: int | None = None,
        lines: int | None = None,
        cursor: str | None = None,
    ) -> str:
        """A page of a file, as long as there is room for."""
        room = self.grant.room("lcm_read_file", file_id)
        stored = await self._stored(file_id, "lcm_read_file")
        space = room - FENCE_TOKENS - 2 * MORE_TOKENS
        at = {"cursor": cursor} if cursor else {"offset": offset} if offset is not None else {"line": line}
        bounds = {} if lines is None else {"max_lines": lines}
        max_chars = space * CHARS_PER_TOKEN
        while True:
            read = partial(read_page, stored, **at, **bounds, max_chars=max_chars)  # type: ignore[arg-type]  # by name
            page = await to_thread.run_sync(read, abandon_on_cancel=True)
            tokens = self.count(page.text)
            if tokens <= space or max_chars <= SMALLEST_PAGE_CHARS:
                break
            # What is dense is tried again with as much less as it was too much.
            max_chars = max(int(max_chars * space / tokens * 0.9), SMALLEST_PAGE_CHARS)
        return self._noted("lcm_read_file", page.content_id, _page_lines(page))

    async def search_file(
        self, file_id: str, pattern: str, ignore_case: bool = False, cursor: str | None = None
    ) -> str:
        """Matching lines of a file, as many as there is room for."""
        room = self.grant.room("lcm_search_file", f"{file_id}: {pattern}")
        stored = await self._stored(file_id, "lcm_search_file")
        found = await searched(stored, pattern, ignore_case=ignore_case, cursor=cursor or None)
        lines = self._match_lines(found, room - FENCE_TOKENS - MORE_TOKENS)
        return self._noted("lcm_search_file", f"{stored.content_id}: {pattern}", lines)

    async def _stored(self, file_id: str, tool: LookupTool) -> StoredFile:
        content_id = await resolve_file(self.store, self.session_id, file_id)
        await self._refuse_outside(content_id, tool)
        return await to_thread.run_sync(self.storage.find, content_id, abandon_on_cancel=True)

    async def _refuse_outside(self, content_id: str, tool: LookupTool) -> None:
        """A limited grant opens the files behind the summaries it names."""
        if self.grant.summary_ids is None:
            return
        for summary_id in self.grant.summary_ids:
            if content_id in (await self.store.summary(self.session_id, summary_id)).file_ids:
                return
        raise self.grant.refusal(tool, content_id, "the grant does not cover this file")

    def _match_lines(self, found: FileMatches, space: int) -> list[str]:
        lines: list[str] = []
        cursor = found.next_cursor
        for number, match in enumerate(found.matches):
            line = f"{match.line}: {match.text}"
            if number and self.count(line) >= space:
                cursor = found.matches[number - 1].next_cursor
                break
            lines.append(self._shortened(line, space))
            space -= self.count(lines[-1]) + 1
        if found.timed_out:
            lines.append(
                f"The time limit ended the search after {found.searched_bytes:,} bytes; the cursor goes on there."
            )
        return [*lines, f"More: cursor={cursor}"] if cursor else lines or ["No line matches."]

    def _shortened(self, line: str, space: int) -> str:
        """As much of a line as there is room for."""
        while line and (tokens := self.count(line)) >= space:
            line = line[: len(line) * max(space, 0) // (tokens + 1)]
        return line

    def _noted(self, tool: LookupTool, target: str, lines: Sequence[str]) -> str:
        result = fenced("From a stored file", lines)
        self.grant.note(tool, target[:200], self.count(result))
        return result


def _page_lines(page: FilePage) -> list[str]:
    where = f"from line {page.first_line:,}, " if page.first_line else ""
    kind = "binary, in hex: " if page.is_binary else ""
    head = f"{page.content_id[:12]}, {kind}{where}bytes {page.offset:,} to {page.end:,} of {page.size_bytes:,}:"
    body = page.text.removesuffix("\n") if page.text else "That was all."
    return [head, body, f"More: cursor={page.next_cursor}"] if page.next_cursor else [head, body]
