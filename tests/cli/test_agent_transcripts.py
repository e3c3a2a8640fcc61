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


@pytest.mark.parametrize(("form", "lines"), TRANSCRIPTS.items(), ids=TRANSCRIPTS)
def test_results_name_their_tools(form: str, lines: Any) -> None:
    transcript = FORMATS[form]([json.dumps(line) for line in lines()])
    parts = [part for message in transcript.messages for part in message.parts]
    names = [part.tool_name for part in parts if part.type == "tool"]
    assert [part.tool_name for part in parts if part.type == "tool_result"] == names


def test_shells_searches_and_pictures_of_codex_are_kept() -> None:
    """The items are those of `ResponseItem` in codex-rs/protocol/src/models.rs of openai/codex."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    action = {"type": "exec", "command": ["ls", "-la"], "timeout_ms": None}
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "see"}, picture]},
        {"type": "local_shell_call", "id": "ls_1", "call_id": None, "status": "completed", "action": action},
        {"type": "function_call_output", "call_id": "ls_1", "output": [{"type": "input_text", "text": "total 0"}]},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "valves"}},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    ]
    lines = [json.dumps({"timestamp": AT, "type": "response_item", "payload": item}) for item in items]
    user, shell, result, search, thought = FORMATS["codex"](lines).messages
    assert [part.type for part in user.parts] == ["text", "image"]
    assert (shell.parts[0].tool_name, shell.parts[0].input) == ("local_shell", action)
    assert (result.parts[0].tool_name, result.parts[0].output) == ("local_shell", "total 0")
    assert search.parts[0].input == {"type": "search", "query": "valves"}
    assert thought.parts[0].text == "hm"


def test_the_older_form_of_codex_has_items_as_lines() -> None:
    head = {"id": "cx-0", "timestamp": AT, "instructions": None}
    items = [line["payload"] for line in codex() if line["type"] == "response_item"]
    transcript = FORMATS["codex"]([json.dumps(line) for line in [head, {"record_type": "state"}, *items]])
    assert transcript.session_id == "cx-0"
    assert [message.role for message in transcript.messages] == [
        message.role for message in FORMATS["codex"]([json.dumps(line) for line in codex()]).messages
    ]


def test_pictures_of_gemini_are_kept() -> None:
    content = [{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]
    (message,) = FORMATS["gemini"]([json.dumps({"id": "m1", "type": "user", "content": content})]).messages
    assert [part.type for part in message.parts] == ["text", "image"]


def test_a_damaged_transcript_gives_what_can_be_read_and_says_so(run: Run, tmp_path: Path) -> None:
    first, *rest = claude_code()
    said = {**rest[0], "uuid": "odd", "message": {"role": "user", "content": "one\u2028two\x85three"}}
    good = [json.dumps(line, ensure_ascii=False).encode() for line in (first, said, *rest)]
    good[-3] = good[-3].replace(b"three places", b"three \xff places")
    (tmp_path / "t.jsonl").write_bytes(b"\n".join([*good[:3], b"\x00\x00", *good[3:], good[1][:40]]))
    shown = run("import", tmp_path / "t.jsonl", "--format", "claude-code", "--db", tmp_path / "a.db")
    assert shown.exit_code == 0, shown.output
    assert "2 lines could not be read and were left out" in shown.stderr
    texts = [message.text_content() for message in log(tmp_path / "a.db", "claude-code/cc-1")]
    assert "one\u2028two\x85three" in texts
    assert "It leaks in three \ufffd places." in texts


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
