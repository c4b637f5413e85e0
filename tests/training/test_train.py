from __future__ import annotations

import argparse
import csv
import logging

import numpy as np
import pytest

from engine.denoiser import Denoiser
from engine.network import Network
from training import train
from training.recordings import load, split


def arguments(folders, out, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    given = [f"--{kind}={folder}" for kind, folder in folders.items()]
    small = ["--preset=tiny", "--clips=4", "--frames=24", "--validation-batches=1"]
    cache = f"--cache={out.parent / 'cache'}"
    return parser.parse_args([*given, f"--out={out}", cache, *small, *more])


def ignore(text: str) -> None:
    """What the command line prints is not looked at here."""


@pytest.fixture(autouse=True)
def small_shares(monkeypatch):
    """Of six voices and noises some must be held out, and statistics need not be good."""
    monkeypatch.setattr(train, "_HELD_OUT", 0.4)
    monkeypatch.setattr(train, "_STATISTICS_BATCHES", 2)


def test_from_folders_to_a_denoiser_that_runs(folders, tmp_path, rng, caplog):
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC")
    caplog.set_level(logging.INFO, "training")
    options = ("--steps=30", "--validate=10", "--rate=0.01")
    path = tmp_path / "run" / "classic.onnx"
    train.run(arguments(folders, tmp_path / "run", *options), ignore)
    network = Network(path, provider="cpu")
    denoiser = Denoiser(network)
    out = [denoiser.process(h) for h in 0.1 * rng.standard_normal((4, 512)).astype(np.float32)]
    assert denoiser.fault is None
    assert np.isfinite(out).all()
    told = network.spec.training
    assert (told["preset"], told["steps"], told["skipped_files"]) == ("tiny", 30, 1)
    assert set(told["data"]) == {"anna", "ben", "cleo", "dora", "emil", "fay", "noise"}
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    # Thirty updates of a tiny network learn to turn noise down, if anything is connected.
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert "broken.flac" in caplog.text
    assert "held_out" in caplog.text


def test_a_run_that_was_cut_off_ends_with_the_same_weights(folders, tmp_path, monkeypatch):
    options = ("--steps=8", "--validate=3")
    train.run(arguments(folders, tmp_path / "whole", *options), ignore)

    true_save = train._save

    def cut_off(*args):
        true_save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train.run(arguments(folders, tmp_path / "cut", *options), ignore)
    monkeypatch.setattr(train, "_save", true_save)
    train.run(arguments(folders, tmp_path / "cut", *options, "--resume"), ignore)

    whole, cut = (np.load(tmp_path / name / "checkpoint.npz") for name in ("whole", "cut"))
    assert set(whole) == set(cut)
    assert int(cut["step"]) == 8
    for name in set(whole) - {"spent_s"}:
        # Threads of the processor sum in any order: equal but for rounding.
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_run_starts_with_the_weights_of_another(folders, tmp_path):
    train.run(arguments(folders, tmp_path / "first", "--steps=4"), ignore)
    # At a rate of 0 nothing is learnt: what comes out is what went in.
    more = ("--steps=2", "--rate=0", "--seed=2", f"--start={tmp_path / 'first'}", "--clean=0.5")
    train.run(arguments(folders, tmp_path / "second", *more), ignore)
    first, second = (np.load(tmp_path / run / "checkpoint.npz") for run in ("first", "second"))
    for name in [name for name in first if "." in name and not name.startswith("optimiser")]:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_no_voice_and_no_noise_is_on_both_sides(folders, tmp_path):
    for kind in ("speech", "noise"):
        sides = split(load([folders[kind]], 11_025, tmp_path / kind), 0.4)
        first, second = ({r.source for r in side.recordings} for side in sides)
        assert first
        assert second
        assert not first & second


def test_learning_rate_rises_then_falls():
    rates = [train.learning_rate(share, 1e-3) for share in np.linspace(0, 1, 501)]
    highest = int(np.argmax(rates))
    assert rates[highest] == pytest.approx(1e-3, rel=1e-3)
    assert 0 < highest < 10
    assert (np.diff(rates[highest:]) <= 0).all()
    assert rates[-1] == pytest.approx(1e-5)


def test_a_pause_of_the_machine_is_not_counted_as_learning():
    progress = train.Progress(step=10, spent_s=1800.0)
    assert progress.share(steps=None, minutes=60.0) == 0.5
    assert progress.share(steps=40, minutes=None) == 0.25


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"preset": "huge"}, "preset should be one of classic, small, tiny"),
        ({"speech": []}, "no readable sound"),
    ],
)
def test_wrong_arguments_are_told(folders, tmp_path, changed, message):
    args = arguments(folders, tmp_path / "run", "--steps=1")
    for name, value in changed.items():
        setattr(args, name, value)
    with pytest.raises(ValueError, match=message):
        train.run(args, ignore)
