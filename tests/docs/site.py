"""The site of the documentation, built as strictly as possible and without network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.docs.pages import ROOT


def shared_site(factory: pytest.TempPathFactory) -> Path:
    """Return the built site, which all processes of a test run share: the first one builds it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    site, complete = folder / "site", folder / "site.complete"
    with FileLock(folder / "site.lock"):
        if not complete.exists():
            build_site(site)
            complete.touch()
    return site


def build_site(target: Path) -> Path:
    """Build the site into an empty directory and return it. Fails on any warning."""
    # Whatever would go out goes nowhere.
    environment = {
        **os.environ,
        "NO_COLOR": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    # Not --quiet: that would hide the warnings that are to be errors.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert built.returncode == 0, built.stdout + built.stderr
    return target
