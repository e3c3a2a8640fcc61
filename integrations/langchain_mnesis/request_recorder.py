"""A record of what chat models receive and stream during one model call of an agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook


class RequestRecorder(BaseCallbackHandler):
    """Records the messages of chat model calls. Middleware inside this one can change a request after it was prepared."""

    run_inline = True
    """Otherwise LangChain runs a task in a thread for each event of the model, such as a chunk
    (langchain_core.callbacks.manager)."""

    def __init__(self) -> None:
        self.requests: list[list[BaseMessage]] = []
        self._pieces: list[str] = []

    @property
    def partial_text(self) -> str:
        """The text that the newest call has streamed so far."""
        return "".join(self._pieces)

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        """Record the messages of a call."""
        self.requests += [list(request) for request in messages]
        self._pieces.clear()

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        """Record a piece of a streamed reply."""
        self._pieces.append(_text_of_piece(token))

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the calls that are made inside the block, in this context."""
        token = _current_recorder.set(self)
        try:
            yield
        finally:
            _current_recorder.reset(token)


def _text_of_piece(token: Any) -> str:
    """Return the text of a piece: a string, or the content blocks that some models stream."""
    if isinstance(token, str):
        return token
    blocks = token if isinstance(token, list) else []
    return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


_current_recorder: ContextVar[RequestRecorder | None] = ContextVar("mnesis_request_recorder", default=None)
# The documented way to add a handler to every run of a context, as `get_usage_metadata_callback` does.
register_configure_hook(_current_recorder, inheritable=True)
