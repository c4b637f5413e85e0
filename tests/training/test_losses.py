from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.denoiser import Denoiser
from engine.errors import TrainingError
from engine.measure import si_sdr_db
from engine.spec import ModelSpec
from engine.stft import istft, stft
from tests.estimators import Filtering, Steady
from tests.training.conftest import voice
from training.batches import make_batch
from training.losses import (
    LevelLoss,
    SpectralLoss,
    WaveLoss,
    Weights,
    left_in_pauses_db,
    ratio_db,
    spectral_loss,
)
from training.mixing import Mixture
from training.settings import FULLBAND

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
    np.testing.assert_allclose(value(told, 1.0), -0.25 * bound_db, rtol=1e-3)


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


def test_a_filter_of_the_newest_frame_is_no_filter(scene, rng):
    clean, told = scene
    low = np.concatenate(
        [rng.standard_normal((3, 10, 8)), clean.real[..., :4], clean.imag[..., :4]], -1
    )
    gain = rng.uniform(0.1, 1.0, (3, 10, N_BINS)).astype(np.float32)
    wanted = SpectralLoss(N_BINS)(told, gain)
    noisy = told[..., :4] * np.exp(1j * rng.uniform(0, 6, (3, 10, 4)))
    product = told[..., 2 * ALL : 2 * ALL + 4]
    # Only the product with the clean spectrum is told: a noisy phase that has it.
    angle = np.arccos(product / (np.abs(noisy) * np.abs(clean[..., :4])))
    noisy = np.abs(noisy) * np.exp(1j * (np.angle(clean[..., :4]) + angle))
    low[..., :4], low[..., 4:8] = noisy.real, noisy.imag
    taps = np.zeros((3, 10, 3, 4, 2))
    taps[..., 0, :, 0] = 1.0
    answer = np.concatenate([gain, taps.reshape(3, 10, -1)], -1).astype(np.float32)
    both = np.concatenate([told, low.astype(np.float32)], -1)
    found = SpectralLoss(N_BINS, filtered=(4, 3))(both, answer)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_loss_filters_as_the_engine_does(rng):
    """The taps that make the noisy sound of the clean one cost nothing, others do."""
    spec = replace(FULLBAND, n_bins=481, filter_bins=20, filter_taps=3)
    clean = voice(rng, 2.0, 48_000)[: 100 * 480]
    n = spec.filter_bins
    taps = rng.standard_normal((3, n)) + 1j * rng.standard_normal((3, n))
    denoiser = Denoiser(Filtering(spec, taps))
    for hop in clean.reshape(-1, 480):
        denoiser.process(hop)
    made = denoiser._past  # the newest frame first
    spectra_of_clean = stft(clean, spec)
    np.testing.assert_allclose(made, spectra_of_clean[:-4:-1, :n], atol=1e-4)
    heard = stft(clean, spec)[np.newaxis, :, :n]
    wanted = sum(
        taps[k] * np.concatenate([np.zeros((1, k, n)), heard[:, : 100 - k]], 1) for k in range(3)
    )
    low = np.concatenate([heard.real, heard.imag, wanted.real, wanted.imag], -1)
    flat = np.stack([taps.real, taps.imag], -1).ravel()
    loss = SpectralLoss(spec.n_bins, filtered=(n, 3))
    magnitude, product = loss._filtered(
        low.astype(np.float32),
        np.broadcast_to(flat.astype(np.float32), (1, 100, 6 * n)),
        np.float32(1.0),
    )
    np.testing.assert_allclose(magnitude, np.abs(wanted), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(product, np.abs(wanted) ** 2, rtol=1e-3, atol=1e-3)


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


def test_what_is_left_in_pauses_counts_in_db():
    clean, noise = np.ones((1, 4, 10), np.float32), np.full((1, 4, 10), 0.01, np.float32)
    clean[:, 2:] = 1e-8  # half of the time nobody speaks: 90 dB down
    loud = float(left_in_pauses_db(clean + noise, clean)[0])
    softer = float(left_in_pauses_db(clean + 0.01 * noise, clean)[0])
    assert loud - softer == pytest.approx(0.5 * 20.0, abs=0.05)
    # No more than silent, nothing where the clean sound itself is, nothing under a voice.
    assert float(left_in_pauses_db(0.0 * noise, clean)[0]) == 0.0
    assert float(left_in_pauses_db(clean, clean)[0]) == 0.0
    assert float(left_in_pauses_db(clean + noise, 1.0 + 0.0 * clean)[0]) == 0.0


def test_pauses_cost_their_share_of_the_loss(scene):
    clean, _ = scene
    clean = clean * np.array([1.0, 1e-6])[np.arange(10) // 5][None, :, None]
    told = spectra(clean + 0.1, clean)
    excess_db = left_in_pauses_db(told[..., :ALL] ** 2, told[..., ALL : 2 * ALL] ** 2)
    found = value(told, 1.0, pauses=0.5) - value(told, 1.0)
    assert np.min(excess_db) > 10.0
    np.testing.assert_allclose(found, 0.5 * np.asarray(excess_db), rtol=1e-3)


def test_tensorflow_s_numpy_does_where_keras_has_no_operations(scene, monkeypatch):
    """Keras 2.14 comes with a TensorFlow that has the same operations under this name."""
    from tensorflow.experimental import numpy as operations

    import training.losses

    _, told = scene
    wanted = value(told, 0.4, pauses=1.0)
    monkeypatch.setattr(training.losses, "ops", operations)
    found = value(told, 0.4, pauses=1.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_slope_is_finite_where_nothing_is_heard():
    import tensorflow as tf

    told = tf.zeros((1, 3, 3 * ALL))
    gain = tf.Variable(tf.zeros((1, 3, N_BINS)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(SpectralLoss(N_BINS, Weights(pauses=1.0))(told, gain))
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


SMALL = ModelSpec("small", "1", 11_025, 128, 32, n_bins=40, above="hold")


@pytest.fixture(params=["hold", "zero"])
def heard(request, rng):
    """A setting, a clip as a batch with waves, its spectrum, clean sound and some gains."""
    spec = ModelSpec("small", "1", 11_025, 128, 32, n_bins=40, above=request.param)
    clean = voice(rng, 1.0, 11_025)[: 300 * 32]
    noisy = clean + 0.02 * rng.standard_normal(len(clean)).astype(np.float32)
    batch = make_batch([Mixture(noisy, clean, 0.0)], spec, waves=True)
    gain = rng.uniform(0.0, 1.0, (1, 300, 40)).astype(np.float32)
    return spec, batch, stft(noisy, spec), stft(clean, spec), gain


def ratio_of(loss, waves, gain):
    return ratio_db(loss.sound(waves, gain), waves[..., -loss.spec.hop :])


def test_si_sdr_is_of_the_sound_that_the_engine_gives(heard):
    spec, batch, noisy, clean, gain = heard
    found = np.asarray(ratio_of(WaveLoss(spec), batch.waves, gain)).item()
    above = 0.0 if spec.above == "zero" else gain[0, :, -5:].mean(axis=-1, keepdims=True)
    steered = np.concatenate([gain[0], np.broadcast_to(above, (300, 25))], axis=-1)
    wanted = clean if spec.above == "hold" else clean * (np.arange(65) < 40)
    clean_sound = istft(wanted, spec)
    found_sound = istft((noisy * steered).astype(np.complex64), spec)
    # As the measure has it, but for the means, which are no sound, and the bound of 30 dB.
    unit = batch.waves[0, :, -spec.hop :].std() / clean_sound.std()
    clean_sound, found_sound = unit * clean_sound, unit * found_sound
    told = (clean_sound @ found_sound) / (clean_sound @ clean_sound) * clean_sound
    power, error = np.mean(told**2), np.mean((found_sound - told) ** 2)
    assert found == pytest.approx(10 * np.log10((power + 1e-3) / (error + 1e-3)), abs=1e-3)
    assert found == pytest.approx(si_sdr_db(clean_sound, found_sound), abs=0.3)


def test_wave_loss_adds_the_ratio_to_the_spectral_loss(heard):
    spec, batch, _, _, gain = heard
    told = np.concatenate([batch.spectra, batch.waves], axis=-1)
    loss = WaveLoss(spec, Weights(si_sdr=0.5))
    wanted = np.asarray(spectral_loss(spec)(batch.spectra, gain))
    wanted = wanted - 0.5 * np.asarray(ratio_of(loss, batch.waves, gain))
    np.testing.assert_allclose(np.asarray(loss(told, gain)), wanted, rtol=1e-5)


def test_si_sdr_is_bounded_and_has_a_slope_where_nothing_is_heard():
    import tensorflow as tf

    waves = tf.zeros((1, 9, 2 * 65 + 32))
    gain = tf.Variable(tf.zeros((1, 9, 40)))
    with tf.GradientTape() as tape:
        found_db = ratio_of(WaveLoss(SMALL), waves, gain)
    assert found_db.numpy().item() == pytest.approx(0.0)
    assert np.isfinite(tape.gradient(found_db, gain).numpy()).all()


def test_waves_in_tensorflow_s_numpy(heard, monkeypatch):
    from tensorflow.experimental import numpy as operations

    import training.losses

    spec, batch, _, _, gain = heard
    wanted = np.asarray(ratio_of(WaveLoss(spec), batch.waves, gain))
    monkeypatch.setattr(training.losses, "ops", operations)
    found = np.asarray(ratio_of(WaveLoss(spec), batch.waves, gain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_filtered_samples_are_those_that_the_engine_gives(rng):
    spec = replace(FULLBAND, n_bins=481, filter_bins=7, filter_taps=3)
    clean = voice(rng, 1.0, 48_000)[: 80 * 480]
    noisy = clean + 0.02 * rng.standard_normal(len(clean)).astype(np.float32)
    batch = make_batch([Mixture(noisy, clean, 0.0)], spec, waves=True)
    gain = rng.uniform(0.0, 1.0, (1, 80, 481)).astype(np.float32)
    taps = rng.standard_normal((1, 80, 2 * 3 * 7)).astype(np.float32)
    told = np.concatenate([batch.spectra, batch.low, batch.waves], axis=-1)
    loss = WaveLoss(spec, Weights(si_sdr=1.0), (7, 3))
    found = np.asarray(loss.sound(told, np.concatenate([gain, taps], axis=-1))).ravel()
    spectrum = stft(noisy, spec)
    filters = taps[0].reshape(80, 3, 7, 2)
    low = np.zeros((80, 7), np.complex64)
    for k in range(3):
        low[k:] += (filters[k:, k, :, 0] + 1j * filters[k:, k, :, 1]) * spectrum[: 80 - k, :7]
    spectrum[:, :7] = low
    wanted = istft((spectrum * gain[0]).astype(np.complex64), spec)
    scale = batch.waves[0, :, -480:].std() / istft(stft(clean, spec), spec).std()
    np.testing.assert_allclose(found, scale * wanted, atol=1e-4 * np.abs(found).max())


def test_a_hop_that_does_not_divide_the_frame_is_told():
    with pytest.raises(TrainingError, match="found 40 and 128"):
        WaveLoss(ModelSpec("odd", "1", 11_025, 128, 40, n_bins=40))


def test_level_loss_counts_20_db_as_one(rng):
    wanted_db = rng.uniform(-60.0, 0.0, (2, 5, N_BINS)).astype(np.float32)
    found = np.asarray(LevelLoss()(wanted_db, wanted_db + 20.0))
    np.testing.assert_allclose(found, [1.0, 1.0], rtol=1e-5)
    gain = 10.0 ** (wanted_db / 20.0)
    # Of 2.302585 the seventh digit is rounded.
    np.testing.assert_allclose(np.asarray(LevelLoss(of_gain=True)(wanted_db, gain)), 0, atol=1e-9)
    halved = np.asarray(LevelLoss(of_gain=True)(np.maximum(wanted_db, -50.0), gain / 2))
    assert (halved > (6.0 / 20.0) ** 2 * 0.5).all()
