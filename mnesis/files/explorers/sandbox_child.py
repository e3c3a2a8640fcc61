"""Script run by `run_in_sandbox`: sets its limits, calls a reader of this directory, and prints the answer as JSON.

`sandbox_child.py <module paths as JSON> <bytes of memory> <reader> <argument>…`; the reader is a file with a function `answer`.
The content to read is the standard input. It does not import mnesis.
"""

from __future__ import annotations

import io
import json
import runpy
import sys


def main(paths: str, max_memory_bytes: str, reader: str, *arguments: str) -> None:
    """Set the limits, call the reader, and print its answer or its error."""
    sys.path[:] = json.loads(paths)
    _limit_memory(int(max_memory_bytes))
    # Hostile content can make a parser raise anything; the error is the answer.
    try:
        file = sys.stdin.buffer
        content = file if file.seekable() else io.BytesIO(file.read())
        answer = runpy.run_path(reader)["answer"](content, *arguments)
    except Exception as failure:
        answer = {"failure": f"{type(failure).__name__}: {failure}"[:300]}
    print(json.dumps(answer))


def _limit_memory(max_bytes: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    except (ImportError, ValueError, OSError):  # a system without this limit
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
