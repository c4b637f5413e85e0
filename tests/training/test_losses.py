from __future__ import annotations

import numpy as np
import pytest

from engine.denoiser import Denoiser
from engine.spec import ModelSpec
from tests.estimators import Steady
from training.losses import SpectralLoss, Weights

N_BINS = 8
ALL = N_BINS + 1  # with the one that stands for all above them


@pytest.fixture
def scene(rng):
    """Clean and noise spectra of 3 clips of 10 frames, and the loss's view of them."""
    shape = (3, 10, ALL)
    clean, noise = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for _ in range(2))
    return clean, spectra(clean + noise, clean)


def spectra(noisy, clean):
    parts = [np.abs(noisy), np.abs(clean), (noisy * clean.conj()).real]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def value(told, gain, **weights):
    loss = SpectralLoss(N_BINS, Weights(**weights))
    return np.asarray(loss(told, np.broadcast_to(np.float32(gain), (*told.shape[:2], N_BINS))))


def test_nothing_is_better_than_passing_clean_speech_through(scene):
    clean, _ = scene
    told = spectra(clean, clean)
    assert (value(told, 1.0) < value(told, 0.9)).all()
    # Nothing compressed is left, and the ratio is at its bound: mean power over 0.01.
    bound_db = 10 * np.log10(np.sum(np.abs(clean) ** 2, axis=-1).mean(axis=-1) / 0.003 + 1)
    np.testing.assert_allclose(value(told, 1.0), -0.15 * bound_db, rtol=1e-3)


def test_noise_alone_is_best_turned_off(rng):
    noise = rng.standard_normal((2, 5, ALL)) + 0j
    told = spectra(noise, 0 * noise)
    found = [value(told, gain).mean() for gain in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert found == sorted(found)


def test_ratio_part_is_the_signal_to_distortion_ratio(scene):
    clean, told = scene
    gain = 0.6
    with_sdr = value(told, gain, sdr=1.0)
    without = value(told, gain, sdr=0.0)
    product, magnitude = told[..., 2 * ALL :], told[..., :ALL]
    distortion = (gain * magnitude) ** 2 + np.abs(clean) ** 2 - 2 * gain * product
    wanted = 10 * np.log10(
        (np.sum(np.abs(clean) ** 2, axis=-1).mean(axis=-1) + 0.003)
        / (np.sum(distortion, axis=-1).mean(axis=-1) + 0.003)
    )
    np.testing.assert_allclose(without - with_sdr, wanted, rtol=1e-3, atol=1e-3)


def test_eaten_speech_costs_more_than_noise_left_over(rng):
    clean = rng.standard_normal((1, 4, ALL)) + 0j
    told = spectra(clean, clean)
    plain = value(told, 0.5, eaten=0.0, sdr=0.0, complex_part=0.0)
    strict = value(told, 0.5, eaten=1.0, sdr=0.0, complex_part=0.0)
    np.testing.assert_allclose(strict, 2 * plain, rtol=1e-5)
    louder = spectra(2 * clean, clean)
    np.testing.assert_allclose(
        value(louder, 1.0, eaten=1.0, sdr=0.0), value(louder, 1.0, eaten=0.0, sdr=0.0), rtol=1e-6
    )


def test_tensorflow_s_numpy_does_where_keras_has_no_operations(scene, monkeypatch):
    """Keras 2.14 comes with a TensorFlow that has the same operations under this name."""
    from tensorflow.experimental import numpy as operations

    import training.losses

    _, told = scene
    wanted = value(told, 0.4)
    monkeypatch.setattr(training.losses, "ops", operations)
    found = value(told, 0.4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_slope_is_finite_where_nothing_is_heard():
    import tensorflow as tf

    told = tf.zeros((1, 3, 3 * ALL))
    gain = tf.Variable(tf.zeros((1, 3, N_BINS)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(SpectralLoss(N_BINS)(told, gain))
    assert np.isfinite(tape.gradient(loss, gain).numpy()).all()


def test_bins_above_follow_as_in_the_engine(rng):
    """A gain that is wrong only where the engine does not look costs nothing above."""
    spec = ModelSpec("held", "1", 11_025, 64, 32, n_bins=16, above="hold")
    gain = rng.random(16).astype(np.float32)
    denoiser = Denoiser(Steady(spec, gain))
    denoiser.process(0.1 * rng.standard_normal(32).astype(np.float32))
    held = denoiser.frame.gain[-1]
    noisy = np.zeros((1, 1, 17))
    noisy[..., -1] = 1.0  # all sound is above, and the target is what the engine makes of it
    told = spectra(noisy + 0j, held * noisy + 0j)
    loss = SpectralLoss(16, Weights(sdr=0.0, complex_part=0.0))
    assert np.asarray(loss(told, gain[np.newaxis, np.newaxis])).item() < 1e-6
    shifted = gain.copy()
    shifted[-1] += 0.1
    assert np.asarray(loss(told, shifted[np.newaxis, np.newaxis])).item() > 1e-4
