"""Models that strangers may have made: mutated, and hostile as a whole."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import trial
from engine.errors import ModelError
from engine.inspection import inspect
from engine.network import Network
from engine.spec import ModelSpec
from tests.fuzz.hunting import budget_s, hunt
from tests.fuzz.mutations import HOSTILE, OPERATORS
from tests.onnx_models import CLASSIC, write_identity, write_lstm

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are bounded in Linux's way"),
    pytest.mark.timeout(300 + 60 * 60 * float(os.environ.get("FUZZ_MINUTES", "0")) / 30),
]

FOUND = Path(__file__).parent / "found"


@pytest.mark.parametrize(("target", "share_s"), [("models", 4.0), ("specs", 0.5)])
def test_whatever_a_file_holds_it_is_a_model_or_a_refusal(
    target: str, share_s: float, tmp_path: Path
) -> None:
    seed = int(time.time()) if "FUZZ_MINUTES" in os.environ else 0
    made = hunt(target, tmp_path, budget_s(share_s), seed)
    print(made)
    assert not made.findings, "\n".join(made.findings)
    assert made.n_cases > 3
    assert sum(made.outcomes.values()) == made.n_cases


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.onnx")), ids=lambda path: path.stem)
def test_what_was_found_once_stays_refused(
    path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "WORK_S", 1.0)
    with pytest.raises(ModelError) as error:
        trial.open_network(str(path), FOUND.parent)
    assert "\n" not in str(error.value)


# Those that end, and are what a model should be: large at other levels than the trial's, or slow
# within its bounds.
_MAY_PASS = {"wide window", "own operator", "deep if", "expanded"}
_MAY_PASS |= {"constant of a huge shape", "range"}


@pytest.mark.parametrize(
    "kind", [kind for kind in HOSTILE if not (FOUND / f"{kind}.onnx").exists()]
)
def test_a_hostile_model_is_refused_in_a_line(
    kind: str, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of its kind that the inspection lets through goes through a real trial."""
    monkeypatch.setattr(trial, "WORK_S", 1.0)
    path = tmp_path / "stranger.onnx"
    for seed in range(8):
        path.write_bytes(HOSTILE[kind](random.Random(seed), CLASSIC))
        told = refusal(lambda: inspect(path.read_bytes(), path))
        if told is None:
            told = refusal(lambda: trial.open_network(str(path), tmp_path / "shipped"))
            assert told is not None or kind in _MAY_PASS
            return
        assert told.startswith(f"{path}: ")
    assert kind in {"functions", "own operator"}


def refusal(work: Callable[[], object]) -> str | None:
    """The one line that a model was refused with; None where it was not."""
    try:
        work()
    except ModelError as error:
        return str(error)
    return None


# What the inspection says


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("endless loop", "uses the operator Loop, which may never end; wanted are LSTM"),
        ("outside data", "keeps weights in another file; export it as one file"),
        ("functions", "defines functions of its own|wanted are those of the ONNX standard"),
        ("own operator", "wanted are those of the ONNX standard"),
    ],
)
def test_what_no_model_needs_is_refused_before_it_is_opened(
    kind: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "stranger.onnx"
    told = []
    for seed in range(12):  # some are of the few operators that are allowed
        path.write_bytes(HOSTILE[kind](random.Random(seed), CLASSIC))
        told.append(refusal(lambda: Network(path, "cpu")))
    assert any(one and re.search(said, one) for one in told), told


def test_ordinary_models_pass_inspection_and_trial_once(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lstm(tmp_path / "mine.onnx", CLASSIC)
    network = trial.open_network(str(path), tmp_path / "shipped")
    frames = np.full((3, CLASSIC.n_bins), -50.0, np.float32)
    assert network(frames, network.initial_state()).gain.shape == (3, CLASSIC.n_bins)
    tried: list[Path] = []
    monkeypatch.setattr(trial, "_try_in_a_process", lambda content, path: tried.append(path))
    trial.open_network(str(path), tmp_path / "shipped")
    assert not tried  # its checksum is known
    other = write_identity(tmp_path / "other.onnx", CLASSIC)
    trial.open_network(str(other), tmp_path / "shipped")
    assert tried == [other]
    for kept in (own_cache / "tried").iterdir():
        kept.write_text("{")
    trial.open_network(str(path), tmp_path / "shipped")
    assert tried == [other, path]  # what cannot be read was never there


def test_a_cache_that_cannot_be_written_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = write_identity(tmp_path / "mine.onnx", CLASSIC)
    assert trial.open_network(str(path), tmp_path / "shipped").spec == CLASSIC


def test_models_that_come_with_the_program_are_not_tried(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_identity(tmp_path / "ours.onnx", CLASSIC)
    monkeypatch.setattr(trial, "prove", lambda *_: pytest.fail("it was tried"))
    assert trial.open_network("ours", tmp_path).spec == CLASSIC
    assert not own_cache.exists()


@pytest.mark.parametrize(
    ("code", "told", "said"),
    [
        (-11, b"", r"did not survive its trial \(it ended the process, signal 11\)"),
        (-24, b"", "it takes too long, signal 24"),
        (1, b"", "it ended the process, code 1"),
        (0, b"{}", "code 0"),
        (0, b"not JSON", "code 0"),
        (0, b'{"error": "x.onnx: has no spec"}', "^x.onnx: has no spec$"),
        (-6, b'{"ok": true}', "signal 6"),
    ],
)
def test_only_a_process_that_ended_well_and_said_so_passes(
    code: int, told: bytes, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        trial.raise_verdict(code, told, Path("x.onnx"))
    trial.raise_verdict(0, b'{"ok": true}', Path("x.onnx"))


def test_a_field_that_comes_twice_hides_nothing(tmp_path: Path) -> None:
    """Protocol buffers join a message that comes in parts; what is in either part counts."""
    honest = write_identity(tmp_path / "honest.onnx", CLASSIC).read_bytes()
    looping = HOSTILE["endless loop"](random.Random(1), CLASSIC)
    for content in (honest + looping, looping + honest):
        with pytest.raises(ModelError, match="Loop"):
            inspect(content, tmp_path)


def test_the_operators_of_the_fuzzer_are_not_all_alike() -> None:
    assert len(set(OPERATORS)) == len(OPERATORS) > 50


def test_a_seed_makes_the_same_file_again() -> None:
    spec: ModelSpec = CLASSIC
    for build in HOSTILE.values():
        assert build(random.Random(5), spec) == build(random.Random(5), spec)
