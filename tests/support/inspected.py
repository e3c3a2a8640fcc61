"""A database with everything that the inspector shows, some of it hostile."""

from __future__ import annotations

from pathlib import Path

from mnesis import CompactionConfig, Engine, FileConfig, MnesisConfig, MnesisSession
from mnesis.models.message import (
    DataPart,
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
    text_message,
)
from mnesis.models.run import ItemOutcome, RunSpec
from mnesis.models.session import Interruption
from mnesis.models.usage import TokenUsage

CANARY = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
HOSTILE_ID = "\x1b]0;pwn\x07 ../a/b?c#d\n\"><script>document.title='pwned'</script>\u202e"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def config_of(directory: Path) -> MnesisConfig:
    """Return settings that keep stored files below `directory` and never compact by themselves."""
    return MnesisConfig(
        compaction=CompactionConfig(auto=False), file=FileConfig(storage_dir=directory / "files", inline_threshold=200)
    )


async def build_database(directory: Path) -> Path:
    """Create a database with the sessions "main", "child", "long title" and one with a hostile id, and the run "run-1"."""
    path = directory / "inspected.db"
    async with Engine(path, config=config_of(directory)) as engine:
        async with MnesisSession.open(model="openai/gpt-4o", session_id="main", engine=engine, llm=reply) as session:
            await _fill(session)
        async with MnesisSession.open(
            model="openai/gpt-4o", session_id="child", parent_id="main", agent="researcher", engine=engine
        ) as child:
            await child.record("Look up valve 7.", "It was replaced in May.")
        async with MnesisSession.open(model=None, session_id=HOSTILE_ID, engine=engine) as hostile:
            await hostile.record(CANARY, CANARY)
        await _store_run(engine)
    return path


async def reply(messages: list[dict[str, object]]) -> str:
    return "A reply."


async def _fill(session: MnesisSession) -> None:
    for number in range(12):
        usage = TokenUsage(input=200, cache_read=100 * number, cache_write=50, output=40)
        await session.record(
            f"Question {number}: which valve leaked on 2026-03-0{number % 9 + 1}?",
            f"Valve {number} leaked. " * 30,
            tokens=usage,
        )
    await session.compact()
    await session.send(FilePart(name="report.txt", text="pressure log line\n" * 400))
    await session.append(_hostile_messages(), ends_turn=True)
    interruption = Interruption(
        20, "failed", "LLMTimeoutError", f"timed out {CANARY}", "half an ans", 1_700_000_000_000
    )
    await session.engine.store.record_interruption(session.id, interruption)
    pinned = await session.pin_fact("The gate code is 4471.")
    assert pinned.seq


def _hostile_messages() -> list[Message]:
    call = ToolPart(tool_name="shell", tool_call_id="c1", input={"command": CANARY})
    failed = ToolPart(tool_name="read_log", tool_call_id="c2", input={"day": 1}, error_message="no such day")
    image = ImagePart(data=PIXEL, media_type="image/png")
    return [
        text_message("user", CANARY),
        Message(
            id=f"m-{HOSTILE_ID}",
            role="assistant",
            parts=(ReasoningPart(text=CANARY), TextPart(text="ok"), call, failed),
        ),
        Message(
            id="result",
            role="tool",
            parts=(ToolResultPart(tool_call_id="c1", tool_name="shell", output=f"\x1b[31m{CANARY}"),),
        ),
        Message(
            id="parts",
            role="user",
            parts=(
                image,
                ImagePart(data=PIXEL, media_type="image/svg+xml"),
                ImagePart(url="http://127.0.0.1:9/tracking.png"),
                FilePart(name=CANARY, text=CANARY),
                DataPart(kind="block", data={"x": CANARY}, text=CANARY),
            ),
        ),
        text_message("assistant", "javascript:alert(1) \u202egnp.exe " + "long " * 3000),
    ]


async def _store_run(engine: Engine) -> None:
    store = engine.store
    await store.begin_run(RunSpec("run-1", "llm", "print", "openai/gpt-4o", 1_700_000_000_000))
    await store.add_items("run-1", 0, [f'"input {number} {CANARY}"' for number in range(4)][:4])
    await store.seal_run("run-1", 4)
    await store.claim_items("run-1", "w", limit=3, now_ms=0, lease_ms=10**12, max_claims=3)
    await store.finish_items("run-1", "w", [ItemOutcome(0, "done", '"fine"'), ItemOutcome(1, "failed", '"broken"')])
