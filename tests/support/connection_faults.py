"""Connections to PostgreSQL that are lost at any message, and every operation on them: run in a checkout.

A proxy forwards the messages of the protocol one by one, and counts them. At one of them it loses the connection:

- `request`: the server gets neither this message of the client nor a later one;
- `answer`: the client gets neither this message of the server nor a later one, such as the answer to a COMMIT;
- `backend`: the server's process is terminated (`pg_terminate_backend`) before it gets this message.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

from mnesis.database_url import DatabaseURL
from mnesis.testing.fault_operations import all_operations
from mnesis.testing.fault_targets import Count, LostConnection, StepInfo, Target
from mnesis.testing.faults import SweepResult, sweep_failures
from tests.support.postgres import connect, reused_schema, server_url

Loss = Literal["request", "answer", "backend"]
LOSSES: tuple[Loss, ...] = ("request", "answer", "backend")


class FaultyProxy:
    """A loopback address that leads to a server, and loses a connection at the step that `count` refuses."""

    def __init__(self, url: str, loss: Loss) -> None:
        self._url = url
        self._loss = loss
        self._count: Count | None = None
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        info = conninfo_to_dict(DatabaseURL(url).conninfo)
        host, port = str(info["host"]), int(info.get("port") or 5432)
        self._server = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self.port = self._listener.getsockname()[1]
        self.url = (
            f"postgresql://{info['user']}@127.0.0.1:{self.port}/{info['dbname']}?schema={DatabaseURL(url).schema}"
            "&sslmode=disable&gssencmode=disable"
        )
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def interrupt(self, count: Count) -> Iterator[None]:
        """Count the messages of all connections meanwhile."""
        self._count = count
        try:
            yield
        finally:
            self._count = None

    def close(self) -> None:
        """Lose all connections, and accept no more."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
                server.connect(self._server)
                link = _Link(client, server)
                self._links.append(link)
                for forward in (self._forward_requests, self._forward_answers):
                    threading.Thread(target=forward, args=(link,), daemon=True).start()

    def _forward_requests(self, link: _Link) -> None:
        with link.cut_at_end(), link.client.makefile("rb") as source:
            link.server.sendall(_read_message(source, has_type=False))
            while True:
                message = _read_message(source)
                if self._loss != "answer":
                    self._step(link)
                link.server.sendall(message)

    def _forward_answers(self, link: _Link) -> None:
        with link.cut_at_end(), link.server.makefile("rb") as source:
            while True:
                message = _read_message(source)
                if message[:1] == b"K":  # BackendKeyData
                    link.backend_pid = struct.unpack("!I", message[5:9])[0]
                if self._loss == "answer":
                    self._step(link)
                link.client.sendall(message)

    def _step(self, link: _Link) -> None:
        if self._count is None:
            return
        try:
            self._count(StepInfo(LostConnection, lambda kill: None))
        except LostConnection:
            if self._loss == "backend":
                with connect(self._url) as admin:
                    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (link.backend_pid,))
                return
            raise


class _Link:
    """A connection of a client, and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.backend_pid = 0

    @contextmanager
    def cut_at_end(self) -> Iterator[None]:
        """Lose both connections when the block ends, in whatever way."""
        try:
            with suppress(OSError, EOFError, LostConnection):
                yield
        finally:
            self.cut()

    def cut(self) -> None:
        """Lose both connections."""
        for each in (self.client, self.server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _read_message(source: object, *, has_type: bool = True) -> bytes:
    """Return one message: its type, its length, which counts itself, and its body. Raises `EOFError` at the end."""
    head = _read(source, 5 if has_type else 4)
    return head + _read(source, struct.unpack("!I", head[-4:])[0] - 4)


def _read(source: object, length: int) -> bytes:
    data: bytes = source.read(length)  # type: ignore[attr-defined]  # a buffered reader
    if len(data) < length:
        raise EOFError
    return data


@contextmanager
def lossy_target(loss: Loss) -> Iterator[Target]:
    """Yield an empty schema, reached through a proxy. Its steps are the messages to or from the server."""
    with reused_schema() as url:
        proxy = FaultyProxy(url, loss)
        try:
            yield Target(f"postgres, {loss}", proxy.url, interrupt=proxy.interrupt)
        finally:
            proxy.close()


async def sweep(loss: Loss, only: str) -> list[SweepResult]:
    """Lose the connection at every message of every operation whose name contains `only`."""
    results: list[SweepResult] = []
    for operation in all_operations():
        if "postgres" in operation.stores and only in f"{operation.api} {operation.name}":
            with tempfile.TemporaryDirectory() as directory, lossy_target(loss) as target:
                results.append(await sweep_failures(operation, Path(directory), target=target))
            result = results[-1]
            line = f"{target.name:20} {operation.api:12} {operation.name:20} {result.faults:6,} losses"
            print(f"{line} {len(result.violations):4} violations", flush=True)
    return results


def main() -> None:
    """Lose connections at every message. Exits with 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.connection_faults", description=__doc__)
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--loss", choices=LOSSES, help="only this kind of loss")
    options = parser.parse_args()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    server_url()
    violations: list[str] = []
    for loss in LOSSES:
        if options.loss in (None, loss):
            for result in asyncio.run(sweep(loss, options.only)):
                violations += result.violations
    for violation in violations[:50]:
        print(violation, file=sys.stderr)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
