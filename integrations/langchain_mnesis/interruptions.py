"""Notes on calls that did not complete."""

from __future__ import annotations

from mnesis.errors import MnesisStoreError
from mnesis.ids import now_ms
from mnesis.models.session import Interruption
from mnesis.redaction import get_logger
from mnesis.store.base import Store

logger = get_logger(__name__)

CANCELLATION_ERRORS = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")
"""Names of the exceptions with which a caller stops a call; any other exception is a failure."""


async def record_interruption(
    store: Store, session_id: str, error: BaseException, *, after_seq: int, partial_text: str = ""
) -> None:
    """Record that a call did not complete, with its partial text.

    Does not raise if the store fails, so that the caller gets the original error. The failure is logged and added to
    `error` as a note.
    """
    error_type = type(error).__name__
    interruption = Interruption(
        after_seq=after_seq,
        kind="cancelled" if error_type in CANCELLATION_ERRORS else "failed",
        error_type=error_type,
        error=str(error) or ("the stream was closed before its end" if error_type == "GeneratorExit" else error_type),
        partial_text=partial_text,
        created_at=now_ms(),
    )
    try:
        await store.record_interruption(session_id, interruption)
    except MnesisStoreError as failure:
        logger.exception("session %s: the interrupted call could not be recorded", session_id)
        error.add_note(f"mnesis could not record the interrupted call: {failure}")
