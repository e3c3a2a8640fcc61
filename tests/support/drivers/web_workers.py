"""Two workers of a web server in two processes that share a socket: `python -m tests.support.drivers.web_workers APPLICATION`.

Prints the port. `uvicorn --workers` does the same with new interpreters, which import everything again.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

import uvicorn


def main(application: str) -> None:
    """Serve in this process and in a child, which ends with this process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        threading.Thread(target=_end_with_parent, args=(reader,), daemon=True).start()
    uvicorn.Server(uvicorn.Config(application, log_level="warning")).run(sockets=[listener])


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
