"""Which provider serves: measured, looked for in the background, remembered, replaced when dead.

ONNX Runtime's frontier is played, as builds with GPUs show it; the sessions behind it are real
ones on the CPU. No GPU has run this.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from engine.denoiser import Denoiser
from engine.errors import ModelError
from engine.network import Network
from engine.sessions import PROVIDERS, installed_providers
from engine.stft import Float
from tests.onnx_models import CLASSIC, write_lstm

# So many times as long as a frame: no load on a machine turns the order of medians round.
_SLOW = 30


class Runtime:
    """A build of ONNX Runtime with providers that behave as told.

    behaviours : by our name of a provider, words of ``slow``, ``does not open``, ``falls back``,
        ``does not run``, ``answers otherwise``, ``NaN``, ``takes long`` (until ``compiled`` is
        set); others are as fast as the CPU is
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **behaviours: str) -> None:
        self.behaviours = {"cpu": "", **behaviours}
        self.opened: list[str] = []
        self.runs: list[str] = []
        self.compiled = threading.Event()
        self.dead: set[str] = set()
        real, runtime = ort.InferenceSession, self
        ours = {theirs: name for name, theirs in PROVIDERS.items()}

        class Session:
            def __init__(
                self, content: bytes, options: Any, providers: list[str], enable_fallback: int
            ) -> None:
                (asked,) = providers
                assert not enable_fallback
                self.name = ours[asked]
                self.behaviour = runtime.behaviours[self.name]
                runtime.opened.append(self.name)
                if self.behaviour == "takes long":
                    assert runtime.compiled.wait(30)
                if self.behaviour == "does not open":
                    raise RuntimeError("no device was found")
                self._real = real(content, options, providers=["CPUExecutionProvider"])

            def get_providers(self) -> list[str]:
                fallen = self.behaviour == "falls back"
                return ["CPUExecutionProvider" if fallen else PROVIDERS[self.name]]

            def run(self, names: list[str] | None, feed: dict[str, Float]) -> list[Float]:
                runtime.runs.append(self.name)
                if self.behaviour == "does not run" or self.name in runtime.dead:
                    raise RuntimeError("an illegal memory access")
                for _ in range(_SLOW if self.behaviour == "slow" else 0):
                    self._real.run(names, feed)
                gain, *rest = self._real.run(names, feed)
                if self.behaviour == "answers otherwise":
                    gain = 1 - gain
                if self.behaviour == "NaN":
                    gain = gain * np.nan
                return [gain, *rest]

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        monkeypatch.setattr(ort, "InferenceSession", Session)
        theirs = [theirs for name, theirs in PROVIDERS.items() if name in self.behaviours]
        monkeypatch.setattr(ort, "get_available_providers", lambda: theirs)


@pytest.fixture
def model(tmp_path: Path, own_cache: Path) -> Path:
    return write_lstm(tmp_path / "model.onnx", CLASSIC, units=4)


def frame(level_db: float = -50.0) -> Float:
    return np.full((1, CLASSIC.n_bins), level_db, np.float32)


def wait_for(happens: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


# The choice


@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
@pytest.mark.parametrize(
    ("behaviours", "kept"),
    [
        ({"cuda": "", "cpu": "slow"}, "cuda"),
        ({"cuda": "slow"}, "cpu"),
        ({"cuda": "does not open"}, "cpu"),
        ({"cuda": "falls back", "cpu": "slow"}, "cpu"),
        ({"cuda": "does not run", "cpu": "slow"}, "cpu"),
        ({"cuda": "answers otherwise", "cpu": "slow"}, "cpu"),
        ({"cuda": "NaN", "cpu": "slow"}, "cpu"),
        ({"migraphx": "falls back", "rocm": "", "cpu": "slow"}, "rocm"),
        ({"migraphx": "", "rocm": "slow", "cpu": "slow"}, "migraphx"),
        ({"migraphx": "slow", "cuda": "", "cpu": "slow"}, "cuda"),
    ],
    ids=lambda told: " ".join(f"{k} {v}" for k, v in told.items()) if type(told) is dict else told,
)
def test_auto_serves_with_the_fastest_that_works_and_answers_alike(
    background: bool,
    behaviours: dict[str, str],
    kept: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = Runtime(monkeypatch, **behaviours)
    assert installed_providers() == [name for name in PROVIDERS if name in runtime.behaviours]
    network = Network(model, background=background)
    assert network.settle(30)
    assert network.provider == kept
    assert network.note is None
    runtime.runs.clear()
    assert network(frame(), network.initial_state()).gain.shape == (1, CLASSIC.n_bins)
    assert runtime.runs == [kept]


def test_the_cpu_serves_while_another_provider_compiles(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, migraphx="takes long", cpu="slow")
    network = Network(model, background=True)
    wait_for(lambda: "migraphx" in runtime.opened)
    assert network.provider == "cpu"
    assert not network.settle(0.01)
    denoiser = Denoiser(network)
    reference = Denoiser(Network(model, "cpu"))
    rng = np.random.default_rng(2)
    for turn in range(6):
        if turn == 3:
            runtime.compiled.set()
            assert network.settle(30)
            assert network.provider == "migraphx"
        hop = rng.uniform(-0.1, 0.1, CLASSIC.hop).astype(np.float32)
        # What was heard before is not forgotten, so nobody hears who serves.
        np.testing.assert_allclose(denoiser.process(hop), reference.process(hop), atol=1e-6)
        assert denoiser.fault is None


def test_one_asked_for_by_name_comes_in_the_background_or_says_why_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runtime(monkeypatch, rocm="slow", cuda="falls back")
    network = Network(model, "rocm", background=True)
    assert network.settle(30)
    assert (network.provider, network.note) == ("rocm", None)  # slower, but wished for
    network = Network(model, "cuda", background=True)
    assert network.settle(30)
    assert network.provider == "cpu"
    assert network.note is not None
    assert "cuda does not serve, the CPU does" in network.note
    assert "fell back to CPUExecutionProvider" in network.note
    with pytest.raises(ModelError, match="cuda did not start"):
        Network(model, "cuda")


# Death


@pytest.mark.parametrize("how", ["raises", "NaN"])
def test_a_provider_that_dies_leaves_the_frame_to_the_cpu(
    how: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, cuda="", cpu="slow")
    network = Network(model, background=True)
    assert network.settle(30)
    assert network.provider == "cuda"
    before = network(frame(), network.initial_state())
    if how == "raises":
        runtime.dead.add("cuda")
    else:
        network._choice.serving.session.behaviour = "NaN"
    after = network(frame(), before.state)
    assert network.provider == "cpu"
    assert network.note is not None
    assert network.note.startswith("cuda failed while it ran, the CPU goes on: ")
    expected = Network(model, "cpu")(frame(), before.state)
    np.testing.assert_array_equal(after.gain, expected.gain)
    runtime.runs.clear()
    network(frame(), after.state)
    assert runtime.runs == ["cpu"]  # and is not asked again


def test_the_cpu_is_the_last_resort(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(monkeypatch)
    network = Network(model)
    runtime.dead.add("cpu")
    with pytest.raises(ModelError, match="inference failed"):
        network(frame(), network.initial_state())
    runtime.dead.clear()
    assert network(frame(), network.initial_state()).gain.max() <= 1.0


# What is remembered


def test_what_was_measured_is_not_measured_again(
    model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, migraphx="slow", rocm="", cpu="slow")
    assert Network(model).provider == "rocm"
    kept = sorted(path.name for path in (own_cache / "providers").iterdir())
    assert len(kept) == 3
    assert all(f"-{ort.__version__}.json" in name for name in kept)
    assert not [name for name in kept if name.startswith(".")]
    runtime.opened.clear()
    runtime.runs.clear()
    assert Network(model).provider == "rocm"
    assert runtime.opened == ["cpu", "rocm"]  # the slow one is not even opened
    assert len(runtime.runs) < 60  # asked for comparison, not timed


def test_another_runtime_or_model_is_measured_anew(
    model: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, cuda="slow")
    Network(model)
    for change in ("version", "model"):
        runtime.opened.clear()
        if change == "version":
            monkeypatch.setattr(ort, "__version__", "9.9")
            Network(model)
        else:
            Network(write_lstm(tmp_path / "other.onnx", CLASSIC, units=4, seed=1))
        assert runtime.opened == ["cpu", "cuda"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"frame_s": "soon"}', '{"frame_s": -1.0}', '{"frame_s": NaN}']
)
def test_a_damaged_memory_is_none(
    content: str, model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch, cuda="slow")
    Network(model)
    for path in (own_cache / "providers").iterdir():
        told = content.replace("{", f'{{"key": {json.dumps(path.stem)}, ', 1)
        path.write_text(told if content.endswith("}") else content)
    runtime.opened.clear()
    assert Network(model).provider == "cpu"
    assert runtime.opened == ["cpu", "cuda"]


def test_without_a_place_to_remember_it_is_measured_each_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    Runtime(monkeypatch, cuda="", cpu="slow")
    assert Network(model).provider == "cuda"
    assert Network(model).provider == "cuda"


def test_with_the_cpu_alone_nothing_is_searched_or_written(
    model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(monkeypatch)
    for provider in ("auto", "cpu"):
        network = Network(model, provider, background=True)
        assert network.settle(0)
        assert network.provider == "cpu"
    assert runtime.opened == ["cpu", "cpu"]
    assert not own_cache.exists()
