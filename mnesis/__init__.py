"""mnesis: a lossless context engine for LLM conversations.

Every message is kept verbatim in an append-only log; what goes to the model is a compact view of it that always fits;
nothing the view leaves out is ever out of reach. `MnesisSession` is the way in, `Engine` what several sessions share.
"""

from importlib.metadata import PackageNotFoundError, version

from mnesis.config import (
    CompactionConfig,
    FileConfig,
    MnesisConfig,
    ModelOverrides,
    OperatorConfig,
    RetryConfig,
    SessionConfig,
    StoreConfig,
)
from mnesis.engine import Engine
from mnesis.errors import (
    ConfigurationError,
    ContextIrreducibleError,
    InvalidMessageError,
    LLMError,
    MnesisError,
    MnesisStoreError,
    SessionClosedError,
    SessionNotFoundError,
    ToolDefinitionError,
)
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.model_info import ModelInfo
from mnesis.models.context import Budget, Window
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    FinishReason,
    ImagePart,
    Message,
    MessagePart,
    MessageWithParts,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
)
from mnesis.models.results import (
    CompactionResult,
    ContextBreakdown,
    Description,
    Expansion,
    RecordResult,
    TextDelta,
    TurnComplete,
    TurnResult,
    TurnSnapshot,
)
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.session import MnesisSession
from mnesis.tokens import TokenEstimator
from mnesis.tools.spec import ToolSpec

try:
    __version__ = version("mnesis")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "Budget",
    "CompactionConfig",
    "CompactionResult",
    "ConfigurationError",
    "ContextBreakdown",
    "ContextIrreducibleError",
    "DataPart",
    "Description",
    "Engine",
    "EventBus",
    "Expansion",
    "FileConfig",
    "FilePart",
    "FileRefPart",
    "FinishReason",
    "ImagePart",
    "InvalidMessageError",
    "LLMError",
    "Message",
    "MessagePart",
    "MessageWithParts",
    "MnesisConfig",
    "MnesisError",
    "MnesisEvent",
    "MnesisSession",
    "MnesisStoreError",
    "ModelInfo",
    "ModelOverrides",
    "OperatorConfig",
    "ReasoningPart",
    "RecordResult",
    "RetryConfig",
    "SessionClosedError",
    "SessionConfig",
    "SessionNotFoundError",
    "StoreConfig",
    "Summary",
    "TextDelta",
    "TextPart",
    "TokenEstimator",
    "TokenUsage",
    "ToolDefinitionError",
    "ToolPart",
    "ToolResultPart",
    "ToolSpec",
    "ToolStatus",
    "TurnComplete",
    "TurnResult",
    "TurnSnapshot",
    "Window",
]
