from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from engine.errors import TrainingError
from tests import onnx_models
from tests.training.conftest import voice
from tests.training.kinds import BANDS
from training.batches import make_batch
from training.losses import SpectralLoss, Weights
from training.mixing import Mixture
from training.networks import PRESETS, answers, build
from training.objectives import objective, shares

CLASSIC = replace(onnx_models.CLASSIC, above="hold")
TINY = PRESETS["tiny"]
KINDS = {
    "gain": TINY,
    "bands": BANDS,
    "gain-level": replace(TINY, loss="level"),
    "clean": replace(TINY, output="clean_db", loss="level"),
    "thesis": PRESETS["thesis-tiny"],
}


@pytest.fixture
def batch(rng):
    clips = []
    for snr in (0.3, 0.05):
        clean = voice(rng, 2.0, 11_025)[: 40 * 512]
        noise = snr * 0.1 * rng.standard_normal(len(clean)).astype(np.float32)
        clips.append(Mixture(clean + noise, clean, 0.0))
    return make_batch(clips, CLASSIC, waves=True)


def network(preset, batch):
    keras.utils.set_random_seed(1)
    mean_db, deviation_db = batch.noisy_db.mean(axis=(0, 1)), batch.noisy_db.std(axis=(0, 1))
    return build(preset, mean_db, deviation_db)


def test_a_filter_learns_from_spectra(rng):
    """Two tones through a line that repeats itself a hop later: the filter takes the repeat."""
    preset = replace(BANDS, filter_bins=9, filter_taps=3)
    spec = replace(CLASSIC, filter_bins=9, filter_taps=3)
    clean = voice(rng, 3.0, 11_025)[: 60 * 512]
    heard = clean + 0.8 * np.concatenate([np.zeros(512, np.float32), clean[:-512]])
    batch = make_batch([Mixture(heard, clean, 0.0)], spec)
    aim = objective(preset, spec)
    assert aim.targets(batch)[0].shape == (1, 60, 3 * 251 + 4 * 9)
    model = network(preset, batch)
    model.compile(keras.optimizers.Adam(3e-3), loss=aim.losses, loss_weights=aim.loss_weights)
    found = []
    for _ in range(60):
        model.reset_metrics()
        told = model.train_on_batch(batch.noisy_db, aim.targets(batch))
        found.append(float(np.ravel(told)[0]))
    assert found[-1] < found[0]
    taps = answers(model, batch.noisy_db)[0][..., 250:].reshape(60, 3, 9, 2)
    assert np.abs(taps[:, 1]).max() > 0.01
    assert 0.0 <= aim.accuracy(batch, answers(model, batch.noisy_db)) <= 1.0
    with pytest.raises(TrainingError, match="layout mixed has not"):
        aim.targets(batch._replace(low=None))
    with pytest.raises(TrainingError, match="with loss spectral"):
        objective(replace(preset, loss="level"), spec)


HEARD = {
    "plain": Weights(),
    "si_sdr": Weights(si_sdr=1.0),
    "opinion": Weights(opinion=2.0, background=1.0, p808=1.0),
    "pauses": Weights(pauses=1.0),
    "intelligibility": Weights(intelligibility=10.0),
}


@pytest.mark.parametrize("weights", HEARD.values(), ids=HEARD)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns(kind, weights, batch):
    aim = objective(KINDS[kind], CLASSIC, weights)
    model = network(KINDS[kind], batch)
    model.compile(keras.optimizers.Adam(3e-3), loss=aim.losses, loss_weights=aim.loss_weights)
    found = []
    for _ in range(12):
        model.reset_metrics()
        told = model.train_on_batch(batch.noisy_db, aim.targets(batch))
        found.append(float(np.ravel(told)[0]))
    assert found[-1] < found[0]
    shares_of_frames = {
        aim.accuracy(batch, outputs)
        for outputs in (answers(model, batch.noisy_db), model.predict_on_batch(batch.noisy_db))
    }
    assert len(shares_of_frames) == 1  # Keras gives a single output without a list
    assert 0.0 <= shares_of_frames.pop() <= 1.0


def test_a_gain_network_learns_what_it_always_did(batch):
    aim = objective("classic", CLASSIC)
    loss, told = aim.losses
    assert isinstance(loss, SpectralLoss)
    assert (loss.n_bins, loss.weights) == (250, Weights())
    assert (told, aim.loss_weights, aim.waves) == ("binary_crossentropy", [1.0, 0.2], False)
    spectra, speech = aim.targets(batch)
    assert spectra is batch.spectra
    assert speech is batch.speech


def test_batches_without_waves_cannot_teach_si_sdr(batch):
    aim = objective("tiny", CLASSIC, Weights(si_sdr=0.1))
    assert aim.waves
    with pytest.raises(TrainingError, match="need batches with waves"):
        aim.targets(batch._replace(waves=None))


def test_accuracy_is_of_the_loudest_bin_of_each_frame(batch):
    loudest = np.argmax(batch.clean_db, axis=-1)
    perfect = np.eye(250, dtype=np.float32)[loudest]
    half = perfect.copy()
    half[1] = np.roll(half[1], 1, axis=-1)
    for preset in ("thesis-tiny", "tiny"):  # a gain of 0 is no bin's maximum
        aim = objective(preset, CLASSIC)
        assert aim.accuracy(batch, [perfect]) == 1.0
        assert aim.accuracy(batch, [half]) == 0.5
    untouched = objective("tiny", CLASSIC).accuracy(batch, [np.ones_like(perfect)])
    assert untouched == np.mean(np.argmax(batch.noisy_db, axis=-1) == loudest)
    levels = objective("thesis-multi-linear", CLASSIC)
    assert levels.accuracy(batch, [batch.clean_db]) == 1.0


def test_shares_span_a_clip_and_keep_its_order(batch):
    told = shares(batch.clean_db)
    np.testing.assert_array_equal(told.min(axis=(1, 2)), 0.0)
    np.testing.assert_array_equal(told.max(axis=(1, 2)), 1.0)
    np.testing.assert_array_equal(np.argmax(told, axis=-1), np.argmax(batch.clean_db, axis=-1))
    assert not shares(np.full((1, 2, 3), -100.0, np.float32)).any()


def test_a_wanted_gain_is_told_in_db_and_silence_is_deep_enough(batch):
    deep = batch._replace(clean_db=batch.clean_db - np.float32(10.0))
    wanted, _ = objective(KINDS["gain-level"], CLASSIC).targets(deep)
    assert wanted.min() == -60.0
    assert objective(KINDS["gain-level"], CLASSIC).targets(batch)[0].max() == 0.0
    between = (wanted > -60.0) & (wanted < 0.0)
    difference = deep.clean_db - batch.noisy_db
    np.testing.assert_array_equal(wanted[between], difference[between])


def test_a_name_that_is_no_preset_is_told():
    with pytest.raises(TrainingError, match="classic-running"):
        objective("clasic", CLASSIC)
