"""`compact_messages`: shorten a list of messages to a token limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, overload

from langchain_core.messages import BaseMessage, MessageLikeRepresentation, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_mnesis.chat_model import client_for, model_name
from langchain_mnesis.messages.convert import from_record, has_same_state, to_record
from langchain_mnesis.runnable_io import input_messages
from mnesis import concurrency
from mnesis.config import ConfigOrDict, MnesisConfig, parse_config
from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.llm.no_model import NoModel
from mnesis.models.context import Budget
from mnesis.models.message import Message
from mnesis.session.session import MnesisSession
from mnesis.validation import check_integer

Messages = Iterable[MessageLikeRepresentation]

MIN_LIMIT_TOKENS = 400
"""Below this, summaries cannot save tokens: a summary with its fence takes about a quarter of it."""


@overload
def compact_messages(
    messages: None = None,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: ConfigOrDict | None = None,
) -> Runnable[Messages, list[BaseMessage]]: ...
@overload
def compact_messages(
    messages: Messages,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: ConfigOrDict | None = None,
) -> list[BaseMessage]: ...
def compact_messages(
    messages: Messages | None = None,
    *,
    max_tokens: int,
    keep_tokens: int | None = None,
    model: str | None = None,
    llm: object | None = None,
    config: ConfigOrDict | None = None,
) -> list[BaseMessage] | Runnable[Messages, list[BaseMessage]]:
    """Shorten messages to at most `max_tokens` tokens by summarising the older ones.

    Without `messages`, return a runnable for chains: `prompt | compact_messages(max_tokens=8_000) | model`.

    A list that fits is returned unchanged. Leading system messages are kept, and tool calls stay with their results.
    About `keep_tokens` of the newest messages (default: half of `max_tokens`) are not summarised. `llm` writes the
    summaries: a chat model, a model string, or None for extracts without a model. `model` is the name of the model
    whose tokens are counted. Nothing is stored, so a list that is too long is summarised again each time; use
    `MnesisMemory` or `MnesisChatMessageHistory` to keep the summaries.

    Raises `ConfigurationError` if `max_tokens` is less than 400, `InvalidMessageError` if `messages` is not a list of
    messages, and `ContextIrreducibleError` if the system messages leave no tokens for the others.
    """
    check_integer("max_tokens", max_tokens, minimum=MIN_LIMIT_TOKENS)
    budget = Budget.for_tokens(max_tokens, keep_tokens=max_tokens // 2 if keep_tokens is None else keep_tokens)
    settings = parse_config(config) or MnesisConfig()
    # Calling this function is a request to compact, so it compacts even if automatic compaction is switched off.
    settings = settings.model_copy(update={"compaction": settings.compaction.model_copy(update={"auto": True})})
    compact = partial(_compact, settings=settings, budget=budget, model=model or model_name(llm), llm=llm)
    if messages is None:
        return RunnableLambda(lambda value: concurrency.run(compact(value)), afunc=compact, name="compact_messages")
    return concurrency.run(compact(messages))


async def _compact(
    messages: Messages | Any, *, settings: MnesisConfig, budget: Budget, model: str | None, llm: object | None
) -> list[BaseMessage]:
    # Not named `config`: RunnableLambda would pass a RunnableConfig under that name.
    all_messages = input_messages(list(messages) if isinstance(messages, Iterator) else messages, None)
    system_messages, conversation = _split_system_prefix(all_messages)
    if not conversation:
        return all_messages
    async with Engine(IN_MEMORY, config=settings) as engine:
        session = await MnesisSession.create(
            model=model,
            system_prompt="\n".join(str(message.text) for message in system_messages),
            engine=engine,
            llm=client_for(llm) if llm is not None else NoModel(),
            budget=budget,
        )
        records = [to_record(message, id=f"message_{index}") for index, message in enumerate(conversation)]
        await session.append(records)
        window = await session.window()
        await session.close()
    by_id = {record.id: message for record, message in zip(records, conversation, strict=True)}
    return [
        *system_messages,
        *(output_message for record in window.messages for output_message in _to_langchain(record, by_id)),
    ]


def _split_system_prefix(messages: Sequence[BaseMessage]) -> tuple[list[BaseMessage], list[BaseMessage]]:
    first = next((i for i, message in enumerate(messages) if not isinstance(message, SystemMessage)), len(messages))
    return list(messages[:first]), list(messages[first:])


def _to_langchain(record: Message, by_id: dict[str, BaseMessage]) -> list[BaseMessage]:
    message = by_id.get(record.id)
    return [message] if message is not None and has_same_state(record, message) else from_record(record)
