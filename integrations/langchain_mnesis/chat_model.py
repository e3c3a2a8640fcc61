"""An adapter from LangChain chat models to the client that writes a session's summaries."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_mnesis.messages.parts import message_usage
from mnesis.errors import ContextOverflowError, LLMError, LLMTimeoutError
from mnesis.llm.base import Delta, LLMReply, LLMRequest

SUMMARY_TAGS = ["nostream", "mnesis", "mnesis:summary"]
"""Tags of summary calls. LangGraph excludes calls tagged `nostream` from its message streams."""

LITELLM_PROVIDERS = {
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
"""litellm's names of the providers of `init_chat_model`."""


class ChatModelClient:
    """An `mnesis.llm.base.LLM` that calls a chat model, or any runnable from messages to a message or string.

    Each call is a separate run and not a child of the run that triggered it. The model's own callbacks and tracers
    receive it with the tag `mnesis:summary`. It does not appear in the stream of a chain or agent.
    """

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the model and return its reply.

        Raises `LLMTimeoutError` if the request's time limit is exceeded, `ContextOverflowError` if LangChain reports
        one, and `LLMError` for any other exception of the model.
        """
        # The context is empty because context variables carry the callbacks of the surrounding run.
        call = asyncio.get_running_loop().create_task(self._call_model(request), context=contextvars.Context())
        try:
            async with asyncio.timeout(request.timeout_seconds):
                reply = await call
        except TimeoutError as error:
            message = f"{self._name} did not reply within {request.timeout_seconds:g} s"
            raise LLMTimeoutError(message, model=request.model) from error
        except Exception as error:  # a chat model may raise any exception; for the engine it is a failed call
            raise _as_llm_error(error, self._name, request.model) from error
        return _to_reply(reply, request.model)

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        """Yield the complete text as one delta, then the reply."""
        reply = await self.complete(request)
        if reply.text:
            yield Delta(text=reply.text)
        yield reply

    @property
    def _name(self) -> str:
        return type(self._model).__name__

    async def _call_model(self, request: LLMRequest) -> Any:
        config: RunnableConfig = {
            "tags": list(SUMMARY_TAGS),
            "metadata": {"lc_source": "summarization", "mnesis_purpose": request.purpose},
            "run_name": f"mnesis_{request.purpose}",
        }
        messages = convert_to_messages(list(request.messages))
        return await self._model.ainvoke(messages, config, **request.options)


def client_for(llm: object | None) -> object | None:
    """Convert a value to the types that a session accepts as `llm`.

    Runnables are wrapped and LangChain's model strings are converted to litellm's. Other values are returned unchanged.
    """
    if isinstance(llm, str):
        return to_litellm_name(llm)
    return ChatModelClient(llm) if isinstance(llm, Runnable) else llm


def to_litellm_name(model: str) -> str:
    """Convert a model string of `init_chat_model`, such as "openai:gpt-4o", to litellm's form.

    Any other string is returned unchanged.
    """
    provider, colon, name = model.partition(":")
    litellm_provider = LITELLM_PROVIDERS.get(provider) if colon and name else None
    return f"{litellm_provider}/{name}" if litellm_provider is not None else model


def model_name(llm: object | None) -> str | None:
    """Return the model name of a chat model, which determines limits and tokenizer; None if it has none."""
    if not isinstance(llm, BaseChatModel):
        return None
    names = (getattr(llm, attribute, None) for attribute in ("model_name", "model"))
    return next((name for name in names if isinstance(name, str) and name), None)


def is_overflow(error: BaseException) -> bool:
    """Return whether LangChain reports that the request was too long for the provider."""
    # Compared by name, because the oldest supported langchain-core does not have the class.
    return any(kind.__name__ == "ContextOverflowError" for kind in type(error).__mro__)


def _as_llm_error(error: Exception, name: str, model: str) -> LLMError:
    if isinstance(error, LLMError):
        return error
    kind = ContextOverflowError if is_overflow(error) else LLMError
    return kind(f"{name} raised {type(error).__name__}: {error}", model=model)


def _to_reply(answer: Any, model: str) -> LLMReply:
    if not isinstance(answer, BaseMessage):
        return LLMReply(text=str(answer), model=model)
    usage = message_usage(answer) if isinstance(answer, AIMessage) else None
    return LLMReply(text=str(answer.text), usage=usage, model=model)
