"""Columns are means of frames, however many frames there are, and become a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.picture import SpectrogramCollector, draw
from engine.denoiser import Frame
from engine.spec import ModelSpec
from engine.stft import Float
from tests import onnx_models

SPEC = onnx_models.CLASSIC


def frames(n_frames: int, spec: ModelSpec = SPEC, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    levels_db = rng.uniform(-90, 0, (n_frames, spec.n_spectrum)).astype(np.float32)
    gains = rng.uniform(0, 1, (n_frames, spec.n_spectrum)).astype(np.float32)
    return [Frame(db, gain, 1.0) for db, gain in zip(levels_db, gains, strict=True)]


def power(level_db: Float) -> Float:
    return 10 ** (level_db / 10)


def test_few_frames_are_shown_as_they_are() -> None:
    heard = frames(5)
    collector = SpectrogramCollector(SPEC)
    watch = collector.channel()
    for frame in heard:
        watch(frame)
    noisy_db, clean_db, gain = collector.columns()
    assert collector.column_s == SPEC.hop_s
    for k, frame in enumerate(heard):
        # There and back between dB and power in float32.
        np.testing.assert_allclose(noisy_db[k], frame.noisy_db, atol=1e-3)
        np.testing.assert_allclose(gain[k], frame.gain, atol=1e-6)
        expected_db = frame.noisy_db + 20 * np.log10(np.maximum(frame.gain, 1e-9))
        np.testing.assert_allclose(clean_db[k], np.maximum(expected_db, SPEC.floor_db), atol=1e-3)


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 16, 17, 1000])
def test_many_frames_are_averaged_into_few_columns(n_frames: int) -> None:
    heard = frames(n_frames)
    collector = SpectrogramCollector(SPEC, max_columns=8)
    watch = collector.channel()
    for frame in heard:
        watch(frame)
    noisy_db, _, gain = collector.columns()
    step = collector.frames_per_column
    assert step == 2 ** max(0, int(np.ceil(np.log2(n_frames / 8))))  # no coarser than it must
    assert len(noisy_db) == -(-n_frames // step) <= 8
    for column in range(len(noisy_db)):
        part = heard[column * step : (column + 1) * step]
        mean_power = np.mean([power(frame.noisy_db) for frame in part], axis=0)
        # Sums of up to 128 float32 numbers keep five digits.
        np.testing.assert_allclose(power(noisy_db[column]), mean_power, rtol=1e-4)
        np.testing.assert_allclose(
            gain[column], np.mean([frame.gain for frame in part], axis=0), rtol=1e-4
        )


def test_channels_are_averaged_even_if_one_is_ahead() -> None:
    left, right = frames(40, seed=1), frames(40, seed=2)
    collector = SpectrogramCollector(SPEC, max_columns=8)
    watch_left, watch_right = collector.channel(), collector.channel()
    for frame in left:
        watch_left(frame)
    for frame in right:
        watch_right(frame)
    noisy_db, _, _ = collector.columns()
    mean_power = np.mean([power(frame.noisy_db) for frame in left[:8] + right[:8]], axis=0)
    assert collector.frames_per_column == 8
    np.testing.assert_allclose(power(noisy_db[0]), mean_power, rtol=1e-4)  # as above


def test_columns_must_pair() -> None:
    with pytest.raises(ValueError, match="even and positive, got 7"):
        SpectrogramCollector(SPEC, max_columns=7)


def pixels(path: Path) -> Float:
    from matplotlib.image import imread

    return imread(path)[:, :, :3]


@pytest.mark.parametrize("n_frames", [0, 1, 500])
@pytest.mark.parametrize("seconds", [0.01, 20.0, 4000.0])
def test_any_length_can_be_drawn(tmp_path: Path, n_frames: int, seconds: float) -> None:
    collector = SpectrogramCollector(SPEC)
    watch = collector.channel()
    for frame in frames(n_frames):
        watch(frame)
    draw(tmp_path / "out.png", collector, seconds, r"A name_with $\frac$ and <marks>")
    assert pixels(tmp_path / "out.png").shape == (1125, 1500, 3)


def test_what_is_louder_is_brighter_and_clean_is_drawn_below(tmp_path: Path) -> None:
    """A tone in the first half of the time and the lower half of the band, half of it removed."""
    collector = SpectrogramCollector(SPEC)
    watch = collector.channel()
    for k in range(200):
        level_db = np.full(SPEC.n_spectrum, -95.0, np.float32)
        gain = np.ones(SPEC.n_spectrum, np.float32)
        if k < 100:
            level_db[: SPEC.n_spectrum // 2] = -10.0
            gain[: SPEC.n_spectrum // 4] = 0.0001
        watch(Frame(level_db, gain, 1.0))
    draw(tmp_path / "out.png", collector, 200 * SPEC.hop_s, "half")
    brightness = pixels(tmp_path / "out.png").mean(axis=2)[:, 100:1350]
    # Rows of pixels within each panel, from the top: their upper half, and the two lower quarters.
    noisy, clean = brightness[60:360], brightness[415:715]
    for panel, removed in ((noisy, False), (clean, True)):
        upper, middle, lowest = panel[20:130], panel[170:210], panel[240:290]
        assert upper[:, :550].mean() < 0.1
        assert middle[:, :550].mean() > 0.5
        assert (lowest[:, :550].mean() < 0.2) == removed
        assert panel[:, 700:].mean() < 0.1
