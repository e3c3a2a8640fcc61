"""Run a program in the warm interpreter: `python -I -S warm_launcher.py SOCKET ARGUMENTS`.

The program gets the arguments, folder, environment and first three files of this process, and the signals that it receives.
This process ends as the program does. If this process is killed, the program is killed soon after.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(path: str, arguments: list[str]) -> None:
    """Have the program run, and end as it ends."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    message = json.dumps(request).encode() + b"\n"
    connection.sendall(message[socket.send_fds(connection, [message], [0, 1, 2]) :])
    for number in FORWARDED:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    code = int(connection.recv(64) or 1)
    if code >= 0:
        os._exit(code)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
