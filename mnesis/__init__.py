"""mnesis: a lossless context engine for LLM conversations.

Every message is kept verbatim in an append-only log; what goes to the model is a compact view of it that always fits;
nothing the view leaves out is ever out of reach. `MnesisSession` is the way in, `Engine` what several sessions share.

Names are loaded at first use, so that importing the package costs next to nothing.
"""

from importlib import import_module, util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnesis.config import (
        CompactionConfig,
        FileConfig,
        MnesisConfig,
        ModelOverrides,
        OperatorConfig,
        RecallConfig,
        RetryConfig,
        SessionConfig,
        StoreConfig,
    )
    from mnesis.engine.engine import (
        Engine,
    )
    from mnesis.errors import (
        ConfigurationError,
        ContextIrreducibleError,
        DelegationRefusedError,
        FileError,
        InvalidMessageError,
        LLMError,
        MnesisError,
        MnesisStoreError,
        RunMismatchError,
        SessionClosedError,
        SessionNotFoundError,
        ToolDefinitionError,
    )
    from mnesis.events.bus import (
        EventBus,
        MnesisEvent,
    )
    from mnesis.files import (
        FileHandleResult,
        LargeFileHandler,
    )
    from mnesis.models.agents import (
        AgentMapBatch,
        AgentMapResult,
        DelegateResult,
    )
    from mnesis.models.context import (
        Budget,
        Window,
    )
    from mnesis.models.map import (
        MapBatch,
        MapResult,
    )
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
    from mnesis.models.search import (
        GrepPage,
        SearchHit,
        SearchPage,
    )
    from mnesis.models.summary import (
        Summary,
    )
    from mnesis.models.tool import (
        ToolSpec,
    )
    from mnesis.models.usage import (
        TokenUsage,
    )
    from mnesis.operators import (
        AgenticMap,
        LLMMap,
        Task,
        delegate,
        delegate_all,
    )
    from mnesis.recall.grants import (
        Grant,
    )
    from mnesis.session.session import (
        MnesisSession,
    )
    from mnesis.tokens.estimator import (
        TokenEstimator,
    )
    from mnesis.tokens.model_info import (
        ModelInfo,
    )

__all__ = [
    "AgentMapBatch",
    "AgentMapResult",
    "AgenticMap",
    "Budget",
    "CompactionConfig",
    "CompactionResult",
    "ConfigurationError",
    "ContextBreakdown",
    "ContextIrreducibleError",
    "DataPart",
    "DelegateResult",
    "DelegationRefusedError",
    "Description",
    "Engine",
    "EventBus",
    "Expansion",
    "FileConfig",
    "FileError",
    "FileHandleResult",
    "FilePart",
    "FileRefPart",
    "FinishReason",
    "Grant",
    "GrepPage",
    "ImagePart",
    "InvalidMessageError",
    "LLMError",
    "LLMMap",
    "LargeFileHandler",
    "MapBatch",
    "MapResult",
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
    "RecallConfig",
    "RecordResult",
    "RetryConfig",
    "RunMismatchError",
    "SearchHit",
    "SearchPage",
    "SessionClosedError",
    "SessionConfig",
    "SessionNotFoundError",
    "StoreConfig",
    "Summary",
    "Task",
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
    "delegate",
    "delegate_all",
]

_HOMES = {
    "mnesis.config": (
        "CompactionConfig",
        "FileConfig",
        "MnesisConfig",
        "ModelOverrides",
        "OperatorConfig",
        "RecallConfig",
        "RetryConfig",
        "SessionConfig",
        "StoreConfig",
    ),
    "mnesis.engine.engine": ("Engine",),
    "mnesis.errors": (
        "ConfigurationError",
        "ContextIrreducibleError",
        "DelegationRefusedError",
        "FileError",
        "InvalidMessageError",
        "LLMError",
        "MnesisError",
        "MnesisStoreError",
        "RunMismatchError",
        "SessionClosedError",
        "SessionNotFoundError",
        "ToolDefinitionError",
    ),
    "mnesis.events.bus": (
        "EventBus",
        "MnesisEvent",
    ),
    "mnesis.files": (
        "FileHandleResult",
        "LargeFileHandler",
    ),
    "mnesis.recall.grants": ("Grant",),
    "mnesis.tokens.model_info": ("ModelInfo",),
    "mnesis.models.agents": (
        "AgentMapBatch",
        "AgentMapResult",
        "DelegateResult",
    ),
    "mnesis.models.context": (
        "Budget",
        "Window",
    ),
    "mnesis.models.map": (
        "MapBatch",
        "MapResult",
    ),
    "mnesis.models.message": (
        "DataPart",
        "FilePart",
        "FileRefPart",
        "FinishReason",
        "ImagePart",
        "Message",
        "MessagePart",
        "MessageWithParts",
        "ReasoningPart",
        "TextPart",
        "ToolPart",
        "ToolResultPart",
        "ToolStatus",
    ),
    "mnesis.models.search": (
        "GrepPage",
        "SearchHit",
        "SearchPage",
    ),
    "mnesis.models.results": (
        "CompactionResult",
        "ContextBreakdown",
        "Description",
        "Expansion",
        "RecordResult",
        "TextDelta",
        "TurnComplete",
        "TurnResult",
        "TurnSnapshot",
    ),
    "mnesis.models.summary": ("Summary",),
    "mnesis.models.usage": ("TokenUsage",),
    "mnesis.operators": (
        "AgenticMap",
        "LLMMap",
        "Task",
        "delegate",
        "delegate_all",
    ),
    "mnesis.session.session": ("MnesisSession",),
    "mnesis.tokens.estimator": ("TokenEstimator",),
    "mnesis.models.tool": ("ToolSpec",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif not name.startswith("_") and util.find_spec(f"mnesis.{name}") is not None:
        value = import_module(f"mnesis.{name}")
    else:
        raise AttributeError(f"module 'mnesis' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mnesis")
    except PackageNotFoundError:
        return "0+unknown"
