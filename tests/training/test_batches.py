from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from engine.stft import heard, istft, stft, to_db, window
from tests.training.conftest import voice
from training.batches import Batches, batch_of, in_advance, make_batch, statistics
from training.mixing import Mixer, Mixture
from training.recordings import Collection, Recording
from training.settings import CLASSIC


@pytest.fixture
def mixer(rng):
    sounds = [voice(rng, 3.0, 11_025) * 50_000 for _ in range(3)]
    speech = tuple(Recording(f"{k}", f"{k}", s.astype(np.int16)) for k, s in enumerate(sounds))
    hiss = (3_000 * rng.standard_normal(30_000)).astype(np.int16)
    noise = (Recording("hiss", "hiss", hiss),)
    return Mixer(Collection(11_025, speech, ()), Collection(11_025, noise, ()))


def test_batch_k_is_the_same_whatever_came_before(mixer):
    batches = Batches(mixer, CLASSIC, 2, 20, seed=3)
    wanted = [batches[k] for k in (20, 4, 21, 5)]
    supply = batches.ahead(40)
    for batch in wanted:
        for ours, theirs in zip(batch, next(supply), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    supply.close()
    other = Batches(mixer, CLASSIC, 2, 20, seed=4)
    assert not np.array_equal(other[20].noisy_db, wanted[0].noisy_db)


def test_an_error_in_the_supply_is_raised_to_the_learner(mixer, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(mixer, "draw", fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        next(Batches(mixer, CLASSIC, 2, 20, seed=3).ahead(0))


def test_who_stops_asking_does_not_wait_for_an_error_to_be_taken():
    failed = threading.Event()

    def batches():
        yield from "abc"  # one is taken, two fill the queue
        failed.set()
        raise RuntimeError("disk on fire")

    supply = in_advance(batches(), depth=2)
    assert next(supply) == "a"
    assert failed.wait(10.0)
    closing = threading.Thread(target=supply.close, daemon=True)
    closing.start()
    closing.join(10.0)
    assert not closing.is_alive()


def test_the_network_reads_what_the_engine_will_show_it(mixer, rng):
    mixture = mixer.draw(rng, 20 * 512)
    wanted = to_db(stft(mixture.noisy, CLASSIC), CLASSIC)[:, :250]
    np.testing.assert_array_equal(make_batch([mixture], CLASSIC).heard[0], wanted)
    spec = replace(CLASSIC, phase_bins=60)
    spectra = stft(mixture.noisy, spec)
    told = make_batch([mixture], spec).heard[0]
    np.testing.assert_array_equal(told, heard(to_db(spectra, spec), spectra, spec))


def test_targets_do_not_depend_on_the_level(rng):
    clean = voice(rng, 2.0, 11_025)[: 40 * 512]
    noisy = clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32)
    quiet = np.float32(0.01)
    loud, soft = (
        make_batch([Mixture(g * noisy, g * clean, 10.0)], CLASSIC) for g in (np.float32(1), quiet)
    )
    np.testing.assert_allclose(soft.spectra, loud.spectra, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(soft.speech, loud.speech)


def test_spectra_are_of_noisy_clean_and_their_product(rng):
    clean = voice(rng, 2.0, 11_025)[: 40 * 512]
    batch = make_batch([Mixture(clean, clean, math.inf)], CLASSIC)
    noisy, told, product = np.split(batch.spectra, 3, axis=-1)
    assert noisy.shape == (1, 40, 251)
    np.testing.assert_array_equal(noisy, told)
    # Two roundings to float32 apart.
    np.testing.assert_allclose(product, noisy**2, rtol=1e-5, atol=1e-9)


def test_voice_is_told_from_pauses(rng):
    pause, sound = np.zeros(20 * 512, np.float32), voice(rng, 2.0, 11_025)[: 20 * 512]
    hiss = 0.01 * rng.standard_normal(40 * 512).astype(np.float32)
    clean = np.concatenate([pause, sound])
    batch = make_batch([Mixture(clean + hiss, clean, 0.0)], CLASSIC)
    assert not batch.speech[0, :20].any()
    assert batch.speech[0, 20:].mean() > 0.5
    alone = make_batch([Mixture(hiss, np.zeros_like(hiss), -math.inf)], CLASSIC)
    assert not alone.speech.any()
    assert np.isfinite(alone.spectra).all()


def test_statistics_are_of_each_bin(mixer):
    batches = Batches(mixer, CLASSIC, 3, 20, seed=1)
    mean_db, deviation_db = statistics(batches, 2)
    frames = np.concatenate([batches[k].noisy_db.reshape(-1, 250) for k in (0, 1)])
    np.testing.assert_allclose(mean_db, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(deviation_db, frames.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("echo", [1, 2, 4])
def test_every_batch_is_seen_so_often_some_updates_apart(echo):
    seen = [batch_of(step, echo) for step in range(400 * echo)]
    for k in range(1, 300):
        steps = [step for step, batch in enumerate(seen) if batch == k]
        assert len(steps) == echo
        assert all(later - earlier > 15 * echo for earlier, later in pairwise(steps))


def test_an_echo_is_the_very_batch(mixer, monkeypatch):
    batches = Batches(mixer, CLASSIC, 2, 20, seed=3, echo=3)
    supply = batches.ahead(0)
    served = [next(supply) for _ in range(120)]
    supply.close()
    made = []
    monkeypatch.setattr(mixer, "draw", lambda *a, draw=mixer.draw: made.append(1) or draw(*a))
    for step in (0, 97, 98, 119):
        wanted = batches[batch_of(step, 3)].noisy_db
        np.testing.assert_array_equal(served[step].noisy_db, wanted)
    # Of 40 batches each was mixed once.
    made.clear()
    supply = batches.ahead(0)
    for _ in range(120):
        next(supply)
    supply.close()
    assert 2 * 40 <= len(made) <= 2 * (40 + 5)


def test_the_bins_above_count_as_one_or_not_at_all(rng):
    hiss = rng.standard_normal(20 * 512).astype(np.float32)
    held = make_batch([Mixture(hiss, hiss, math.inf)], CLASSIC)
    silenced = make_batch([Mixture(hiss, hiss, math.inf)], replace(CLASSIC, above="zero"))
    np.testing.assert_array_equal(held.spectra[..., :250], silenced.spectra[..., :250])
    assert not silenced.spectra[..., 250::251].any()
    # White noise: 263 bins above, 250 below.
    power = np.square(held.spectra[..., :251]).mean(axis=(0, 1))
    assert power[250] / power[20:250].sum() == pytest.approx(263 / 230, rel=0.1)


def test_a_silent_clip_is_silence_to_the_loss():
    silence = np.zeros(20 * CLASSIC.hop, np.float32)
    batch = make_batch([Mixture(silence, silence, math.inf)], CLASSIC)
    np.testing.assert_allclose(batch.noisy_db, CLASSIC.floor_db, atol=1e-4)  # float32's logarithm
    assert not batch.spectra.any()
    assert not batch.speech.any()


def test_clean_levels_are_the_engine_s_view_of_the_clean_speech(mixer, rng):
    mixture = mixer.draw(rng, 20 * 512)
    wanted = to_db(stft(mixture.clean, CLASSIC), CLASSIC)[:, :250]
    np.testing.assert_array_equal(make_batch([mixture], CLASSIC).clean_db[0], wanted)


@pytest.mark.parametrize("above", ["hold", "zero"])
def test_waves_are_the_noisy_spectrum_and_the_clean_sound(rng, above):
    spec = replace(CLASSIC, above=above)
    clean = voice(rng, 2.0, 11_025)[: 40 * 512]
    noisy = clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32)
    assert make_batch([Mixture(noisy, clean, 10.0)], spec).waves is None
    batch = make_batch([Mixture(noisy, clean, 10.0)], spec, waves=True)
    real, imaginary, sound = np.split(batch.waves[0], [513, 1026], axis=-1)
    np.testing.assert_allclose(
        np.hypot(real, imaginary)[:, :250], batch.spectra[0, :, :250], rtol=1e-4, atol=1e-6
    )
    spectra = stft(clean, spec)
    if above == "zero":
        spectra[:, 250:] = 0.0
        assert not real[:, 250:].any()
    wanted = istft(spectra, spec)
    scale = (wanted @ wanted) / (wanted @ sound.ravel())
    np.testing.assert_allclose(scale * sound.ravel(), wanted, atol=1e-5)
    # One scale for spectra and sound, and the voice near an RMS of 1 between its pauses.
    full_scale = 2.0 / window("hann", 1024).sum()
    assert real[20, 30] == pytest.approx(full_scale * stft(noisy, spec)[20, 30].real / scale)
    assert 0.3 < sound.std() < 1.1


def test_a_supply_makes_waves_when_asked(mixer):
    batch = Batches(mixer, CLASSIC, 2, 20, seed=3, waves=True)[0]
    assert batch.waves.shape == (2, 20, 2 * 513 + 512)


def test_the_tail_of_a_word_beside_noise_weighs_no_more_than_other_clips(rng):
    noise = 0.1 * rng.standard_normal(40 * 512).astype(np.float32)
    tail = np.zeros_like(noise)
    tail[:600] = 1e-5 * rng.standard_normal(600)
    beside, alone = (
        make_batch([Mixture(noise + clean, clean, 0.0)], CLASSIC) for clean in (tail, 0.0 * tail)
    )
    # Noise alone is set 10 dB under a voice's level, a hardly audible voice 12 over it.
    ratio_db = 20.0 * np.log10(beside.spectra[..., :251].std() / alone.spectra[..., :251].std())
    assert ratio_db == pytest.approx(22.0, abs=1.0)
