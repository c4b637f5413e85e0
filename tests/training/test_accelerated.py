from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import voice
from training import train
from training.batches import make_batch
from training.mixing import Mixture, Recipe, active_level_db
from training.recordings import Collection, Recording
from training.settings import FULLBAND, Batch, Data, Settings
from training.signals import low_pass

torch = pytest.importorskip("torch", reason="the extra 'card' is not installed")

from training import accelerated  # noqa: E402

ROOT = Path(__file__).parents[2]
RATE, CLIPS, SAMPLES = 48_000, 12, 96_000
PLAIN = Recipe(
    clean=0.0,
    noise_only=0.0,
    room=0.0,
    synthetic=0.0,
    babble=0.0,
    clipped=0.0,
    band_limited=0.0,
    telephone=0.0,
    lost_packets=0.0,
    muted=0.0,
)


def collection(kind: str, sounds: list[np.ndarray]) -> Collection:
    scaled = [(s / np.abs(s).max() * 30_000).astype(np.int16) for s in sounds]
    return Collection(
        RATE, tuple(Recording(f"{kind}{k}", f"{kind}{k}", s) for k, s in enumerate(scaled)), ()
    )


@pytest.fixture
def sound():
    rng = np.random.default_rng(4)
    speech = collection("voice", [voice(rng, 5.0, RATE) for _ in range(4)])
    noise = collection("noise", [rng.standard_normal(n) for n in (5 * RATE, RATE)])
    return speech, noise


def mixer(sound, recipe: Recipe) -> accelerated.CardMixer:
    return accelerated.CardMixer(*sound, None, recipe, [], CLIPS, SAMPLES)


def test_low_passes_are_those_of_the_processors():
    ratio = np.linspace(0.0, 50.0, 500, dtype=np.float32)
    for order in (1, 6, 24, 240):
        found = accelerated._low_pass(torch.from_numpy(ratio), torch.tensor([order]))
        np.testing.assert_allclose(found, low_pass(ratio, order), rtol=1e-4, atol=1e-9)


def test_a_batch_is_what_the_engine_s_analysis_makes_of_its_clips(sound):
    spec = replace(FULLBAND, filter_bins=40, filter_taps=5, phase_bins=40)
    drawn = mixer(sound, replace(PLAIN, noise_only=0.3, muted=0.5))
    noisy, clean, _ = drawn.draw([1, 2])
    levels = drawn.level_db(noisy), drawn.level_db(clean)
    found = accelerated.make_batch(noisy, clean, *levels, spec, waves=True)
    clips = [Mixture(a.numpy(), b.numpy(), 0.0) for a, b in zip(noisy, clean, strict=True)]
    wanted = make_batch(clips, spec, waves=True)
    for name in wanted._fields:
        tolerance = 0.05 if name.endswith("_db") else 1e-3  # dB near the floor are of rounding
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), atol=tolerance, rtol=1e-3, err_msg=name
        )


def test_levels_are_those_of_the_mixer_on_processors(sound):
    drawn = mixer(sound, PLAIN)
    noisy, _, _ = drawn.draw([0, 1])
    for clip, level_db in zip(noisy.numpy(), drawn.level_db(noisy).numpy(), strict=True):
        assert level_db == pytest.approx(active_level_db(clip, RATE), abs=0.01)


@pytest.mark.parametrize("snr_db", [-5.0, 12.0])
def test_noise_is_added_at_the_ratio_asked_for(sound, snr_db):
    recipe = replace(PLAIN, snr_db=(snr_db - 0.01, snr_db, snr_db + 0.01))
    noisy, clean, met = mixer(sound, recipe).draw([3])
    for mixed, speech in zip(noisy.numpy(), clean.numpy(), strict=True):
        noise_db = 10.0 * np.log10(np.mean(np.square(mixed - speech)))
        assert active_level_db(speech, RATE) - noise_db == pytest.approx(snr_db, abs=0.1)
    assert all(a.startswith("voice") and b.startswith("noise") for a, b in met.pairs())


def test_a_seed_gives_the_same_sound_again_and_another_seed_another(sound):
    drawn = mixer(sound, replace(Recipe(), synthetic=0.0))
    (first, *_), (again, *_), (other, *_) = (drawn.draw(seed) for seed in ([7, 1], [7, 1], [7, 2]))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
    assert first.abs().max() <= 1.0


def test_an_echo_puts_the_same_voices_together_with_other_noises(sound):
    drawn = accelerated.CardMixer(*sound, None, PLAIN, [], CLIPS, SAMPLES, 2)
    batches = accelerated.CardBatches(drawn, FULLBAND, 5)
    first, second, third = (batches[k] for k in range(3))
    assert not torch.equal(first.noisy_db, second.noisy_db)
    sources = drawn.sources([5, 0])
    noisy, clean, met = drawn.mix(sources, [5, 0], 1)
    voices = [
        torch.nn.functional.cosine_similarity(*pair, dim=0)
        for pair in zip(clean, sources.clean, strict=True)
    ]
    assert min(voices) > 0.999, "voices stay where they are"
    rest = noisy - clean
    noises = torch.nn.functional.cosine_similarity(rest, sources.noise.roll(1, 0), dim=1)
    assert noises.min() > 0.99, "each with the noise of the clip before"
    wanted = {
        (a, b) for k in range(CLIPS) for a in sources.voices[k] for b in sources.noises[k - 1]
    }
    assert set(met.pairs()) == wanted
    assert not torch.equal(first.clean_db, third.clean_db), "then others are drawn"


def test_noise_alone_has_nothing_to_let_through(sound):
    noisy, clean, met = mixer(sound, replace(PLAIN, noise_only=1.0)).draw([5])
    assert not clean.any()
    assert (noisy.square().mean(dim=1) > 0.0).all()
    assert not met.pairs()


def test_without_simulated_rooms_voices_are_heard_in_decaying_noise(folders, tmp_path):
    given = {kind: (folders[kind],) for kind in ("speech", "noise")}
    data = Data(**given, simulated_rooms=0, held_out=0.4, mixed_on="card")
    recipe = Recipe(synthetic=0.0, room=1.0, noise_room=1.0)
    chosen = Settings(tmp_path / "run", data=data, batch=Batch(4, 24), mixing=recipe)
    mixers = [supply._mixer for supply in train._supplies(chosen, waves=False)[:2]]
    for one in mixers:
        found = one.sources([1])
        late = found.reverberant - found.clean
        # Of four drawn rooms the most reverberant; without any it is 0.
        assert (late.square().mean(dim=1) / found.clean.square().mean(dim=1)).max() > 1e-3
        assert late.any(dim=1).all()
    tails = [torch.fft.irfft(one._whole[1:], one.n_fft)[:, 500:900] for one in mixers]
    assert torch.cdist(*tails).min() > 1e-2, "no room is on both sides"


def test_a_pool_plays_what_was_put_in_and_faster_an_octave_of_it_higher():
    t = np.arange(RATE) / RATE
    tone = (16_000 * np.sin(2 * np.pi * 1000.0 * t)).astype(np.int16)
    pool = accelerated.Pool([Recording("tone", "tone", tone)], RATE)
    place = torch.arange(20_000, dtype=torch.float64)[None]
    np.testing.assert_allclose(pool.play(place)[0], tone[:20_000] / 32768.0, atol=1e-6)
    faster = pool.play(100.0 + 1.5 * place)[0].numpy()
    wanted = 16_000 / 32768 * np.sin(2 * np.pi * 1000.0 * (100 + 1.5 * np.arange(20_000)) / RATE)
    np.testing.assert_allclose(faster, wanted, atol=2e-3)


def test_a_run_learns_from_it_and_leaves_a_model(folders, tmp_path):
    data = [f"--{kind}={folders[kind]}" for kind in ("speech", "noise")]
    small = ["--preset=tiny", "--clips=3", "--frames=50", "--steps=2", "--validate=1"]
    settings = (
        *("data.mixed_on=card", "data.held_out=0.4", "data.simulated_rooms=0"),
        *("mixing.synthetic=0", "run.statistics_batches=1"),
    )
    made = subprocess.run(
        [
            *(sys.executable, "main.py", "train", "--setting=fullband", *data, *small),
            *("--validation-batches=1", f"--out={tmp_path / 'run'}"),
            *(f"--set={one}" for one in settings),
        ],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "run" / "fullband.onnx").is_file()
