"""Programs in processes of their own that start quickly, because the slow packages are imported already.

Each test run has one interpreter (`tests.support.drivers.warm_interpreter`) that forks for every program. With `has_mnesis`, the
program starts with this project's modules and its tables of tokens, which saves most of the time of a short program. Programs about
the first use in a process do without it. Programs whose subject is importing, the interpreter's options or memory need a new
interpreter: `subprocess.run([sys.executable, …])`.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "tests/support/drivers/warm_launcher.py"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def run_python(
    arguments: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    text: str = "",
    timeout: float = 600,
    has_mnesis: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Do the same as `subprocess.run([sys.executable, *arguments], …)` with captured texts and `text` as the input.

    Raises `subprocess.TimeoutExpired`, and kills the program, after `timeout` seconds.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=env, input=text, capture_output=True, text=True, timeout=timeout
        )
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as printed,
        tempfile.TemporaryFile() as complaints,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        given.write(text.encode())
        given.seek(0)
        connection.connect(_interpreters()[has_mnesis])
        request = {
            "arguments": list(map(str, arguments)),
            "folder": os.fspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
        }
        files = [given.fileno(), printed.fileno(), complaints.fileno()]
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [message], files)
        connection.sendall(message[sent:])
        connection.settimeout(timeout)
        try:
            answer = connection.recv(64)
        except TimeoutError as error:
            raise subprocess.TimeoutExpired(list(arguments), timeout) from error
        assert answer, "the interpreter has ended"
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (printed, complaints)]
    return subprocess.CompletedProcess(list(arguments), int(answer), *texts)


def warm_command(*arguments: str, has_mnesis: bool = False) -> list[str]:
    """Return a command that runs `python ARGUMENTS` in the warm interpreter, for code that starts processes itself.

    The process that it starts has the three files of the program, forwards signals to it, and ends as it does.
    Killing it kills the program, but a little later: tests of crashes must start `sys.executable`.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return [sys.executable, *arguments]
    return [sys.executable, "-I", "-S", str(LAUNCHER), _interpreters()[has_mnesis], *arguments]


@cache
def _interpreters() -> tuple[str, str]:
    """Return the sockets of the run's interpreters, without and with this project's modules.

    The first process that needs them starts them; a lock makes the others wait.
    """
    import fcntl

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir(), f"warm-python-{run}")
    folder.mkdir(mode=0o700, exist_ok=True)
    paths = str(folder / "socket"), str(folder / "socket-mnesis")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(map(_keep_running, paths)):
            for path in paths:
                Path(path).unlink(missing_ok=True)
            _start_interpreters(paths)
            assert all(map(_keep_running, paths)), "the interpreters have ended"
    return paths


def _keep_running(path: str) -> bool:
    """Open a connection that says, until this process ends, that it needs the interpreter. Returns whether there is one."""
    needed = socket.socket(socket.AF_UNIX)
    try:
        needed.connect(path)
        needed.sendall(b"needed")
    except OSError:
        needed.close()
        return False
    atexit.register(needed.close)
    return True


def _start_interpreters(paths: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "tests.support.drivers.warm_interpreter", *paths]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **OFFLINE}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", "the interpreter did not start"
    process.stdout.close()
    process.returncode = 0  # nobody waits for it: it ends after this process
