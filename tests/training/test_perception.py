from __future__ import annotations

import numpy as np
import pytest
import soxr
from keras import ops
from pesq import pesq

from engine.stft import istft, stft
from tests.training.conftest import powers, real_mixtures
from training.perception import Disturbance, bands
from training.settings import CLASSIC, FULLBAND

RATE, N = CLASSIC.sample_rate, CLASSIC.n_bins + 1


@pytest.fixture(scope="module")
def disturbance():
    return Disturbance(CLASSIC)


@pytest.fixture(scope="module")
def heard():
    return real_mixtures(CLASSIC, snrs_db=(0.0, 15.0), n_frames=192)


def at_8k(sound):
    return soxr.resample(sound, RATE, 8000)


def test_clean_speech_disturbs_nobody(disturbance, heard):
    _, clean = powers(heard[1], CLASSIC)
    # A root of 1e-6 keeps the slope finite: 0.1 · 17 Bark · 0.001 and the asymmetric part.
    assert np.asarray(disturbance(clean, clean)).max() < 0.01


def test_it_falls_as_pesq_rises(disturbance, heard):
    mixtures, spectra = heard
    noisy, clean = powers(spectra, CLASSIC)
    ideal = np.sqrt(np.minimum(1.0, clean / np.maximum(noisy, 1e-12)))[..., : CLASSIC.n_bins]
    found, scores = [], []
    for exponent in (0.0, 0.5, 1.0):
        gain = ideal**exponent
        above = gain[..., -(CLASSIC.n_bins // 8) :].mean(axis=-1, keepdims=True)
        followed = np.concatenate([gain, above], axis=-1)
        found += list(np.asarray(disturbance(followed**2 * noisy, clean)))
        rest = np.repeat(above, CLASSIC.n_spectrum - CLASSIC.n_bins, axis=-1)
        steered = np.concatenate([gain, rest], axis=-1)
        for mixture, g in zip(mixtures, steered, strict=True):
            after = istft(stft(mixture.noisy, CLASSIC) * g, CLASSIC)
            straight = istft(stft(mixture.clean, CLASSIC), CLASSIC)
            scores.append(
                pesq(8000, *(soxr.resample(s, RATE, 8000) for s in (straight, after)), "nb")
            )
    assert np.corrcoef(found, scores)[0, 1] < -0.85
    assert max(scores) - min(scores) > 1.0


def test_what_is_added_disturbs_more_than_what_is_lost(disturbance, heard):
    _, clean = powers(heard[1], CLASSIC)
    factor = np.float32(10.0)  # 10 dB in every third bin, so that no overall level is forgiven
    third = np.where(np.arange(N) % 60 < 20, factor, np.float32(1.0))
    added, lost = disturbance(clean * third, clean), disturbance(clean / third, clean)
    assert (np.asarray(added) > np.asarray(lost)).all()


@pytest.mark.parametrize(
    ("spec", "n_bands", "heard_hz", "deaf_hz"),
    [(CLASSIC, 42, (700, 3200), (60, 4100)), (FULLBAND, 52, (300, 7800), (20, 8200))],
    ids=["classic", "fullband"],
)
def test_bands_hear_each_bin_of_their_range_once(spec, n_bands, heard_hz, deaf_hz):
    weights, bark = bands(spec)
    hz = np.arange(spec.n_bins) * spec.sample_rate / spec.n_fft
    each = weights[:-1].sum(axis=1)
    middle = (hz > heard_hz[0]) & (hz < heard_hz[1])
    # No bin of the middle is lost between bands or counted twice.
    np.testing.assert_allclose(each[middle], each[middle].max(), rtol=1e-3)
    assert each[hz < deaf_hz[0]].max() < 1e-2 * each.max()
    assert each[hz > deaf_hz[1]].sum() == 0.0
    assert len(bark) == n_bands


def test_slopes_are_finite_where_nothing_is_heard(disturbance):
    tf = pytest.importorskip("tensorflow")
    silent = np.zeros((1, 14, N), np.float32)
    gain = tf.Variable(np.zeros((1, 14, N), np.float32))
    with tf.GradientTape() as tape:
        loss = ops.sum(disturbance((gain * silent) ** 2, silent))
    assert np.isfinite(tape.gradient(loss, gain).numpy()).all()
