"""What a model costs is found out once, aside, and a failure is no answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine import effort
from engine.effort import Efforts, effort_of
from engine.errors import ModelError
from tests.onnx_models import FULLBAND, write_heavy, write_identity


def settled(efforts: Efforts, path: Path) -> float:
    deadline = time.monotonic() + 60
    while (found := efforts.of(path)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_heavy_model_costs_more(own_cache: Path, tmp_path: Path) -> None:
    light = write_identity(tmp_path / "light.onnx", FULLBAND)
    heavy = write_heavy(tmp_path / "heavy.onnx", FULLBAND, products=32)
    efforts = Efforts()
    assert efforts.of(light) is None, "nobody waits"
    assert efforts.of(heavy) is None
    assert 0.0 < settled(efforts, light) < 0.5 * settled(efforts, heavy)


def test_it_is_remembered(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_identity(tmp_path / "light.onnx", FULLBAND)
    found = effort_of(path)
    monkeypatch.setattr(effort, "_measured_in_a_process", lambda path: pytest.fail("again"))
    assert effort_of(path) == found
    # The same file elsewhere is the same model.
    assert effort_of(path.rename(tmp_path / "moved.onnx")) == found


def test_what_cannot_be_measured_is_not_known(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken\.onnx: what it costs could not be measured"):
        effort_of(path)
    efforts = Efforts()
    assert efforts.of(path) is None
    assert efforts._measuring is not None
    efforts._measuring.join(60)
    assert efforts.of(path) is None
    assert not efforts._measuring.is_alive(), "not tried again at once"
    with pytest.raises(ModelError, match="cannot be read"):
        effort_of(tmp_path / "none.onnx")
