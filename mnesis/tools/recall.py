"""`lcm_grep`, `lcm_describe` and `lcm_expand`: tools with which a model retrieves content that its context leaves
out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnesis.errors import ConfigurationError, NotFoundError, SummaryNotFoundError
from mnesis.models.cursor import parse_cursor
from mnesis.models.message import FileRefPart, Message, ToolPart, ToolResultPart
from mnesis.models.search import Search, SearchHit
from mnesis.models.summary import Summary
from mnesis.models.tool import ToolSpec
from mnesis.recall.expand import covered_messages
from mnesis.recall.fence import format_time, message_header, quotable_text, quote
from mnesis.recall.grants import Grant
from mnesis.recall.grep import GrepQuery, grep
from mnesis.recall.stored_files import find_file_reference
from mnesis.search.time_parameters import TimeLimits, resolve_times
from mnesis.store.base import Store
from mnesis.tokens.estimator import TokenCounter
from mnesis.tools.match_lines import match_lines

PAGE_SIZES = (30, 10, 3, 1)
"""The numbers of matches to try per page; the first that fits is used."""
MAX_HITS = 30
"""The number of messages on one page of matches, if they fit."""
FENCE_TOKENS = 60
"""Tokens reserved for the fence around a result."""
MORE_TOKENS = 50
"""Tokens reserved for the line with the cursor."""
PAGE_MESSAGES = 50
MAX_CURSOR_LINE_CHARS = 200
"""The longest line with a cursor that the tools write; a longer one is quoted content."""

_ID = {"type": "string", "description": "An id as shown in the context: sum_… or msg_…"}
_CURSOR = {"type": "string", "description": "The cursor at the end of the last result, to read what follows."}
_WHEN = {"type": "string", "description": "Only messages of this time: '2026-03-01', 'yesterday', 'last week'."}
_GREP = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "A regular expression, or words for mode 'words'."},
        "mode": {
            "type": "string",
            "enum": ["regex", "words"],
            "description": "'regex' finds every place in order; 'words' ranks messages by what a question asks for.",
        },
        "summary_id": {"type": "string", "description": "Only look at the messages behind this summary."},
        "when": _WHEN,
        "cursor": _CURSOR,
    },
    "required": ["pattern"],
}
_ONE_ID = {"type": "object", "properties": {"id": _ID}, "required": ["id"]}
_EXPAND = {"type": "object", "properties": {"id": _ID, "when": _WHEN, "cursor": _CURSOR}, "required": ["id"]}


RECALL_TOOL_SPECS = (
    ToolSpec(
        "lcm_grep",
        "Search everything that was ever said in this conversation, including what summaries replaced. Results say which"
        " summary covers them; read on with lcm_expand.",
        _GREP,
        read_only=True,
    ),
    ToolSpec("lcm_describe", "Say what an id names: a summary, a message or a file.", _ONE_ID, read_only=True),
    ToolSpec(
        "lcm_expand",
        "Read originals: the messages behind a summary, or one whole message with its tool outputs. Long results come"
        " in pages; pass the cursor to go on.",
        _EXPAND,
        read_only=True,
    ),
)
"""The recall tools without handlers: names, descriptions and JSON schemas, for adapters that bind their own."""


def recall_tools(store: Store, session_id: str, count: TokenCounter, grant: Grant | None = None) -> list[ToolSpec]:
    """Return the three recall tools of a session, which share one grant. The default is a new `Grant()`."""
    handlers = RecallToolHandlers(store, session_id, count, grant or Grant())
    by_name: dict[str, Callable[..., Any]] = {
        "lcm_grep": handlers.grep,
        "lcm_describe": handlers.describe,
        "lcm_expand": handlers.expand,
    }
    return [replace(spec, handler=by_name[spec.name]) for spec in RECALL_TOOL_SPECS]


@dataclass(frozen=True, slots=True)
class _Page:
    """The query of a page of `lcm_grep`, and the tokens that the page may take."""

    pattern: str
    summary_id: str | None
    cursor: str | None
    times: TimeLimits
    available_tokens: int


@dataclass(frozen=True)
class RecallToolHandlers:
    """The handlers of the recall tools for one session and grant. Errors are raised; the caller reports them to the model."""

    store: Store
    session_id: str
    count: TokenCounter
    grant: Grant

    async def grep(
        self,
        pattern: str,
        mode: str = "regex",
        summary_id: str | None = None,
        cursor: str | None = None,
        when: str | None = None,
    ) -> str:
        """Return the matches of a pattern, or the messages that match a query."""
        available_tokens = self.grant.remaining("lcm_grep", pattern)
        allowed_summary_id = self._resolve_scope(summary_id, "lcm_grep")
        if mode not in ("regex", "words"):
            raise ConfigurationError(f"mode must be 'regex' or 'words', not {mode!r}")
        cursor = cursor or None
        times = resolve_times(when=when or None, cursor=cursor if mode == "words" else None)
        page = _Page(pattern, allowed_summary_id, cursor, times, available_tokens - FENCE_TOKENS)
        lines = await (self._find_matches(page) if mode == "regex" else self._rank_messages(page))
        return self._finish("lcm_grep", pattern, lines, available_tokens)

    async def _find_matches(self, page: _Page) -> list[str]:
        """Find matches of a pattern, as many as fit. If page one has none, rank messages by the words of the pattern."""
        lines: list[str] = []
        for limit in PAGE_SIZES:
            query = GrepQuery(
                page.pattern,
                page.summary_id,
                limit=limit,
                cursor=page.cursor,
                after=page.times.after,
                before=page.times.before,
            )
            found = await grep(self.store, self.session_id, query)
            if not found.matches and not found.timed_out and not page.cursor:
                note = "Nothing matches the pattern as it stands; by its words (for more, mode='words'):"
                return await self._rank_messages(page, note)
            lines = await match_lines(self.store, self.session_id, found, page.available_tokens)
            if self._tokens(lines) <= page.available_tokens:
                break
        return lines

    async def _rank_messages(self, page: _Page, note: str = "") -> list[str]:
        """Return the best messages for a query, as many as fit."""
        search = Search(
            page.pattern,
            self.session_id,
            limit=MAX_HITS,
            cursor=page.cursor,
            summary_id=page.summary_id,
            after=page.times.after,
            before=page.times.before,
            now=page.times.now,
        )
        hits = await self.store.search(search)
        remaining_tokens = page.available_tokens - MORE_TOKENS - self.count(note)
        fitting = 0
        for hit in hits:
            remaining_tokens -= self._tokens(_hit_lines(hit))
            if remaining_tokens < 0:
                break
            fitting += 1
        if fitting < len(hits):
            # The cursor of a page continues after all of its hits, so the page is read again at the size that fits.
            hits = await self.store.search(replace(search, limit=max(fitting, 1)))
        lines = [note] if note and hits else []
        lines += [line for hit in hits for line in _hit_lines(hit)]
        if hits.next_cursor:
            lines.append(f"More: cursor={hits.next_cursor}")
        return lines or ["Nothing found."]

    async def describe(self, id: str) -> str:
        """Describe what an id names."""
        available_tokens = self.grant.remaining("lcm_describe", id)
        try:
            summary = await self._granted_summary(id, "lcm_describe")
        except SummaryNotFoundError:
            lines = await self._message_details(id)
        else:
            lines = list(_summary_details(summary))
        return self._finish("lcm_describe", id, lines, available_tokens)

    async def expand(self, id: str, cursor: str | None = None, when: str | None = None) -> str:
        """Return a page of originals that fits the grant; with `when`, only those of that time."""
        available_tokens = self.grant.remaining("lcm_expand", id)
        try:
            summary = await self._granted_summary(id, "lcm_expand")
        except SummaryNotFoundError:
            await self._check_grant(id)
            message = await self.store.message(self.session_id, id)
            lines = self._message_page(message, _cursor(cursor), available_tokens - FENCE_TOKENS)
        else:
            if self.grant.depth is not None and summary.depth >= self.grant.depth:
                lines = await self._child_lines(summary, _cursor(cursor), available_tokens)
            else:
                times = resolve_times(when=when or None)
                lines = await self._original_lines(summary, _cursor(cursor), available_tokens, times)
        return self._finish("lcm_expand", id, lines, available_tokens)

    async def _granted_summary(self, id: str, tool: str) -> Summary:
        summary = await self.store.summary(self.session_id, id)
        allowed = self.grant.summary_ids
        if allowed is not None and not await self._is_descendant(summary, allowed):
            raise self.grant.deny(tool, id, "the grant does not cover this summary")
        return summary

    async def _is_descendant(self, summary: Summary, allowed: frozenset[str]) -> bool:
        if summary.id in allowed:
            return True
        summaries = {each.id: each for each in await self.store.summaries(self.session_id)}
        pending = [key for key in allowed if key in summaries]
        while pending:
            children = summaries[pending.pop()].child_ids
            if summary.id in children:
                return True
            pending.extend(children)
        return False

    async def _check_grant(self, message_id: str) -> None:
        """Raise unless a limited grant names a summary that covers the message."""
        if self.grant.summary_ids is None:
            return
        seq = (await self.store.message(self.session_id, message_id)).seq
        for summary_id in self.grant.summary_ids:
            covered = await self.store.covered_messages(self.session_id, summary_id, after_seq=seq - 1, limit=1)
            if covered and covered[0].seq == seq:
                return
        raise self.grant.deny("lcm_expand", message_id, "the grant does not cover this message")

    def _resolve_scope(self, summary_id: str | None, tool: str) -> str | None:
        """Return the summary that a search is limited to, or None for the whole session. Raises if the grant does not
        cover it.
        """
        allowed = self.grant.summary_ids
        if allowed is None:
            return summary_id or None
        if summary_id in allowed:
            return summary_id
        if len(allowed) == 1 and not summary_id:
            return next(iter(allowed))
        raise self.grant.deny(tool, str(summary_id), f"name one of {', '.join(sorted(allowed))} as summary_id")

    async def _message_details(self, id: str) -> list[str]:
        """Return details of a message, a stored file, or the first mention of any other id."""
        try:
            await self._check_grant(id)
            message = await self.store.message(self.session_id, id)
        except NotFoundError:
            if (reference := await find_file_reference(self.store, self.session_id, id)) is not None:
                return _file_details(*reference)
            page = await self.store.search(Search(id, self.session_id, limit=1, mode="substring"))
            if not page:
                raise
            return [f"{id} is mentioned first in {page[0].message_id}, message {page[0].seq}:", page[0].excerpt]
        parts = (part for part in message.parts if isinstance(part, ToolPart | ToolResultPart))
        tools = sorted({part.tool_name for part in parts})
        about = {"tokens": message.token_count, "tools": tools} if tools else {"tokens": message.token_count}
        return [message_header(message), json.dumps(about, ensure_ascii=False)]

    def _message_page(self, message: Message, start: int, tokens: int) -> list[str]:
        text = quotable_text(message)
        end = self._fitting_end(text, start, tokens - self.count(message_header(message)) - MORE_TOKENS)
        lines = [message_header(message), text[start:end]]
        return [*lines, f"More of it: cursor={end}"] if end < len(text) else lines

    async def _child_lines(self, summary: Summary, after_seq: int, available_tokens: int) -> list[str]:
        """Return as many child summaries as fit, and at least one, which is truncated later if it does not fit."""
        lines = [f"{summary.id} was made of {len(summary.child_ids)} summaries; expand the one you need:"]
        remaining_tokens = available_tokens - FENCE_TOKENS - MORE_TOKENS - self.count(lines[0])
        last_shown = 0
        for child_id in summary.child_ids:
            child = await self.store.summary(self.session_id, child_id)
            if child.last_seq <= after_seq:
                continue
            child_lines = [f"[{child.id} · messages {child.first_seq}-{child.last_seq}]", child.text]
            remaining_tokens -= sum(self.count(line) + 1 for line in child_lines)
            if remaining_tokens < 0 and last_shown:
                return [*lines, f"More: cursor={last_shown}"]
            lines, last_shown = [*lines, *child_lines], child.last_seq
        return lines

    async def _original_lines(
        self, summary: Summary, after_seq: int, available_tokens: int, times: TimeLimits
    ) -> list[str]:
        """Return as many whole messages as fit. If even the first is too long, return its beginning and the way to read
        the rest.
        """
        page = await covered_messages(self.store, self.session_id, summary.id, after_seq, PAGE_MESSAGES + 1, times)
        remaining_tokens = available_tokens - FENCE_TOKENS - MORE_TOKENS
        lines: list[str] = []
        for number, message in enumerate(page[:PAGE_MESSAGES]):
            text = f"{message_header(message)}\n{quotable_text(message)}"
            tokens = self.count(text)
            if tokens > remaining_tokens:
                if lines:
                    return [*lines, f"More: cursor={page[number - 1].seq}"]
                rest = f"The rest of this message: lcm_expand({message.id!r}). More: cursor={message.seq}"
                part = self._message_page(message, 0, available_tokens - FENCE_TOKENS - self.count(rest))
                return [*part[:2], rest]
            lines.append(text)
            remaining_tokens -= tokens + 1
        if len(page) > PAGE_MESSAGES:
            lines.append(f"More: cursor={page[PAGE_MESSAGES - 1].seq}")
        return lines or ["That was all."]

    def _fitting_end(self, text: str, start: int, tokens: int) -> int:
        """Return the end of the longest span from `start` that has at most `tokens`. The span is never empty."""
        low, high = start + 1, min(len(text), start + max(tokens, 1) * 8)
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(text[start:middle]) <= tokens:
                low = middle
            else:
                high = middle - 1
        return max(low, min(start + 1, len(text)))

    def _finish(self, tool: str, target: str, lines: Sequence[str], available_tokens: int) -> str:
        """Quote the result, truncated if it does not fit, and record the use."""
        kept = (
            list(lines)
            if self._fits(lines, available_tokens)
            else self._truncate_lines(lines, available_tokens - FENCE_TOKENS)
        )
        result = quote("From the log of this conversation", kept)
        self.grant.record_use(tool, target[:200], self.count(result))
        return result

    def _fits(self, lines: Sequence[str], available_tokens: int) -> bool:
        return self._tokens(lines) <= available_tokens - FENCE_TOKENS

    def _tokens(self, lines: Iterable[str]) -> int:
        return sum(self.count(line) + 1 for line in lines)

    def _truncate_lines(self, lines: Sequence[str], tokens: int) -> list[str]:
        """Truncate the lines to fit. The line with the cursor is always kept."""
        end = ["… The rest does not fit."]
        if "cursor=" in lines[-1] and len(lines[-1]) <= MAX_CURSOR_LINE_CHARS:
            lines, end = lines[:-1], [*end, lines[-1]]
        return [*self._take_fitting(lines, tokens - sum(self.count(line) + 1 for line in end)), *end]

    def _take_fitting(self, lines: Sequence[str], tokens: int) -> Iterator[str]:
        """Yield the lines that fit, and the beginning of the next one."""
        for line in lines:
            line_tokens = self.count(line) + 1
            if line_tokens > tokens:
                if tokens > 1:
                    yield line[: self._fitting_end(line, 0, tokens - 1)]
                return
            yield line
            tokens -= line_tokens


def _hit_lines(hit: SearchHit) -> list[str]:
    under = f" · under {hit.summary_id}" if hit.summary_id else ""
    header = f"[{hit.message_id} · message {hit.seq} · {hit.role} · {format_time(hit.created_at)}{under}]"
    return [header, hit.excerpt]


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
        "made": format_time(summary.created_at),
        "files": list(summary.file_ids),
        "made_of": list(summary.child_ids),
    }
    yield f"[{summary.id}]"
    yield json.dumps({name: value for name, value in about.items() if value not in ([], "")}, ensure_ascii=False)
    yield summary.text


def _cursor(cursor: Any) -> int:
    """Parse a cursor of `lcm_expand`: a seq or an offset. Models may pass it as a number, or leave it empty."""
    return parse_cursor(str(cursor or 0), 1, of="lcm_expand").numbers[0]
