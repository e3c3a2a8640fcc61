"""`MnesisMemory`: any runnable with a memory that loses nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig, patch_config
from langchain_core.runnables.base import RunnableLike, coerce_to_runnable

from langchain_mnesis.history_factory import config_specs, session_name
from langchain_mnesis.runnable_io import Gathered
from langchain_mnesis.runnable_turn import MemoryTurn, Shape
from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError

DEFAULT_KEYS = ("session_id", "thread_id")


class MnesisMemory(Runnable[Any, Any]):
    """Wraps a runnable or chat model so that each call continues the session that `config["configurable"]` names.

    Before the call the user's messages are stored and the active context is put before them; after it everything new the
    runnable gave is stored, tool messages included. A call that fails, is cancelled, or whose stream is closed early leaves
    the user's messages in the log and its partial answer among `MnesisSession.interruptions()`. What the store refuses is
    raised. Concurrent calls on one session lose nothing.

    Input is a string, a message, a list of messages, or a dict: `input_messages_key` says where the user's messages are (the
    only key, or "messages"), `history_messages_key` where the runnable wants the context; without it the context stands
    before the user's messages under the same key. `output_messages_key` says where a dict output has its messages
    ("messages" or "output" by default).

    `session_key` names the field of `configurable` (several: all of them together); by default "session_id", or
    "thread_id" where there is no such field. `session_id` fixes the session. `engine`, `db_path`, `model`, `config`,
    `llm` and `types` are those of `MnesisChatMessageHistory`.
    """

    def __init__(
        self,
        runnable: RunnableLike[Any, Any],
        *,
        session_id: str | None = None,
        session_key: str | Sequence[str] | None = None,
        input_messages_key: str | None = None,
        history_messages_key: str | None = None,
        output_messages_key: str | None = None,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        config: MnesisConfig | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
    ) -> None:
        self.bound: Runnable[Any, Any] = coerce_to_runnable(runnable)
        self._session_id = session_name([session_id]) if session_id is not None else None
        self._keys = (session_key,) if isinstance(session_key, str) else tuple(session_key or ())
        self._shape = Shape(input_messages_key, history_messages_key, output_messages_key)
        self._sessions = Sessions(engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types)

    @property
    def engine(self) -> Engine:
        """The engine of the sessions: their store, their event bus."""
        return self._sessions.engine

    @property
    def InputType(self) -> Any:  # noqa: N802  # LangChain's name
        return Any

    @property
    def OutputType(self) -> Any:  # noqa: N802  # LangChain's name
        return Any

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The fields of `configurable` this runnable and the one inside it read."""
        own = [] if self._session_id is not None else config_specs(*(self._keys or DEFAULT_KEYS[:1]))
        names = {spec.id for spec in own}
        return own + [spec for spec in self.bound.config_specs if spec.id not in names]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the runnable with the session's context, and store what it gives."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """`invoke`, without blocking the event loop."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Pieces as the runnable gives them; stored as a whole at the end, as an interruption if the end never comes."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """`stream`, without blocking the event loop."""

        async def once() -> AsyncIterator[Any]:
            yield input

        async for piece in self._atransform_stream_with_config(once(), self._astream, config, **kwargs):
            yield piece

    def _invoke(
        self, input: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        turn = self._turn(config)
        prepared = concurrency.run(turn.begin(input))
        try:
            output = self.bound.invoke(prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs)
        except BaseException as error:
            concurrency.run(turn.interrupted(error))
            raise
        concurrency.run(turn.finish(output))
        return output

    async def _ainvoke(
        self, input: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        turn = self._turn(config)
        prepared = await turn.begin(input)
        try:
            output = await self.bound.ainvoke(
                prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs
            )
        except BaseException as error:
            await asyncio.shield(turn.interrupted(error))
            raise
        await turn.finish(output)
        return output

    def _stream(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        turn, gathered = self._turn(config), Gathered()
        prepared = concurrency.run(turn.begin(next(inputs)))
        try:
            for piece in self.bound.stream(prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs):
                gathered.add(piece)
                yield piece
        except BaseException as error:
            concurrency.run(turn.interrupted(error, gathered))
            raise
        concurrency.run(turn.finish_stream(gathered))

    async def _astream(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        turn, gathered = self._turn(config), Gathered()
        prepared = await turn.begin(await anext(inputs))
        try:
            async for piece in self.bound.astream(
                prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs
            ):
                gathered.add(piece)
                yield piece
        except BaseException as error:
            await asyncio.shield(turn.interrupted(error, gathered))
            raise
        await turn.finish_stream(gathered)

    def _turn(self, config: RunnableConfig) -> MemoryTurn:
        return MemoryTurn(self._sessions, self._named(config.get("configurable") or {}), self._shape)

    def _named(self, configurable: dict[str, Any]) -> str:
        if self._session_id is not None:
            return self._session_id
        keys = self._keys or next(((key,) for key in DEFAULT_KEYS if configurable.get(key)), DEFAULT_KEYS[:1])
        missing = [key for key in keys if key not in configurable]
        if missing:
            raise ConfigurationError(
                f"no {', '.join(missing)} in config['configurable'], so it is not known which session to continue; call with"
                f' config={{"configurable": {{"{missing[0]}": "…"}}}}'
            )
        return session_name([configurable[key] for key in keys])
