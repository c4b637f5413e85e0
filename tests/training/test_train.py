from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Sequence

import numpy as np
import pytest

from acquisition.catalogue import Catalogue
from app.cli import main
from engine.denoiser import Denoiser
from engine.errors import TrainingError
from engine.network import Network
from training import train
from training.batches import Batch
from training.recordings import load, split
from training.settings import Optimiser, Run, Settings

BRIEF = (
    "--clips=4",
    "--frames=24",
    "--validation-batches=1",
    "--set=run.statistics_batches=2",
    "--set=data.held_out=0.4",  # of six voices and noises some must be held out
    "--set=data.simulated_rooms=0",  # each takes a tenth of a second
)
SMALL = ("--preset=tiny", *BRIEF)


def options(folders, out, *more: str, usual: Sequence[str] = SMALL) -> list[str]:
    given = [f"--{kind}={folder}" for kind, folder in folders.items()]
    return [*given, f"--out={out}", f"--cache={out.parent / 'cache'}", *usual, *more]


def arguments(folders, out, *more: str, usual: Sequence[str] = SMALL) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args(options(folders, out, *more, usual=usual))


def ignore(text: str) -> None:
    """What the command line prints is not looked at here."""


def rows(out) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def arrays(path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def shapes(out) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays(out / "checkpoint.npz").items()}


def weights(path) -> dict[str, bytes]:
    """All that was learnt, and what the optimiser remembers, bit for bit."""
    return {
        name: array.tobytes()
        for name, array in arrays(path).items()
        if not name.startswith("progress.")
    }


def test_from_folders_to_a_denoiser_that_runs(folders, tmp_path, rng, caplog):
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC")
    caplog.set_level(logging.INFO, "training")
    out = tmp_path / "run"
    # Noisy clips only: clean ones fare best with every gain at 1, which holds it up at first.
    short = ["--steps=30", "--validate=10", "--rate=0.01", "--clean=0"]
    short.append("--set=data.simulated_rooms=2")
    train.run(arguments(folders, out, *short), ignore)
    assert sorted(path.name for path in (tmp_path / "cache").glob("rooms-*")) == [
        "rooms-11025-1-1-1.npz",  # held out, of another seed
        "rooms-11025-2-0-1.npz",
    ]
    network = Network(out / "classic.onnx", provider="cpu")
    denoiser = Denoiser(network)
    heard = [denoiser.process(h) for h in 0.1 * rng.standard_normal((4, 512)).astype(np.float32)]
    assert denoiser.fault is None
    assert np.isfinite(heard).all()
    told = network.spec.training
    assert (told["preset"], told["skipped_files"]) == ("tiny", 1)
    assert set(told["data"]) == {"anna", "ben", "cleo", "dora", "emil", "fay", "noise"}
    looks = rows(out)
    assert [row["step"] for row in looks] == ["10", "20", "30"]
    # What is exported is of the look with the lowest held-out loss.
    best = min(looks, key=lambda row: float(row["held_out"]))
    assert told["steps"] == int(best["step"]) == int(arrays(out / "checkpoint.npz")["step"])
    # Thirty updates of a tiny network learn to turn noise down, if anything is connected.
    assert float(looks[-1]["held_out"]) < float(looks[0]["held_out"])
    assert "broken.flac" in caplog.text
    assert "waiting" in caplog.text
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_kill_while_levels_are_written_leaves_those_that_were_there(tmp_path, monkeypatch):
    """Each ``--resume`` writes them, and the export compares the model on them."""
    chosen = Settings(out=tmp_path)
    levels = np.full((2, 3, chosen.model.n_bins), -60.0, np.float32)
    held_out = Batch(levels, levels, levels, levels)
    train._describe_run(chosen, {}, held_out, {})

    def cut_off(file, array):
        file.write(array.tobytes()[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train._describe_run(chosen, {}, held_out, {})
    np.testing.assert_array_equal(np.load(tmp_path / "levels.npy"), levels)
    assert not list(tmp_path.glob("*.part"))


def test_a_run_ends_early_when_nothing_is_gained(folders, tmp_path):
    out = tmp_path / "run"
    # At a rate of 0 nothing is learnt: the first look is the best there will be.
    given = ("--steps=99", "--validate=2", "--rate=0", "--patience=3")
    train.run(arguments(folders, out, *given), ignore)
    assert [row["step"] for row in rows(out)] == ["2", "4", "6", "8"]
    assert int(arrays(out / "checkpoint.npz")["step"]) == 2
    # It is over, and says so again when it is asked to go on.
    train.run(arguments(folders, out, *given, "--resume"), ignore)
    assert len(rows(out)) == 4


def test_the_average_is_kept_where_it_does_better(folders, tmp_path):
    """A rate far too high makes the weights jump about; their average hardly moves."""
    out = tmp_path / "run"
    options = ("--steps=12", "--validate=6", "--rate=0.3", "--schedule=constant")
    train.run(arguments(folders, out, *options, "--set=optimiser.average=0.99"), ignore)
    assert [row["averaged"] for row in rows(out)] == ["1", "1"]
    kept, last = arrays(out / "checkpoint.npz"), arrays(out / "state.npz")
    assert np.abs(kept["gain.1"]).max() < 0.2 * np.abs(last["gain.1"]).max()


def test_a_run_is_repeated_from_its_settings_or_gone_on_from_its_weights(folders, tmp_path):
    first, again, second = (tmp_path / name for name in ("first", "again", "second"))
    train.run(arguments(folders, first, "--steps=4", "--rate=0.003"), ignore)
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.run(parser.parse_args([str(first / "settings.toml"), f"--out={again}"]), ignore)
    assert weights(again / "state.npz") == weights(first / "state.npz")
    # At a rate of 0 nothing is learnt: what comes out is what went in.
    more = ("--steps=2", "--rate=0", "--seed=2", f"--start={first}", "--clean=0.5")
    train.run(arguments(folders, second, *more), ignore)
    wanted, found = (arrays(run / "checkpoint.npz") for run in (first, second))
    told = [Network(run / "classic.onnx", provider="cpu").spec.training for run in (first, second)]
    assert (told[0]["steps"], told[1]["steps"]) == (4, 4 + 2)
    assert told[1]["hours_seen"] >= told[0]["hours_seen"]
    for name in set(wanted) - {"step"}:
        # An average of equal weights is theirs but for the rounding of its sum.
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, err_msg=name)


def test_a_run_goes_on_from_a_model_file(folders, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train.run(arguments(folders, first, "--steps=4", "--rate=0.003"), ignore)
    model = first / "classic.onnx"
    more = ("--steps=2", "--rate=0", "--seed=2", f"--start={model}")
    train.run(arguments(folders, second, *more), ignore)
    wanted, found = (arrays(run / "checkpoint.npz") for run in (first, second))
    assert Network(second / "classic.onnx", provider="cpu").spec.training["steps"] == 4 + 2
    train.run(arguments(folders, second, *more, "--steps=3", "--resume"), ignore)
    # Resumed, it still knows what it began with.
    assert json.loads((second / "run.json").read_text())["before"]["steps"] == 4
    for name in set(wanted) - {"step"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, err_msg=name)


def test_what_is_begun_with_brings_its_network(folders, tmp_path):
    """Nothing else need be said to go on from a network that is no preset's."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    other = ("--set=network.units=[20,16]", "--set=network.front=12")
    train.run(arguments(folders, first, "--steps=2", *other), ignore)
    more = ("--steps=2", "--rate=0")
    model = first / "classic.onnx"
    train.run(arguments(folders, second, *more, f"--start={model}", usual=BRIEF), ignore)
    assert shapes(second) == shapes(first)
    train.run(arguments(folders, third, *more, f"--start={second}", usual=BRIEF), ignore)
    assert shapes(third) == shapes(first)
    told = tomllib.loads((third / "settings.toml").read_text())
    assert (told["preset"], told["network"]["units"]) == ("tiny", [20, 16])
    # What was written repeats it, and is gone on from, without what it began with.
    (second / "checkpoint.npz").unlink()
    train.run(arguments(folders, third, "--steps=3", "--resume", usual=BRIEF), ignore)
    with pytest.raises(TrainingError, match="preset start is that of what --start names"):
        train.run(arguments(folders, tmp_path / "fourth", "--preset=start", usual=BRIEF), ignore)


def test_weights_that_do_not_fit_are_told_before_sound_is_read(folders, tmp_path):
    first = tmp_path / "first"
    train.run(arguments(folders, first, "--steps=1"), ignore)
    more = (f"--start={first}", "--set=network.units=[7]", "--speech=nowhere")
    with pytest.raises(TrainingError, match="another network"):
        train.run(arguments(folders, tmp_path / "second", *more), ignore)


def test_a_folder_that_holds_a_run_is_left_alone(folders, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "checkpoint.npz").write_bytes(b"hours of work")
    with pytest.raises(ValueError, match="holds a run already: go on with --resume"):
        train.run(arguments(folders, out, "--steps=1"), ignore)
    assert (out / "checkpoint.npz").read_bytes() == b"hours of work"


def test_no_voice_and_no_noise_is_on_both_sides(folders, tmp_path):
    for kind in ("speech", "noise"):
        sides = split(load([folders[kind]], 11_025, tmp_path / kind), 0.4)
        first, second = ({r.source for r in side.recordings} for side in sides)
        assert first
        assert second
        assert not first & second


def test_learning_rate_rises_then_falls():
    rates = [train.learning_rate(share, Optimiser(rate=1e-3)) for share in np.linspace(0, 1, 501)]
    highest = int(np.argmax(rates))
    assert rates[highest] == pytest.approx(1e-3, rel=1e-3)
    assert 0 < highest < 10
    assert (np.diff(rates[highest:]) <= 0).all()
    assert rates[-1] == pytest.approx(1e-5)


def test_a_built_dataset_is_learnt_from(folders, tmp_path):
    file, out = tmp_path / "data.h5", tmp_path / "run"
    given = [f"--{kind}={folder}" for kind, folder in folders.items()]
    assert main(["dataset", "build", *given, f"--out={file}", "--held-out=0.4"]) == 0
    assert main(["train", f"--dataset={file}", f"--out={out}", *SMALL, "--steps=2"]) == 0
    assert Network(out / "classic.onnx", provider="cpu").spec.training["speech_hours"] > 0
    assert main(["train", f"--dataset={file}", *options(folders, tmp_path / "both")]) == 1


def test_on_a_plateau_the_rate_falls():
    optimiser, progress = Optimiser(schedule="plateau", plateau_looks=2), train.Progress()
    found = [5.0, 4.0, 4.0, 4.1, 3.0, 3.1, 3.2, 3.3, 3.4]
    told = [(progress.judge(loss, optimiser), progress.factor) for loss in found]
    assert [better for better, _ in told] == [True, True, False, False, True] + 4 * [False]
    assert [factor for _, factor in told] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert train.learning_rate(0.5, optimiser, 0.125) == optimiser.rate / 8
    assert not progress.judge(math.nan, optimiser)


def test_a_run_is_over_by_steps_by_the_clock_or_by_patience():
    progress = train.Progress(step=10, spent_s=1800.0, stale=3)
    assert progress.share(Run(minutes=60.0)) == 0.5
    assert progress.share(Run()) == 0.5
    assert progress.share(Run(steps=40)) == 0.25
    assert [progress.over(Run(steps=40, patience=n)) for n in (0, 3, 4)] == [False, True, False]


def test_progress_survives_a_checkpoint(tmp_path):
    look = train.Look(1, 250, 2.5, 1e-3, 1.1, 0.5, 1.0, 0.25, 1.0, 9600.0, 0.02)
    later = look._replace(look=2, step=500)
    progress = train.Progress(300, 12.5, 1.0, 2, 0.25, 55.5, 7, [look, later])
    np.savez(tmp_path / "x.npz", **progress.arrays())
    assert train.Progress.of(arrays(tmp_path / "x.npz")) == progress
    assert train.Progress.of(train.Progress().arrays()) == train.Progress(best=math.inf)
    with pytest.raises(TrainingError, match="it lacks step, spent_s"):
        train.Progress.of({"gain.0": np.zeros(3)})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset=huge"], "preset should be one of classic, "),
        (["--set=data.speech=[]"], "nothing to learn from: give --speech and --noise"),
        (["--set=network.front=-1.5"], "network.front should be a whole number, found -1.5"),
        (["--set=loss.eatn=1"], "loss.eatn is no setting; there are exponent, "),
        (["--devices=64"], "64 devices were asked for, "),
        (["--start=nowhere"], "nowhere"),
        (["--set=data.held_out=0"], "none is left to be held out"),
    ],
)
def test_wrong_settings_are_told(folders, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        train.run(arguments(folders, tmp_path / "run", "--steps=1", *more), ignore)


# Killed


def pairings(path) -> tuple[list[tuple[int, int]], int]:
    """Steps of the checkpoints that count, and how often recordings met according to them."""
    with Catalogue(path) as catalogue:
        names = {row["id"]: row["track_name"] for row in catalogue.find("audio_books_tracks")}
        noises = {row["id"]: row["name"] for row in catalogue.find("noise_files")}
        met: dict[tuple[str, str], int] = {}
        for row in catalogue.find("training_track", status="OK"):
            pair = names[row["audio_book_track_id"]], noises[row["noise_id"]]
            met[pair] = met.get(pair, 0) + row["times"]
        kept = catalogue.find("model_checkpoint", checkpoint_status="OK")
        return met, [row["step"] for row in kept]


STEPS = 120


@pytest.fixture
def start():
    """Starts the real command in a process of its own, TensorFlow being loaded already.

    Loading it takes 5 s, ten times over; a process forked off one that did nothing else is
    killed no less.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.train", "training.objectives", "training.export"])

    def started(*more: str, devices: int = 1, tf_config: str = "{}"):
        process = context.Process(target=command, args=(more, devices, tf_config))
        process.start()
        return process

    return started


def command(options, devices: int, tf_config: str) -> None:
    """In a process of its own: the command, where a processor passes for several devices."""
    import tensorflow as tf

    os.environ["TF_CONFIG"] = tf_config
    if devices > 1:
        (processor,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(processor, logical)
    sys.exit(main(["train", *options]))


def step_of(state) -> int:
    """Of the checkpoint that is there now: whole, at any moment."""
    if not state.exists():
        return 0
    with np.load(state) as file:
        return int(file["progress.step"])


def test_muon_wants_an_update_of_its_own(folders, tmp_path):
    asked = arguments(folders, tmp_path / "run", "--set=optimiser.kind=muon")
    with pytest.raises(TrainingError, match="muon takes a network of bands and data"):
        train.run(asked, ignore)


def test_mixing_on_a_card_wants_keras_on_pytorch(folders, tmp_path, monkeypatch):
    asked = arguments(folders, tmp_path / "run", "--set=data.mixed_on=card")
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="needs torch: install the extra 'card'"):
        train.run(asked, ignore)
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(TrainingError, match="set KERAS_BACKEND=torch"):
        train.run(asked, ignore)


@pytest.mark.timeout(900)  # twelve starts: under 60 s alone, minutes on a busy machine
def test_killed_ten_times_it_ends_with_the_very_same_weights(folders, tmp_path, rng, start):
    more = (
        f"--steps={STEPS}",
        "--validate=25",
        "--set=run.save_s=0.02",
        "--set=run.tensorboard=false",
    )
    whole = start(*options(folders, tmp_path / "whole", *more))
    whole.join(300)
    assert whole.exitcode == 0

    killed = options(folders, tmp_path / "killed", *more, "--resume")
    state = tmp_path / "killed" / "state.npz"
    wanted = sorted(rng.integers(0, STEPS * 3 // 4, 10))
    kills = late = 0
    while kills < len(wanted):
        process = start(*killed)
        while step_of(state) < wanted[kills] and process.is_alive():
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.05))  # in the middle of whatever it does
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        # It ended while this process had to wait for its turn: once more from the beginning.
        assert process.exitcode == 0
        late += 1
        assert late < 10
        shutil.rmtree(tmp_path / "killed")
    last = start(*killed)
    last.join(300)
    assert last.exitcode == 0

    for name in ("state.npz", "checkpoint.npz"):
        assert weights(tmp_path / "killed" / name) == weights(tmp_path / "whole" / name)
    timed = ("minutes", "frames_s", "waiting")
    logs = [
        [{k: v for k, v in row.items() if k not in timed} for row in rows(tmp_path / name)]
        for name in ("killed", "whole")
    ]
    assert logs[0] == logs[1]
    # The catalogue counts no batch twice that a kill made it learn from again.
    found = [pairings(tmp_path / name / "catalogue.sqlite") for name in ("killed", "whole")]
    assert found[0] == found[1]
    assert found[0][1] == [STEPS]
    assert found[0][0]


# Together


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_devices_and_hosts_that_share_the_work_learn_the_same(folders, tmp_path, start):
    # Each device clips what it adds; where nothing is clipped the sum is the same.
    quick = ("--set=network.units=[8]", "--set=run.tensorboard=false")
    more = ("--steps=6", "--validate=3", "--set=optimiser.clip=1e6", *quick)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    told = [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": k}}) for k in (0, 1)
    ]
    alone = start(*options(folders, tmp_path / "alone", *more))
    alone.join(120)  # what it decoded the others take
    others = [
        start(*options(folders, tmp_path / "devices", *more, "--devices=all"), devices=2),
        *(start(*options(folders, tmp_path / "hosts", *more), tf_config=one) for one in told),
    ]
    for process in others:
        process.join(120)
    assert [process.exitcode for process in (alone, *others)] == [0, 0, 0, 0]
    wanted = arrays(tmp_path / "alone" / "state.npz")
    for name in ("devices", "hosts"):
        found = arrays(tmp_path / name / "state.npz")
        for key in (key for key in wanted if "." in key and not key.startswith("progress")):
            # Sums of halves round otherwise: 6e-8 was seen of weights of 0.1.
            np.testing.assert_allclose(found[key], wanted[key], atol=2e-6, rtol=1e-4, err_msg=key)
        for one, other in zip(rows(tmp_path / name), rows(tmp_path / "alone"), strict=True):
            assert float(one["held_out"]) == pytest.approx(float(other["held_out"]), rel=1e-4)


def test_several_hosts_need_a_length_in_updates(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1"]}}')
    with pytest.raises(ValueError, match="need a length in --steps"):
        train.run(arguments(folders, tmp_path / "run"), ignore)
