from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from acquisition.catalogue import Catalogue
from app.cli import main
from engine.errors import TrainingError
from engine.network import Network
from models import FOLDER
from tests.training.conftest import dataset_command as command
from tests.training.conftest import voice
from training import dataset, dataset_pcm, train
from training.batches import make_batch
from training.dataset_build import shard_folder
from training.dataset_mixed import STEP_DB, MixedBatches, decode, encode
from training.mixing import Mixer, Mixture
from training.recordings import Collection, Recording
from training.settings import CLASSIC

ROOT = Path(__file__).parents[2]
FRAMES = 24
VOICES = ("anna", "ben", "cleo", "dora", "emil", "fay", "gil", "hana")

# 1 h = 77520 frames. Half are trained on, a quarter are each of the other sides.
HOURS = 0.05
SHARES = ("--held-out=0.25", "--test=0.25")
MIXED = (
    "--layout=mixed",
    f"--hours={HOURS}",
    f"--clip-frames={FRAMES}",
    "--shard-minutes=0.3",
    "--simulated-rooms=0",  # each takes a tenth of a second
    "--workers=1",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A dataset in layout pcm."""
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("sound")
    for kind in ("speech", "noise"):
        (folder / kind).mkdir()
        for name in VOICES:
            hiss = (0.1 * rng.standard_normal(33_075)).astype(np.float32)
            samples = voice(rng, 3.0, 11_025) if kind == "speech" else hiss
            soundfile.write(folder / kind / f"{name}.wav", samples, 11_025)
    given = [f"--{kind}={folder / kind}" for kind in ("speech", "noise")]
    command("build", *given, f"--out={folder / 'pcm.h5'}", *SHARES, "--workers=1")
    return folder / "pcm.h5"


@pytest.fixture(scope="module")
def mixed(sound) -> Path:
    """The same in layout mixed."""
    path = sound.parent / "mixed.h5"
    command("build", f"--dataset={sound}", f"--out={path}", *MIXED)
    return path


@pytest.fixture
def mixtures(rng) -> list[Mixture]:
    """Of voices and hiss, as the recipe draws them; one is silent, one without noise."""
    sounds = [voice(rng, 6.0, 11_025) * 50_000 for _ in range(4)]
    speech = tuple(Recording(f"{k}", f"{k}", s.astype(np.int16)) for k, s in enumerate(sounds))
    hiss = (3_000 * rng.standard_normal(60_000)).astype(np.int16)
    noise = Collection(11_025, (Recording("hiss", "hiss", hiss),), ())
    mixer = Mixer(Collection(11_025, speech, ()), noise)
    drawn = [mixer.draw(np.random.default_rng([1, k]), 96 * 512) for k in range(30)]
    silence, alone = np.zeros(96 * 512, np.float32), sounds[0][: 96 * 512] / np.float32(32_768)
    return [*drawn, Mixture(silence, silence, math.inf), Mixture(alone, alone, math.inf)]


@pytest.mark.parametrize("above", ["hold", "zero"])
def test_a_batch_comes_back_within_half_a_step(mixtures, above):
    spec = replace(CLASSIC, above=above)
    batch = make_batch(mixtures, spec)
    frames, clips = encode(batch)
    assert frames.dtype == np.uint8
    assert frames.shape == (32, 96, 3 * 251 + 1)
    found = decode(frames, clips, spec.floor_db)
    # Float32 rounds the logarithms that the codes are made of by a 10000th of a dB.
    within = {"atol": STEP_DB / 2 + 1e-3, "rtol": 0.0}
    np.testing.assert_allclose(found.noisy_db, batch.noisy_db, **within)
    heard = batch.clean_db > batch.noisy_db.max(axis=(1, 2), keepdims=True) - 101.0
    np.testing.assert_allclose(found.clean_db[heard], batch.clean_db[heard], **within)
    np.testing.assert_array_equal(found.speech, batch.speech)
    noisy, clean, product = np.split(batch.spectra, 3, axis=-1)
    ours = np.split(found.spectra, 3, axis=-1)
    heard = (ours[0] > 0.0) & (ours[1] > 0.0)
    loudest = np.maximum(noisy, clean).max(axis=(1, 2), keepdims=True)
    least = loudest * 10.0 ** (-101.79 / 20.0)  # half a step above code 0, and rounding
    # Half a step is 2.33 % of a magnitude, and 0.0062 of a cosine.
    for exact, rounded in ((noisy, ours[0]), (clean, ours[1])):
        np.testing.assert_allclose(rounded[heard], exact[heard], rtol=0.0235)
        assert (exact[rounded == 0.0] <= np.broadcast_to(least, exact.shape)[rounded == 0.0]).all()
    wrong = np.abs(ours[2] - product)[heard] / (noisy * clean)[heard]
    assert wrong.max() < 1.0235**2 * (1.0 + np.pi / 510) - 1.0
    assert all(array.dtype == np.float32 for array in found[:4])


def test_silence_and_agreement_are_exact(mixtures):
    batch = make_batch(mixtures[-2:], CLASSIC)
    found = decode(*encode(batch), CLASSIC.floor_db)
    assert not found.spectra[0].any()
    assert (found.noisy_db[0] == CLASSIC.floor_db).all()
    noisy, clean, product = np.split(found.spectra[1], 3, axis=-1)
    np.testing.assert_array_equal(noisy, clean)
    np.testing.assert_allclose(product, noisy**2, rtol=1e-6)


def test_the_loss_of_a_network_is_the_one_of_the_exact_batch(mixtures):
    from training.losses import SpectralLoss

    network = Network(FOLDER / "classic.onnx", provider="cpu")
    loss = SpectralLoss(CLASSIC.n_bins)

    def losses(batch):
        gains = [network(clip, network.initial_state()).gain for clip in batch.noisy_db]
        return np.asarray(loss(batch.spectra, np.stack(gains)))

    batch = make_batch(mixtures, CLASSIC)
    exact, rounded = losses(batch), losses(decode(*encode(batch), CLASSIC.floor_db))
    # A look at held-out sound, 288 clips, is uncertain by 0.06 of what clips differ by: rounding
    # may be a sixth of that. It measures 0.0025 on real sound, and 0.015 for the worst clip.
    assert abs(rounded.mean() - exact.mean()) < 0.01 * exact.std()
    assert np.abs(rounded - exact).max() < 0.1 * exact.std()


def test_each_epoch_holds_every_clip_once_in_an_order_of_its_own(mixed):
    supply = MixedBatches(mixed, "train", CLASSIC, 7, FRAMES, seed=3)
    assert len(supply) == math.ceil(HOURS / 2 * 3600 / (FRAMES * CLASSIC.hop_s))
    heard = np.concatenate([supply[k].noisy_db for k in range(2 * len(supply) // 7 + 1)])
    known = [clip.tobytes() for clip in heard]
    first, second = known[: len(supply)], known[len(supply) : 2 * len(supply)]
    whole = MixedBatches(mixed, "train", CLASSIC, len(supply), FRAMES, seed=4)[0].noisy_db
    assert sorted(first) == sorted(second) == sorted(clip.tobytes() for clip in whole)
    assert first != second
    assert first != [clip.tobytes() for clip in whole]
    held_out = MixedBatches(mixed, "valid", CLASSIC, len(supply), FRAMES, seed=3)[0].noisy_db
    # Some clips of a second are muted throughout: those are alike.
    assert len(set(first)) > 0.8 * len(supply)
    sounding = {clip.tobytes() for clip in held_out if clip.max() > CLASSIC.floor_db}
    assert not set(first) & sounding


def test_it_is_known_which_recordings_met_in_a_batch(mixed, sound):
    supply = MixedBatches(mixed, "valid", CLASSIC, 5, FRAMES, seed=3)
    mixer = Mixer(*dataset_pcm.collections(sound, "valid"))
    drawn: list[list[tuple[str, str]]] = []
    mixer.on_draw = lambda *pair: drawn[-1].append(pair)
    for k in range(len(supply)):
        drawn.append([])
        mixer.draw(np.random.default_rng([1, 1, k]), FRAMES * CLASSIC.hop)
    assert sum(bool(met) for met in drawn) > 0.5 * len(drawn)
    for k in range(3):
        assert supply.met(k) == [pair for clip in supply._of_batch(k) for pair in drawn[clip]]
    assert {r.source for r in supply.speech.recordings} < {f"speech/{name}" for name in VOICES}
    assert {len(r.samples) for r in supply.noise.recordings} == {33_075}


def test_a_file_from_before_pairs_were_kept_is_refused(mixed):
    old = mixed.with_name("old.h5")
    shutil.copy(mixed, old)
    with h5py.File(old, "r+") as file:
        del file["train/pairs"]
    with pytest.raises(TrainingError, match=r"old.h5: .* build it again"):
        MixedBatches(old, "train", CLASSIC, 5, FRAMES, seed=3)


def test_a_resumed_run_hears_what_it_would_have_heard(mixed):
    supply = MixedBatches(mixed, "train", CLASSIC, 5, FRAMES, seed=3)
    wanted = list(islice(supply.ahead(0), 60))[57:]  # in the third epoch
    resumed = MixedBatches(mixed, "train", CLASSIC, 5, FRAMES, seed=3).ahead(57)
    for batch in wanted:
        for ours, theirs in zip(batch[:4], next(resumed)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    resumed.close()


def test_it_opens_with_plain_h5py_wherever_it_is_moved(mixed, tmp_path):
    supply = MixedBatches(mixed, "valid", CLASSIC, 3, FRAMES, seed=3)
    moved = tmp_path / mixed.name
    moved.write_bytes(mixed.read_bytes())
    shard_folder(moved).symlink_to(shard_folder(mixed))
    with h5py.File(moved) as file:
        assert file["valid/frames"].is_virtual
        assert len(file["train/shards"]) > 3
        found = {
            decode(file["valid/frames"][k][None], file["valid/clips"][k][None], -100.0)
            .noisy_db.tobytes()
            for k in range(len(supply))
        }  # fmt: skip
    assert {clip.tobytes() for k in range(10) for clip in supply[k].noisy_db[:, None]} <= found
    told = dataset.describe(mixed)
    assert told["layout"] == "mixed"
    hours = [told["splits"][side]["mixtures"]["hours"] for side in ("train", "valid", "test")]
    # Whole clips: one of 1.1 s more in each.
    assert hours == pytest.approx([HOURS / 2, HOURS / 4, HOURS / 4], abs=1.2 / 3600)
    # 754 bytes of 2·2·8·513 for each frame, and tables.
    assert told["size"] < sum(hours) * 3600 / CLASSIC.hop_s * 4 * 8 * 513 / 20
    assert "layout mixed, 11025 Hz" in command("info", str(mixed))


def test_a_killed_build_ends_as_an_undisturbed_one(sound, mixed, tmp_path):
    path = tmp_path / "killed.h5"
    given = [sys.executable, str(ROOT / "main.py"), "dataset", "build", f"--dataset={sound}"]
    given += [f"--out={path}", *MIXED]
    for _ in range(10):
        build = subprocess.Popen(given, start_new_session=True, stderr=subprocess.DEVNULL)
        while not list(shard_folder(path).glob("*.h5")):
            assert build.poll() is None
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGKILL)
        if build.wait() != 0:
            break
        # It ended while this process had to wait for its turn: once more from the beginning.
        path.unlink()
        shutil.rmtree(shard_folder(path))
    wanted = {p.name: p.read_bytes() for p in shard_folder(mixed).glob("*.h5")}
    left = {p.name: p.stat().st_mtime_ns for p in shard_folder(path).glob("*.h5")}
    assert not path.exists()
    assert 0 < len(left) < len(wanted)
    command("build", f"--dataset={sound}", f"--out={path}", *MIXED)
    found = {p.name: p.read_bytes() for p in shard_folder(path).glob("*.h5")}
    assert found == wanted
    for name, changed in left.items():  # what was there was taken
        assert (shard_folder(path) / name).stat().st_mtime_ns == changed


SMALL = ("--preset=tiny", "--clips=4", "--validation-batches=1", "--set=run.statistics_batches=2")


def test_ready_mixtures_are_learnt_from(mixed, tmp_path):
    out = tmp_path / "run"
    given = ["train", f"--dataset={mixed}", f"--out={out}", *SMALL, f"--frames={FRAMES}"]
    assert main([*given, "--steps=2"]) == 0
    told = Network(out / "classic.onnx", provider="cpu").spec.training
    assert told["speech_hours"] > 0
    assert told["data"] == ["noise", "speech"]
    with Catalogue(out / "catalogue.sqlite") as catalogue:
        met = catalogue.find("training_track", status="OK")
        assert sum(row["times"] for row in met) >= 4  # most clips have a pair or more
        assert catalogue.find("audio_books_tracks", id=met[0]["audio_book_track_id"])


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--frames=96", "train with --frames 24"),
        ("--set=model.n_bins=200", "n_bins 250, not 200"),
        ("--setting=fullband", "another setting: sample_rate 11025, not 48000"),
        ("--set=loss.si_sdr=0.1", "holds no samples"),
    ],
)
def test_what_does_not_fit_a_dataset_is_told(mixed, tmp_path, option, why):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    given = [f"--dataset={mixed}", f"--out={tmp_path / 'run'}", *SMALL, f"--frames={FRAMES}"]
    with pytest.raises(TrainingError, match=why):
        train.run(parser.parse_args([*given, option]), str)


def test_what_cannot_be_built_is_told(sound, tmp_path):
    out = f"--out={tmp_path / 'set.h5'}"
    for given, why in (
        ([*MIXED, f"--dataset={sound}", f"--out={sound}"], "name another file"),
        (["--layout=mixed", f"--dataset={sound}"], "--hours"),
        (["--layout=stft", f"--dataset={sound}"], "in layout mixed only"),
        (["--layout=mixed", "--hours=1"], "give --speech and --noise"),
        ([*MIXED, f"--dataset={sound}", "--setting=fullband"], "11025 Hz"),
        ([*MIXED, f"--dataset={sound}", "--clip-frames=0"], "positive"),
    ):
        with pytest.raises(TrainingError, match=why):
            command("build", out, *given)
