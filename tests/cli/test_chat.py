"""`mnesis chat`: a conversation through pipes and terminals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from mnesis.cli import chat_input
from mnesis.models.message import Message
from tests.cli.conftest import Run
from tests.support.openai_server import OpenAIServer, Reply, error, silent
from tests.support.warm_python import warm_command


def log(path: Path, session_id: str) -> list[Message]:
    async def read() -> list[Message]:
        async with Engine(path) as engine:
            return await engine.store.messages(session_id)

    return asyncio.run(read())


def served(server: OpenAIServer) -> dict[str, str]:
    return {"OPENAI_API_BASE": server.url, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"}


def test_each_line_is_answered_and_stored(run: Run, tmp_path: Path) -> None:
    shown = run("chat", "talk", "--mock", "--db", tmp_path / "a.db", input="hello\n\n  and again\n")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("[Mock LLM response to: ") == 2
    assert "[Mock" not in shown.stderr
    assert shown.stderr.count(" tokens (") == 2
    assert [m.text_content() for m in log(tmp_path / "a.db", "talk") if m.role == "user"] == ["hello", "and again"]


def test_the_mock_of_the_environment_will_do(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    shown = run("chat", "--db", tmp_path / "a.db", input="hello\n")
    assert (shown.exit_code, "[Mock" in shown.stdout) == (0, True)


def test_a_chat_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        arguments = ("chat", "talk", "--mock", "--system", "Be brief.", "--db", tmp_path / "a.db")
        assert run(*arguments, input="hello\n").exit_code == 0
    assert run("chat", "ta", "--mock", "--db", tmp_path / "a.db", input="third\n").exit_code == 0
    assert len(log(tmp_path / "a.db", "talk")) == 6


def test_commands_look_fold_search_and_end(run: Run, tmp_path: Path) -> None:
    said = "".join(f"number {n} about frogs {'and toads ' * 40}\n" for n in range(6))
    end = "/context\n/compact\n/search frogs\n/search\n/bogus\n/quit\nnever said\n"
    shown = run("chat", "talk", "--mock", "--db", tmp_path / "a.db", input=said + end)
    assert shown.exit_code == 0, shown.output
    assert "of 20,480 usable tokens" in shown.stdout
    assert "messages folded, level 1" in shown.stderr
    assert "talk #" in shown.stdout
    assert shown.stderr.count("/context: show what the model is sent") == 3
    assert "never said" not in shown.output


def test_a_path_is_no_command(run: Run, tmp_path: Path) -> None:
    shown = run("chat", "talk", "--mock", "--db", tmp_path / "a.db", input="/etc/hosts is what?\n")
    assert "[Mock LLM response to: /etc/hosts is what?]" in shown.stdout


def test_turns_come_as_lines_of_json(run: Run, tmp_path: Path) -> None:
    shown = run("chat", "--mock", "--jsonl", "--db", tmp_path / "a.db", input="one\ntwo\n")
    first, second = map(json.loads, shown.stdout.splitlines())
    assert first["user"] == "one"
    assert second["assistant"].startswith("[Mock LLM response to: two]")
    assert second["context_tokens"] > first["context_tokens"] > 0


def test_without_a_model_it_says_what_to_do(run: Run, tmp_path: Path) -> None:
    result = run("chat", "--db", tmp_path / "a.db", input="hello\n")
    assert result.exit_code == 2
    assert "--model" in result.stderr
    assert "--mock" in result.stderr
    assert not (tmp_path / "a.db").exists()


def test_a_failing_model_is_told_of_and_the_chat_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer(error(500, "out of order"), Reply(("Fine ", "now."))) as server:
        for name, value in served(server).items():
            monkeypatch.setenv(name, value)
        arguments = ("chat", "talk", "--model", "openai/test-model", "--context-limit", 30_000)
        shown = run(*arguments, "--db", tmp_path / "a.db", input="hello\nagain\n")
    assert shown.stdout == "Fine now.\n"
    assert "mnesis: " in shown.stderr
    assert "out of order" in shown.stderr
    assert shown.exit_code == 1
    assert [m.role for m in log(tmp_path / "a.db", "talk")] == ["user", "user", "assistant"]


def test_a_missing_key_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    shown = run("chat", "--model", "openai/gpt-4o", "--jsonl", "--db", tmp_path / "a.db", input="hello\n")
    assert (shown.exit_code, isinstance(shown.exception, SystemExit)) == (1, True)
    assert json.loads(shown.stdout)["error_type"] == "LLMAuthenticationError"
    assert "Traceback" not in shown.stderr


def test_an_interrupt_at_the_prompt_ends_it_cleanly(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_input, "read_piped_line", interrupted)
    shown = run("chat", "--mock", "--db", tmp_path / "a.db")
    assert shown.exit_code == 0
    assert "Traceback" not in shown.output


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_an_interrupt_breaks_off_an_answer_and_the_chat_goes_on(tmp_path: Path) -> None:
    with OpenAIServer(silent, Reply(("Back ", "again."))) as server:
        command = warm_command("-m", "mnesis.cli", "chat", "talk", "--model", "openai/test-model", has_mnesis=True)
        command += ["--context-limit", "30000", "--db", str(tmp_path / "a.db")]
        environment = os.environ | served(server)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        # Whoever runs the tests in the background may ignore interrupts, and a child would inherit that.
        with subprocess.Popen(command, **pipes, text=True, env=environment, preexec_fn=heed_interrupts) as child:
            assert child.stdin is not None
            assert child.stderr is not None
            child.stdin.write("hello\n")
            child.stdin.flush()
            until(server.requests, child)
            child.send_signal(signal.SIGINT)
            while "stopped" not in (line := child.stderr.readline()):
                assert line or child.poll() is None, "it ended"
            out, err = child.communicate("again\n", timeout=60)
    assert (child.returncode, out) == (0, "Back again.\n"), err
    assert [m.role for m in log(tmp_path / "a.db", "talk")] == ["user", "user", "assistant"]


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(requests: list[Any], child: subprocess.Popen[str]) -> None:
    """Wait for the first request."""
    while not requests:
        try:
            child.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(child.communicate())


TERMINAL = """
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 50, 0, 0))
    os.execv(sys.executable, [sys.executable, "-m", "mnesis.cli", *sys.argv[1:]])
shown = b""
def wait_for_prompt(number):
    global shown
    while shown.count(b"> ") < number:
        shown += os.read(fd, 1024)
wait_for_prompt(1)
os.write(fd, b"hello there\\n")
wait_for_prompt(2)
os.write(fd, b"\\x04")
try:
    while data := os.read(fd, 1024):
        shown += data
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(os.name != "posix", reason="a terminal as POSIX has it")
def test_on_a_terminal_answers_stream_and_the_end_of_input_ends_it(tmp_path: Path) -> None:
    arguments = ["chat", "talk", "--mock", "--db", str(tmp_path / "a.db")]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", TERMINAL, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "[Mock LLM response to: hello there]" in done.stdout
    assert "Traceback" not in done.stdout
    assert "note: " not in done.stdout, "the mock is known"
    lines = [line.rstrip() for line in done.stdout.replace("\r", "").splitlines()]
    assert all(len(line) <= 50 for line in lines)
    start = lines.index("session talk, model mock; /context: show what the")
    assert " ".join(lines[start : start + 3]).startswith(
        "session talk, model mock; /context: show what the model is sent; /compact: fold the context now;"
    )
    assert [m.role for m in log(tmp_path / "a.db", "talk")] == ["user", "assistant"]
