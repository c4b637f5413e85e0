from __future__ import annotations

import math

import numpy as np
import pytest

from tests.training.conftest import voice
from training.noises import (
    SYNTHETIC,
    beeps,
    bells,
    calls,
    drifting,
    events,
    resonances,
    siren,
    steady,
    swelling,
    tone,
    wind,
)
from training.signals import fast_length, frequencies_hz, rms_db

RATE = 11_025


@pytest.mark.parametrize("make", SYNTHETIC, ids=lambda make: make.__name__)
def test_synthetic_noises_are_sound(make):
    for seed in range(6):
        n_samples = (5_000, 50_001)[seed % 2]
        made, again = (make(np.random.default_rng(seed), n_samples, RATE) for _ in range(2))
        assert made.shape == (n_samples,)
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert rms_db(made) > -80
        np.testing.assert_array_equal(made, again)


def test_a_tone_has_its_pitch_and_no_more_than_the_rate_holds(rng):
    made = tone(rng, 200.0, RATE, RATE)
    power = np.abs(np.fft.rfft(made)) ** 2  # bins of 1 Hz
    harmonics = power[200::200][:24].sum()
    # The nearest entry of the table: 4096 in a period leave noise 60 dB down.
    assert power.sum() - harmonics < 1e-5 * harmonics


def test_a_tone_follows_its_pitch(rng):
    pitch_hz = np.concatenate([np.full(RATE, 100.0), np.full(RATE, 300.0)]).astype(np.float32)
    made = tone(rng, pitch_hz, 2 * RATE, RATE)
    for part, pitch in ((made[:RATE], 100), (made[RATE:], 300)):
        power = np.abs(np.fft.rfft(part)) ** 2
        assert power[pitch::pitch].sum() > 0.99 * power[20:].sum()


def test_wind_is_low_and_beeps_are_not(rng):
    def share_below(signal, hz):
        power = np.abs(np.fft.rfft(signal)) ** 2
        return power[: round(hz * len(signal) / RATE)].sum() / power.sum()

    for _ in range(5):
        assert share_below(wind(rng, 40_000, RATE), 800.0) > 0.9
        assert share_below(beeps(rng, 40_000, RATE), 200.0) < 0.1


def test_a_drift_is_smooth_and_centred(rng):
    made = drifting(rng, 100 * RATE, RATE, 2.0)
    assert abs(made.mean()) < 0.3  # 200 knots: 4 standard errors
    assert 0.4 < made.std() < 1.1
    assert np.abs(np.diff(made)).max() < 10.0 * 2.0 / RATE  # 6 sigma in half a second


def test_what_is_steady_is_told_from_what_is_not(rng):
    noise = rng.standard_normal(4 * RATE).astype(np.float32)
    assert steady(noise, RATE)
    assert not steady(voice(rng, 4.0, RATE), RATE)
    assert not steady(noise[:100], RATE)
    assert not steady(events(rng, noise, RATE), RATE)


def test_events_are_short_and_the_rest_is_quiet():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        made = events(rng, rng.standard_normal(6 * RATE).astype(np.float32), RATE)
        assert made.any()
        assert np.mean(made == 0.0) > 0.02


def test_events_of_silence_are_silent(rng):
    assert not events(rng, np.zeros(RATE, np.float32), RATE).any()


def test_swelling_moves_the_level_and_keeps_the_sound(rng):
    noise = rng.standard_normal(4 * RATE).astype(np.float32)
    made = swelling(rng, noise, RATE)
    assert not steady(made, RATE) or rms_db(made) != pytest.approx(rms_db(noise), abs=0.01)
    np.testing.assert_array_equal(np.sign(made), np.sign(noise))


def test_resonances_only_add(rng):
    hz = frequencies_hz(4096, RATE)
    np.testing.assert_array_equal(resonances(rng, hz, 0, RATE), 1.0)
    for _ in range(5):
        factors = resonances(rng, hz, 3, RATE)
        assert factors.min() >= 1.0
        assert 1.4 < factors.max() < 7.0**3


def test_frequencies_are_those_of_the_transform():
    n_fft = fast_length(3000)
    assert n_fft == 3072
    np.testing.assert_allclose(
        frequencies_hz(n_fft, RATE), np.fft.rfftfreq(n_fft, 1 / RATE), rtol=1e-6
    )
    assert math.isclose(frequencies_hz(n_fft, RATE)[-1], RATE / 2, rel_tol=1e-6)


def test_calls_glide_within_the_voices_range_and_pause(rng):
    quiet = 0
    for _ in range(10):
        made = calls(rng, 40_000, RATE)
        frames = made[: 40_000 // 200 * 200].reshape(-1, 200)
        level = np.sqrt(np.mean(frames**2, axis=1))
        quiet += int((level < 0.01 * level.max()).sum() > 10)
        power = np.abs(np.fft.rfft(made)) ** 2
        # Mostly where speech is too, or they would be no trial.
        assert (
            power[round(60 * 40_000 / RATE) : round(4000 * 40_000 / RATE)].sum() > 0.5 * power.sum()
        )
    assert quiet >= 5


def test_a_siren_is_a_tone(rng):
    for _ in range(5):
        made = siren(rng, 2 * RATE, RATE)
        frames = made.reshape(-1, RATE // 5)  # a fifth of a second: few pitches in it
        power = np.sort(np.abs(np.fft.rfft(frames * np.hanning(RATE // 5))) ** 2, axis=1)
        loud = power[power.sum(axis=1) > 1e-3 * power.sum(axis=1).max()]
        # A quarter of the bins hold nearly everything; of noise they would hold 60 %.
        quarter = power.shape[1] // 4
        assert np.median(loud[:, -quarter:].sum(axis=1) / loud.sum(axis=1)) > 0.95


def test_bells_are_few_tones_that_start_at_once_and_die_away():
    sudden = 0
    for seed in range(8):
        made = bells(np.random.default_rng(seed), 2 * RATE, RATE)
        power = np.sort(np.abs(np.fft.rfft(made * np.hanning(len(made)))) ** 2)
        assert power[-len(power) // 5 :].sum() > 0.95 * power.sum()
        level = np.mean(made[:22_000].reshape(-1, 220) ** 2, axis=1)  # of every 20 ms
        change_db = np.diff(10.0 * np.log10(level + 1e-4 * level.max()))
        sudden += change_db.max() > -2.0 * change_db.min()
    assert sudden >= 7
