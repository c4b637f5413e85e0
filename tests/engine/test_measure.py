"""Delay, likeness and level of recordings, on signals whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from engine.devices import SAMPLE_RATE
from engine.measure import aligned, delay_between, followed, level_dbfs, si_sdr_db, usual_dbfs
from tests.live.continuity import speech_like


@pytest.mark.parametrize("lag", [-700, -1, 0, 1, 480, 3000])
def test_delay_is_found_and_undone(lag: int, rng: np.random.Generator) -> None:
    sound = rng.normal(0, 0.1, 8000).astype(np.float32)
    heard = 0.5 * (np.roll(np.pad(sound, 4000), lag)[4000:-4000] if lag else sound)
    delay, peak = delay_between(sound, heard.astype(np.float32))
    assert delay == lag
    assert peak > 0.999
    first, second = aligned(sound, heard.astype(np.float32), delay)
    assert len(first) == len(second)
    assert second[:1000] == pytest.approx(0.5 * first[:1000], abs=1e-7)


def test_unlike_sounds_do_not_peak(rng: np.random.Generator) -> None:
    one, other = rng.normal(0, 0.1, (2, 8000)).astype(np.float32)
    # The largest of 16,000 chance correlations of 8,000 samples is near 4 / sqrt(8000),
    # more where little overlaps.
    assert abs(delay_between(one, other)[1]) < 0.5
    assert delay_between(one, np.zeros(8000, np.float32))[1] == 0.0


def test_a_delay_that_moves_is_followed(rng: np.random.Generator) -> None:
    """Half a thousandth faster for 3 s, 17 ms lost after 4 s, silence where nobody speaks."""
    n = 6 * SAMPLE_RATE
    said = speech_like(rng, seconds=6.0, top_hz=3000.0)
    said[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] = 0.0
    at = np.arange(n) * 1.0
    at[: 3 * SAMPLE_RATE] *= 1.0005
    at[3 * SAMPLE_RATE :] += at[3 * SAMPLE_RATE - 1] + 1 - 3 * SAMPLE_RATE
    at[4 * SAMPLE_RATE :] += 816
    heard = np.interp(at - 5000, np.arange(n), said, left=0.0, right=0.0).astype(np.float32)
    found = followed(said, heard)
    assert found.shape == said.shape
    assert si_sdr_db(*aligned(said, heard, delay_between(said, heard)[0])) < 0.0
    kept = np.r_[12000 : 4 * SAMPLE_RATE - 16000, 4 * SAMPLE_RATE + 4000 : n - 24000]
    assert si_sdr_db(said[kept], found[kept]) > 15.0


def test_what_is_nowhere_has_one_delay(rng: np.random.Generator) -> None:
    said = rng.normal(0, 0.1, 24000).astype(np.float32)
    assert np.abs(followed(said, np.zeros(24000, np.float32))).max() == 0.0


def test_si_sdr_of_known_noise(rng: np.random.Generator) -> None:
    clean = np.sin(np.arange(8000) * 0.1).astype(np.float32)
    assert si_sdr_db(clean, 3 * clean) > 100
    noise = rng.normal(0, 1, 8000)
    noise -= noise.mean() + np.dot(noise, clean) / np.dot(clean, clean) * clean
    noise *= np.sqrt(np.dot(clean, clean) / np.dot(noise, noise)) / 10
    # Ten times less noise than voice is 20 dB; float32 and the mean cost some thousandths.
    assert si_sdr_db(clean, (clean + noise).astype(np.float32)) == pytest.approx(20, abs=0.05)


def test_silence_has_no_ratio() -> None:
    silence, sound = np.zeros(100, np.float32), np.sin(np.arange(100, dtype=np.float32))
    for pair in ((silence, sound), (sound, silence)):
        with pytest.raises(ValueError, match="silent"):
            si_sdr_db(*pair)
    with pytest.raises(ValueError, match="lengths should be equal, got 100 and 99"):
        si_sdr_db(sound, sound[1:])


def test_level() -> None:
    assert level_dbfs(np.sin(np.arange(48_000) * 0.1).astype(np.float32)) == pytest.approx(
        -3.01, abs=0.01
    )
    assert level_dbfs(np.zeros(10, np.float32)) == -120.0
    assert level_dbfs(np.zeros(0, np.float32)) == -120.0


def test_what_a_busy_worker_let_through_does_not_hide_that_it_cleans(
    rng: np.random.Generator,
) -> None:
    """Half a second of 1.8: 6 dB by means of power, 40 dB where it was cleaned."""
    rain = rng.normal(0, 0.1, round(1.8 * SAMPLE_RATE)).astype(np.float32)
    cleaned = 0.01 * rain
    cleaned[: SAMPLE_RATE // 2] = rain[: SAMPLE_RATE // 2]
    assert level_dbfs(rain) - level_dbfs(cleaned) < 6.0
    assert usual_dbfs(rain) - usual_dbfs(cleaned) == pytest.approx(40.0, abs=0.5)
    assert usual_dbfs(rain[:100]) == -120.0
