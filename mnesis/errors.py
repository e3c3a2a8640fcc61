"""Every error mnesis raises on purpose.

```
MnesisError
├── ConfigurationError            also a ValueError: a setting that cannot work
├── InvalidMessageError           also a ValueError: input refused before anything was stored
├── ContextIrreducibleError       not even an empty conversation fits the window
├── ToolDefinitionError           also a ValueError: a tool that cannot be described or called
├── RecallRefusedError            a grant does not allow this look into the past
├── DelegationRefusedError        a sub-agent handed on its work without keeping any
├── RunMismatchError              also a ValueError: a run id is taken by a run with other inputs or settings
├── FileError                     also an OSError: a file that cannot be taken in; `path` names it
│   ├── MissingFileError          also a FileNotFoundError
│   ├── UnsuitableFileError       no regular file, no permission, too large
│   └── ChangedFileError          it changed while it was read
├── MnesisStoreError
│   ├── NotFoundError             also a LookupError
│   │   ├── SessionNotFoundError
│   │   ├── MessageNotFoundError
│   │   ├── SummaryNotFoundError
│   │   ├── RunNotFoundError
│   │   └── FileNotStoredError    no stored file of this id
│   ├── DamagedFileError          a stored file is not what was stored
│   ├── SessionClosedError        the session (or its engine) was closed
│   ├── DuplicateIDError          an id is taken by something else
│   ├── StaleContextError         another writer changed the span; nothing was written
│   ├── StoreBusyError            another writer held the database for too long
│   ├── StoreFullError            no space left
│   ├── ReadOnlyStoreError        the database cannot be written
│   ├── CorruptStoreError         the file is damaged, or is no database of ours
│   ├── SchemaTooNewError         written by a newer mnesis
│   ├── StoreReplacedError        the file was moved or replaced while open
│   └── ForkedStoreError          used in a child process that inherited it
└── LLMError
    ├── LLMAuthenticationError    no key, or a wrong one
    ├── LLMBadRequestError        the provider refuses the request
    │   └── ContextOverflowError  … because it is too long
    ├── LLMRateLimitError         retryable
    ├── LLMTimeoutError           retryable
    ├── LLMConnectionError        retryable
    ├── LLMServerError            retryable
    └── LLMResponseError          an answer that is no answer
```

Messages say what happened, with which ids and numbers, and what to do. Where another exception was the cause it is
chained. Secrets that providers repeat in their messages are blanked before they reach an error.
"""

from __future__ import annotations

from pathlib import Path


class MnesisError(Exception):
    """Root of every error raised on purpose by this library."""


class ConfigurationError(MnesisError, ValueError):
    """A setting, or a combination of settings, that cannot work. Names field, value and remedy."""


class InvalidMessageError(MnesisError, ValueError):
    """A message or part that cannot be stored. Nothing of the call was stored."""


class ToolDefinitionError(MnesisError, ValueError):
    """A tool given to `send()` that cannot be described to a model or called."""


class RecallRefusedError(MnesisError):
    """A grant does not allow this look into the past: spent, ended, revoked or out of its scope."""


class DelegationRefusedError(MnesisError):
    """A sub-agent that delegates must say what it hands over and what it keeps; this one did not, or went too deep."""


class RunMismatchError(MnesisError, ValueError):
    """A map run of this id is there with other inputs, template, schema or model. `run_id` holds the id."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class FileError(MnesisError, OSError):
    """A file that cannot be taken in. `path` names it; nothing was stored."""

    def __init__(self, message: str, *, path: str | Path) -> None:
        super().__init__(message)
        self.path = str(path)


class MissingFileError(FileError, FileNotFoundError):
    """There is no file of this name, or it vanished while it was read."""


class UnsuitableFileError(FileError):
    """No regular file, not readable, or larger than what may be taken in."""


class ChangedFileError(FileError):
    """The file changed while it was read; take it in again once it rests."""


class ContextIrreducibleError(MnesisError):
    """What must stay in every request is larger than the window."""

    def __init__(self, message: str, *, required_tokens: int, usable_tokens: int) -> None:
        super().__init__(message)
        self.required_tokens = required_tokens
        self.usable_tokens = usable_tokens


class MnesisStoreError(MnesisError):
    """The database could not do what was asked."""


class NotFoundError(MnesisStoreError, LookupError):
    """An id that is not there. `id` holds it."""

    kind = "object"

    def __init__(self, id: str, *, where: str | None = None) -> None:
        place = f" in {where}" if where else ""
        super().__init__(f"{self.kind} not found: {id!r}{place}")
        self.id = id
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_not_found, (type(self), self.id, self.where)


def _rebuild_not_found(cls: type[NotFoundError], id: str, where: str | None) -> NotFoundError:
    return cls(id, where=where)


class SessionNotFoundError(NotFoundError):
    """No session of this id in this database. `session_id` and `db_path` hold both."""

    kind = "Session"

    def __init__(self, id: str, *, where: str | None = None) -> None:
        super().__init__(id, where=where)
        self.session_id = id
        self.db_path = where


class MessageNotFoundError(NotFoundError):
    """No message of this id in this session."""

    kind = "Message"


class SummaryNotFoundError(NotFoundError):
    """No summary of this id in this session."""

    kind = "Summary"


class RunNotFoundError(NotFoundError):
    """No map run of this id in this database."""

    kind = "Run"


class FileNotStoredError(NotFoundError):
    """No stored file of this id here."""

    kind = "Stored file"


class DamagedFileError(MnesisStoreError):
    """A stored file is not what was stored: its bytes no longer give its id. `path` names it."""

    def __init__(self, message: str, *, path: str | Path) -> None:
        super().__init__(message)
        self.path = str(path)


class SessionClosedError(MnesisStoreError):
    """The session was closed. Open it again with `MnesisSession.load(id)`."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is closed; open it again with MnesisSession.load({session_id!r})")
        self.session_id = session_id

    def __reduce__(self) -> tuple[object, ...]:
        return SessionClosedError, (self.session_id,)


class DuplicateIDError(MnesisStoreError):
    """An id is already taken by something with other content. `id` holds it."""

    def __init__(self, id: str, message: str | None = None) -> None:
        super().__init__(message or f"id {id!r} is already taken by other content; ids are never reused")
        self.id = id


class StaleContextError(MnesisStoreError):
    """The span of the active context that was read is no longer there. Nothing was written; read again."""


class _FileError(MnesisStoreError):
    """A store error about one database file, in `db_path`."""

    def __init__(self, message: str, *, db_path: str | Path) -> None:
        super().__init__(message)
        self.db_path = str(db_path)


class StoreBusyError(_FileError):
    """Another writer held the database longer than `connection_timeout` seconds. Safe to repeat."""


class StoreFullError(_FileError):
    """No space left where the database lives. Nothing of the call was stored; reads go on working."""


class ReadOnlyStoreError(_FileError):
    """The database, or its directory, cannot be written by this process."""


class CorruptStoreError(_FileError):
    """The file is damaged or is no mnesis database. It was not changed."""


class SchemaTooNewError(_FileError):
    """The database was written by a newer mnesis. It was not changed."""

    def __init__(self, message: str, *, db_path: str | Path, found: int, supported: int) -> None:
        super().__init__(message, db_path=db_path)
        self.found = found
        self.supported = supported


class StoreReplacedError(_FileError):
    """The database file was moved, deleted or replaced while open; a write would be lost."""


class ForkedStoreError(_FileError):
    """The store was opened before `os.fork()` and is used in the child. Open it again there."""


class LLMError(MnesisError):
    """A model call failed. Nothing was stored as the model's answer; the user's message is kept.

    `model`; `status_code` where the provider gave one; `retryable`; `retry_after_seconds` as asked for by the provider;
    `partial_text`, what had arrived before the failure ("" if nothing).
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
        super().__init__(message)
        self.model = model
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.partial_text = partial_text


class LLMAuthenticationError(LLMError):
    """No API key, or one the provider does not accept."""


class LLMBadRequestError(LLMError):
    """The provider refuses the request as it is."""


class ContextOverflowError(LLMBadRequestError):
    """The request is longer than the model's window."""


class LLMRateLimitError(LLMError):
    """Too many requests; `retry_after_seconds` where the provider said when."""

    retryable = True


class LLMTimeoutError(LLMError):
    """No answer within the time limit."""

    retryable = True


class LLMConnectionError(LLMError):
    """The provider could not be reached, or the connection broke."""

    retryable = True


class LLMServerError(LLMError):
    """The provider failed (5xx)."""

    retryable = True


class LLMResponseError(LLMError):
    """The provider's answer has no content that could be an answer."""
