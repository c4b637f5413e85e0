"""On a real voice, made worse by known amounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from acquisition.quality import measure

CLIPS = Path(__file__).parents[2] / "app" / "clips"


@pytest.fixture(scope="module")
def voice():
    sound, rate = soundfile.read(CLIPS / "voice.flac", dtype="float32")
    return sound / np.abs(sound).max() * np.float32(0.5), rate


def lowpassed(sound, rate, limit_hz):
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1.0 / rate) > limit_hz] = 0.0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_snr_in_steady_noise(voice, rng, snr_db):
    sound, rate = voice
    frames = np.mean(sound[: len(sound) // 480 * 480].reshape(-1, 480) ** 2, axis=1)
    loud = np.sort(frames)[-len(frames) // 5 :].mean()
    noise = rng.normal(size=len(sound)).astype(np.float32)
    noise *= np.float32(np.sqrt(loud / 10.0 ** (snr_db / 10.0)))
    # The quietest of noisy frames are a little under the mean noise.
    assert measure([sound + noise], rate).snr_db == pytest.approx(snr_db, abs=2.5)


def test_blocks_of_any_length_give_the_same(voice):
    sound, rate = voice
    whole = measure([sound], rate)
    cut = measure(np.split(sound, [1, 17, 500, 501, 9000, 50_000]), rate)
    assert cut == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("limit_hz", [3400.0, 7000.0, 15_000.0])
def test_bandwidth_is_that_of_the_sound_not_of_the_file(voice, rng, limit_hz):
    sound, rate = voice
    hiss = 1e-3 * rng.normal(size=len(sound)).astype(np.float32)
    found = measure([lowpassed(sound + hiss, rate, limit_hz)], rate).bandwidth_hz
    assert found == pytest.approx(limit_hz, abs=250.0)


def test_clipping_is_told_from_loudness(voice):
    sound, rate = voice
    assert measure([sound], rate).clipped < 1e-5
    assert measure([sound * 1.9], rate).clipped < 1e-5
    clipped = np.clip(sound * 4.0, -0.8, 0.8)  # by somebody who turned it down afterwards
    share = np.mean(np.abs(sound * 4.0) >= 0.8)
    assert measure(np.array_split(clipped, 9), rate).clipped == pytest.approx(share, rel=0.2)


def test_silence_is_counted(voice):
    sound, rate = voice
    before = measure([sound], rate).silence
    after = measure([sound, np.zeros(len(sound), np.float32)], rate)
    assert after.silence == pytest.approx((before + 1.0) / 2.0, abs=0.01)
    # An editor's digital silence is not what the room sounds like.
    assert after.snr_db == pytest.approx(measure([sound], rate).snr_db, abs=0.5)
    assert measure([np.zeros(9600, np.float32)], rate) == (-10.0, 0.0, 0.0, 1.0)


def test_too_short_for_a_judgement():
    with pytest.raises(ValueError, match=r"0\.02 s"):
        measure([np.ones(100, np.float32)], 48_000)
