"""What the doctor says of machines on which something is broken. Healthy ones: tests/live."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from app import cli, doctor
from app.doctor import FAILURE, OK, WARNING, Finding, in_words
from app.loopback import LoopBack
from engine.control import ControlServer


@pytest.fixture(autouse=True)
def _nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    """No sound server, no session and no folder of this machine's user."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/nobody")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models to break."""
    folder = tmp_path / "models"
    shutil.copytree(models.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(models, "FOLDER", folder)
    return folder


def examine(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and findings by the name of their check."""
    code = cli.main(["doctor", "--no-sound", "--json", *options])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    told = json.loads(out)
    assert set(told) == {"level", "findings"}
    for finding in told["findings"]:
        assert set(finding) == {"check", "level", "says", "advice", "facts"}
        assert finding["level"] in (OK, WARNING, FAILURE)
        assert finding["says"].endswith(".")
        assert "\n" not in finding["says"]
        assert finding["advice"] or finding["level"] == OK or finding["check"] == "default input"
    assert code == (1 if told["level"] == FAILURE else 0)
    return code, {finding["check"]: finding for finding in told["findings"]}


def test_without_a_sound_server_it_says_so_and_looks_at_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = examine(capsys)
    assert code == 1
    assert found["sound server"]["level"] == FAILURE
    assert "No sound server answers" in found["sound server"]["says"]
    assert "start PulseAudio, or PipeWire" in found["sound server"]["advice"]
    assert found["devices"]["level"] == FAILURE
    for check in ("packages", "provider", "model classic", "model fullband", "session"):
        assert found[check]["level"] == OK, found[check]
    assert found["provider"]["facts"]["chosen"] == "cpu"
    assert found["model classic"]["facts"]["farthest"] < 1e-3
    assert found["packages"]["facts"]["numpy"] == np.__version__
    assert "self-test" not in found


def test_in_words_each_finding_is_a_line_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["doctor", "--no-sound"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "failure  No sound server answers." in lines
    at = lines.index("failure  No sound server answers.")
    assert lines[at + 1].startswith("         → start PulseAudio")
    assert lines[-1].endswith("checks.")
    assert in_words(Finding("x", OK, "All is well.")) == "ok       All is well."


_WELL = LoopBack(66.0, 60.0, 0, 58.0, 0.0, None)


@pytest.mark.parametrize(
    ("made", "tries", "level", "told"),
    [
        (_WELL, 1, OK, "58 dB quieter."),
        (_WELL, 2, WARNING, "end other work"),
        (_WELL._replace(drops=1), 1, WARNING, "1 drop(s)"),
        (_WELL._replace(delay_ms=500.0), 1, WARNING, "in 500 ms"),
        (_WELL._replace(uncleaned_s=1.5), 1, WARNING, "For 1.50 s the machine was too busy"),
        (_WELL._replace(uncleaned_s=1.5, fault="NaN"), 1, FAILURE, "uncleaned: NaN"),
        (_WELL._replace(uncleaned_s=7.0, suppression_db=0.0), 1, FAILURE, "too busy to clean"),
        (_WELL._replace(suppression_db=3.0), 1, FAILURE, "see the lines above"),
        (_WELL._replace(fault="answered NaN"), 1, FAILURE, "uncleaned: answered NaN"),
    ],
)
def test_a_busy_machine_is_told_from_one_that_does_not_clean(
    made: LoopBack, tries: int, level: str, told: str
) -> None:
    finding = doctor.judged(made, tries)
    assert finding.level == level
    assert told in in_words(finding)
    assert finding.facts["suppression_db"] == made.suppression_db


@pytest.mark.parametrize(
    ("harm", "level", "says"),
    [
        ("cut", FAILURE, "is not a model that can be opened"),
        ("weights", FAILURE, "fullband answers otherwise than when it was shipped, by 0."),
        ("golden", FAILURE, "by inf of a gain"),
        ("no golden", WARNING, "nothing to compare"),
    ],
)
def test_a_broken_model_is_named(
    harm: str, level: str, says: str, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = models.DEFAULT
    model, golden = shipped / f"{name}.onnx", shipped / "golden" / f"{name}.npy"
    content = model.read_bytes()
    if harm == "cut":
        model.write_bytes(content[: len(content) // 2])
    elif harm == "weights":
        proto = onnx.load(model)
        largest = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
        largest.raw_data = (-onnx.numpy_helper.to_array(largest)).tobytes()
        onnx.save(proto, model)
    elif harm == "golden":
        np.save(golden, np.load(golden)[:-1])
    else:
        golden.unlink()
    _, found = examine(capsys)
    assert found[f"model {name}"]["level"] == level
    assert says in found[f"model {name}"]["says"]
    assert found[f"model {name}"]["advice"]
    assert found["model classic"]["level"] == OK
    if harm == "cut":
        assert found["provider"]["level"] == FAILURE


def test_no_model_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    _, found = examine(capsys)
    assert found["model"]["says"] == "No model is installed."
    assert found["model"]["level"] == FAILURE


def test_folders_that_cannot_be_written_cost_comfort_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    _, found = examine(capsys)
    assert found["cache folder"]["level"] == WARNING
    assert "cannot be written, so what was measured once" in found["cache folder"]["says"]
    assert found["log folder"]["level"] == WARNING
    assert found["settings folder"]["level"] == OK
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_runtime_folder_of_somebody_else_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "denoise-app").write_text("no folder")
    _, found = examine(capsys)
    assert found["runtime folder"]["level"] == FAILURE


def test_a_running_session_and_a_dead_one_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"state": "running", "input": "desk", "problem": None, "fault": None}
    with ControlServer(lambda request: answer):
        _, found = examine(capsys)
    assert found["session"]["says"] == "A session runs, running, on desk."
    assert found["session"]["facts"]["running"] is True
    with ControlServer(lambda request: {**answer, "problem": "desk was unplugged"}):
        _, found = examine(capsys)
    assert found["session"]["level"] == WARNING
    assert "desk was unplugged" in found["session"]["says"]
    (tmp_path / "run" / "denoise-app" / "control").touch()
    _, found = examine(capsys)
    assert found["session"]["level"] == WARNING
    assert "left its socket behind" in found["session"]["says"]


def test_two_builds_of_the_runtime_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: "1.22.0" if name == "onnxruntime-rocm" else real(name)
    )
    _, found = examine(capsys)
    assert found["packages"]["level"] == WARNING
    assert "onnxruntime, onnxruntime-rocm" in found["packages"]["says"]


def test_a_check_that_fails_itself_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("priority", OK, "So far.")
        raise ZeroDivisionError("nobody\nthought of it")

    monkeypatch.setattr(doctor, "_priority", broken)
    code, found = examine(capsys)
    assert code == 1
    assert "ZeroDivisionError: nobody thought of it" in found["priority"]["says"]
    assert "session" in found
