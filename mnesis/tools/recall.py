"""`lcm_grep`, `lcm_describe` and `lcm_expand`: the tools with which a model looks at what its context leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mnesis.errors import ConfigurationError, NotFoundError, SummaryNotFoundError
from mnesis.models.message import FileRefPart, Message, ToolPart, ToolResultPart
from mnesis.models.search import GrepPage, Search, SearchPage
from mnesis.models.summary import Summary
from mnesis.models.tool import ToolSpec
from mnesis.recall.fence import fenced, heading, moment, text_of
from mnesis.recall.grants import Grant
from mnesis.recall.grep import Grep, grep
from mnesis.recall.stored_files import find_reference
from mnesis.search.pagination import MAX_LIMIT
from mnesis.store.base import Store

Count = Callable[[str], int]

NAMES = ("lcm_grep", "lcm_describe", "lcm_expand")
PAGE_SIZES = (30, 10, 3, 1)
"""How many matches a page may hold: the first number that fits."""
HITS = 10
FENCE_TOKENS = 60
MORE_TOKENS = 50
PAGE_MESSAGES = 50
MAX_WAY_ON_CHARS = 200
"""A longer line with a cursor is no line of ours."""

_ID = {"type": "string", "description": "An id as it stands in the context: sum_… or msg_…"}
_CURSOR = {"type": "string", "description": "Where the last result said it goes on."}
_GREP = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "A regular expression, or words for mode 'words'."},
        "mode": {
            "type": "string",
            "enum": ["regex", "words"],
            "description": "'regex' finds every place in order; 'words' ranks messages by what a question asks for.",
        },
        "summary_id": {"type": "string", "description": "Only look at what stands behind this summary."},
        "cursor": _CURSOR,
    },
    "required": ["pattern"],
}
_ONE_ID = {"type": "object", "properties": {"id": _ID}, "required": ["id"]}
_EXPAND = {"type": "object", "properties": {"id": _ID, "cursor": _CURSOR}, "required": ["id"]}


def recall_tools(store: Store, session_id: str, count: Count, grant: Grant | None = None) -> list[ToolSpec]:
    """The three tools for one session, drawing on one grant. Without one, a bounded grant that lasts as long as they do."""
    desk = Desk(store, session_id, count, grant or Grant())
    return [
        ToolSpec(
            "lcm_grep",
            "Search everything that was ever said in this conversation, also what summaries stand for. Results say which"
            " summary covers them; read on with lcm_expand.",
            _GREP,
            desk.grep,
            True,
        ),
        ToolSpec("lcm_describe", "Say what an id names: a summary, a message or a file.", _ONE_ID, desk.describe, True),
        ToolSpec(
            "lcm_expand",
            "Read originals: what stands behind a summary, or one message whole, tool outputs included. Long results come"
            " in pages; pass the cursor to go on.",
            _EXPAND,
            desk.expand,
            True,
        ),
    ]


@dataclass(frozen=True)
class Desk:
    """Where the tools of one grant are answered. Errors are raised; who runs the tool shows them to the model."""

    store: Store
    session_id: str
    count: Count
    grant: Grant

    async def grep(
        self, pattern: str, mode: str = "regex", summary_id: str | None = None, cursor: str | None = None
    ) -> str:
        """Matches of a pattern, or messages for a question."""
        room = self.grant.room("lcm_grep", pattern)
        scope = self._scope(summary_id, "lcm_grep")
        if mode not in ("regex", "words"):
            raise ConfigurationError(f"mode is 'regex' or 'words', not {mode!r}")
        for number in PAGE_SIZES:
            lines = await self._matches(pattern, mode, scope, cursor or None, number)
            if self._fit(lines, room):
                break
        return self._noted("lcm_grep", pattern, lines, room)

    async def _matches(
        self, pattern: str, mode: str, summary_id: str | None, cursor: str | None, number: int
    ) -> list[str]:
        """So many matches of a pattern; messages by its words where it has none and this is the first page."""
        if mode == "regex":
            found = await grep(self.store, self.session_id, Grep(pattern, summary_id, limit=number, cursor=cursor))
            if found.matches or found.timed_out or cursor:
                return self._grep_lines(found)
        hits = min(number, HITS)
        page = await self.store.search(
            Search(pattern, self.session_id, limit=hits, cursor=cursor, summary_id=summary_id)
        )
        note = "Nothing matches the pattern as it stands; by its words (for more, mode='words'):"
        return self._hit_lines(page, note if mode == "regex" and page else "")

    async def describe(self, id: str) -> str:
        """What an id names."""
        room = self.grant.room("lcm_describe", id)
        try:
            summary = await self._summary(id, "lcm_describe")
        except SummaryNotFoundError:
            lines = await self._message_details(id)
        else:
            lines = list(_summary_details(summary))
        return self._noted("lcm_describe", id, lines, room)

    async def expand(self, id: str, cursor: str | None = None) -> str:
        """Originals, as far as there is room."""
        room = self.grant.room("lcm_expand", id)
        try:
            summary = await self._summary(id, "lcm_expand")
        except SummaryNotFoundError:
            await self._refuse_outside(id)
            message = await self.store.message(self.session_id, id)
            lines = self._message_page(message, _cursor(cursor), room - FENCE_TOKENS)
        else:
            if self.grant.depth is not None and summary.depth >= self.grant.depth:
                lines = await self._children(summary, _cursor(cursor), room)
            else:
                lines = await self._originals(summary, _cursor(cursor), room)
        return self._noted("lcm_expand", id, lines, room)

    async def _summary(self, id: str, tool: str) -> Summary:
        summary = await self.store.summary(self.session_id, id)
        allowed = self.grant.summary_ids
        if allowed is not None and not await self._stands_behind(summary, allowed):
            raise self.grant.refusal(tool, id, "the grant does not cover this summary")
        return summary

    async def _stands_behind(self, summary: Summary, allowed: frozenset[str]) -> bool:
        if summary.id in allowed:
            return True
        every = {found.id: found for found in await self.store.summaries(self.session_id)}
        waiting = [key for key in allowed if key in every]
        while waiting:
            children = every[waiting.pop()].child_ids
            if summary.id in children:
                return True
            waiting.extend(children)
        return False

    async def _refuse_outside(self, message_id: str) -> None:
        """A message must stand behind one of the summaries that a limited grant names."""
        if self.grant.summary_ids is None:
            return
        seq = (await self.store.message(self.session_id, message_id)).seq
        for summary_id in self.grant.summary_ids:
            behind = await self.store.covered_messages(self.session_id, summary_id, after_seq=seq - 1, limit=1)
            if behind and behind[0].seq == seq:
                return
        raise self.grant.refusal("lcm_expand", message_id, "the grant does not cover this message")

    def _scope(self, summary_id: str | None, tool: str) -> str | None:
        """Which summary a search is limited to."""
        allowed = self.grant.summary_ids
        if allowed is None:
            return summary_id or None
        if summary_id in allowed:
            return summary_id
        if len(allowed) == 1 and not summary_id:
            return next(iter(allowed))
        raise self.grant.refusal(tool, str(summary_id), f"name one of {', '.join(sorted(allowed))} as summary_id")

    def _grep_lines(self, found: GrepPage) -> list[str]:
        lines: list[str] = []
        for group in found.groups:
            lines.append(f"Under {group.summary_id}:" if group.summary_id else "In the context itself, or hidden:")
            lines.extend(f"  [{m.message_id} · message {m.seq} · {m.role}] {m.line.strip()}" for m in group.matches)
        if found.timed_out:
            lines.append(
                "The time limit ended the search; use a simpler pattern, or the cursor to pass over the message."
            )
        if found.next_cursor:
            lines.append(f"More: cursor={found.next_cursor}")
        return lines or ["No match."]

    def _hit_lines(self, page: SearchPage, note: str) -> list[str]:
        lines = [note] if note else []
        for hit in page:
            under = f" · under {hit.summary_id}" if hit.summary_id else ""
            lines.append(f"[{hit.message_id} · message {hit.seq} · {hit.role} · {moment(hit.created_at)}{under}]")
            lines.append(hit.excerpt)
        if page.next_cursor:
            lines.append(f"More: cursor={page.next_cursor}")
        return lines or ["Nothing found."]

    async def _message_details(self, id: str) -> list[str]:
        """Of a message, of a stored file, or of what else is mentioned somewhere."""
        try:
            await self._refuse_outside(id)
            message = await self.store.message(self.session_id, id)
        except NotFoundError:
            if (found := await find_reference(self.store, self.session_id, id)) is not None:
                return _file_details(*found)
            page = await self.store.search(Search(id, self.session_id, limit=1, mode="substring"))
            if not page:
                raise
            return [f"{id} is mentioned first in {page[0].message_id}, message {page[0].seq}:", page[0].excerpt]
        parts = (part for part in message.parts if isinstance(part, ToolPart | ToolResultPart))
        tools = sorted({part.tool_name for part in parts})
        about = {"tokens": message.token_count, "tools": tools} if tools else {"tokens": message.token_count}
        return [heading(message), json.dumps(about, ensure_ascii=False)]

    def _message_page(self, message: Message, start: int, tokens: int) -> list[str]:
        text = text_of(message)
        end = self._fitting(text, start, tokens - self.count(heading(message)) - MORE_TOKENS)
        lines = [heading(message), text[start:end]]
        return [*lines, f"More of it: cursor={end}"] if end < len(text) else lines

    async def _children(self, summary: Summary, after_seq: int, room: int) -> list[str]:
        """The summaries it was made of, as many as fit; one in any case, which is cut then."""
        lines = [f"{summary.id} was made of {len(summary.child_ids)} summaries; expand the one you need:"]
        left = room - FENCE_TOKENS - MORE_TOKENS - self.count(lines[0])
        last_shown = 0
        for child_id in summary.child_ids:
            child = await self.store.summary(self.session_id, child_id)
            if child.last_seq <= after_seq:
                continue
            shown = [f"[{child.id} · messages {child.first_seq}-{child.last_seq}]", child.text]
            left -= sum(self.count(line) + 1 for line in shown)
            if left < 0 and last_shown:
                return [*lines, f"More: cursor={last_shown}"]
            lines, last_shown = [*lines, *shown], child.last_seq
        return lines

    async def _originals(self, summary: Summary, after_seq: int, room: int) -> list[str]:
        """Whole messages as long as they fit; the first one in part, with the way to the rest, if even it does not."""
        page = await self.store.covered_messages(
            self.session_id, summary.id, after_seq=after_seq, limit=PAGE_MESSAGES + 1
        )
        left = room - FENCE_TOKENS - MORE_TOKENS
        lines: list[str] = []
        for number, message in enumerate(page[:PAGE_MESSAGES]):
            shown = f"{heading(message)}\n{text_of(message)}"
            tokens = self.count(shown)
            if tokens > left:
                if lines:
                    return [*lines, f"More: cursor={page[number - 1].seq}"]
                rest = f"The rest of this message: lcm_expand({message.id!r}). More: cursor={message.seq}"
                part = self._message_page(message, 0, room - FENCE_TOKENS - self.count(rest))
                return [*part[:2], rest]
            lines.append(shown)
            left -= tokens + 1
        if len(page) > PAGE_MESSAGES:
            lines.append(f"More: cursor={page[PAGE_MESSAGES - 1].seq}")
        return lines or ["That was all."]

    def _fitting(self, text: str, start: int, tokens: int) -> int:
        """Where a stretch of at most `tokens` that begins at `start` ends; it is never empty."""
        low, high = start + 1, min(len(text), start + max(tokens, 1) * 8)
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(text[start:middle]) <= tokens:
                low = middle
            else:
                high = middle - 1
        return max(low, min(start + 1, len(text)))

    def _noted(self, tool: str, target: str, lines: Sequence[str], room: int) -> str:
        """The result, fenced and no longer than there is room for."""
        kept = list(lines) if self._fit(lines, room) else self._shortened(lines, room - FENCE_TOKENS)
        result = fenced("From the log of this conversation", kept)
        self.grant.note(tool, target[:200], self.count(result))
        return result

    def _fit(self, lines: Sequence[str], room: int) -> bool:
        return sum(self.count(line) + 1 for line in lines) <= room - FENCE_TOKENS

    def _shortened(self, lines: Sequence[str], tokens: int) -> list[str]:
        """The lines as far as they fit. Where the result goes on is never left out."""
        end = ["… The rest does not fit."]
        if "cursor=" in lines[-1] and len(lines[-1]) <= MAX_WAY_ON_CHARS:
            lines, end = lines[:-1], [*end, lines[-1]]
        return [*self._within(lines, tokens - sum(self.count(line) + 1 for line in end)), *end]

    def _within(self, lines: Sequence[str], tokens: int) -> Iterator[str]:
        """As much as fits, the last of it a piece of a line."""
        for line in lines:
            needed = self.count(line) + 1
            if needed > tokens:
                if tokens > 1:
                    yield line[: self._fitting(line, 0, tokens - 1)]
                return
            yield line
            tokens -= needed


def _file_details(message: Message, file: FileRefPart) -> list[str]:
    about = {"tokens": file.token_count, "type": file.file_type, "first_in": message.id, "message": message.seq}
    ways = "Read it with lcm_read_file, search it with lcm_search_file; lcm_grep does not look into it."
    return [f"[file {file.content_id}]", json.dumps(about), " ".join(file.path.split()), ways, file.exploration_summary]


def _summary_details(summary: Summary) -> Iterator[str]:
    about = {
        "kind": summary.kind,
        "messages": f"{summary.first_seq}-{summary.last_seq}",
        "message_count": summary.message_count,
        "source_tokens": summary.source_tokens,
        "level": summary.level,
        "made": moment(summary.created_at),
        "files": list(summary.file_ids),
        "made_of": list(summary.child_ids),
    }
    yield f"[{summary.id}]"
    yield json.dumps({name: value for name, value in about.items() if value not in ([], "")}, ensure_ascii=False)
    yield summary.text


def _cursor(cursor: Any) -> int:
    text = str(cursor or 0)
    if not text.isascii() or not text.isdigit() or len(text) > len(str(MAX_LIMIT)) + 14:
        raise ConfigurationError(
            f"{text[:80]!r} is no cursor of lcm_expand; pass what the last result said, or nothing"
        )
    return int(text)
