"""`MnesisMemory`: a runnable with lossless memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Never, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.messages import BaseMessage, MessageLikeRepresentation
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig, patch_config
from langchain_core.runnables.base import RunnableLike, RunnableSerializable, coerce_to_runnable
from pydantic import BaseModel, ConfigDict, PrivateAttr, create_model

from langchain_mnesis.history_factory import config_specs, join_session_id
from langchain_mnesis.keywords import MEMORY_REPLACEMENTS, refuse_unknown
from langchain_mnesis.runnable_io import StreamAccumulator
from langchain_mnesis.runnable_turn import MemoryTurn, RunnableKeys
from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.engine.known_engines import database_key
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError
from mnesis.session.pool import SessionId

DEFAULT_SESSION_KEYS = ("session_id", "thread_id")
"""The fields of `configurable` that can hold the session id by default. The first one that is set is used."""


class MnesisMemory(RunnableSerializable[Any, Any]):
    """A wrapper for a runnable or chat model. Each call continues the session named in `config["configurable"]`.

    Before the call, the user's messages are stored and the active context is placed before them. After the call, all
    new messages of the output are stored, including tool messages. If the call fails or is cancelled, or its stream is
    closed early, the user's messages remain in the log and the partial reply is recorded in
    `MnesisSession.interruptions()`. The store's errors are raised. Concurrent calls on one session lose nothing.

    The input is a string, a message, a list of messages, or a dict. `input_messages_key` is the key of the user's
    messages in a dict (default: the only key, or "messages"). `history_messages_key` is the key under which the
    runnable expects the context; without it, the context is placed before the user's messages under their key.
    `output_messages_key` is the key of the messages in a dict output (default: "messages" or "output").

    `session_key` is the field of `configurable` that holds the session id; several fields together form the id. The
    default is "session_id", or "thread_id" if that field is not set. `session_id` sets a fixed session. `engine`,
    `db_path`, `model`, `config`, `llm` and `types` are those of `MnesisChatMessageHistory`. `name` is the name of its
    runs in traces.

    `langchain_core.load.dumps` writes a memory with the location of its database, unless the database is in memory or
    `types` are set; `loads(…, allowed_objects=[MnesisMemory, …])` attaches to the same sessions. A deep copy and a pickle
    do too.

        chain = MnesisMemory(prompt | model, db_path="chat.db")
        chain.invoke("My name is Ada.", config={"configurable": {"session_id": "ada"}})
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    runnable: Runnable[Any, Any]
    session_id: str | None = None
    session_key: tuple[str, ...] | None = None
    input_messages_key: str | None = None
    history_messages_key: str | None = None
    output_messages_key: str | None = None
    _sessions: Sessions = PrivateAttr()
    _arguments: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        # The default allows an error that explains the keywords of other memories, which wrap no runnable.
        runnable: RunnableLike[Any, Any] = None,  # type: ignore[assignment]
        *,
        session_id: SessionId | None = None,
        session_key: str | Sequence[str] | None = None,
        input_messages_key: str | None = None,
        history_messages_key: str | None = None,
        output_messages_key: str | None = None,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
        name: str | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, MEMORY_REPLACEMENTS)
        if runnable is None:
            raise TypeError("MnesisMemory needs a runnable: pass a chat model or a chain as the first argument")
        fields: dict[str, Any] = {
            "runnable": coerce_to_runnable(runnable),
            "session_id": join_session_id([session_id]) if session_id is not None else None,
            "session_key": (session_key,) if isinstance(session_key, str) else tuple(session_key or ()) or None,
            "input_messages_key": input_messages_key,
            "history_messages_key": history_messages_key,
            "output_messages_key": output_messages_key,
            "name": name,
        }
        super().__init__(**fields)
        self._sessions = Sessions(engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types)
        self._arguments = {"model": model, "llm": llm}

    @property
    def bound(self) -> Runnable[Any, Any]:
        """The wrapped runnable, under the name that LangChain's own wrappers use."""
        return self.runnable

    @property
    def engine(self) -> Engine:
        """The engine of the sessions, with their store and event bus."""
        return self._sessions.engine

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: a memory can be written by `langchain_core.load.dumps`."""
        return True

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return the form that `langchain_core.load.dumps` writes."""
        if self.engine.path == IN_MEMORY or self._sessions.types:
            return self.to_json_not_implemented()
        serialized = super().to_json()
        if serialized["type"] == "constructor":
            config = self.engine.config.model_dump(mode="json", exclude_defaults=True)
            more = {"db_path": database_key(self.engine), "config": config or None, **self._arguments}
            serialized["kwargs"] |= {name: value for name, value in more.items() if value is not None}
        return serialized

    @property
    def InputType(self) -> Any:  # noqa: N802  # LangChain's name
        """The type of the input: a dict if the memory has keys for one."""
        if self.input_messages_key is not None or self.history_messages_key is not None:
            return dict[str, Any]
        return str | BaseMessage | Sequence[MessageLikeRepresentation] | dict[str, Any]

    @property
    def OutputType(self) -> Any:  # noqa: N802  # LangChain's name
        """The type of the wrapped runnable's output, which is returned unchanged."""
        return self.runnable.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """Return the schema of the input: the key of the user's messages, or what the wrapped runnable needs apart from
        the history.
        """
        if self.input_messages_key is None:
            return cast(type[BaseModel], super().get_input_schema(config))
        inner = cast(type[BaseModel], self.runnable.get_input_schema(config)).model_fields
        names = [name for name in inner if name not in (self.history_messages_key, self.input_messages_key)]
        fields: dict[str, Any] = {name: (inner[name].annotation, inner[name]) for name in names}
        fields[self.input_messages_key] = (str | BaseMessage | Sequence[BaseMessage], ...)
        return create_model(self.get_name("Input"), **fields)

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """Return the schema of the wrapped runnable's output."""
        return cast(type[BaseModel], self.runnable.get_output_schema(config))

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The fields of `configurable` that this runnable and the wrapped one read."""
        own_specs = [] if self.session_id is not None else config_specs(*(self.session_key or DEFAULT_SESSION_KEYS[:1]))
        own_ids = {spec.id for spec in own_specs}
        return own_specs + [spec for spec in self.runnable.config_specs if spec.id not in own_ids]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the runnable with the session's context and store its output."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the runnable like `invoke`, without blocking the event loop."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the runnable's chunks and store the complete output at the end.

        A stream that does not reach its end is recorded as an interruption.
        """
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream like `stream`, without blocking the event loop."""

        async def single_input() -> AsyncIterator[Any]:
            yield input

        async for chunk in self._atransform_stream_with_config(single_input(), self._astream, config, **kwargs):
            yield chunk

    def _invoke(
        self, input: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        turn = self._new_turn(config)
        prepared = concurrency.run(turn.begin(input))
        try:
            output = self.runnable.invoke(prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs)
        except BaseException as error:
            concurrency.run(turn.record_interruption(error))
            raise
        concurrency.run(turn.finish(output))
        return output

    async def _ainvoke(
        self, input: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        turn = self._new_turn(config)
        prepared = await turn.begin(input)
        try:
            output = await self.runnable.ainvoke(
                prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs
            )
        except BaseException as error:
            await asyncio.shield(turn.record_interruption(error))
            raise
        await turn.finish(output)
        return output

    def _stream(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        turn, accumulator = self._new_turn(config), StreamAccumulator()
        prepared = concurrency.run(turn.begin(next(inputs)))
        try:
            for chunk in self.runnable.stream(
                prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs
            ):
                accumulator.add(chunk)
                yield chunk
        except BaseException as error:
            concurrency.run(turn.record_interruption(error, accumulator))
            raise
        concurrency.run(turn.finish_stream(accumulator))

    async def _astream(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        turn, accumulator = self._new_turn(config), StreamAccumulator()
        prepared = await turn.begin(await anext(inputs))
        try:
            async for chunk in self.runnable.astream(
                prepared, patch_config(config, callbacks=run_manager.get_child()), **kwargs
            ):
                accumulator.add(chunk)
                yield chunk
        except BaseException as error:
            await asyncio.shield(turn.record_interruption(error, accumulator))
            raise
        await turn.finish_stream(accumulator)

    def _new_turn(self, config: RunnableConfig) -> MemoryTurn:
        keys = RunnableKeys(self.input_messages_key, self.history_messages_key, self.output_messages_key)
        return MemoryTurn(self._sessions, self._resolve_session_id(config.get("configurable") or {}), keys)

    def _resolve_session_id(self, configurable: dict[str, Any]) -> str:
        if self.session_id is not None:
            return self.session_id
        keys = self.session_key or next(
            ((key,) for key in DEFAULT_SESSION_KEYS if configurable.get(key) not in (None, "")),
            DEFAULT_SESSION_KEYS[:1],
        )
        missing = [key for key in keys if key not in configurable]
        if missing:
            raise ConfigurationError(
                f"config['configurable'] has no {', '.join(missing)}, which identifies the session to continue; call with"
                f' config={{"configurable": {{"{missing[0]}": "…"}}}}'
            )
        return join_session_id([configurable[key] for key in keys])
