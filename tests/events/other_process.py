"""Another process that works on a database and prints, as JSON, every event that it published itself."""

import asyncio
import json
import sys

from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from mnesis.store.base import Store

CONFIG = MnesisConfig(compaction=CompactionConfig(auto=False))


async def work(path: str) -> None:
    published: list[object] = []
    async with Engine(path, config=CONFIG) as engine:
        engine.events.subscribe_all(lambda event, payload: published.append([str(event), shown(payload)]))
        async with MnesisSession.open(model=None, session_id="kept", engine=engine) as session:
            for number in range(8):
                await session.record(f"question {number} about valves", f"answer {number} " * 40)
            await session.compact()
            await session.hide(16, 16)
        async with MnesisSession.open(model=None, session_id="gone", engine=engine) as session:
            await session.record("a secret", "an answer")
        await engine.purge("gone")
        await run_map(engine.store)
        async with MnesisSession.open(model=None, session_id="end", engine=engine):
            pass
    print(json.dumps(published))


async def run_map(store: Store) -> None:
    """Store a run as a map does. It publishes nothing itself."""
    from mnesis.models.run import ItemOutcome, RunSpec

    await store.begin_run(RunSpec("run", "llm", "print", "m/x", 1))
    await store.add_items("run", 0, ['"a"', '"b"'])
    await store.seal_run("run", 2)
    await store.claim_items("run", "w", limit=2, now_ms=0, lease_ms=1000, max_claims=3)
    await store.finish_items("run", "w", [ItemOutcome(0, "done", "1"), ItemOutcome(1, "failed", "2")])


def shown(payload: object) -> dict[str, object]:
    fields = dict(payload)  # type: ignore[call-overload]  # payloads are mappings
    if "result" in fields:
        # The store sets these two when it stores the result; the session publishes the result that it passed in.
        fields["result"] = fields["result"].model_dump(mode="json", exclude={"turn_index", "created_at"})
    return fields


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
