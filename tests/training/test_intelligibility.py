from __future__ import annotations

import numpy as np
import pytest
import soxr
from keras import ops
from pystoi import stoi

from engine.stft import istft
from engine.stft import stft as transform
from tests.training.conftest import powers, real_mixtures
from training.intelligibility import Intelligibility, thirds
from training.settings import CLASSIC, FULLBAND

SPEC, RATE, N = FULLBAND, FULLBAND.sample_rate, FULLBAND.n_bins + 1


@pytest.fixture(scope="module")
def understood():
    return Intelligibility(SPEC)


@pytest.fixture(scope="module")
def heard():
    return real_mixtures(SPEC, snrs_db=(-5.0, 5.0, 15.0), n_frames=600)


def estoi(clean, processed):
    return stoi(*(soxr.resample(s, RATE, 16_000) for s in (clean, processed)), 16_000, True)


def test_clean_speech_is_understood(understood, heard):
    _, clean = powers(heard[1], SPEC)
    assert np.asarray(understood(clean, clean)).min() > 0.95
    # Loudness does not matter: 10 dB less of all, well over what counts as nothing.
    assert np.asarray(understood(np.float32(0.1) * clean, clean)).min() > 0.9


def test_it_follows_estoi(understood, heard):
    mixtures, spectra = heard
    noisy, clean = powers(spectra, SPEC)
    ideal = np.sqrt(np.minimum(1.0, clean / np.maximum(noisy, 1e-12)))
    found, wanted = [], []
    for exponent in (0.0, 0.3, 1.0):
        gain = ideal**exponent
        found += list(np.asarray(understood(gain**2 * noisy, clean)))
        for mixture, g in zip(mixtures, gain, strict=True):
            after = istft(transform(mixture.noisy, SPEC) * g[:, : SPEC.n_bins], SPEC)
            straight = istft(transform(mixture.clean, SPEC), SPEC)
            wanted.append(estoi(straight, after))
    assert np.corrcoef(found, wanted)[0, 1] > 0.97
    np.testing.assert_allclose(found, wanted, atol=0.12)
    assert max(wanted) - min(wanted) > 0.4


def test_clips_without_a_voice_and_short_ones_have_a_number(understood, heard):
    noisy, clean = powers(heard[1], SPEC)
    assert not np.asarray(understood(noisy, 0.0 * clean)).any()
    # Shorter than a segment: one segment.
    speaking = slice(200, 220)
    short = np.asarray(understood(clean[:, speaking], clean[:, speaking]))
    assert short.min() > 0.9


def test_pauses_count_nothing(understood, heard):
    _, clean = powers(heard[1], SPEC)
    wanted = clean[:1, :100].copy()
    wanted[:, 30:60] *= np.float32(1e-6)
    found = wanted.copy()
    found[:, 30:60] = 1.0  # a noise that only pauses have
    assert np.asarray(understood(found, wanted)).item() == pytest.approx(
        np.asarray(understood(wanted, wanted)).item(), abs=1e-4
    )


@pytest.mark.parametrize(("spec", "n_bands"), [(CLASSIC, 12), (FULLBAND, 15)])
def test_thirds_of_an_octave_hear_each_bin_once(spec, n_bands):
    weights = thirds(spec)
    assert weights.shape == (spec.n_bins + 1, n_bands)
    hz = np.arange(spec.n_bins) * spec.sample_rate / spec.n_fft
    middle = (hz > 200.0) & (hz < 1900.0)
    np.testing.assert_allclose(weights[:-1].sum(axis=1)[middle], 1.0, rtol=1e-5)
    assert not weights[-1].any()


def test_slopes_are_finite_where_nothing_is_heard(understood):
    tf = pytest.importorskip("tensorflow")
    for clean in (np.zeros((1, 50, N), np.float32), np.full((1, 50, N), 0.01, np.float32)):
        gain = tf.Variable(np.zeros((1, 50, N), np.float32))
        with tf.GradientTape() as tape:
            loss = ops.sum(understood((gain * clean) ** 2, clean))
        assert np.isfinite(tape.gradient(loss, gain).numpy()).all()
