"""The server of a test run ends with it, also if the run is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A run in the background of a shell inherits an ignored SIGQUIT, which a real server does not keep either.
SERVER = (
    "import signal\nsignal.signal(signal.SIGQUIT, signal.SIG_DFL)\nprint(1, flush=True)\nwhile True: signal.pause()"
)
USER = (
    "import signal, sys\nfrom pathlib import Path\nfrom tests.support.postgres import stop_server_after_use\n"
    "stop_server_after_use(Path(sys.argv[1]))\nprint(1, flush=True)\nwhile True: signal.pause()"
)


@pytest.mark.skipif(sys.platform == "win32", reason="the watcher uses fcntl, which Windows does not have")
def test_a_server_is_stopped_when_the_last_process_that_uses_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "1\n"
    (folder / "postmaster.pid").write_text(f"{server.pid}\n{folder}\n")
    users = [
        subprocess.Popen([sys.executable, "-c", USER, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == "1\n"
    users[0].kill()
    users[0].wait()
    assert server.poll() is None
    users[1].kill()
    assert server.wait(300) == -signal.SIGQUIT
    while folder.exists():
        pass
    for process in (server, *users):
        process.communicate()
