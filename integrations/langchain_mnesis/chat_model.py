"""LangChain chat models as the client that writes a session's summaries."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_mnesis.messages.parts import usage_of
from mnesis.errors import ContextOverflowError, LLMError, LLMTimeoutError
from mnesis.llm.base import Delta, LLMReply, LLMRequest

SUMMARY_TAGS = ["nostream", "mnesis", "mnesis:summary"]
"""Tags of summary calls. LangGraph leaves what is tagged `nostream` out of its message streams."""

PROVIDERS = {
    name: name for name in ("anthropic", "azure_ai", "cohere", "deepseek", "groq", "huggingface", "ollama")
} | {
    "azure_openai": "azure",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "fireworks": "fireworks_ai",
    "google_genai": "gemini",
    "google_vertexai": "vertex_ai",
    "ibm": "watsonx",
    "mistralai": "mistral",
    "nvidia": "nvidia_nim",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together_ai",
    "xai": "xai",
}
"""What litellm calls the providers of `init_chat_model`."""


class ChatModelClient:
    """A chat model, or any runnable from messages to a message or string, as an `mnesis.llm.base.LLM`.

    Its calls are runs of their own, not children of the run that set them off: the model's own callbacks and tracers see
    them, tagged `mnesis:summary`, and nothing of them reaches the stream of a chain or agent.
    """

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The model's answer. Raises `LLMTimeoutError` past the request's time limit, `ContextOverflowError` where LangChain
        reports one, `LLMError` for whatever else the model raises."""
        # An empty context: callbacks of the run this call happens in travel in context variables.
        call = asyncio.get_running_loop().create_task(self._answer(request), context=contextvars.Context())
        try:
            async with asyncio.timeout(request.timeout_seconds):
                reply = await call
        except TimeoutError as error:
            message = f"{self._name} gave no answer within {request.timeout_seconds:g} s"
            raise LLMTimeoutError(message, model=request.model) from error
        except Exception as error:  # a chat model may raise anything; for the engine it is a failed call
            raise _as_llm_error(error, self._name, request.model) from error
        return _reply(reply, request.model)

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """The whole answer as one piece, then the reply."""
        reply = await self.complete(request)
        if reply.text:
            yield Delta(text=reply.text)
        yield reply

    @property
    def _name(self) -> str:
        return type(self._model).__name__

    async def _answer(self, request: LLMRequest) -> Any:
        config: RunnableConfig = {
            "tags": list(SUMMARY_TAGS),
            "metadata": {"lc_source": "summarization", "mnesis_purpose": request.purpose},
            "run_name": f"mnesis_{request.purpose}",
        }
        messages = convert_to_messages(list(request.messages))
        return await self._model.ainvoke(messages, config, **request.options)


def client_for(llm: object | None) -> object | None:
    """What a session takes as `llm`: runnables wrapped, LangChain's model strings as litellm's, everything else as it is."""
    if isinstance(llm, str):
        return litellm_name(llm)
    return ChatModelClient(llm) if isinstance(llm, Runnable) else llm


def litellm_name(model: str) -> str:
    """A model string of `init_chat_model`, such as "openai:gpt-4o", in litellm's form; any other as it is."""
    provider, colon, name = model.partition(":")
    known = PROVIDERS.get(provider) if colon and name else None
    return f"{known}/{name}" if known is not None else model


def model_name(llm: object | None) -> str | None:
    """The model string a chat model goes by, for its limits and tokenizer; None if it does not say."""
    if not isinstance(llm, BaseChatModel):
        return None
    names = (getattr(llm, attribute, None) for attribute in ("model_name", "model"))
    return next((name for name in names if isinstance(name, str) and name), None)


def is_overflow(error: BaseException) -> bool:
    """Whether a provider found the request too long, as far as LangChain tells."""
    # By name: the class is younger than the oldest langchain-core that is supported.
    return any(kind.__name__ == "ContextOverflowError" for kind in type(error).__mro__)


def _as_llm_error(error: Exception, name: str, model: str) -> LLMError:
    if isinstance(error, LLMError):
        return error
    kind = ContextOverflowError if is_overflow(error) else LLMError
    return kind(f"{name} raised {type(error).__name__}: {error}", model=model)


def _reply(answer: Any, model: str) -> LLMReply:
    if not isinstance(answer, BaseMessage):
        return LLMReply(text=str(answer), model=model)
    usage = usage_of(answer) if isinstance(answer, AIMessage) else None
    return LLMReply(text=str(answer.text), usage=usage, model=model)
