"""The web inspector: sessions, logs, contexts, summaries, usage and map runs of a database, in a browser.

`mnesis inspect` starts it on a database, `session.inspect()` from a notebook or a program.
"""

from __future__ import annotations

try:
    import starlette as _starlette
    import uvicorn as _uvicorn
except ImportError as error:
    raise ImportError("the inspector needs Starlette and uvicorn: pip install 'mnesis-context[inspect]'") from error

from mnesis.inspect.app import create_app
from mnesis.inspect.server import Inspector, inspect_session, open_inspector

__all__ = ["Inspector", "create_app", "inspect_session", "open_inspector"]

del _starlette, _uvicorn
