"""A chat completion request as the rules see it, and what several rules share.

Pure functions, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.providers.strict_server import Json, ProviderRequest

OPENAI = ("openai", "azure")
OPENAI_TYPES = "openai-python, types/chat/*_param.py"
MISTRAL_VALIDATOR = "mistralai/mistral-common, protocol/instruct/validator.py"
DEEPSEEK_THINKING = "api-docs.deepseek.com/guides/thinking_mode"

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OPENAI_REASONING = re.compile(r"^(o[134]|gpt-5)")
KIMI_THINKING = re.compile(r"thinking|kimi-k2\.[5-9]|kimi-k[3-9]")


@dataclass
class Subject:
    """A request, and what its server knows of the conversation.

    `issued_details` holds the reasoning details that the server sent, serialized. `calls_with_details` holds the ids of the
    calls that came with them.
    """

    request: ProviderRequest
    flavour: str
    is_strict_about_cache_control: bool
    issued_details: set[str]
    calls_with_details: set[str]

    @property
    def body(self) -> Json:
        return self.request.body

    @property
    def messages(self) -> list[Json]:
        return self.request.messages

    @property
    def thinks(self) -> bool:
        """Whether the request uses a thinking mode that needs its reasoning back."""
        switch = (self.body.get("thinking") or {}).get("type")
        if switch:
            return bool(switch == "enabled")
        if self.flavour == "deepseek":  # DEEPSEEK_THINKING: enabled by default; deepseek-chat is the alias without it
            return self.request.model != "deepseek-chat"
        return bool(KIMI_THINKING.search(self.request.model))

    def calls(self) -> Iterator[tuple[int, int, Json]]:
        for index, message in enumerate(self.messages):
            for position, call in enumerate(message.get("tool_calls") or []):
                yield index, position, call

    def exchanges(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """Yield each assistant message with calls: its index, the call ids and the ids that the tool messages answer."""
        for index, message in enumerate(self.messages):
            if not (calls := message.get("tool_calls")):
                continue
            result_ids = []
            for later in self.messages[index + 1 :]:
                if later.get("role") != "tool":
                    break
                result_ids.append(str(later.get("tool_call_id")))
            yield index, [str(call.get("id")) for call in calls], result_ids


def describe_bad_name(place: str) -> str:
    """Return the error message for a name that breaks `NAME`."""
    return f"Invalid '{place}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
