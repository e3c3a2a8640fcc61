"""The page on tracing: its program, set up as the page says for each vendor, sends its spans to the vendor's path.

Endpoints and headers are those of the vendors' pages, which docs/tracing.md links to.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS, blocks
from tests.support.telemetry import run_collector
from tests.support.warm_python import warm_command

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the exporter is not installed; run uv sync")

PAGE = DOCS / "tracing.md"
RUNNER = DOCS.parent / "tests/docs/run_page.py"
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-" + "2" * 60, "LANGSMITH_API_KEY": "lsv2_pt_3"}
BASIC = base64.b64encode(f"{KEYS['LANGFUSE_PUBLIC_KEY']}:{KEYS['LANGFUSE_SECRET_KEY']}".encode()).decode()
VENDORS = {
    "Phoenix": ("/v1/traces", {}),
    "Langfuse": (
        "/api/public/otel/v1/traces",
        {"authorization": f"Basic {BASIC}", "x-langfuse-ingestion-version": "4"},
    ),
    "LangSmith": ("/otel/v1/traces", {"x-api-key": KEYS["LANGSMITH_API_KEY"], "langsmith-project": "mnesis"}),
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_program_sends_its_spans_to_the_vendor(vendor: str, tmp_path: Path) -> None:
    (setup,) = (block.text for block in blocks(PAGE) if block.text.startswith(f"# {vendor}"))
    with run_collector() as collector:
        url = re.search(r"https?://\S+", setup.split("\n", 1)[1])
        assert url is not None
        host = f"{urlsplit(url[0]).scheme}://{urlsplit(url[0]).netloc}"
        script = f"{setup.replace(host, collector.url)}\nexec {shlex.join(warm_command(str(RUNNER), str(PAGE)))}\n"
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MNESIS_MOCK_LLM": "1", **KEYS}
        ran = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    path, headers = VENDORS[vendor]
    assert {export.path for export in collector.exports} == {path}
    for export in collector.exports:
        assert export.headers["content-type"] == "application/x-protobuf"
        assert headers.items() <= export.headers.items()
    names = [name for export in collector.exports for name in export.spans]
    assert names == ["chat gpt-4o", "invoke_agent default"]
