from __future__ import annotations

import math

import numpy as np
import pytest

from engine.measure import delay_between, si_sdr_db
from tests.training.conftest import voice
from training import degradations
from training.degradations import (
    CODECS,
    a_law,
    band_limited,
    codec_delay,
    coded,
    mu_law,
    telephone,
    usable_codecs,
    with_lost_packets,
)
from training.signals import low_pass

RATE = 16_000


@pytest.fixture
def pair(rng):
    """A voice in white noise, and the voice: (n_samples,) each."""
    clean = voice(rng, 3.0, RATE)
    return clean + 0.01 * rng.standard_normal(len(clean), np.float32), clean


def power_above(signal, hz):
    power = np.abs(np.fft.rfft(signal)) ** 2
    return power[np.fft.rfftfreq(len(signal), 1 / RATE) > hz].sum() / power.sum()


def test_a_band_limit_takes_the_same_from_both(pair, rng, monkeypatch):
    monkeypatch.setattr(degradations, "BANDS_HZ", (3400.0, 12000.0))
    heard, wanted = pair
    for _ in range(5):
        after = band_limited(rng, heard, wanted, RATE)
        # At 6 kHz the lowest order, 6, is 30 dB down.
        assert power_above(after[0], 6000) < 1e-3 * power_above(heard, 6000)
        # One linear filter on both: what it does to the difference is what it does to each.
        noise = band_limited(np.random.default_rng(1), heard - wanted, wanted, RATE)[0]
        both = band_limited(np.random.default_rng(1), heard, wanted, RATE)
        np.testing.assert_allclose(both[0] - both[1], noise, atol=1e-6)  # float32 rounding
        np.testing.assert_allclose(rms(after[1]), rms(wanted), rtol=0.05)  # the voice is lower


def test_half_of_the_band_limits_are_as_steep_as_changing_rates(rng):
    found = degradations.orders(rng, 1000)
    ratio = np.array([0.0, 1.0, 8_300 / 8_000, 1000.0], np.float32)
    for order in found[:50]:
        response = low_pass(ratio, int(order))
        assert response[0] == 1.0
        assert response[1] == pytest.approx(math.sqrt(0.5), rel=1e-6)
        assert (20.0 * math.log10(response[2]) < -19.0) == (order >= 60)
        assert 0.0 < response[3] < 1e-10
    assert (found >= 60).mean() == pytest.approx(0.5, abs=0.05)


def rms(signal):
    return math.sqrt(np.mean(np.square(signal, dtype=np.float64)))


def test_a_band_that_the_rate_cannot_hold_is_left(pair, rng):
    assert band_limited(rng, *pair, 6_000) == pair


@pytest.mark.parametrize("law", [mu_law, a_law], ids=lambda law: law.__name__)
def test_companding_keeps_its_ratio_at_every_level(law, rng):
    """G.711's purpose: 8 bits sound alike loud and quiet, 37…40 dB over 30 dB of level."""
    sine = np.sin(np.arange(8000) * 0.37).astype(np.float32)
    for level_db in (-2.0, -15.0, -30.0):
        signal = sine * np.float32(10 ** (level_db / 20))
        assert 32 < si_sdr_db(signal, law(signal)) < 42
    assert np.abs(law(np.float32([-2.0, 2.0]))).max() <= 1.0
    np.testing.assert_array_equal(mu_law(np.zeros(4, np.float32)), 0.0)


def test_a_telephone_keeps_the_target_clean_and_narrow(pair, rng):
    heard, wanted = telephone(rng, *pair, RATE)
    assert power_above(heard, 4500) < 1e-3 * power_above(pair[0], 4500)
    assert si_sdr_db(pair[1], wanted) > 45  # nothing of this voice is above the telephone's band
    assert si_sdr_db(wanted, heard) < si_sdr_db(*pair[::-1]) + 10


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: f"{c.encoder}-{c.sample_rate}")
def test_a_codec_is_heard_in_step_with_its_target(codec, rng, monkeypatch):
    if codec not in usable_codecs():
        pytest.skip(f"this FFmpeg has no {codec.encoder}")
    monkeypatch.setattr(degradations, "usable_codecs", lambda: (codec,))
    for rate in (11_025, 16_000):
        clean = 3.0 * voice(rng, 2.0, rate) + 0.02 * rng.standard_normal(2 * rate, np.float32)
        clean = clean.astype(np.float32)
        heard, wanted = coded(rng, clean, clean, rate)
        assert heard.shape == wanted.shape == clean.shape
        assert heard.dtype == wanted.dtype == np.float32
        assert np.isfinite(heard).all()
        delay, likeness = delay_between(wanted, heard)
        # A voice coder keeps no waveform; its own filters turn phases by part of a sample.
        assert abs(delay) <= 1
        assert likeness > 0.6
        assert not np.array_equal(heard, wanted)
        assert delay_between(clean, wanted)[0] == 0


def test_the_delay_of_a_codec_is_that_of_its_design():
    """G.722's two filters of 24 taps delay by 22 samples; MP3 decoders remove theirs."""
    delays = {c.encoder: codec_delay(c) for c in usable_codecs()}
    assert delays["g722"] == 22
    assert delays["libmp3lame"] == 0


def test_coding_is_the_same_again(pair):
    first, second = (coded(np.random.default_rng(5), *pair, RATE)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_silence_survives_every_codec(rng, monkeypatch):
    silence = np.zeros(RATE, np.float32)
    for codec in usable_codecs():
        monkeypatch.setattr(degradations, "usable_codecs", lambda codec=codec: (codec,))
        heard, wanted = coded(rng, silence, silence, RATE)
        assert rms(heard) < 1e-3  # a coder's own idle noise: below −60 dB
        np.testing.assert_array_equal(wanted, 0.0)


def test_a_clip_may_be_shorter_than_a_packet():
    short = np.ones(RATE // 50, np.float32)  # 20 ms of at most 60
    for seed in range(40):
        heard, wanted = with_lost_packets(np.random.default_rng(seed), short, short, RATE)
        assert heard.shape == wanted.shape == short.shape


def test_lost_packets_are_lost_to_both(pair):
    kinds = set()
    for seed in range(12):
        heard, wanted = with_lost_packets(np.random.default_rng(seed), *pair, RATE)
        changed = heard != pair[0]
        assert changed.any()
        silent = (heard == 0.0) & changed
        np.testing.assert_array_equal(wanted[silent], 0.0)
        np.testing.assert_array_equal(wanted[~changed], pair[1][~changed])
        kinds.add(bool(silent.sum() > changed.sum() // 2))
        added = (heard - wanted)[changed & ~silent]
        # Repeated sound carries its noise along: the target is that of the sound before.
        assert rms(added) < 0.02 if len(added) else True
    assert kinds == {True, False}
    assert np.count_nonzero(pair[0] == 0.0) == 0  # the sound handed in was not written to
