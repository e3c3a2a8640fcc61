"""Programs that run in forks of a warm interpreter behave as in an interpreter of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.warm_python import run_python, warm_command

REPORT = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ), sys.stdin.read(), __name__, "mnesis" in sys.modules]))
"""


@pytest.mark.parametrize("kind", ["-c", "script", "-m"])
def test_a_program_sees_what_it_is_given(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "report.py"
    script.write_text(REPORT)
    program = {"-c": ["-c", REPORT], "script": [str(script)], "-m": ["-m", "report"]}[kind]
    given = {"cwd": tmp_path, "env": {"PATH": os.environ["PATH"], "LANGUAGE": "en"}}
    real = subprocess.run(
        [sys.executable, *program, "x"], input="text", capture_output=True, text=True, check=True, **given
    )
    warm = run_python([*program, "x"], text="text", **given)
    seen, expected = json.loads(warm.stdout), json.loads(real.stdout)
    expected[2].pop("LC_CTYPE", None)  # an interpreter that starts in the C locale adds it
    assert (seen, warm.stderr, warm.returncode) == (expected, "", 0)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("import sys; sys.exit(3)", 3), ("raise ValueError('why')", 1), ("import os; os.abort()", -6)],
)
def test_a_program_ends_as_in_an_interpreter_of_its_own(code: str, exit_code: int) -> None:
    ran = run_python(["-c", code])
    assert ran.returncode == exit_code
    assert ("ValueError: why" in ran.stderr) == ("ValueError" in code)


def test_threads_and_exit_functions_run_before_the_end() -> None:
    code = "import atexit, threading; atexit.register(print, 2); threading.Thread(target=print, args=[1]).start()"
    assert run_python(["-c", code]).stdout.split() == ["1", "2"]


def test_a_program_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired):
        run_python(["-c", code], timeout=5)
    while pid.exists() and Path("/proc", pid.read_text() or "none").exists():
        pass


def test_a_warm_command_has_its_files_and_ends_as_its_program() -> None:
    code = "import sys; print(sys.argv[1], sys.stdin.read()); sys.exit('no')"
    done = subprocess.run(warm_command("-c", code, "a"), input="text", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("a text\n", "no\n", 1)
    assert subprocess.run(warm_command("-c", "import os; os.abort()"), check=False).returncode == -signal.SIGABRT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_of_a_warm_command_reach_its_program(number: signal.Signals) -> None:
    # Blocked before the announcement, so that the signal cannot come before the program waits for it.
    code = (
        f"import signal; signals = [{int(number)}]; signal.pthread_sigmask(signal.SIG_BLOCK, signals);"
        " print(1, flush=True); signal.sigwait(signals); print('asked')"
    )
    with subprocess.Popen(warm_command("-c", code), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(number)
        assert process.stdout.read() == "asked\n"
    assert process.returncode == 0


def test_killing_a_warm_command_kills_its_program() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen(warm_command("-c", code), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        assert process.stdout.read() == "", "the file is closed when the program has ended"


def test_a_program_can_start_with_this_projects_modules_and_tables() -> None:
    code = (
        "import sys; has_mnesis = 'mnesis.session.session' in sys.modules; from mnesis.tokens.encodings import load_encoding;"
        " print(has_mnesis, load_encoding.cache_info().currsize)"
    )
    assert run_python(["-c", code]).stdout == "False 0\n"
    assert run_python(["-c", code], has_mnesis=True).stdout == "True 2\n"
