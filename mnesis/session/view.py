"""The verbs of a session that append to the log, and those that read and change the model's view of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from mnesis.errors import ConfigurationError, InvalidMessageError, StaleContextError, SummaryNotFoundError
from mnesis.late_types import declare_late_types
from mnesis.session.reader import SessionReader
from mnesis.session.reentrancy import refuse_reentrant_call
from mnesis.session.turn_lock import hold_turn
from mnesis.validation import check_integer

if TYPE_CHECKING:
    from mnesis.formats.request import RequestMessages
    from mnesis.models.context import ActiveContext, Cover, Window, WindowOptions
    from mnesis.models.message import Message
    from mnesis.models.results import CompactionResult
    from mnesis.models.usage import TokenUsage
    from mnesis.session.compactor import Compactor
else:
    declare_late_types(
        globals(),
        {
            "mnesis.formats.request": "RequestMessages",
            "mnesis.models.context": "ActiveContext Cover Window WindowOptions",
            "mnesis.models.message": "Message",
            "mnesis.models.results": "CompactionResult",
            "mnesis.models.usage": "TokenUsage",
            "mnesis.session.compactor": "Compactor",
        },
    )

MAX_FOCUS_CHARS = 1_000
"""The maximum length of a focus, which is part of every summary's prompt."""
MAX_PINNED_FRACTION = 0.25
"""The largest fraction of the soft threshold for pinned messages, which cannot be folded and would otherwise keep the
context above it."""


class SessionView(SessionReader):
    """The verbs that append to the log and that decide what the model sees of it. `MnesisSession` adds the turns."""

    _compactor: Compactor

    async def append(
        self,
        messages: Sequence[Message],
        *,
        tokens: TokenUsage | None = None,
        ends_turn: bool = False,
        model: str | None = None,
    ) -> list[Message]:
        """Store messages unchanged, in one transaction, and return them with their `seq`. For adapters and importers.

        Idempotent: a message whose id is stored already is not stored again. `tokens` is the usage that a provider
        reported with the messages. `ends_turn` says whether the last message completes a turn. `model` is the model
        string of the client that answered, if it is not the session's model. `window()` compacts when the prompt cache
        of that model's provider expires.

        Raises `InvalidMessageError` for summaries and for files without their content, `DuplicateIDError` if an id is used
        for other content.
        """
        from mnesis.session.doom_loop import detect_doom_loop
        from mnesis.session.own_requests import report_own_request

        self._check_open()
        refuse_reentrant_call(self.id)
        _check_messages(messages)
        if not messages:
            return []
        if any(message.is_summary for message in messages):
            raise InvalidMessageError("cannot append a summary: summaries are created by compaction only")
        for message in messages:
            _reject_unread_files(message)
        async with hold_turn(self._core):
            self._check_open()
            report = report_own_request(self._core, messages, tokens, model)
            stored = await self._core.append(messages, report=report, ends_turn=ends_turn)
            if stored.is_new:
                for message in messages:
                    detect_doom_loop(self._core, message.tool_calls)
            await self._compactor.start_if_due()
        return list(stored.messages)

    async def window(
        self,
        *,
        system_prompt: str | None = None,
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        message: str | None = None,
        now: datetime | int | None = None,
        forms: Mapping[int, Message] | None = None,
        options: WindowOptions | None = None,
        context: ActiveContext | None = None,
        shared: bool = False,
    ) -> Window:
        """Return the window that the model would receive now. Compacts first if the context is over the hard threshold, or if the
        provider's cache has expired and that pays off.

        `reserved_tokens` is the size of the request's content other than prompt and messages, such as tool definitions.
        `budget_tokens` limits the whole request; None means the session's budget. `message` is the next user message,
        for automatic recall; None means the newest message, if it has no reply yet. `now` is the time of that message,
        to which "last week" in it is relative: a datetime or milliseconds since 1970; None is the current time. `forms`
        are shown instead of messages of the log, by `seq`; see `set_shown_forms()`. `options` change the layout.
        `context` is the active context, for a caller that has just read it from the store; if it is passed, nothing is
        compacted. With `shared`, the messages may share dicts and lists with those of other readers, which must not be
        changed. This is for adapters, which convert the messages.
        """
        self._check_open()
        if message is not None and not isinstance(message, str):
            raise InvalidMessageError(f"message must be a string or None, not {message!r}")
        asked_at = None
        if now is not None:
            from mnesis.search.time_parameters import resolve_times

            asked_at = resolve_times(now=now).now
        if context is None:
            await self._compactor.compact_before_request(reserved_tokens)
        return await self._core.window(
            system_prompt=system_prompt,
            reserved_tokens=reserved_tokens,
            budget_tokens=budget_tokens,
            message=message,
            now=asked_at,
            forms=await self._count_forms(forms or {}),
            options=options,
            context=context,
            shared=shared,
        )

    def is_compaction_due(self, *, reserved_tokens: int = 0) -> bool:
        """Return whether `window()` would compact first."""
        return self._compactor.is_due_before_request(reserved_tokens)

    async def compact_if_due(self, *, reserved_tokens: int = 0) -> CompactionResult | None:
        """Compact as `window()` does before a request. Returns the last result that changed the context, or None."""
        self._check_open()
        return await self._compactor.compact_before_request(reserved_tokens)

    def redact(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as this session would store them: with `MnesisConfig.redact`, without secrets.

        For adapters that compare the messages of their framework with the stored ones.
        """
        return list(self._core.redact_messages(messages))

    async def set_shown_forms(
        self, forms: Mapping[int, Message | None], *, known_seqs: Collection[int] | None = None
    ) -> None:
        """Set the changed messages that a model received, by `seq`, from which summaries are made instead of the log's
        messages.

        For adapters whose framework changes requests, for example to redact them. Applies to every object of this
        session in this process, and to summaries that are written from now on. None means the message of the log again.
        The log does not change. `known_seqs` are further messages that a model was shown, in these forms or their own.
        After the first call, messages that are not known are summarised only if the context does not fit otherwise.
        """
        self._check_open()
        self._core.shared.shown_forms |= await self._count_forms(
            {seq: form for seq, form in forms.items() if form is not None}
        )
        for seq, form in forms.items():
            if form is None:
                self._core.shared.shown_forms.pop(seq, None)
        if known_seqs is not None:
            if self._core.shared.seqs_with_known_forms is None:
                self._core.shared.seqs_with_known_forms = set()
            self._core.shared.seqs_with_known_forms.update(known_seqs)

    async def _count_forms(self, forms: Mapping[int, Message]) -> dict[int, Message]:
        return {seq: await self._core.with_token_counts(form) for seq, form in forms.items()}

    async def context_for_next_turn(
        self,
        system_prompt: str | None = None,
        *,
        provider: Literal["openai", "anthropic", "litellm"] = "openai",
        message: str | None = None,
        now: datetime | int | None = None,
    ) -> RequestMessages:
        """Return the window as messages for your own client. Append the next user message and send them.

        The result is a list, without the system prompt; its attribute `system` is the system prompt in the provider's form.
        `provider` "openai" returns chat-completions dicts. "anthropic" returns content blocks with alternating roles, with cache
        marks unless `SessionConfig.prompt_cache` is "off". "litellm" returns what `send()` would pass to litellm for the
        session's model. Pass the `system_prompt` that you send, if it is not the session's, so that its tokens are counted. With
        automatic recall, `message` is the next user message, asked at `now`; the recalled originals come last, before it.
        """
        from mnesis.formats.request import render_for_anthropic, render_for_client

        if provider not in ("openai", "anthropic", "litellm"):
            raise ConfigurationError(f"provider must be 'openai', 'anthropic' or 'litellm', not {provider!r}")
        target = self._core.client_target(provider)
        # Rendered messages hold no dict or list of the log's, so these may be shared.
        window = await self.window(system_prompt=system_prompt, message=message, now=now, shared=True)
        if provider == "anthropic":
            return render_for_anthropic(window, target)
        kept = self._core.kept_window
        messages, kept.client_steps = render_for_client(window, target, kept.client_steps)
        return messages

    async def focus(self, text: str) -> None:
        """Set the subject that summaries must keep above all and automatic recall prefers. "" ends it.

        The focus is stored with the session. Existing summaries do not change.

        Raises `ConfigurationError` if it is not a string of at most 1,000 characters.
        """
        self._check_open()
        if not isinstance(text, str) or len(text) > MAX_FOCUS_CHARS:
            raise ConfigurationError(
                f"focus must be a string of at most {MAX_FOCUS_CHARS:,} characters, not {str(text)[:80]!r}"
            )
        await self._core.set_focus(text.strip())

    async def compact(self, *, keep_tokens: int | None = None, focus: str | None = None) -> CompactionResult:
        """Fold everything except the two newest user turns, or with `keep_tokens`, all but that many of the newest tokens.

        Turns stay whole if the newest one fits into `keep_tokens`; otherwise it is cut between tool steps. The newest
        user message, the newest step and pinned messages are never folded, so more than `keep_tokens` can remain.
        `level_used` is 0 if there is nothing to fold.

        `focus` is set first, as with `focus()`, and applies until it is changed.

        Raises `ConfigurationError` if `keep_tokens` is not an integer of at least 0, and like `focus()`.
        """
        self._check_open()
        if keep_tokens is not None:
            check_integer("keep_tokens", keep_tokens, minimum=0)
        if focus is not None:
            await self.focus(focus)
        result = await self._compactor.sweep("manual", keep_tokens=keep_tokens)
        assert result is not None, "only a sweep that rechecks can return None"  # noqa: S101  # an invariant, not input
        return result

    async def hide(self, first_seq: int, last_seq: int) -> None:
        """Remove the messages from `first_seq` to `last_seq` from the active context. The log keeps them.

        Summaries inside the span are removed from the context. A summary that extends beyond it raises
        `StaleContextError`.
        """
        self._check_open()
        refuse_reentrant_call(self.id)
        async with hold_turn(self._core):
            self._core.shared.advance(await self._core.store.hide(self.id, first_seq, last_seq))
            self._core.publish_updated()

    async def revise(
        self, *, hide: Sequence[tuple[int, int]], messages: Sequence[Message], last_seq: int
    ) -> list[Message]:
        """Hide spans (first and last seq) and append messages, in one transaction. Returns the messages with their `seq`.

        For adapters whose framework replaces its history; the log keeps what is replaced. `last_seq` is the end of the
        log that the caller read. Raises `StaleContextError` if the log has grown since then, or in the cases of
        `hide()`; nothing is written in either case.
        """
        from mnesis.session.own_requests import report_own_request

        self._check_open()
        refuse_reentrant_call(self.id)
        async with hold_turn(self._core):
            self._check_open()
            report = report_own_request(self._core, messages)
            stored = await self._core.revise(hide, messages, last_seq, report)
            await self._compactor.start_if_due()
        return list(stored.messages)

    async def replace_covers(
        self, covers: Sequence[Cover], messages: Sequence[Message], *, read_covers: Sequence[Cover], last_seq: int
    ) -> list[Message]:
        """Show the log under other covers and append messages, in one transaction. Returns the messages with their `seq`.

        For adapters whose framework can return to an earlier state: summaries and hidden messages come back with the
        covers of that state. `read_covers` and `last_seq` are the covers and the end of the log that the caller read.
        Raises `StaleContextError` if they have changed, `SummaryNotFoundError`, and `MnesisStoreError` if covers
        overlap or differ from the span of their summary; in all cases nothing is written.
        """
        from mnesis.session.own_requests import report_own_request

        self._check_open()
        refuse_reentrant_call(self.id)
        async with hold_turn(self._core):
            self._check_open()
            report = report_own_request(self._core, messages)
            stored = await self._core.replace_covers(covers, messages, read_covers, last_seq, report)
            await self._compactor.start_if_due()
        return list(stored.messages)

    async def unfold(self, summary_id: str) -> None:
        """Show the originals of a summary in the active context again, in place of the summary.

        Messages that were hidden before they were folded remain hidden. The summary remains in the log. Raises
        `SummaryNotFoundError` if the context does not show the summary, and `StaleContextError` if it changed in the
        meantime.
        """
        from mnesis.store.covers import unfold_cover

        context = await self._core.store.active_context(self.id)
        if all(cover.summary_id != summary_id for cover in context.covers):
            raise SummaryNotFoundError(summary_id, location=f"the active context of session {self.id!r}")
        originals = await self._core.store.covered_messages(self.id, summary_id)
        covers = unfold_cover(context.covers, summary_id, [message.seq for message in originals])
        await self.replace_covers(covers, [], read_covers=context.covers, last_seq=context.session.last_seq)

    async def clear_context(self) -> None:
        """Remove everything from the active context. The log keeps it."""
        self._check_open()
        last = (await self._core.store.session(self.id)).last_seq
        if last:
            await self.hide(1, last)

    async def pin(self, message_id: str) -> Message:
        """Keep a message in the context verbatim, and return the pinned message.

        A tool call and its results are kept together. If the message is folded already, a quotation of it is appended to the
        conversation, as a user message, and pinned instead; it contains the original verbatim. Pinning a message twice does
        nothing.

        Raises `MessageNotFoundError`. Raises `ConfigurationError` if pinned messages would take more than a quarter of
        the soft threshold; nothing is stored in that case.
        """
        from mnesis.recall.fence import QUOTED_ID, quote_message

        self._check_open()
        message = await self._core.store.message(self.id, message_id)
        for pinned in await self.pins():
            if message_id in (pinned.id, pinned.extra.get(QUOTED_ID)):
                return pinned
        await self._check_pin_size(message)
        try:
            await self._core.store.pin(self.id, message.seq)
        except StaleContextError:
            quotation = await self._core.with_token_counts(quote_message(message))
            await self._check_pin_size(quotation)
            (message,) = await self.append([quotation])
            await self._core.store.pin(self.id, message.seq)
        return message

    async def pin_fact(self, fact: str) -> Message:
        """Append a fact as a user message, pin it, and return the message.

        Raises `ConfigurationError` like `pin()`; nothing is stored in that case.
        """
        from mnesis.formats.parse import user_messages

        if not fact.strip():
            raise InvalidMessageError("nothing to pin: fact is empty")
        messages = [await self._core.with_token_counts(message) for message in user_messages(f"[Pinned] {fact}")]
        await self._check_pin_size(messages[0])
        (message,) = await self.append(messages)
        await self._core.store.pin(self.id, message.seq)
        return message

    async def _check_pin_size(self, message: Message) -> None:
        others = [pinned for pinned in await self.pins() if pinned.id != message.id]
        tokens = message.token_count + sum(pinned.token_count for pinned in others)
        if tokens > self.budget.soft_tokens * MAX_PINNED_FRACTION:
            raise ConfigurationError(
                f"pinned messages would take {tokens:,} tokens, more than a quarter of the soft threshold of"
                f" {self.budget.soft_tokens:,}; unpin some, or pin only the fact with pin_fact()"
            )

    async def unpin(self, message_id: str) -> None:
        """Allow a message to be folded again, and its pinned quotation too. Does nothing if it is not pinned.

        Raises `MessageNotFoundError`.
        """
        from mnesis.recall.fence import QUOTED_ID

        self._check_open()
        await self._core.store.message(self.id, message_id)
        for pinned in await self.pins():
            if message_id in (pinned.id, pinned.extra.get(QUOTED_ID)):
                await self._core.store.pin(self.id, pinned.seq, False)

    async def pins(self) -> list[Message]:
        """Return the pinned messages, in order."""
        from mnesis.models.message import Message

        self._check_open()
        context = await self._core.store.active_context(self.id)
        return [m for m in context.items if isinstance(m, Message) and m.seq in context.pins]


def _check_messages(messages: Sequence[Message]) -> None:
    """Refuse values that are not a sequence of messages. A single message looks like one, because it can be iterated
    over.
    """
    from mnesis.models.message import Message

    if isinstance(messages, Message | str | Mapping) or not isinstance(messages, Sequence):
        raise InvalidMessageError(
            f"append() needs a sequence of Message objects, not a {type(messages).__name__}; pass a list"
        )
    wrong = next((each for each in messages if not isinstance(each, Message)), None)
    if wrong is not None:
        raise InvalidMessageError(
            f"append() needs Message objects, not a {type(wrong).__name__}; build them with mnesis.models.message.text_message()"
        )


def _reject_unread_files(message: Message) -> None:
    from mnesis.models.message import FilePart

    for part in message.parts:
        if isinstance(part, FilePart) and part.path is not None:
            raise InvalidMessageError(
                f"message {message.id!r} names the file {part.path!r} without its content; use send() or record(), which read"
                " files, or read it first with session.files.handle_file()"
            )
