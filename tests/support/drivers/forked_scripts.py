"""Runs scripts one after the other, each in a fork of this process, which has imported litellm already.

Importing litellm takes several seconds of processor time. The input is a JSON list of scripts with `path`, `folder`,
`arguments` and `environment`; the output is a JSON list with the exit `code`, the `output` and the `errors` of each.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import litellm  # noqa: F401  # what all scripts need

assert threading.active_count() == 1, "a process with threads must not be forked"


def main() -> None:
    json.dump([_run(script) for script in json.load(sys.stdin)], sys.stdout)


def _run(script: dict[str, Any]) -> dict[str, Any]:
    output, errors = (Path(script["folder"], name) for name in ("output.txt", "errors.txt"))
    process = os.fork()
    if process == 0:
        _become(script, output, errors)
    _, status = os.waitpid(process, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "output": output.read_text("utf-8"),
        "errors": errors.read_text("utf-8"),
    }


def _become(script: dict[str, Any], output: Path, errors: Path) -> NoReturn:
    """Run a script as if this process had been started with it."""
    code = 1
    try:
        for descriptor, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.chdir(script["folder"])
        os.environ.clear()
        os.environ.update(script["environment"])
        sys.argv = [script["path"], *script["arguments"]]
        sys.path[0] = os.path.dirname(script["path"])
        runpy.run_path(script["path"], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
