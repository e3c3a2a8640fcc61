"""`compact_messages`: a list of messages to one that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, overload

from langchain_core.messages import BaseMessage, MessageLikeRepresentation, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_mnesis.budgets import SMALLEST_TOKENS, budgeted
from langchain_mnesis.chat_model import client_for, model_name
from langchain_mnesis.messages.convert import from_record, shows_whole, to_record
from langchain_mnesis.runnable_io import input_messages
from mnesis import concurrency
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.engine.registry import MEMORY
from mnesis.errors import ConfigurationError
from mnesis.llm.no_model import NoModel
from mnesis.models.message import Message
from mnesis.session.session import MnesisSession

Messages = Iterable[MessageLikeRepresentation]


@overload
def compact_messages(
    messages: None = None,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: MnesisConfig | None = None,
) -> Runnable[Messages, list[BaseMessage]]: ...
@overload
def compact_messages(
    messages: Messages,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: MnesisConfig | None = None,
) -> list[BaseMessage]: ...
def compact_messages(
    messages: Messages | None = None,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: MnesisConfig | None = None,
) -> list[BaseMessage] | Runnable[Messages, list[BaseMessage]]:
    """The messages in at most `max_tokens` tokens: older ones as summaries, tool calls always with their results.

    Without `messages` a runnable that does it, for chains: `prompt | compact_messages(max_tokens=8_000) | model`. Lists that
    fit come back as they are. Leading system messages stay. About `keep_tokens` of the newest messages (half of `max_tokens`
    by default) are not summarised. `llm` writes the summaries: a chat model, a model string, or None for extracts without
    a model. `model` names the model whose tokens are counted. Nothing is stored: a list that is too long is summarised
    anew each time; `MnesisMemory` and `MnesisChatMessageHistory` remember.

    Raises `ConfigurationError` for less than 400 tokens, `InvalidMessageError` for what is no list of messages, `ContextIrreducibleError` if the system messages leave no room.
    """
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < SMALLEST_TOKENS:
        raise ConfigurationError(f"max_tokens is a number of tokens and at least {SMALLEST_TOKENS}, not {max_tokens!r}")
    keep = max_tokens // 2 if keep_tokens is None else keep_tokens
    settings = budgeted(config or MnesisConfig(), usable_tokens=max_tokens, keep_tokens=keep)
    work = partial(_compacted, settings=settings, model=model or model_name(llm), llm=llm)
    if messages is None:
        return RunnableLambda(lambda given: concurrency.run(work(given)), afunc=work, name="compact_messages")
    return concurrency.run(work(messages))


async def _compacted(
    messages: Messages | Any, *, settings: MnesisConfig, model: str | None, llm: object | None
) -> list[BaseMessage]:
    given = input_messages(list(messages) if isinstance(messages, Iterator) else messages, None)
    system, said = _without_system(given)
    if not said:
        return given
    async with Engine(MEMORY, config=settings) as engine:
        session = await _session(engine, settings, model, llm, "\n".join(str(message.text) for message in system))
        records = [to_record(message, id=f"message_{place}") for place, message in enumerate(said)]
        await session.append(records)
        window = await session.window()
        await session.close()
    by_id = {record.id: message for record, message in zip(records, said, strict=True)}
    return [*system, *(shown for record in window.messages for shown in _shown(record, by_id))]


async def _session(
    engine: Engine, settings: MnesisConfig, model: str | None, llm: object | None, system_prompt: str
) -> MnesisSession:
    client = client_for(llm) if llm is not None else NoModel()
    return await MnesisSession.create(
        model=model, system_prompt=system_prompt, engine=engine, config=settings, llm=client
    )


def _without_system(messages: Sequence[BaseMessage]) -> tuple[list[BaseMessage], list[BaseMessage]]:
    first = next((i for i, message in enumerate(messages) if not isinstance(message, SystemMessage)), len(messages))
    return list(messages[:first]), list(messages[first:])


def _shown(record: Message, by_id: dict[str, BaseMessage]) -> list[BaseMessage]:
    message = by_id.get(record.id)
    return [message] if message is not None and shows_whole(record, message) else from_record(record)
