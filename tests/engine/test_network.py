"""A model file is trusted only after it has been checked; what breaks the contract is named."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from engine.errors import ModelError
from engine.network import MAX_FILE_BYTES, Network, find
from engine.sessions import PROVIDERS, installed_providers
from engine.spec import METADATA_KEY, ModelSpec
from engine.stft import Float
from tests.onnx_models import (
    BROKEN,
    CLASSIC,
    FULLBAND,
    foreign_model,
    infinity_model,
    save,
    square_root_model,
    write_filter,
    write_identity,
    write_listener,
    write_lstm,
    write_silence,
)


def frames(rng: np.random.Generator, spec: ModelSpec, n: int = 50) -> Float:
    return rng.uniform(-100, 0, (n, spec.n_bins)).astype(np.float32)


# What it answers


def test_the_spec_in_the_file_is_the_spec_of_the_network(
    identity: Network, spec: ModelSpec
) -> None:
    assert identity.spec == spec
    assert identity.initial_state() == ()


def test_constant_models_answer_as_they_say(
    tmp_path: Path, spec: ModelSpec, rng: np.random.Generator
) -> None:
    for write, answer in ((write_identity, 1.0), (write_silence, 0.0)):
        network = Network(write(tmp_path / "constant.onnx", spec), provider="cpu")
        estimate = network(frames(rng, spec), ())
        np.testing.assert_array_equal(estimate.gain, np.full((50, spec.n_bins), answer))
        np.testing.assert_array_equal(estimate.speech, np.full(50, answer))


def test_single_frames_and_a_whole_sequence_are_answered_alike(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    noisy_db = frames(rng, spec, 500)
    whole = lstm(noisy_db, lstm.initial_state())
    state = lstm.initial_state()
    for k in range(500):
        one = lstm(noisy_db[k : k + 1], state)
        state = one.state
        # ONNX Runtime sums a sequence in another order than a frame; float32 over the recurrence.
        np.testing.assert_allclose(one.gain[0], whole.gain[k], atol=1e-5)
        assert one.speech[0] == pytest.approx(whole.speech[k], abs=1e-5)
    for one_state, whole_state in zip(state, whole.state, strict=True):
        np.testing.assert_allclose(one_state, whole_state, atol=1e-5)


def test_the_state_matters_and_is_remembered_by_the_caller_alone(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    noisy_db = frames(rng, spec, 1)
    zero = lstm.initial_state()
    assert [part.shape for part in zero] == [(1, 16), (1, 16)]
    assert all(part.dtype == np.float32 and not part.any() for part in zero)
    first = lstm(noisy_db, zero)
    assert all(not part.any() for part in zero)  # what was handed in is not written to
    later = lstm(noisy_db, first.state)
    again = lstm(noisy_db, lstm.initial_state())
    np.testing.assert_array_equal(first.gain, again.gain)
    assert np.abs(first.gain - later.gain).max() > 0.01


@pytest.mark.parametrize("level_db", [-1e30, -200.0, -100.0, 0.0, 80.0, 1e30])
def test_extreme_levels_are_answered_in_range(
    lstm: Network, spec: ModelSpec, level_db: float
) -> None:
    state = lstm.initial_state()
    for _ in range(20):
        estimate = lstm(np.full((1, spec.n_bins), level_db, np.float32), state)
        state = estimate.state
        assert 0.0 <= estimate.gain.min() <= estimate.gain.max() <= 1.0
        assert 0.0 <= estimate.speech[0] <= 1.0
        assert all(np.isfinite(part).all() for part in state)


@pytest.mark.parametrize("build", [square_root_model, infinity_model])
def test_an_answer_that_is_not_finite_is_a_fault(tmp_path: Path, build: Any) -> None:
    """±infinity in equal parts, or NaN, from a model that passed its trial frames."""
    path = tmp_path / "sometimes.onnx"
    least_db, bad_db = (-60.0, -70.0) if build is square_root_model else (-30.0, -10.0)
    network = Network(save(path, build(CLASSIC, least_db), CLASSIC), provider="cpu")
    good, bad = (np.full((1, CLASSIC.n_bins), db, np.float32) for db in (-60.0, bad_db))
    with pytest.raises(ModelError, match=r"sometimes\.onnx: the network answered NaN or infinity"):
        network(bad, ())
    assert 0.0 <= network(good, ()).gain.max() <= 1.0  # and goes on


def test_frames_of_another_width_are_a_model_error(lstm: Network, rng: np.random.Generator) -> None:
    wrong = rng.uniform(-100, 0, (1, 7)).astype(np.float32)
    with pytest.raises(ModelError, match="inference failed"):
        lstm(wrong, lstm.initial_state())


# What is refused


@pytest.mark.parametrize("wrong", BROKEN)
def test_each_break_of_the_contract_is_refused_and_named(wrong: str, tmp_path: Path) -> None:
    message, write = BROKEN[wrong]
    path = write(tmp_path / "broken model.onnx")
    with pytest.raises(ModelError, match=message) as error:
        Network(path)
    assert "broken model.onnx" in str(error.value)
    assert "\n" not in str(error.value)  # one line, fit for a status bar
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"just a note, no model\n" * 100,
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"PK\x03\x04" + bytes(1000),
        bytes(range(256)) * 64,
        b"\xff" * 5000,
    ],
    ids=["empty", "zero", "text", "wav", "zip", "bytes", "ff"],
)
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.onnx: ") as error:
        Network(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read: No such file"):
        Network(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        Network(tmp_path)
    with pytest.raises(ModelError, match="cannot be read: Not a directory"):
        Network(write_identity(tmp_path / "a.onnx", CLASSIC) / "b.onnx")
    with pytest.raises(ModelError, match="null byte"):
        Network("a\0b.onnx")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.onnx")
        with pytest.raises(ModelError, match=r"pipe\.onnx: is not a file"):
            Network(tmp_path / "pipe.onnx")  # reading it would wait for ever


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "locked.onnx", CLASSIC)
    path.chmod(0)
    with pytest.raises(ModelError, match=r"locked\.onnx: cannot be read: Permission denied"):
        Network(path)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room on disk
    with pytest.raises(ModelError, match=rf"large\.onnx: {MAX_FILE_BYTES + 1} bytes is more than"):
        Network(path)


DAMAGE = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from engine.errors import ModelError
from engine.network import Network

good, how = Path(sys.argv[1]), sys.argv[2]
whole = good.read_bytes()
damaged = good.with_name("damaged.onnx")
rng = np.random.default_rng(7)
refused = opened = 0
for turn in range(int(sys.argv[3])):
    content = bytearray(whole)
    if how == "truncated":
        del content[int(rng.integers(0, len(whole))):]
    else:
        # Half of them in the first and last 2 kB, where names, shapes and metadata are.
        at = rng.integers(0, len(whole), size=int(rng.integers(1, 6)))
        if turn % 2:
            at = at % 4096 - 2048
        for k in at:
            content[k] = int(rng.integers(0, 256))
    damaged.write_bytes(content)
    try:
        network = Network(damaged, provider="cpu")
        noisy_db = rng.uniform(-100, 0, (3, network.spec.n_bins)).astype(np.float32)
        estimate = network(noisy_db, network.initial_state())
        assert estimate.gain.shape == (3, network.spec.n_bins)
        assert np.isfinite(estimate.gain).all()
        opened += 1
    except ModelError as error:
        assert "damaged.onnx" in str(error) and "\\n" not in str(error), str(error)
        refused += 1
print(refused, opened)
"""


@pytest.mark.parametrize(("how", "turns"), [("truncated", 150), ("mutated", 500)])
def test_a_damaged_model_is_refused_or_works_but_never_crashes(
    how: str, turns: int, tmp_path: Path
) -> None:
    """In a process of its own, because an abort in ONNX Runtime would take the tests along."""
    good = write_lstm(tmp_path / "good.onnx", CLASSIC, units=4)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DAMAGE, good, how, str(turns)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") == 1, done.stdout  # nothing was printed but our figures
    assert done.stderr == ""
    refused, opened = map(int, done.stdout.split())
    assert refused + opened == turns
    if how == "truncated":
        assert opened == 0  # the metadata comes last, so any missing byte shows
    else:
        assert refused > 50  # damage was done
        assert opened > 50  # and a flipped bit of a weight is not for us to find


# Providers


def test_an_unknown_provider_is_refused_by_name(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "good.onnx", CLASSIC)
    with pytest.raises(ModelError, match=r"provider should be auto or migraphx, .*not 'gpu'"):
        Network(path, provider="gpu")


def test_a_provider_of_another_build_is_refused_with_those_of_this_one(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "good.onnx", CLASSIC)
    missing = [name for name in PROVIDERS if name not in installed_providers()]
    assert missing  # no build has them all
    for name in missing:
        with pytest.raises(ModelError, match=rf"provider {name} is not in .*it has .*cpu"):
            Network(path, provider=name)


def test_auto_keeps_a_provider_that_is_installed(tmp_path: Path) -> None:
    network = Network(write_identity(tmp_path / "good.onnx", CLASSIC))
    assert network.provider in installed_providers()
    assert "cpu" in installed_providers()


@pytest.fixture(autouse=True)
def _nothing_remembered(own_cache: Path) -> None:
    """What a provider cost in another test says nothing of this one."""


class TwoProviders:
    """ONNX Runtime's frontier as a build with CUDA shows it; the sessions are real CPU ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cuda: str) -> None:
        self.opened: list[str] = []
        real = ort.InferenceSession
        seen = self.opened

        class Session:
            def __init__(
                self, content: bytes, options: Any, providers: list[str], enable_fallback: int
            ) -> None:
                (self._asked,) = providers
                assert not enable_fallback  # it would print, and go on with another provider
                seen.append(self._asked)
                if self._is_cuda() and cuda == "does not open":
                    raise RuntimeError("no CUDA-capable device is detected")
                self._real = real(content, options, providers=["CPUExecutionProvider"])

            def _is_cuda(self) -> bool:
                return self._asked == "CUDAExecutionProvider"

            def get_providers(self) -> list[str]:
                if self._is_cuda() and cuda == "falls back":
                    return ["CPUExecutionProvider"]
                return [self._asked, "CPUExecutionProvider"]

            def run(self, names: list[str] | None, feed: dict[str, Float]) -> list[Float]:
                if self._is_cuda() and cuda == "does not run":
                    raise RuntimeError("CUDA failure 700: an illegal memory access")
                turns = 50 if self._is_cuda() == (cuda == "is slow") else 1
                for _ in range(turns - 1):
                    self._real.run(names, feed)
                return self._real.run(names, feed)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        monkeypatch.setattr(ort, "InferenceSession", Session)
        monkeypatch.setattr(
            ort,
            "get_available_providers",
            lambda: ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"],
        )


@pytest.mark.parametrize(
    ("cuda", "kept"),
    [
        ("is fast", "cuda"),
        ("is slow", "cpu"),
        ("does not open", "cpu"),
        ("does not run", "cpu"),
        ("falls back", "cpu"),
    ],
)
def test_auto_keeps_the_fastest_provider_that_works(
    cuda: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    frontier = TwoProviders(monkeypatch, cuda)
    path = write_lstm(tmp_path / "good.onnx", CLASSIC)
    assert installed_providers() == ["cuda", "cpu"]
    network = Network(path)
    assert network.provider == kept
    assert frontier.opened == ["CPUExecutionProvider", "CUDAExecutionProvider"]
    assert network(frames(rng, CLASSIC), network.initial_state()).gain.shape == (50, 250)


@pytest.mark.parametrize(
    ("cuda", "message"),
    [
        ("does not open", "good.onnx: .*no CUDA-capable device"),
        ("does not run", "good.onnx: inference failed: CUDA failure 700"),
        ("falls back", "cuda did not start; ONNX Runtime fell back to CPUExecutionProvider"),
    ],
)
def test_a_provider_asked_for_by_name_has_no_substitute(
    cuda: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = TwoProviders(monkeypatch, cuda)
    with pytest.raises(ModelError, match=message):
        Network(write_lstm(tmp_path / "good.onnx", CLASSIC), provider="cuda")
    assert frontier.opened == ["CUDAExecutionProvider"]


def test_a_foreign_model_is_not_timed_before_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs may be of any type and size; the message must be about the contract."""
    TwoProviders(monkeypatch, "is fast")
    path = save(tmp_path / "foreign.onnx", foreign_model(), None)
    with pytest.raises(ModelError, match=r"foreign\.onnx: has no denoise_app\.spec"):
        Network(path)
    path = save(tmp_path / "foreign.onnx", foreign_model(), CLASSIC)
    with pytest.raises(ModelError, match=r"foreign\.onnx: noisy_db is missing, found tokens"):
        Network(path)


# Finding


def test_a_model_is_found_by_name_or_path(tmp_path: Path) -> None:
    classic = write_identity(tmp_path / "classic.onnx", CLASSIC)
    mine = write_identity(tmp_path / "my own.onnx", CLASSIC)
    assert find("classic", tmp_path) == classic
    assert find(str(mine), tmp_path / "elsewhere") == mine
    for name in ("klassik", "../classic", "classic.onnx/"):
        with pytest.raises(ModelError, match="give a path or one of these names: classic, my own"):
            find(name, tmp_path / ".")
    with pytest.raises(ModelError, match="names: none"):
        find("classic", tmp_path / "empty")


def test_the_lstm_of_the_tests_gives_other_gains_to_other_frames(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    """Were they all alike, no test that uses it could see a frame or a bin out of place."""
    gain = lstm(frames(rng, spec), lstm.initial_state()).gain
    assert np.median(gain.std(axis=0)) > 0.1
    assert gain.std(axis=1).min() > 0.1


def test_a_filter_is_read_as_told(tmp_path: Path) -> None:
    """The taps, newest first; of each the bins; of each the real and the imaginary part."""
    spec = replace(FULLBAND, filter_taps=3, filter_bins=5)
    network = Network(write_filter(tmp_path / "f.onnx", spec), provider="cpu")
    found = network(np.full((4, spec.n_bins), -50.0, np.float32), network.initial_state())
    assert found.filter is not None
    assert found.filter.shape == (4, 3, 5)
    assert found.filter.dtype == np.complex64
    numbers = np.arange(30).reshape(3, 5, 2)
    for frame in found.filter:
        np.testing.assert_array_equal(frame, numbers[..., 0] + 1j * numbers[..., 1])


def test_a_filter_of_another_size_or_none_is_refused(tmp_path: Path) -> None:
    spec = replace(FULLBAND, filter_taps=3, filter_bins=5)
    with pytest.raises(ModelError, match=r"filter should be float32 \(batch, time, 30\)"):
        Network(write_filter(tmp_path / "f.onnx", spec, n=29), provider="cpu")
    with pytest.raises(ModelError, match="filter is missing"):
        Network(write_identity(tmp_path / "g.onnx", spec), provider="cpu")


def test_phases_go_in_by_an_input_of_their_own(tmp_path: Path, rng: np.random.Generator) -> None:
    spec = replace(FULLBAND, n_bins=40, phase_bins=10)
    network = Network(write_listener(tmp_path / "p.onnx", spec), provider="cpu")
    heard = rng.uniform(-1, 1, (6, spec.n_heard)).astype(np.float32)
    found = network(heard, network.initial_state())
    np.testing.assert_allclose(found.gain, 0.5 + 0.5 * heard[:, 40:], atol=1e-6)


def test_phases_by_another_name_or_of_another_size_are_refused(tmp_path: Path) -> None:
    spec = replace(FULLBAND, n_bins=40, phase_bins=10)
    with pytest.raises(ModelError, match="phase is missing"):
        Network(write_listener(tmp_path / "p.onnx", spec, name="phases"), provider="cpu")
    path = write_listener(tmp_path / "q.onnx", spec)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: replace(spec, phase_bins=9).to_json()})
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"phase should be float32 \(batch, time, 36\)"):
        Network(path, provider="cpu")
