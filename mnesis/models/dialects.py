"""The forms of requests that providers accept, as one table. Plain data and look-ups, no I/O.

To add a provider, add a row to `DIALECTS` and a test to `tests/wire`. The first row whose pattern matches the model string is
used. `mnesis.formats.request` renders requests from the rows.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Literal

from mnesis.redaction import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How reasoning goes back to the model that produced it.

    `field` is the field of assistant messages, and `kinds` are the block types that it carries; without kinds it
    carries text. With `calls_only`, only messages with tool calls carry it. `scope` says whose reasoning is valid: that
    of the same model string, of any model of this dialect, or of any Claude. `placeholder` replaces reasoning that is
    missing in a message with calls, for models that match `required_by`. With `client_decides`, only some requests may
    carry it, and the client knows which.
    """

    field: str
    kinds: frozenset[str] = frozenset()
    calls_only: bool = False
    scope: Literal["model", "dialect", "claude"] = "model"
    placeholder: str = ""
    required_by: str = r"(?!)"
    client_decides: bool = False


@dataclass(frozen=True, slots=True)
class CallIds:
    """The tool call ids that a provider accepts. With `unique`, an id may occur once in a request, else once in a message."""

    pattern: str = r"(?s).+"
    max_chars: int = 10_000
    exact_chars: int | None = None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class PromptCache:
    """The prompt cache of a provider.

    `max_marks` is the number of explicit marks that a request may carry; 0 means that the provider caches
    automatically. `min_tokens` maps model patterns to the shortest prefix that is cached; the first match counts.
    `lifetimes_seconds` is the longest certain lifetime of an unused entry, for each lifetime that can be requested (""
    if none can). `write_factors` and `read_factor` are multiples of the price of an input token.
    """

    max_marks: int
    min_tokens: tuple[tuple[str, int], ...]
    lifetimes_seconds: dict[str, float]
    write_factors: dict[str, float]
    read_factor: float

    def min_tokens_for(self, model: str) -> int:
        """Return the number of tokens below which a prefix of this model's requests is not cached."""
        return next(tokens for pattern, tokens in self.min_tokens if re.search(pattern, model.lower()))

    def lifetime_seconds(self, requested: str) -> float | None:
        """Return the longest certain lifetime of an unused entry. None if nothing is cached without a mark, and none is
        sent.
        """
        return self.lifetimes_seconds.get(requested if self.max_marks else "")

    def write_factor(self, requested: str) -> float:
        """Return the price of writing a token, in multiples of an input token's. Without a mark, it is the price of the
        shortest lifetime.
        """
        key = requested if self.max_marks else ""
        return self.write_factors[key] if key in self.write_factors else min(self.write_factors.values())


@dataclass(frozen=True, slots=True)
class Dialect:
    """The requests that one family of providers accepts.

    `pattern` matches model strings in lower case. `tool_names` is the pattern of valid tool names. `media_in_results`
    says how images and files of a tool result are sent: inside the result, in a user message after the results, or as
    text. `sees_media` says whether messages may contain images and files. `calls_without_text` is the content of an
    assistant message that has only calls. `is_alternating` means that neighbors of one role must be merged.
    `reply_after_results` means that an assistant message must follow tool results; `user_first` that the first message
    must be the user's; `system_anywhere` that system messages may occur between others; `text_in_tool_loops` that user
    text may come between two steps of one tool loop. `content_blocks` means that texts are always sent as lists of
    blocks, so that a cache mark does not change their form. `context_limit_argument` is the argument that sets the
    server's context length; `mends_thinking` are the models that check the messages before a thinking block.
    """

    name: str
    pattern: str
    reasoning: Reasoning | None = None
    call_ids: CallIds = CallIds()
    tool_names: str = r"(?s).+"
    cache: PromptCache | None = None
    media_in_results: Literal["result", "user message", "text"] = "user message"
    sees_media: bool = True
    call_signatures: bool = False
    calls_without_text: str | None = None
    is_alternating: bool = False
    reply_after_results: bool = False
    user_first: bool = False
    system_anywhere: bool = True
    text_in_tool_loops: bool = True
    content_blocks: bool = False
    context_limit_argument: str | None = None
    mends_thinking: str = r"(?!)"


# litellm sends requests with tools to the Responses API if the model reasons and chat completions refuses tools then (GPT-5.4 and
# later; litellm, responses/bridge_check.py). Chat completions accept no reasoning items.
BRIDGED_REASONING = Reasoning("reasoning_items", frozenset({"reasoning"}), client_decides=True)
FIVE_MINUTES, ONE_HOUR, ONE_DAY = 300.0, 3_600.0, 86_400.0
NAMES = r"[a-zA-Z0-9_-]{1,64}"
SELF_HOSTED = r"^(hosted_vllm|vllm|lm_studio|llamafile|llamacpp|llama_cpp|xinference|docker_model_runner)/"
STRICT_TEMPLATES = r"^(openai|openai_like|custom_openai|text-completion-openai|huggingface)/.*(gemma|mi[sx]tral|ministral|magistral|devstral)"
ADAPTIVE_CLAUDE = r"opus-4-[6-9]|sonnet-4-6|(opus|sonnet|haiku|fable|mythos)-[5-9]|mythos"
"""Claude models that decide how much to think (platform.claude.com, thinking-troubleshooting)."""

# platform.claude.com/docs/en/build-with-claude/prompt-caching: four marks; 5 minutes at 1.25 or 1 hour at 2.0 times the
# input price; reads at 0.1. Minimum lengths as in anthropics/skills, claude-api/shared/prompt-caching.md.
CLAUDE_CACHE = PromptCache(
    max_marks=4,
    min_tokens=(
        (r"opus-5|fable-5-[1-9]|mythos-5-[1-9]", 512),
        (r"opus-4[-.]7|mythos-preview|haiku-3|3[-.]5-haiku|3-haiku", 2_048),
        (r"opus-4[-.][56]|haiku-4[-.]5", 4_096),
        (r"", 1_024),
    ),
    lifetimes_seconds={"5m": FIVE_MINUTES, "1h": ONE_HOUR},
    write_factors={"5m": 1.25, "1h": 2.0},
    read_factor=0.1,
)


def _automatic(min_tokens: int, lifetime_seconds: float, read_factor: float) -> PromptCache:
    return PromptCache(0, (("", min_tokens),), {"": lifetime_seconds}, {"": 1.0}, read_factor)


DIALECTS: tuple[Dialect, ...] = (
    # platform.claude.com/docs/en/build-with-claude/extended-thinking: blocks go back unchanged, signatures hold on the Claude
    # API, Bedrock and Vertex; a tool loop must begin with thinking, and text next to a tool result begins another loop. Ids:
    # ^[a-zA-Z0-9_-]+$, unique. preserved-thinking: newer models reject a block if anything before it changed.
    Dialect(
        "anthropic",
        r"^anthropic/|^(bedrock|vertex_ai|vertex_ai_beta|azure_ai)/.*claude|^claude|^([a-z]{2,6}\.)?anthropic\.claude",
        reasoning=Reasoning("thinking_blocks", frozenset({"thinking", "redacted_thinking"}), scope="claude"),
        call_ids=CallIds(r"[a-zA-Z0-9_-]+", 64, unique=True),
        tool_names=NAMES,
        cache=CLAUDE_CACHE,
        media_in_results="result",
        user_first=True,
        system_anywhere=False,
        text_in_tool_loops=False,
        mends_thinking=r"claude.*((fable|mythos)-5-[1-9]|(opus|sonnet|haiku)-5-[5-9])",
    ),
    # openrouter.ai/docs, reasoning tokens: reasoning_details go back unmodified. Prompt caching: marks are needed for Claude.
    Dialect(
        "openrouter-claude",
        r"^openrouter/anthropic/",
        reasoning=Reasoning(
            "reasoning_details", frozenset({"reasoning.text", "reasoning.encrypted", "reasoning.summary"})
        ),
        call_ids=CallIds(r"[a-zA-Z0-9_-]+", 40, unique=True),
        tool_names=NAMES,
        cache=CLAUDE_CACHE,
        user_first=True,
        text_in_tool_loops=False,
        media_in_results="result",
        content_blocks=True,
    ),
    Dialect(
        "openrouter",
        r"^openrouter/",
        reasoning=Reasoning(
            "reasoning_details", frozenset({"reasoning.text", "reasoning.encrypted", "reasoning.summary"})
        ),
        call_ids=CallIds(max_chars=40),
        tool_names=NAMES,
        cache=_automatic(1_024, ONE_HOUR, 0.25),
    ),
    # Chat templates with strict roles: microsoft/autogen#1037, google/adk-python#1373. Merging harms no other template.
    Dialect(
        "alternating",
        rf"{SELF_HOSTED}|{STRICT_TEMPLATES}",
        is_alternating=True,
        reply_after_results=True,
        user_first=True,
        system_anywhere=False,
        text_in_tool_loops=False,
        media_in_results="text",
    ),
    # openai-python, types/chat/*_param.py: no other fields; ids of at most 40 characters (vercel/ai#5171). The Responses API
    # behind `openai/responses/…` takes the model's own reasoning items (litellm, completion_extras). OpenAI's prompt
    # caching guide: from 1,024 tokens, within 5 to 60 minutes of inactivity.
    Dialect(
        "openai-responses",
        r"^(openai|azure|xai)/responses/|^responses/",
        reasoning=Reasoning("reasoning_items", frozenset({"reasoning"})),
        call_ids=CallIds(max_chars=40),
        tool_names=NAMES,
        cache=_automatic(1_024, ONE_HOUR, 0.1),
    ),
    Dialect(
        "openai",
        r"^(openai|ft:|text-completion-openai)|^(gpt-|o[134](-|$)|chatgpt)",
        reasoning=BRIDGED_REASONING,
        call_ids=CallIds(max_chars=40),
        tool_names=NAMES,
        cache=_automatic(1_024, ONE_HOUR, 0.1),
    ),
    Dialect(
        "azure",
        r"^azure/|^azure_ai/(gpt-|o[134])",
        reasoning=BRIDGED_REASONING,
        call_ids=CallIds(max_chars=40),
        tool_names=NAMES,
        cache=_automatic(1_024, ONE_HOUR, 0.1),
    ),
    # langchain-ai/langchain#34140: every message needs content. docs.x.ai: any shared prefix is cached; reasoning is not taken.
    Dialect("xai", r"^xai/|^grok", cache=_automatic(0, ONE_HOUR, 0.25), calls_without_text=""),
    # api-docs.deepseek.com/guides/thinking_mode: reasoning_content must go back with tool calls; guides/kv_cache: hours to days.
    # Images are refused (chatboxai/chatbox#1740); litellm's route drops them silently.
    Dialect(
        "deepseek",
        r"^deepseek/|^deepseek-(chat|reasoner|v)",
        reasoning=Reasoning(
            "reasoning_content",
            calls_only=True,
            scope="dialect",
            placeholder=" ",
            required_by=r"deepseek-(?!chat|v2|coder)",
        ),
        media_in_results="text",
        sees_media=False,
        cache=_automatic(64, ONE_DAY, 0.1),
    ),
    # platform.moonshot.ai, Kimi thinking models: reasoning_content must stay in messages with calls (MoonshotAI/kimi-agent-sdk#169).
    Dialect(
        "moonshot",
        r"^moonshot/|^kimi",
        reasoning=Reasoning(
            "reasoning_content",
            calls_only=True,
            scope="dialect",
            placeholder=" ",
            required_by=r"thinking|k2\.[5-9]|kimi-k[3-9]",
        ),
        cache=_automatic(1_024, ONE_HOUR, 0.25),
    ),
    # docs.z.ai, thinking mode: reasoning_content goes back in tool loops.
    Dialect(
        "zai",
        r"^(zai|z_ai|zhipu)/|^glm-",
        reasoning=Reasoning("reasoning_content", calls_only=True, scope="dialect"),
        cache=_automatic(1_024, ONE_HOUR, 0.2),
    ),
    # ai.google.dev/gemini-api/docs/thought-signatures: own signatures go back; another model's calls get a placeholder. System
    # messages between others would be moved to the system instruction by litellm. Caching: ai.google.dev/gemini-api/docs/caching.
    Dialect(
        "gemini",
        r"^gemini/|^vertex_ai(_beta)?/(gemini|[a-z]*/?gemini)|^gemini-",
        call_signatures=True,
        cache=PromptCache(0, ((r"gemini-2\.5", 2_048), (r"", 4_096)), {"": ONE_HOUR}, {"": 1.0}, 0.1),
        media_in_results="result",
        system_anywhere=False,
    ),
    # mistralai/mistral-common, protocol/instruct/validator.py: ids of nine letters and digits; only an assistant message may
    # follow tool results.
    Dialect(
        "mistral",
        r"^(mistral|codestral)/|^azure_ai/.*mistral|^vertex_ai/(mistral|codestral)|^(mistral|ministral|codestral|magistral)-",
        call_ids=CallIds(r"[a-zA-Z0-9]+", 9, exact_chars=9),
        tool_names=NAMES,
        reply_after_results=True,
        system_anywhere=False,
        text_in_tool_loops=False,
        media_in_results="text",
    ),
    # docs.ollama.com/context-length: the server cuts the beginning of longer prompts without an error.
    Dialect("ollama", r"^ollama(_chat)?/", context_limit_argument="num_ctx", cache=_automatic(0, FIVE_MINUTES, 0.0)),
    # Bedrock's Converse API: strict roles, ids of at most 64 characters.
    Dialect(
        "bedrock",
        r"^bedrock/",
        call_ids=CallIds(r"[a-zA-Z0-9_-]+", 64, unique=True),
        tool_names=NAMES,
        user_first=True,
        is_alternating=True,
        reply_after_results=True,
        system_anywhere=False,
        text_in_tool_loops=False,
        media_in_results="result",
    ),
    Dialect(
        "chat",
        r"^(groq|together_ai|fireworks_ai|cerebras|perplexity|nvidia_nim|sambanova|deepinfra|novita|hyperbolic|nebius|cohere"
        r"|cohere_chat|databricks|dashscope|minimax|volcengine|github|github_copilot|litellm_proxy|friendliai|replicate)/"
        r"|^(none|mock)$",
    ),
)
"""The dialects, most specific first."""

_ALL_KINDS = frozenset(kind for dialect in DIALECTS if dialect.reasoning for kind in dialect.reasoning.kinds)
_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
PLAIN = _BY_NAME["chat"]


def dialect_names() -> list[str]:
    """Return the names of all dialects."""
    return [dialect.name for dialect in DIALECTS]


def find_dialect(model: str, name: str | None = None) -> Dialect:
    """Return the dialect with this name, or the one of a model string.

    A model whose provider has no row gets plain chat completions, with one warning. Raises `ValueError`, with the list of
    names, if there is no dialect with this name.
    """
    if name is not None:
        check_name(name)
        return _BY_NAME[name]
    dialect = match_dialect(model)
    if dialect is None:
        _warn_unknown(model.split("/", 1)[0] if "/" in model else model)
    return dialect or PLAIN


def for_own_client(dialect: Dialect) -> Dialect:
    """Return the dialect of requests to a user's own client, which gets back the opaque blocks of its own replies."""
    reasoning = dialect.reasoning
    if reasoning is None or reasoning.client_decides:
        reasoning = Reasoning("thinking_blocks", _ALL_KINDS)
    return replace(dialect, reasoning=reasoning, call_signatures=True)


@functools.lru_cache(maxsize=1_000)
def match_dialect(model: str) -> Dialect | None:
    """Return the first dialect whose pattern matches a model string. None if there is none."""
    return next((dialect for dialect in DIALECTS if re.search(dialect.pattern, model.lower())), None)


def check_name(name: str) -> str:
    """Return the name of a dialect. Raises `ValueError`, with the list of names, if there is none."""
    if name not in _BY_NAME:
        raise ValueError(f"there is no dialect {name!r}; choose one of {', '.join(dialect_names())}")
    return name


def is_claude(model: str) -> bool:
    """Return whether a model string names a Claude model, on any platform."""
    return "claude" in model.lower()


def shares_reasoning(dialect: Dialect, target_model: str, origin_model: str) -> bool:
    """Return whether `target_model` may receive the reasoning and signatures that `origin_model` produced."""
    if not origin_model:
        return False
    if origin_model == target_model:
        return True
    scope = dialect.reasoning.scope if dialect.reasoning else "model"
    if scope == "model":
        return False
    origin = match_dialect(origin_model)
    if origin is None or origin.name != dialect.name:
        return False
    return scope == "dialect" or (is_claude(origin_model) and is_claude(target_model))


@functools.cache
def _warn_unknown(provider: str) -> None:
    logger.warning(
        "the provider %r is not known; its requests are plain chat completions; set ModelOverrides(dialect=...) to one of %s if"
        " it needs another form",
        provider,
        ", ".join(dialect_names()),
    )
