"""OpenTelemetry for mnesis: `instrument()` turns spans and metrics on. Before that call, nothing is measured.

Needs the extra `mnesis-context[otel]`, which is the API only. The application chooses the SDK and its exporters.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mnesis.telemetry import hooks


def instrument(*, content: bool = False, tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Record spans and metrics of everything that mnesis does in this process, from now on.

    The providers default to the global ones of OpenTelemetry. `content` adds messages, arguments and results of tools, and
    queries to the spans; secrets in them are redacted. Calling it again replaces the settings.

    Raises an ImportError with the install command without the extra `mnesis-context[otel]`.

    ```python
    from mnesis.telemetry import instrument

    instrument()
    ```
    """
    try:
        observer = import_module("mnesis.telemetry.otel").OtelObserver
    except ImportError as error:
        raise ImportError("tracing needs OpenTelemetry: pip install 'mnesis-context[otel]'", name=error.name) from error
    hooks.set_observer(observer(content=content, tracer_provider=tracer_provider, meter_provider=meter_provider))


def uninstrument() -> None:
    """Record nothing from now on. Operations that have begun are still recorded."""
    hooks.set_observer(None)
