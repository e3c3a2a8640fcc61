"""The result of `open()`, `create()` and `load()`: a session that opens when it is awaited or entered."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from mnesis.errors import ConfigurationError


class _Closable(Protocol):
    async def close(self) -> None: ...


S = TypeVar("S", bound=_Closable)


class OpeningSession(Coroutine[Any, Any, S], Generic[S]):
    """A session that is about to be opened. Use it once, in one of two ways.

    `await` opens the session; close it yourself. `async with` opens it, and closes it at the end of the block. It is a
    coroutine, so that it works with `asyncio.run()`, `create_task()` and `gather()`.

    ```python
    session = await MnesisSession.open(model="openai/gpt-4o")
    async with MnesisSession.open(model="openai/gpt-4o") as session:
        ...
    ```
    """

    __slots__ = ("_caller", "_coroutine", "_session", "_started")

    def __init__(self, coroutine: Coroutine[Any, Any, S], caller: str) -> None:
        self._coroutine, self._caller = coroutine, caller
        self._session: S | None = None
        self._started = False

    def __await__(self) -> Generator[Any, Any, S]:
        self._started = True
        return self._coroutine.__await__()

    async def __aenter__(self) -> S:
        self._session = await self
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def send(self, value: Any) -> Any:
        """Resume the coroutine. Called by event loops.

        Raises `ConfigurationError` for a message: the session is not open yet.
        """
        if value is not None and not self._started:
            self._coroutine.close()
            self._refuse("send")
        self._started = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the coroutine. Called by event loops."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close the coroutine. The session is then not opened."""
        self._coroutine.close()

    def __getattr__(self, name: str) -> NoReturn:
        # Not for private names, which libraries look up to inspect an object.
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(name)

    def __enter__(self) -> NoReturn:
        self._coroutine.close()
        raise ConfigurationError(
            f"{self._caller}() is asynchronous: write `async with`; for code without await use mnesis.sync.SyncSession"
        )

    def __exit__(self, *error: object) -> None: ...

    def _refuse(self, name: str) -> NoReturn:
        raise NotOpenedError(
            f"the session is not open yet, so it has no {name!r}: write `async with {self._caller}(…) as session:`, or"
            f" `session = await {self._caller}(…)`"
        )


class NotOpenedError(ConfigurationError, AttributeError):
    """A session was used before it was opened, because `await` or `async with` is missing."""
