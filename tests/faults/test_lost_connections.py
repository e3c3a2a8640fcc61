"""Connections to PostgreSQL are lost at messages of the protocol: a sample of `python -m tests.support.connection_faults`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mnesis.testing.fault_operations import all_operations
from mnesis.testing.faults import sweep_failures
from tests.support.connection_faults import LOSSES, Loss, lossy_target
from tests.support.samples import sampled

pytest.importorskip("psycopg")

SAMPLE = sampled(1, at_least=1)
SAMPLED_MESSAGES = 25
"""The shortest operations exchange more."""
OPERATIONS = {
    f"{operation.api} {operation.name}": operation
    for operation in all_operations()
    if "postgres" in operation.stores and operation.api in ("session", "engine", "map")
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("loss", LOSSES)
async def test_a_connection_lost_at_any_message_loses_and_repeats_nothing(
    name: str, loss: Loss, tmp_path: Path
) -> None:
    choose = random.Random(f"{name} {loss}")
    steps = sorted(choose.sample(range(1, SAMPLED_MESSAGES), SAMPLE))
    with lossy_target(loss) as target:
        result = await sweep_failures(OPERATIONS[name], tmp_path, steps=steps, target=target)
    assert result.violations == []
    assert result.faults > 0
