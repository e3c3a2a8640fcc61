"""An interpreter that has imported what is slow to import, and runs programs in forks of itself.

`tests.support.warm_python` starts it and asks it over a socket. It imports third-party packages only, so that programs import
this project's modules again. A child of it has imported those too and has loaded the tables of tokens, for programs about what
follows. Both end when the processes of the test run have gone.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TextIO

SLOW_PACKAGES = (
    "litellm",
    "aiohttp",
    "aiosqlite",
    "langchain.agents",
    "langgraph.checkpoint.memory",
    "llama_index.core",
    "agents",
    "pydantic_ai",
    "fastapi",
    "uvicorn",
    "mcp.server.fastmcp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "matplotlib.pyplot",
)
PROJECT_PACKAGES = ("mnesis", "langchain_mnesis", "llama_index.memory.mnesis", "agents_mnesis", "pydantic_ai_mnesis")
MAX_REQUEST_BYTES = 4_000_000
Program = Callable[[], object]

_exit_codes: list[int] = []


def _end_at_once() -> None:
    """End the process without freeing every object of the packages, which takes longer than most programs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_codes[0] if _exit_codes else 0)


# What is registered first is called last: when threads have ended, and all other functions were called.
atexit.register(_end_at_once)


def run(program: Program) -> None:
    """Run a program and note its exit code."""
    try:
        program()
    except SystemExit as end:
        _exit_codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except BaseException:
        _exit_codes.append(1)
        raise


def serve(path: str, project_path: str) -> Program:
    """Answer at one socket without the project's modules, and at the other one with them. Returns in forks only."""
    _import_slow_packages()
    plain, loaded = _listen(path), _listen(project_path)
    print("ready", flush=True)
    has_project = os.fork() == 0
    if has_project:
        _import_project()
    kept, other = (loaded, plain) if has_project else (plain, loaded)
    other.close()
    return _fork_for_each(kept, os.path.dirname(path))


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _fork_for_each(listener: socket.socket, folder: str) -> Program:
    """Fork for each request; return in the fork, with what it has to run. Ends the process when nobody is connected any more."""
    clients: list[socket.socket] = []
    while True:
        readable, _, _ = select.select([listener, *clients], [], [])
        _reap_children()
        for client in set(readable).intersection(clients):
            client.close()
            clients.remove(client)
        if listener in readable:
            connection, _ = listener.accept()
            message, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 3)
            if not descriptors:  # a process of the run, which keeps this connection for its life
                clients.append(connection)
                continue
            if os.fork() == 0:
                for each in (listener, *clients):
                    each.close()
                return _start(connection, message, descriptors)
            connection.close()
            for descriptor in descriptors:
                os.close(descriptor)
        if not clients:
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit(0)


def _reap_children() -> None:
    """Collect children that have ended, so that their processor time counts as this process's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(connection: socket.socket, message: bytes, descriptors: list[int]) -> Program:
    """Fork once more: the child runs the program, and this process reports how it ended, or kills it if nobody asks any more."""
    while not message.endswith(b"\n"):
        message += connection.recv(MAX_REQUEST_BYTES)
    process = os.fork()
    if process == 0:
        connection.close()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.closerange(3, max(descriptors) + 1)
        return _become(**json.loads(message))
    threading.Thread(target=_forward_signals, args=(connection, process), daemon=True).start()
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _forward_signals(connection: socket.socket, process: int) -> None:
    """Send the program the signals whose numbers arrive, and kill it when the connection is closed."""
    number = -1
    while number != signal.SIGKILL:
        number = (connection.recv(1) or bytes([signal.SIGKILL]))[0]
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _become(arguments: list[str], folder: str, environment: dict[str, str]) -> Program:
    """Prepare this process as `python ARGUMENTS` would be, and return its program."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the run may ignore interrupts in the background
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _open_standard_stream(number))
    sys.path[1:1] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    first, *rest = arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, folder
        return lambda: runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    if first == "-c":
        code, *rest = rest
        sys.argv, sys.path[0] = ["-c", *rest], ""
        return lambda: _run_as_main(compile(code, "<string>", "exec"))
    sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(first))
    with open(first, "rb") as file:
        compiled = compile(file.read(), first, "exec")
    return lambda: _run_as_main(compiled, first)


def _open_standard_stream(number: int) -> TextIO:
    """Open file 0, 1 or 2 as an interpreter does at its start, because it may be of another kind than this process's own."""
    mode, errors = ("r", "strict") if number == 0 else ("w", "backslashreplace" if number == 2 else "strict")
    buffering = 1 if number == 2 or os.isatty(number) else -1
    return open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)


def _run_as_main(code: types.CodeType, path: str | None = None) -> None:
    main = types.ModuleType("__main__")
    if path is not None:
        main.__file__ = path
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def _import_slow_packages() -> None:
    gc.disable()
    for name in SLOW_PACKAGES:
        if find_spec(name.partition(".")[0]) is not None:
            with suppress(ImportError):
                importlib.import_module(name)
    _keep_what_exists()
    assert "mnesis" not in sys.modules, "programs import the project's own modules"


def _import_project() -> None:
    """Import every module of the project, and load the tables that count tokens: they take longer than a short program."""
    gc.disable()
    missing_extra: type[Exception] = importlib.import_module("mnesis.errors").ConfigurationError
    for package in PROJECT_PACKAGES:
        with suppress(ImportError):
            folders = importlib.import_module(package).__path__
            for module in pkgutil.walk_packages(folders, package + ".", onerror=_ignore_package):
                if not module.name.endswith("__main__"):
                    with suppress(ImportError, missing_extra):
                        importlib.import_module(module.name)
    encodings = importlib.import_module("mnesis.tokens.encodings")
    for name in encodings.TABLES:
        encodings.load_encoding(name)
    _keep_what_exists()


def _ignore_package(name: str) -> None:
    """Leave out the modules of a package that cannot be imported, such as one whose extra is not installed."""


def _keep_what_exists() -> None:
    """Collect garbage again, but leave alone what was made until now."""
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1, "a process with threads must not be forked"


if __name__ == "__main__":
    run(serve(*sys.argv[1:]))
