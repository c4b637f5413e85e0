"""The suite ends, also where a test fails first and hangs when it is tried again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

HANGS_LATER = """
import time
import pytest

tries = []

@pytest.mark.timeout(1)
@pytest.mark.flaky(reruns=1)
def test_hangs_later():
    tries.append(1)
    assert len(tries) > 1
    time.sleep(60)
"""


def test_a_second_try_has_a_time_limit_too(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS_LATER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "/dev/null", str(tmp_path)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Timeout (>1.0s)" in done.stdout
    assert "1 failed, 1 rerun" in done.stdout
