from __future__ import annotations

import argparse
import csv
import shutil

import matplotlib.image
import numpy as np
import pytest

from acquisition.catalogue import Catalogue
from engine.errors import TrainingError
from training import figures, records
from training.mixing import Mixer, Recipe
from training.recordings import Collection, Recording
from training.records import Log, Look, PairedBatches, Register
from training.settings import CLASSIC

LOOKS = [
    Look(k, 250 * k, 2.0 * k, 1e-3 / k, 2.0 / k, 0.1 * k, 2.5 / k, 0.1 * k, 1.0, 9600.0, 0.02)
    for k in (1, 2, 3)
]


def collection(*names: str) -> Collection:
    rng = np.random.default_rng(5)
    made = (
        Recording(name, name.split("/")[0], rng.integers(-9000, 9000, 30_000).astype(np.int16))
        for name in names
    )
    return Collection(11_025, tuple(made), ())


SPEECH, NOISE = collection("anna/1.flac", "ben/1.flac"), collection("noise/rain.wav")


@pytest.fixture
def register(tmp_path):
    made = Register(tmp_path / "c.sqlite", tmp_path, CLASSIC, SPEECH, NOISE)
    yield made
    made.close()


def of(path, table, **columns):
    with Catalogue(path / "c.sqlite") as catalogue:
        return catalogue.find(table, **columns)


# The log


def test_a_log_is_read_as_it_was_written(tmp_path):
    log = Log(tmp_path, LOOKS, tensorboard=False)
    found = records.read_looks(tmp_path)
    for ours, theirs in zip(found, log.looks, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)  # six digits


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "not the folder of a run"),
        (b"\xff\xfe", "not the folder of a run"),
        (b"a,b\n1,2\n", "not the log of a run"),
        (",".join(Look._fields).encode() + b"\n1,2\n", "not the log of a run"),
        (",".join(Look._fields).encode() + b"\n", "has not looked"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=complaint):
        records.read_looks(tmp_path)


def test_runs_are_drawn_side_by_side(tmp_path):
    def drawn(*names: str):
        command = argparse.ArgumentParser()
        figures.add_arguments(command)
        out = tmp_path / "all.png"
        told: list[str] = []
        figures.run(command.parse_args([*names, f"--out={out}"]), told.append)
        assert str(out) in told[0]
        return matplotlib.image.imread(out)

    for k in range(5):
        (tmp_path / f"run{k}").mkdir()
        Log(tmp_path / f"run{k}", LOOKS, tensorboard=False)
    folders = [str(tmp_path / f"run{k}") for k in range(5)]
    one, five = drawn(folders[0]), drawn(*folders)
    # One column and row of panels, then four columns and two rows.
    assert five.shape[0] == 2 * one.shape[0]
    assert five.shape[1] == 4 * one.shape[1]
    assert (one[..., :3].min(axis=-1) < 0.9).mean() > 0.02  # lines are there
    with pytest.raises(TrainingError, match="one name"):
        drawn(folders[0], folders[0])
    with pytest.raises(TrainingError, match="not the folder of a run"):
        drawn(str(tmp_path / "nowhere"))


def test_the_log_is_written_anew_when_a_run_is_resumed(tmp_path):
    first = Log(tmp_path, [], tensorboard=False)
    for look in LOOKS:
        first.add(look)
    resumed = Log(tmp_path, LOOKS[:1], tensorboard=False)
    resumed.add(LOOKS[1])
    with (tmp_path / "log.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["step"] for row in found] == ["250", "500"]
    assert list(found[0]) == list(Look._fields)
    assert float(found[1]["rate"]) == 5e-4


def test_tensorboard_finds_every_figure_of_a_look(tmp_path):
    import tensorflow as tf

    table = Log(tmp_path, [], tensorboard=True)
    for look in LOOKS:
        table.add(look)
    (path,) = (tmp_path / "tensorboard").iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert set(found) == set(Look._fields) - {"look", "step"}
    assert [step for step, _ in found["held_out"]] == [250, 500, 750]
    assert [value for _, value in found["held_out"]] == pytest.approx([2.5, 1.25, 2.5 / 3])


def test_one_line_tells_a_look():
    assert records.describe(LOOKS[1]) == (
        "look 2: step 500, 4.0 min, rate 0.0005, loss 1, accuracy 20.0%, held out 1.25 (average), "
        "accuracy 20.0%, 9600 frames/s, waiting 2%"
    )


def test_the_figure_shows_what_was_found(tmp_path):
    figures.draw(LOOKS[:1], "classic", tmp_path / "one.png")
    figures.draw(LOOKS, "classic", tmp_path / "three.png")
    one, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "three"))
    assert one.startswith(b"\x89PNG")
    assert one != three
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}


# Who met whom


def test_batches_remember_who_met_in_them():
    mixer = Mixer(
        SPEECH, NOISE, recipe=Recipe(synthetic=0.0, babble=0.0, noise_only=0.0, clean=0.0)
    )
    paired = PairedBatches(mixer, CLASSIC, 3, 64, seed=1)
    for k in (0, 1, 0):
        paired[k]
    first = list(paired.pairs[0])
    assert first
    assert set(first) <= {(r.name, "noise/rain.wav") for r in SPEECH.recordings}
    alone = PairedBatches(mixer, CLASSIC, 3, 64, seed=1)
    alone[0]
    assert alone.pairs == {0: first}


# The catalogue


def test_recordings_and_model_are_entered_once(register, tmp_path):
    Register(tmp_path / "c.sqlite", tmp_path, CLASSIC, SPEECH, NOISE).close()
    tracks = of(tmp_path, "audio_books_tracks")
    assert [(r["track_name"], r["speaker"]) for r in tracks] == [
        ("anna/1.flac", "anna"),
        ("ben/1.flac", "ben"),
    ]
    assert tracks[0]["track_duration"] == pytest.approx(30_000 / 11_025)
    (model,) = of(tmp_path, "model_info")
    assert tuple(model)[:4] == ("classic", "1", "OK", str(tmp_path / "classic.onnx"))


def test_recordings_that_the_catalogue_knows_by_their_path_are_not_entered_again(tmp_path):
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        known = catalogue.add("noise_files", name="Rain", path="/data/noise/rain.wav")
    register = Register(tmp_path / "c.sqlite", tmp_path, CLASSIC, SPEECH, NOISE)
    register.checkpoint(tmp_path / "state.npz", 1, 0, None, {("ben/1.flac", "noise/rain.wav"): 1})
    register.close()
    assert [row["id"] for row in of(tmp_path, "noise_files")] == [known]
    assert [row["noise_id"] for row in of(tmp_path, "training_track")] == [known]


def test_each_checkpoint_takes_the_place_of_the_one_before(register, tmp_path):
    pair = ("anna/1.flac", "noise/rain.wav")
    first = register.checkpoint(tmp_path / "state.npz", 10, 0, None, {pair: 3})
    second = register.checkpoint(tmp_path / "state.npz", 20, 1, 0.5, {pair: 2})
    rows = of(tmp_path, "model_checkpoint")
    assert [(r["id"], r["checkpoint_status"], r["step"]) for r in rows] == [
        (first, "DELETED", 10),
        (second, "OK", 20),
    ]
    assert rows[1]["machine"]
    met = of(tmp_path, "training_track")
    assert [
        (r["start_checkpoint_id"], r["end_checkpoint_id"], r["epoch"], r["times"]) for r in met
    ] == [
        (None, first, 0, 3),
        (first, second, 1, 2),
    ]


def test_what_a_kill_undid_does_not_count(register, tmp_path):
    pair = ("anna/1.flac", "noise/rain.wav")
    first = register.checkpoint(tmp_path / "state.npz", 10, 0, None, {pair: 3})
    register.checkpoint(tmp_path / "state.npz", 20, 1, 0.5, {pair: 2})  # whose file never came
    register.resume(first)
    assert [r["id"] for r in of(tmp_path, "model_checkpoint", checkpoint_status="OK")] == [first]
    assert [r["times"] for r in of(tmp_path, "training_track", status="OK")] == [3]
    third = register.checkpoint(tmp_path / "state.npz", 15, 0, None, {pair: 1})
    last = of(tmp_path, "training_track", status="OK")[-1]
    assert (last["start_checkpoint_id"], last["end_checkpoint_id"]) == (first, third)
    register.resume(0)
    assert not of(tmp_path, "model_checkpoint", checkpoint_status="OK")
    assert not of(tmp_path, "training_track", status="OK")


def test_another_run_s_model_keeps_its_name(register, tmp_path):
    with pytest.raises(TrainingError, match=r"classic 1 is the model of another run.*version=2"):
        Register(tmp_path / "c.sqlite", tmp_path / "other", CLASSIC, SPEECH, NOISE)


@pytest.mark.parametrize("way", [shutil.copytree, shutil.move])
def test_a_run_that_was_moved_or_copied_goes_on_in_its_own_catalogue(tmp_path, way):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    register = Register(old / "c.sqlite", old, CLASSIC, SPEECH, NOISE)
    pair = ("anna/1.flac", "noise/rain.wav")
    first = register.checkpoint(old / "state.npz", 10, 0, None, {pair: 3})
    register.close()
    way(old, new)
    register = Register(new / "c.sqlite", new, CLASSIC, SPEECH, NOISE)
    register.resume(first)
    second = register.checkpoint(new / "state.npz", 20, 1, 0.5, {pair: 2})
    register.close()
    (model,) = of(new, "model_info")
    assert model["path"] == str(new / "classic.onnx")
    (row,) = of(new, "model_checkpoint", checkpoint_status="OK")
    assert (row["id"], row["checkpoint_path"]) == (second, str(new / "state.npz"))
    with pytest.raises(TrainingError, match="the model of another run"):
        Register(new / "c.sqlite", old, CLASSIC, SPEECH, NOISE)


def test_a_catalogue_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "c.sqlite").write_bytes(b"no catalogue" * 100)
    with pytest.raises(TrainingError, match=r"c\.sqlite: ") as error:
        Register(tmp_path / "c.sqlite", tmp_path, CLASSIC, SPEECH, NOISE)
    assert "\n" not in str(error.value)
