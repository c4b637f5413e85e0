"""Sound files that strangers may have made: mutated headers, cut short, one in another."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.hunting import budget_s, hunt
from tests.fuzz.targets import TARGETS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are bounded in Linux's way"),
    pytest.mark.timeout(300 + 60 * 60 * float(os.environ.get("FUZZ_MINUTES", "0")) / 30),
]

FOUND = Path(__file__).parent / "found"
READERS = ("files", "recordings", "tracks")


@pytest.mark.parametrize(
    ("target", "share_s"), [("files", 3.0), ("recordings", 1.0), ("tracks", 1.0)]
)
def test_whatever_a_file_holds_it_is_sound_or_a_refusal(
    target: str, share_s: float, tmp_path: Path
) -> None:
    seed = int(time.time()) if "FUZZ_MINUTES" in os.environ else 0
    made = hunt(target, tmp_path, budget_s(share_s), seed)
    print(made)
    assert not made.findings, "\n".join(made.findings)
    assert made.n_cases > 3


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "path",
    sorted(path for path in FOUND.glob("*") if path.suffix != ".onnx"),
    ids=lambda path: path.name,
)
def test_what_was_found_once_stays_refused(reader: str, path: Path, tmp_path: Path) -> None:
    target = TARGETS[reader](tmp_path)
    with pytest.raises(target.refusal):
        target.read(path)
