"""The fixture of the tests of telemetry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.telemetry import Recorded, record_telemetry


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with record_telemetry() as recorded:
        yield recorded
