"""Every exception that mnesis raises on purpose, as one tree.

```
MnesisError
├── ConfigurationError            also a ValueError: a setting or an argument is invalid
├── InvalidMessageError           also a ValueError: a message is invalid; nothing was stored
├── ContextIrreducibleError       what every request must contain is larger than the window
├── ToolDefinitionError           also a ValueError: a tool cannot be described or called
├── RecallDeniedError             a grant does not allow this recall
├── DelegationDeniedError         a sub-agent tried to hand on all of its work, or too deep
├── RunMismatchError              also a ValueError: the run id belongs to a run with other inputs or settings
├── FileError                     also an OSError: a file cannot be imported; `path` names it
│   ├── MissingFileError          also a FileNotFoundError
│   ├── UnsuitableFileError       not a regular file, not readable, or too large
│   └── ChangedFileError          the file changed while it was read
├── MnesisStoreError
│   ├── NotFoundError             also a LookupError
│   │   ├── SessionNotFoundError
│   │   ├── MessageNotFoundError
│   │   ├── SummaryNotFoundError
│   │   ├── RunNotFoundError
│   │   └── FileNotStoredError    no stored file has this id
│   ├── DamagedFileError          the content of a stored file no longer matches its id
│   ├── SessionClosedError        the session (or its engine) was closed
│   ├── DuplicateIDError          the id is already used for other content
│   ├── SessionForkedError        forks continue the log of the session that was to be purged
│   ├── StaleContextError         another writer changed the context; nothing was written
│   ├── SessionBusyError          another turn of the session ran for longer than the caller wanted to wait
│   ├── TurnLostError             the lease on the turn ended, and another process took the session over
│   ├── StoreBusyError            another writer locked the database for too long
│   ├── StoreFullError            no disk space is left
│   ├── StoreIOError              also an OSError: the disk or file system failed to read or write
│   ├── ReadOnlyStoreError        the database is not writable
│   ├── CorruptStoreError         the file is damaged, or is not a mnesis database
│   ├── SchemaTooNewError         the database was written by a newer mnesis
│   ├── EncryptionKeyError        the key of an encrypted database is missing or wrong
│   ├── IntegrityKeyError         the database is sealed with a key that is missing or different
│   ├── StoreReplacedError        the file was moved or replaced while open
│   ├── StoreAccessDeniedError    the database server refuses the login, or the role lacks a right
│   ├── StoreUnavailableError     the database server cannot be reached, or the connection was lost
│   ├── ForkedStoreError          used in a child process that inherited it
│   └── StoreThreadError          the database's thread ended unexpectedly
└── LLMError
    ├── LLMAuthenticationError    the API key is missing or wrong
    ├── NoModelError              also a ConfigurationError: the session has no model
    ├── LLMBadRequestError        the provider rejected the request
    │   └── ContextOverflowError  … because it is too long
    ├── LLMRateLimitError         retryable
    ├── LLMTimeoutError           retryable
    ├── LLMConnectionError        retryable
    ├── LLMServerError            retryable
    └── LLMResponseError          the reply has no usable content
```

A message says what happened, with ids and numbers, and what to do. A causing exception is chained. Secrets that
providers repeat in their messages are redacted.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from mnesis.redaction import redact


class MnesisError(Exception):
    """The base class of every error that mnesis raises on purpose."""


class ConfigurationError(MnesisError, ValueError):
    """A setting, an argument or a combination of them is invalid. The message names field, value and remedy.

    Values that look like secrets are redacted.
    """

    def __init__(self, message: str = "", *arguments: object) -> None:
        super().__init__(redact(message), *arguments)


class InvalidMessageError(MnesisError, ValueError):
    """A message or part is invalid and cannot be stored. Nothing from the call was stored."""


class ToolDefinitionError(MnesisError, ValueError):
    """A tool passed to `send()` cannot be described to a model, or cannot be called."""


class NothingToRetryError(MnesisError):
    """`retry()` found no unfinished turn, or only tool calls that it cannot run."""


class RecallDeniedError(MnesisError):
    """A grant does not allow this recall: it is used up, expired or revoked, or does not cover the target."""


class DelegationDeniedError(MnesisError):
    """A sub-agent delegated without saying what it hands over and what it keeps, or exceeded the depth limit."""


class RunMismatchError(MnesisError, ValueError):
    """A map run with this id exists, but its inputs, template, schema or model are different. `run_id` is its id."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class FileError(MnesisError, OSError):
    """A file cannot be imported. `path` names it; nothing was stored."""

    def __init__(self, message: str, *, path: str | Path) -> None:
        super().__init__(message)
        self.path = str(path)


class MissingFileError(FileError, FileNotFoundError):
    """The file does not exist, or it was deleted while it was read."""


class UnsuitableFileError(FileError):
    """The file is not a regular file, is not readable, or is larger than the limit."""


class ChangedFileError(FileError):
    """The file changed while it was read. Import it again when nothing writes to it."""


class ContextIrreducibleError(MnesisError):
    """The system prompt, tools and newest message together are larger than the window."""

    def __init__(self, message: str, *, required_tokens: int, usable_tokens: int) -> None:
        super().__init__(message)
        self.required_tokens = required_tokens
        self.usable_tokens = usable_tokens


class MnesisStoreError(MnesisError):
    """The base class of errors of the database."""


class NotFoundError(MnesisStoreError, LookupError):
    """Nothing has this id. `id` is the missing id; `location` names the database, if known."""

    kind = "object"

    def __init__(self, id: str, *, location: str | None = None) -> None:
        super().__init__(id)
        self.id = id
        self.location = location

    def __str__(self) -> str:
        place = f" in {self.location}" if self.location else ""
        return f"{self.kind} not found: {self.id!r}{place}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_not_found, (type(self), self.id, self.location)


def _rebuild_not_found(cls: type[NotFoundError], id: str, location: str | None) -> NotFoundError:
    return cls(id, location=location)


class SessionNotFoundError(NotFoundError):
    """The database has no session with this id. `session_id` and `db_path` name both."""

    kind = "Session"

    def __init__(self, id: str, *, location: str | None = None) -> None:
        super().__init__(id, location=location)
        self.session_id = id

    @property
    def db_path(self) -> str | None:
        """The same as `location`."""
        return self.location


class MessageNotFoundError(NotFoundError):
    """The session has no message with this id."""

    kind = "Message"


class SummaryNotFoundError(NotFoundError):
    """The session has no summary with this id."""

    kind = "Summary"


class RunNotFoundError(NotFoundError):
    """The database has no map run with this id."""

    kind = "Run"


class FileNotStoredError(NotFoundError):
    """No stored file has this id, or the session does not refer to it."""

    kind = "Stored file"


class DamagedFileError(MnesisStoreError):
    """A stored file is damaged: its content no longer matches its id, a hash. `path` names it."""

    def __init__(self, message: str, *, path: str | Path) -> None:
        super().__init__(message)
        self.path = str(path)


class SessionClosedError(MnesisStoreError):
    """The session is closed. Open it again with `MnesisSession.load(session_id)`."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is closed; open it again with MnesisSession.load({session_id!r})")
        self.session_id = session_id

    def __reduce__(self) -> tuple[object, ...]:
        return SessionClosedError, (self.session_id,)


class DuplicateIDError(MnesisStoreError):
    """The id is already used for other content. `id` holds it."""

    def __init__(self, id: str, message: str | None = None) -> None:
        super().__init__(message or f"id {id!r} is already used for other content; use a new id")
        self.id = id


class SessionForkedError(MnesisStoreError):
    """A session cannot be purged because forks continue its log. `fork_ids` names them."""

    def __init__(self, session_id: str, fork_ids: Sequence[str]) -> None:
        names = ", ".join(map(repr, fork_ids))
        super().__init__(
            f"session {session_id!r} is the beginning of {names}, which would be lost with it; purge these first, or all"
            " at once with with_forks=True (mnesis purge --with-forks)"
        )
        self.session_id = session_id
        self.fork_ids = tuple(fork_ids)


class StaleContextError(MnesisStoreError):
    """The active context changed after it was read. Nothing was written; read it again and retry."""


class SessionBusyError(MnesisStoreError):
    """Another turn of the session ran for longer than the caller wanted to wait. Nothing was written; call again.

    `session_id` names the session and `waited_seconds` is the time that the call waited.
    """

    def __init__(self, session_id: str, waited_seconds: float) -> None:
        super().__init__(
            f"session {session_id!r} is busy: another turn did not end within {waited_seconds:g} s; call again, or wait longer"
            " with SessionConfig.exclusive_wait_seconds"
        )
        self.session_id = session_id
        self.waited_seconds = waited_seconds

    def __reduce__(self) -> tuple[object, ...]:
        return SessionBusyError, (self.session_id, self.waited_seconds)


class TurnLostError(MnesisStoreError):
    """The lease on a turn ended and another process took the session over. What would be written was refused.

    A process loses a lease if it cannot renew it in time: its event loop was blocked, it was suspended, or the database
    could not be reached. Everything that was stored before is kept; call `retry()` if the turn is still the newest one.
    """

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"another process has taken over session {session_id!r}, because this one did not renew its lease in time;"
            " nothing more of this turn is stored. Look for code that blocks the event loop, or raise"
            " SessionConfig.exclusive_lease_seconds"
        )
        self.session_id = session_id

    def __reduce__(self) -> tuple[object, ...]:
        return TurnLostError, (self.session_id,)


class _DatabaseFileError(MnesisStoreError):
    """The base class of errors about one database. `db_path` names it: a path, or a URL without its password."""

    def __init__(self, message: str, *, db_path: str | Path) -> None:
        super().__init__(message)
        self.db_path = str(db_path)


class StoreBusyError(_DatabaseFileError):
    """Another writer locked the database for longer than `connection_timeout` seconds. The call can be repeated."""


class StoreFullError(_DatabaseFileError):
    """No disk space is left for the database. Nothing from the call was stored; reads still work."""


class StoreIOError(_DatabaseFileError, OSError):
    """The operating system failed to read or write the database (EIO). Nothing from the call was stored.

    The database itself may be intact. `errno` is `errno.EIO`.
    """

    def __init__(self, message: str, *, db_path: str | Path) -> None:
        super().__init__(message, db_path=db_path)
        self.errno = errno.EIO


class ReadOnlyStoreError(_DatabaseFileError):
    """This process cannot write to the database or its directory."""


class CorruptStoreError(_DatabaseFileError):
    """The file is damaged, or is not a mnesis database. It was not changed."""


class EncryptionKeyError(MnesisStoreError):
    """The database is encrypted with a key that is missing or different, or is not encrypted. It was not changed.

    `db_path` names it, or is None if no database was opened yet.
    """

    def __init__(self, message: str, *, db_path: str | Path | None = None) -> None:
        super().__init__(message)
        self.db_path = None if db_path is None else str(db_path)


class IntegrityKeyError(MnesisStoreError):
    """The record to be changed is sealed with a key that is missing or different. Nothing was written."""


class SchemaTooNewError(_DatabaseFileError):
    """The database was written by a newer version of mnesis. It was not changed."""

    def __init__(self, message: str, *, db_path: str | Path, found_version: int, supported_version: int) -> None:
        super().__init__(message, db_path=db_path)
        self.found_version = found_version
        self.supported_version = supported_version


class StoreReplacedError(_DatabaseFileError):
    """The database file was moved, deleted or replaced while it was open. A write would be lost."""


class StoreAccessDeniedError(_DatabaseFileError):
    """The database server refuses the login, or the role lacks a right. Nothing was written."""


class StoreUnavailableError(_DatabaseFileError):
    """The database server cannot be reached, or the connection was lost and did not come back in time.

    `is_outcome_unknown` says whether the call may have been stored. Appends can be repeated in any case, because they are
    idempotent by message id.
    """

    def __init__(self, message: str, *, db_path: str | Path, is_outcome_unknown: bool = False) -> None:
        super().__init__(message, db_path=db_path)
        self.is_outcome_unknown = is_outcome_unknown


class ForkedStoreError(_DatabaseFileError):
    """The store was opened before `os.fork()` and used in the child process. Open it again in the child."""


class StoreThreadError(_DatabaseFileError):
    """The thread that runs the database's transactions ended unexpectedly. Close the store and open it again."""


class LLMError(MnesisError):
    """A model call failed. No reply was stored; the user's message is kept.

    `status_code` and `retry_after_seconds` are the values that the provider reported, or None. `partial_text` is the
    text that arrived before the failure. `retryable` says whether the same request may succeed later.
    """

    retryable = False

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        partial_text: str = "",
    ) -> None:
        super().__init__(redact(message))
        self.model = model
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.partial_text = partial_text


class LLMAuthenticationError(LLMError):
    """The API key is missing, or the provider does not accept it."""


class NoModelError(LLMError, ConfigurationError):
    """The session was opened without a model, so it can record turns but not send messages."""


class LLMBadRequestError(LLMError):
    """The provider rejected the request as invalid."""


class ContextOverflowError(LLMBadRequestError):
    """The request is longer than the model's window."""


class LLMRateLimitError(LLMError):
    """The provider received too many requests. `retry_after_seconds` is the wait that the provider asks for, if any."""

    retryable = True


class LLMTimeoutError(LLMError):
    """The provider did not reply within the time limit."""

    retryable = True


class LLMConnectionError(LLMError):
    """The provider could not be reached, or the connection was lost."""

    retryable = True


class LLMServerError(LLMError):
    """The provider failed with a server error (5xx)."""

    retryable = True


class LLMResponseError(LLMError):
    """The provider's reply has no usable content."""
