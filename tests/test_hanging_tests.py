"""A test that hangs ends with a failure that names it, wherever it hangs, and the other tests get their verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.drivers import hanging_tests

ROOT = Path(__file__).parents[1]
HANGING = sorted(name for name in vars(hanging_tests) if name.startswith("test_hangs"))


def test_a_test_that_hangs_fails_by_name_and_the_others_have_a_verdict() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "2", "-o", "timeout=1", "-o", "faulthandler_timeout=4"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-rf"]
    done = subprocess.run(
        [*command, str(hanging_tests.__file__)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    failed = [line.partition("::")[2].split() for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert sorted(name for name, *_ in failed) == HANGING, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{len(HANGING)} failed, 1 passed"), done.stdout
    assert (done.returncode, "INTERNALERROR" in done.stdout) == (1, False)
