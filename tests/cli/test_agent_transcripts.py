"""Transcripts of coding agents become sessions that can be searched."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis import Engine
from mnesis.cli.agent_transcripts import FORMATS
from mnesis.models.message import Message
from tests.cli.conftest import Run

AT = "2026-07-02T12:55:36.397Z"


def claude_code() -> list[dict[str, Any]]:
    """Lines as Claude Code 2.1 writes them: a reply has a line per block, results of tools are user messages."""
    common = {"sessionId": "cc-1", "cwd": "/home/ada/app", "timestamp": AT, "isSidechain": False, "version": "2.1.202"}
    reply = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "valve.py: 3 leaks", "is_error": False}
    contents: list[tuple[str, Any]] = [
        ("user", "fix the leaking valve"),
        ("assistant", [{"type": "thinking", "thinking": "look at it", "signature": "s"}]),
        ("assistant", [{"type": "tool_use", "id": "toolu_1", "name": "Grep", "input": {"pattern": "leak"}}]),
        ("user", [result]),
        ("assistant", [{"type": "text", "text": "It leaks in three places."}]),
    ]
    lines: list[dict[str, Any]] = [{"type": "queue-operation", "operation": "enqueue", "sessionId": "cc-1"}]
    for number, (role, content) in enumerate(contents):
        message = {**reply, "content": content} if role == "assistant" else {"role": role, "content": content}
        lines.append({**common, "type": role, "uuid": f"u{number}", "parentUuid": None, "message": message})
    note = {"role": "user", "content": "a note of the program"}
    lines.append({**common, "type": "user", "uuid": "meta", "isMeta": True, "message": note})
    lines.append({**common, "type": "user", "uuid": "side", "isSidechain": True, "message": note})
    return lines


def codex() -> list[dict[str, Any]]:
    """Lines as Codex CLI writes them: items of the Responses API, repeated as events for the screen."""
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be careful"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context/>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix the leaking valve"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "look at it"}], "encrypted_content": "x"},
        {"type": "function_call", "name": "shell", "arguments": '{"pattern": "leak"}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": "valve.py: 3 leaks"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "It leaks in three places."}],
        },
    ]
    head = {"timestamp": AT, "type": "session_meta", "payload": {"id": "cx-1", "cwd": "/home/ada/app"}}
    event = {"timestamp": AT, "type": "event_msg", "payload": {"type": "agent_message", "message": "It leaks"}}
    return [head, *({"timestamp": AT, "type": "response_item", "payload": item} for item in items), event]


def gemini() -> list[dict[str, Any]]:
    """Records as Gemini CLI writes them: a later record of a message replaces it, and a chat can be rewound."""
    response = {"functionResponse": {"id": "c1", "name": "grep", "response": {"output": "valve.py: 3 leaks"}}}
    call = {"id": "c1", "name": "grep", "args": {"pattern": "leak"}, "status": "success", "timestamp": AT}
    thought = {"subject": "Plan", "description": "look at it", "timestamp": AT}
    reply = {
        "id": "m2",
        "type": "gemini",
        "timestamp": AT,
        "content": "It leaks in three places.",
        "thoughts": [thought],
    }
    return [
        {"sessionId": "gm-1", "projectHash": "h", "startTime": AT, "lastUpdated": AT, "directories": ["/home/ada/app"]},
        {"id": "m1", "type": "user", "timestamp": AT, "content": [{"text": "fix the leaking valve"}]},
        {**reply, "toolCalls": [call]},
        {**reply, "toolCalls": [{**call, "result": [response]}]},
        {"id": "m3", "type": "user", "timestamp": AT, "content": "forget this"},
        {"$rewindTo": "m3"},
        {"$set": {"lastUpdated": AT}},
    ]


TRANSCRIPTS = {"claude-code": claude_code, "codex": codex, "gemini": gemini}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def log(path: Path, session_id: str) -> list[Message]:
    async def read() -> list[Message]:
        async with Engine(path) as engine:
            return await engine.store.messages(session_id, limit=100)

    return asyncio.run(read())


@pytest.mark.parametrize(("form", "lines"), TRANSCRIPTS.items(), ids=TRANSCRIPTS)
def test_a_transcript_becomes_a_session_that_can_be_searched(run: Run, tmp_path: Path, form: str, lines: Any) -> None:
    db, file = tmp_path / "a.db", write(tmp_path / "t.jsonl", lines())
    shown = run("import", file, "--format", form, "--json", "--db", db)
    assert shown.exit_code == 0, shown.output
    session_id = json.loads(shown.stdout)["session_id"]
    assert session_id == f"{form}/{lines()[-1].get('sessionId') or {'codex': 'cx-1', 'gemini': 'gm-1'}[form]}"
    messages = [message for message in log(db, session_id) if message.role != "system"]
    texts = [message.text_content() for message in messages]
    assert "fix the leaking valve" in texts[0] + texts[1]
    assert any("It leaks in three places." in text for text in texts)
    assert not any("forget this" in text or "note of the program" in text for text in texts)
    calls = [part for message in messages for part in message.parts if part.type == "tool"]
    results = [part for message in messages for part in message.parts if part.type == "tool_result"]
    assert [call.input for call in calls] == [{"pattern": "leak"}]
    assert [(result.output, result.tool_call_id) for result in results] == [
        ("valve.py: 3 leaks", calls[0].tool_call_id)
    ]
    assert any(part.type == "reasoning" and "look at it" in part.text for message in messages for part in message.parts)
    assert messages[0].created_at == 1_782_996_936_397
    assert "valve.py" in run("search", "valve leaks", "--db", db).stdout
    assert run("ls", "--agent", form, "--db", db).stdout.splitlines()[1].startswith("fix the leaking valve")


@pytest.mark.parametrize(("form", "lines"), TRANSCRIPTS.items(), ids=TRANSCRIPTS)
def test_importing_again_adds_what_is_new_and_nothing_twice(run: Run, tmp_path: Path, form: str, lines: Any) -> None:
    db, file = tmp_path / "a.db", tmp_path / "t.jsonl"
    write(file, lines()[:3])
    first = json.loads(run("import", file, "--format", form, "--as", "s", "--json", "--db", db).stdout)
    write(file, lines())
    second = json.loads(run("import", file, "--format", form, "--as", "s", "--json", "--db", db).stdout)
    third = json.loads(run("import", file, "--format", form, "--as", "s", "--json", "--db", db).stdout)
    assert first["messages"] > 0
    assert second["messages"] > 0
    assert third["messages"] == 0
    ids = [message.id for message in log(db, "s")]
    assert len(set(ids)) == len(ids) == first["messages"] + second["messages"]


def test_the_older_form_of_gemini_is_one_object(tmp_path: Path) -> None:
    records = gemini()
    old = {**records[0], "messages": [records[1], records[3]]}
    transcript = FORMATS["gemini"]([json.dumps(old, indent=2)])
    assert transcript.session_id == "gm-1"
    assert [message.role for message in transcript.messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_transcript_is_refused(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "t.txt").write_text("hello\n{}\n[1]\n")
    shown = run("import", tmp_path / "t.txt", "--format", form, "--db", tmp_path / "a.db")
    assert shown.exit_code == 2
    assert "there are no messages in it" in shown.stderr
    assert not (tmp_path / "a.db").exists()


SCALARS = [None, True, 7, "text", "user", "assistant", "gemini", "response_item", "message", "function_call"]
FIELDS = [
    "type", "message", "messages", "payload", "content", "role", "uuid", "id", "timestamp", "toolCalls", "$set", "$rewindTo",
    "result", "functionResponse", "response", "output", "summary", "thoughts", "directories", "call_id", "arguments", "args",
]  # fmt: skip


def random_value(random: Random, depth: int) -> Any:
    """Return a value as no agent writes it: known fields in wrong places, with values of wrong types."""
    kind = random.random()
    if depth == 0 or kind < 0.3:
        return random.choice(SCALARS)
    if kind < 0.5:
        return [random_value(random, depth - 1) for _ in range(random.randrange(3))]
    return {field: random_value(random, depth - 1) for field in random.sample(FIELDS, random.randrange(8))}


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_no_transcript_makes_the_parser_fail(form: str, seed: int) -> None:
    random = Random(seed)
    FORMATS[form]([json.dumps(random_value(random, 6)) + "\n" for _ in range(20)])
