"""The log of an agent's thread, and the covers that make its view follow the state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_mnesis.append import MAX_ATTEMPTS, ends_turn, last_usage, pin_instructions, revision_id
from langchain_mnesis.known_messages import KnownMessages, ShownMessage, StateKey
from langchain_mnesis.messages.convert import ORIGIN_KEY, log_id, redact_messages, to_record
from langchain_mnesis.state_view import (
    Fingerprint,
    LoggedMessage,
    SummaryOriginals,
    logged_message,
    match_log,
    plan_covers,
)
from mnesis.errors import DuplicateIDError, StaleContextError, SummaryNotFoundError
from mnesis.ids import new_id
from mnesis.models.context import ActiveContext, Cover, Window
from mnesis.models.message import Message
from mnesis.models.summary import Summary
from mnesis.session.session import MnesisSession

REWRITTEN_KEY = "langchain_rewritten"
"""A key of a session's metadata: whether middleware changed requests after they were prepared."""
PAGE_MESSAGES = 500
"""The number of messages that are read from the log at once."""


@dataclass
class ThreadLog:
    """The log of one session in memory; each read continues where the last one ended.

    `origin` identifies the state; None means that each run has its own state, so the view cannot follow it. `seqs` are
    the seqs of the messages of the state that was shown last, `changed_seqs` those that the model received in another
    form, `received_seqs` those that it received in this process, changed or not. `is_rewritten` says whether requests
    of the session were ever changed after they were prepared. `known` caches results computed from the state's
    messages.
    """

    origin: str | None
    seqs: list[int] = field(default_factory=list)
    changed_seqs: set[int] = field(default_factory=set)
    received_seqs: set[int] = field(default_factory=set)
    is_rewritten: bool = False
    known: KnownMessages = field(default_factory=KnownMessages)
    _keys: list[StateKey] = field(default_factory=list)
    _trimmed_ids: tuple[str, ...] = ()
    _by_fingerprint: dict[Fingerprint, list[LoggedMessage]] = field(default_factory=lambda: defaultdict(list))
    _own_seqs: set[int] = field(default_factory=set)
    _log_ids: set[str] = field(default_factory=set)
    _last_seq: int = 0
    _created_at: int = 0
    _summaries: dict[str, SummaryOriginals] = field(default_factory=dict)

    async def show(
        self,
        session: MnesisSession,
        state: Sequence[BaseMessage],
        *,
        withheld: Sequence[BaseMessage] = (),
        trimmed_ids: Sequence[str] = (),
        forms: Mapping[int, Message] | None = None,
    ) -> list[ShownMessage]:
        """Log the new messages of a state, and make the session's view consist of exactly its messages.

        Returns the messages. `withheld` are messages that are logged but not shown. `trimmed_ids` are summaries that
        replaced messages in the state itself; their originals belong to the view. Messages that other APIs stored
        remain in the view unchanged. `forms` are the changed messages in the request, by index; summaries are made from
        them.
        """
        state, withheld = redact_messages(session, state), redact_messages(session, withheld)
        for attempt in range(MAX_ATTEMPTS):
            try:
                return await self._show(session, state, withheld, tuple(trimmed_ids), forms or {})
            except (StaleContextError, DuplicateIDError):  # another writer changed the session after it was read
                if attempt == MAX_ATTEMPTS - 1:
                    raise
        return []

    @property
    def follows_state(self) -> bool:
        """Whether the view consists of the messages of a state."""
        return self.origin is not None

    def is_shown_in(self, window: Window) -> bool:
        """Return whether a window shows the state that was shown last. Another branch may have changed the view since
        then.
        """
        if not self.follows_state or not self.seqs:
            return True
        shown = [message for message in window.messages if not message.is_summary]
        own_seqs = {message.seq for message in shown if message.extra.get(ORIGIN_KEY) == self.origin}
        originals = [self._summaries[key].seqs for key in self._trimmed_ids if key in self._summaries]
        # A window that is too small for the state may leave out the newest message.
        has_newest = window.omitted > 0 or any(message.seq == self.seqs[-1] for message in shown)
        return has_newest and own_seqs.issubset({*self.seqs, *(seq for seqs in originals for seq in seqs)})

    def forget_view(self) -> None:
        """Make the next state set the view again, even if it continues the last one."""
        self._keys = []

    async def add_new(self, session: MnesisSession, messages: Sequence[BaseMessage]) -> list[ShownMessage]:
        """Log messages that are not logged yet, at the end of the view, and return all of them."""
        messages = redact_messages(session, messages)
        for attempt in range(MAX_ATTEMPTS):
            await self._read_on(session)
            keys = [self.known.key(message) for message in messages]
            logged_messages = [self._find(key) for key in keys]
            try:
                new_messages = [m for m, logged in zip(messages, logged_messages, strict=True) if logged is None]
                stored = iter(await self._append(session, new_messages))
                seqs = [logged.seq if logged is not None else next(stored).seq for logged in logged_messages]
                self.known.forget_unused()
                return _shown_messages(seqs, messages, keys)
            except DuplicateIDError:  # another writer stored one of the messages after the log was read
                if attempt == MAX_ATTEMPTS - 1:
                    raise
        return []

    async def add_reply(self, session: MnesisSession, seqs: Sequence[int], messages: Sequence[BaseMessage]) -> None:
        """Log the reply to a state whose messages have these seqs."""
        if not messages:
            return
        is_shown_last = list(seqs) == self.seqs
        messages = redact_messages(session, messages)
        keys = [self.known.key(message) for message in messages]
        stored = await self._append(session, messages)
        if is_shown_last:
            self.seqs += [record.seq for record in stored]
            self._keys += keys
        else:  # the view shows another branch of the thread, and now this reply too
            self.forget_view()

    async def _show(
        self,
        session: MnesisSession,
        state: Sequence[BaseMessage],
        withheld: Sequence[BaseMessage],
        trimmed_ids: tuple[str, ...],
        forms: Mapping[int, Message],
    ) -> list[ShownMessage]:
        has_grown = await self._read_on(session)
        keys = [self.known.key(message) for message in state]
        shown_count = len(self._keys)
        is_continued = not has_grown and not withheld and trimmed_ids == self._trimmed_ids
        if self._keys and is_continued and keys[:shown_count] == self._keys:
            await self._set_forms(session, self.seqs[:shown_count], forms)
            stored = await self._append(session, state[shown_count:])
            self.seqs = [*self.seqs[:shown_count], *(record.seq for record in stored)]
        else:
            await self._log_withheld(session, withheld)
            self.seqs = await self._change_view(session, state, keys, trimmed_ids, forms)
        self._keys, self._trimmed_ids = keys, trimmed_ids
        await self._set_forms(session, self.seqs, forms)
        if withheld:
            self._keys = []
        self.known.forget_unused()
        return _shown_messages(self.seqs, state, keys)

    async def _log_withheld(self, session: MnesisSession, withheld: Sequence[BaseMessage]) -> None:
        await self._append(session, [message for message in withheld if self._find(self.known.key(message)) is None])

    def _find(self, key: StateKey) -> LoggedMessage | None:
        """Return the newest record of this message in the log."""
        message_id, fingerprint = key
        logged = self._by_fingerprint.get(fingerprint, ())
        return next((each for each in reversed(logged) if each.is_same(message_id)), None)

    async def _change_view(
        self,
        session: MnesisSession,
        state: Sequence[BaseMessage],
        keys: Sequence[StateKey],
        trimmed_ids: Sequence[str],
        forms: Mapping[int, Message],
    ) -> list[int]:
        context = await session.engine.store.active_context(session.id)
        if context.session.last_seq != self._last_seq:
            raise StaleContextError("the log has grown since it was read")
        matched_seqs = match_log(keys, self._by_fingerprint)
        await self._read_summaries(session)
        trimmed_seqs = {seq for key in trimmed_ids if key in self._summaries for seq in self._summaries[key].seqs}
        covers = plan_covers(
            {*matched_seqs, *trimmed_seqs, *self._other_seqs(context.covers)},
            self._last_seq,
            context.covers,
            self._summaries.values(),
            protected_seqs=_protected_seqs(state, matched_seqs, context.pins, trimmed_seqs),
            open_from=_newest_user_seq(state, matched_seqs) or self._last_seq + 1,
        )
        await self._set_forms(session, matched_seqs, forms)
        stored = await self._append(session, state[len(matched_seqs) :], covers=covers, context=context)
        return [*matched_seqs, *(record.seq for record in stored)]

    @staticmethod
    async def _set_forms(session: MnesisSession, seqs: Sequence[int], forms: Mapping[int, Message]) -> None:
        """Set the forms of messages before a write, which may start a compaction, and of new messages after it."""
        if forms:
            await session.set_shown_forms({seqs[index]: form for index, form in forms.items() if index < len(seqs)})

    def _other_seqs(self, covers: Sequence[Cover]) -> set[int]:
        """Return the seqs of messages that other APIs or states stored, as far as they are not hidden."""
        hidden = {
            seq for cover in covers if cover.summary_id is None for seq in range(cover.first_seq, cover.last_seq + 1)
        }
        return {seq for seq in range(1, self._last_seq + 1) if seq not in self._own_seqs and seq not in hidden}

    async def _append(
        self,
        session: MnesisSession,
        messages: Sequence[BaseMessage],
        *,
        covers: Sequence[Cover] = (),
        context: ActiveContext | None = None,
    ) -> list[Message]:
        taken_ids = set(self._log_ids)
        records = []
        for message in messages:
            records.append(to_record(message, id=_free_id(message, taken_ids), origin=self.origin))
            taken_ids.add(records[-1].id)
        if context is not None and tuple(covers) != context.covers:
            stored = await session.replace_covers(
                covers, records, read_covers=context.covers, last_seq=context.session.last_seq
            )
        elif records:
            stored = await session.append(records, tokens=last_usage(records), ends_turn=ends_turn(messages))
        else:
            return []
        self._remember(stored)
        await pin_instructions(session, stored)
        return stored

    async def _read_on(self, session: MnesisSession) -> bool:
        """Read the messages that were stored since the last call. Returns whether there are any."""
        store = session.engine.store
        record = await store.session(session.id)
        self.is_rewritten = record.metadata.get(REWRITTEN_KEY) is True
        if record.created_at != self._created_at or record.last_seq < self._last_seq:  # erased and created again
            self._forget_log(record.created_at)
        has_grown = record.last_seq > self._last_seq
        while self._last_seq < record.last_seq:
            self._remember(await store.messages(session.id, after_seq=self._last_seq, limit=PAGE_MESSAGES))
        return has_grown

    def _forget_log(self, created_at: int) -> None:
        self.seqs, self._keys, self._trimmed_ids = [], [], ()
        self.changed_seqs, self.received_seqs = set(), set()
        self._by_fingerprint, self._own_seqs, self._log_ids = defaultdict(list), set(), set()
        self._last_seq, self._created_at, self._summaries = 0, created_at, {}

    def _remember(self, records: Iterable[Message]) -> None:
        for record in records:
            if record.id not in self._log_ids:
                logged = logged_message(record, self.origin)
                self._by_fingerprint[logged.fingerprint].append(logged)
                self._log_ids.add(record.id)
                if logged.is_own:
                    self._own_seqs.add(record.seq)
            # Only consecutive messages, because messages of another writer in between are read by the next call.
            if record.seq == self._last_seq + 1:
                self._last_seq = record.seq

    async def _read_summaries(self, session: MnesisSession) -> None:
        for summary in await session.engine.store.summaries(session.id):
            if summary.id not in self._summaries:
                self._summaries[summary.id] = await _read_originals(session, summary)


def _shown_messages(
    seqs: Sequence[int], messages: Sequence[BaseMessage], keys: Sequence[StateKey]
) -> list[ShownMessage]:
    shown = zip(seqs, messages, keys, strict=True)
    return [ShownMessage(seq, message, fingerprint) for seq, message, (_, fingerprint) in shown]


async def _read_originals(session: MnesisSession, summary: Summary) -> SummaryOriginals:
    span = range(summary.first_seq, summary.last_seq + 1)
    if summary.message_count == len(span):
        seqs = frozenset(span)
    else:
        try:
            covered = await session.engine.store.covered_messages(session.id, summary.id)
        except SummaryNotFoundError:
            covered = []
        seqs = frozenset(message.seq for message in covered)
    return SummaryOriginals(summary.id, summary.first_seq, summary.last_seq, seqs)


def _newest_user_seq(state: Sequence[BaseMessage], matched_seqs: Sequence[int]) -> int | None:
    """Return the seq of the newest user message of a state; None if there is none or it is not logged yet."""
    newest = max((i for i, message in enumerate(state) if isinstance(message, HumanMessage)), default=len(state))
    return matched_seqs[newest] if newest < len(matched_seqs) else None


def _protected_seqs(
    state: Sequence[BaseMessage], matched_seqs: Sequence[int], pins: Iterable[int], trimmed_seqs: set[int]
) -> set[int]:
    """Return the seqs that no summary replaces: pins, the newest user message and the newest message."""
    newest_user_seq = _newest_user_seq(state, matched_seqs)
    protected = {*pins, *([newest_user_seq] if newest_user_seq is not None else [])}
    if matched_seqs and len(matched_seqs) == len(state):
        protected.add(matched_seqs[-1])
    return protected - trimmed_seqs


def _free_id(message: BaseMessage, taken_ids: set[str]) -> str | None:
    """Return an id for the log; None for a new one."""
    message_id = log_id(message)
    if message_id is None or message_id not in taken_ids:
        return message_id
    other_id = revision_id(message_id, message)
    return other_id if other_id not in taken_ids else new_id("msg")
