"""Configuration: frozen, typed, and checked when it is made.

A wrong type, a number out of range, an unknown field or two settings that cannot both hold are refused with a
`pydantic.ValidationError` (a `ValueError`) whose text names the field, the value and what to do. Whether the settings fit
a *model* is checked when a session is opened (`mnesis.context.budget`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

DEFAULT_DIRECTORY = "~/.mnesis"


class _Config(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for name in data:
                if name not in cls.model_fields:
                    close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(cls.model_fields)}"
                    raise ValueError(f"{cls.__name__} has no field {name!r} (given: {data[name]!r}); {hint}")
        return data


def _expanded_path(value: object) -> object:
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if not text:
            raise ValueError("an empty path; give the path of a file, or leave the field out")
        return Path(text).expanduser() if isinstance(text, str) else text
    return value


UserPath = Annotated[Path, BeforeValidator(_expanded_path)]


class CompactionConfig(_Config):
    """When and how the active context is compacted. Token counts are in the session model's tokens."""

    auto: bool = Field(default=True, description="Auto-trigger compaction on overflow")
    compaction_output_budget: int = Field(
        default=20_000, ge=1_000, le=200_000, description="Tokens reserved as headroom for compaction summary output"
    )
    prune: bool = Field(default=True, description="Run tool output pruning before compaction")
    prune_protect_tokens: int = Field(
        default=40_000, ge=0, description="Token window from the end of history that is never pruned"
    )
    prune_minimum_tokens: int = Field(
        default=20_000, ge=0, description="Minimum prunable volume required before pruning fires"
    )
    compaction_model: str | Callable[..., Any] | None = Field(
        default=None,
        description="Model for summarisation, or a callable that takes the prompt's messages and returns the summary."
        " None = use session model",
    )
    compaction_options: dict[str, Any] | None = Field(
        default=None,
        description="Further arguments of each summariser call (api_base, temperature, …). None = the session's"
        " llm_options where the provider is the same",
    )
    level2_enabled: bool = Field(default=True, description="Attempt Level 2 compression before falling back to Level 3")
    compaction_prompt: str | None = Field(
        default=None,
        min_length=1,
        description="Custom prompt string for Level 1/2 LLM summarisation. None = use the built-in agentic prompt",
    )
    soft_threshold_fraction: float = Field(
        default=0.6,
        ge=0.1,
        le=0.95,
        description="Fraction of usable context at which background compaction triggers (before hard threshold)",
    )
    max_compaction_rounds: int = Field(
        default=10, ge=1, le=50, description="Cap on summarise+condense cycles in multi-round loop"
    )
    condensation_enabled: bool = Field(
        default=True, description="Whether to attempt condensation of accumulated summary nodes"
    )
    low_water_fraction: float = Field(
        default=0.1,
        ge=0.02,
        le=0.9,
        description="Fraction of usable context that a compaction brings the context down to",
    )
    fresh_tail_fraction: float | None = Field(
        default=None,
        gt=0.0,
        le=0.9,
        description="Fraction of usable context that the two newest user turns may take before a compaction cuts them too,"
        " between tool steps. None = they are kept whole as long as they fit. Set it for agents with very long turns",
    )
    summary_share: float = Field(
        default=0.4,
        gt=0.0,
        lt=1.0,
        description="Share of the low-water mark that summaries may take before they are condensed",
    )
    timeout_seconds: float = Field(
        default=120.0, gt=0, description="Time limit of one summariser call; past it the next level is tried"
    )

    @field_validator("compaction_model")
    @classmethod
    def _model_is_named(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError(
                "an empty compaction_model; name a model, give a callable, or None for the session's model"
            )
        return value

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> CompactionConfig:
        if self.prune and self.prune_minimum_tokens >= self.prune_protect_tokens > 0:
            raise ValueError(
                f"prune_minimum_tokens ({self.prune_minimum_tokens:,}) must be below prune_protect_tokens"
                f" ({self.prune_protect_tokens:,}); lower the first or raise the second"
            )
        if self.low_water_fraction >= self.soft_threshold_fraction:
            raise ValueError(
                f"low_water_fraction ({self.low_water_fraction}) must be below soft_threshold_fraction"
                f" ({self.soft_threshold_fraction}), or every compaction would call for the next; lower the first"
            )
        return self


class FileConfig(_Config):
    """How large files are handled."""

    inline_threshold: int = Field(
        default=10_000,
        ge=100,
        description="Files estimated above this token count are stored as FileRefPart objects",
    )
    storage_dir: UserPath = Field(
        default=Path(DEFAULT_DIRECTORY, "files"),
        validate_default=True,
        description="Directory for external file storage",
    )
    exploration_summary_model: str | None = Field(
        default=None, description="Model for summaries of unstructured files. None = structural summaries only"
    )
    max_file_bytes: int = Field(
        default=20_000_000_000, ge=1, description="Larger files are refused; one that is taken in is copied whole"
    )


class StoreConfig(_Config):
    """The SQLite database."""

    db_path: UserPath = Field(
        default=Path(DEFAULT_DIRECTORY, "sessions.db"),
        validate_default=True,
        description="Path to the SQLite database file (~ is expanded at runtime); ':memory:' keeps everything in memory",
    )
    wal_mode: bool = Field(default=True, description="Use WAL journal mode for better concurrent read performance")
    connection_timeout: float = Field(default=30.0, gt=0, description="Seconds to wait for the database connection")
    read_only: bool = Field(
        default=False, description="Never write: no file is made, no schema updated, nothing indexed for searches"
    )
    durability: Literal["normal", "full"] = Field(
        default="normal",
        description="'normal': a killed process loses nothing, a power cut may lose the last moments;"
        " 'full': every acknowledged turn is on the disk",
    )


class OperatorConfig(_Config):
    """Parallelism of LLMMap and AgenticMap."""

    llm_map_concurrency: int = Field(
        default=16, ge=1, le=128, description="Maximum concurrent LLM calls in LLMMap.run()"
    )
    agentic_map_concurrency: int = Field(
        default=4, ge=1, le=32, description="Maximum concurrent sub-agent sessions in AgenticMap.run()"
    )
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Per-item retry attempts on validation or transient errors"
    )


class RetryConfig(_Config):
    """Retries of a failed model call: rate limits, time-outs, broken connections and server errors, nothing else."""

    max_retries: int = Field(default=0, ge=0, le=20, description="Attempts after the first")
    base_delay: float = Field(default=1.0, ge=0, description="Seconds before the first retry; doubled each time")
    max_delay: float = Field(
        default=60.0, ge=0, description="Longest wait in seconds, a provider's Retry-After included"
    )
    jitter: bool = Field(default=True, description="Vary the waits, so that many clients do not return at once")

    @model_validator(mode="after")
    def _delays_in_order(self) -> RetryConfig:
        if self.base_delay > self.max_delay:
            raise ValueError(
                f"base_delay ({self.base_delay}) is above max_delay ({self.max_delay}); lower the first or raise the second"
            )
        return self


class SessionConfig(_Config):
    """Behaviour of one session."""

    doom_loop_threshold: int = Field(
        default=3, ge=2, le=10, description="Consecutive identical tool calls before DOOM_LOOP_DETECTED fires"
    )
    retry: RetryConfig = Field(default=RetryConfig(), description="Retries of failed model calls")
    max_tool_rounds: int = Field(
        default=25, ge=1, le=1_000, description="Model calls in one send() that may be followed by running tools"
    )
    tool_concurrency: int = Field(default=8, ge=1, le=64, description="Tool calls of one reply run at the same time")
    request_timeout_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Time limit of one model call; while streaming, of each wait for the next piece",
    )
    llm_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of each model call, passed on as they are (temperature, api_base, …)",
    )


class RecallConfig(_Config):
    """The way back to originals: the tools a model gets for it, and recall without being asked. In the model's tokens."""

    enabled: bool = Field(
        default=False, description="Place the originals that the newest message asks for right before it"
    )
    max_tokens: int = Field(default=1_500, ge=100, description="Tokens that recalled originals may take")
    max_messages: int = Field(default=12, ge=1, le=100, description="Originals recalled at most")
    tools: bool = Field(
        default=True,
        description="Give the model lcm_grep, lcm_describe and lcm_expand once its context leaves out anything",
    )
    tool_tokens: int = Field(
        default=8_000, ge=200, description="Tokens that all results of these tools may take in one turn"
    )
    tool_result_tokens: int = Field(default=2_000, ge=200, description="Tokens that one result may take")


class ModelOverrides(_Config):
    """What is known better than the built-in table about the session's model."""

    context_limit: int | None = Field(default=None, ge=256, description="Tokens of the model's window, in and out")
    max_output_tokens: int | None = Field(default=None, ge=1, description="Tokens reserved and asked for per answer")
    encoding: Literal["cl100k_base", "o200k_base", "claude_heuristic", "unknown"] | None = Field(
        default=None, description="Tokenizer to count with"
    )


class MnesisConfig(_Config):
    """Everything that can be set. Each group has sensible defaults."""

    compaction: CompactionConfig = CompactionConfig()
    file: FileConfig = Field(default_factory=FileConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    operators: OperatorConfig = OperatorConfig()
    session: SessionConfig = SessionConfig()
    recall: RecallConfig = RecallConfig()
    model_overrides: ModelOverrides | None = None

    @field_validator("model_overrides", mode="before")
    @classmethod
    def _overrides_from_dict(cls, value: Any) -> Any:
        return ModelOverrides(**value) if isinstance(value, Mapping) else value
