from __future__ import annotations

import hashlib
import os
import pickle
import shutil

import h5py
import numpy as np
import pytest
import soundfile

from acquisition.catalogue import Catalogue
from engine.errors import TrainingError
from tests.training.conftest import withheld
from training.dataset_build import build_shards, shard_folder, write_file
from training.dataset_pcm import Stored, collections, join, made_of, sound_shards
from training.dataset_sources import Wanted, in_catalogue, in_folders
from training.mixing import Mixer
from training.recordings import decode, load, split

RATE = 11_025


@pytest.fixture
def dataset(folders, tmp_path):
    """A whole dataset in layout pcm, its shards made one by one without a cluster."""
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC but no more")
    (folders["speech"] / "anna" / "LICENSE.txt").write_text("\nCC0 1.0\nmore of it\n")
    return write(folders, tmp_path / "set.h5")


def write(folders, path, held_out=0.2, tested=0.2, minutes=0.1):
    shards = [
        shard
        for kind, folder in zip(("speech", "noise", "rooms"), folders.values(), strict=True)
        for shard in sound_shards(in_folders([folder]), kind, RATE, minutes)
    ]
    shard_folder(path).mkdir(exist_ok=True)
    for shard in shards:
        write_file(shard_folder(path) / shard.name, shard.fill)
    join(path, shards, held_out, tested)
    return path


def test_each_recording_comes_back_sample_by_sample(dataset, folders):
    found = {
        recording.name: recording
        for side in ("train", "valid", "test")
        for recording in collections(dataset, side)[0].recordings
    }
    paths = sorted(folders["speech"].rglob("*.flac"))
    assert len(found) == len(paths) == 12
    for path in paths:
        wanted = decode(path, RATE)
        samples = found[f"{path.parent.name}/{path.name}"].samples
        assert len(samples) == len(wanted)
        np.testing.assert_array_equal(samples[:], wanted)
        np.testing.assert_array_equal(samples[100:2000], wanted[100:2000])
        np.testing.assert_array_equal(samples[30_000:99_999], wanted[30_000:])


@pytest.mark.parametrize("block", [7, 1000, 16_384])
def test_excerpts_do_not_depend_on_how_they_are_read(tmp_path, monkeypatch, rng, block):
    monkeypatch.setattr("training.dataset_pcm._BLOCK", block)
    samples = rng.integers(-32_768, 32_767, 5000).astype(np.int16)
    path = tmp_path / f"{block}.h5"
    with h5py.File(path, "w") as file:
        file["samples"] = samples
    stored, wanted = Stored(str(path), 123, 4321), samples[123 : 123 + 4321]
    for _ in range(50):
        first, end = rng.integers(0, 5000, 2)
        np.testing.assert_array_equal(stored[first:end], wanted[first:end])
    assert len(stored[10:10]) == len(stored[9000:]) == 0
    with pytest.raises(ValueError, match="step"):
        stored[::2]


def test_no_voice_and_no_noise_is_on_two_sides(dataset, folders, tmp_path):
    for kind in (0, 1):
        sources = [
            {r.source for r in collections(dataset, side)[kind].recordings}
            for side in ("train", "valid", "test")
        ]
        assert all(sources)
        assert len(set.union(*sources)) == sum(map(len, sources)) == 6
    # One law for folders and files: the test side is what `split` holds out of the folders.
    heard = load([folders["speech"]], RATE, tmp_path / "cache")
    _, held_out = split(heard, 0.2)
    assert {r.source for r in held_out.recordings} == {
        r.source for r in collections(dataset, "test")[0].recordings
    }


def test_the_same_file_under_two_names_is_on_one_side(folders, tmp_path):
    for k, path in enumerate(sorted(folders["noise"].iterdir())):
        (folders["noise"] / f"again{k}").mkdir()
        shutil.copy(path, folders["noise"] / f"again{k}" / "17367.wav")
    path = write(folders, tmp_path / "set.h5")
    with h5py.File(path) as file:
        rows = file["noise/recordings"][:]
    sides = [set(rows["sha256"][rows["split"] == s]) for s in (b"train", b"valid", b"test")]
    assert all(sides)
    assert sum(map(len, sides)) == 6
    assert len(rows) == len(set(rows["source"])) == 12


def test_validation_has_no_more_than_its_share_where_the_test_side_has_less(folders, tmp_path, rng):
    shutil.rmtree(folders["speech"])
    folders["speech"].mkdir()
    # Both too long for a test side of 30 %: the rest is all there is.
    for name, seconds in (("long", 6.0), ("short", 4.0)):
        noise = 0.1 * rng.standard_normal(round(seconds * RATE))
        soundfile.write(folders["speech"] / f"{name}.wav", noise, RATE)
    for held_out, wanted in ((0.3, 0.0), (0.41, 0.4)):
        path = write(folders, tmp_path / "set.h5", held_out, 0.3)
        hours = [collections(path, side)[0].hours for side in ("train", "valid", "test")]
        assert hours[2] == 0.0
        assert hours[1] / sum(hours) == pytest.approx(wanted, abs=1e-3)


def test_mixtures_are_made_anew_where_sides_are_others(dataset):
    before = made_of(dataset)
    with h5py.File(dataset, "a") as file:
        rows = file["noise/recordings"][:]
        rows["split"] = np.roll(rows["split"], 1)
        file["noise/recordings"][:] = rows
    assert made_of(dataset) != before


def test_it_opens_with_plain_h5py_and_tells_where_sound_came_from(dataset, folders):
    with h5py.File(dataset) as file:
        assert file.attrs["layout"] == "pcm"
        assert file.attrs["sample_rate"] == RATE
        samples, rows = file["speech/samples"], file["speech/recordings"]
        assert samples.is_virtual
        assert samples.dtype == np.int16
        assert len(file["speech/shards"]) > 3
        for row in rows:
            path = folders["speech"] / row["name"].decode()
            assert row["sha256"].decode() == hashlib.sha256(path.read_bytes()).hexdigest()
            assert row["licence"] == (b"CC0 1.0" if b"anna" in row["name"] else b"")
            part = samples[row["start"] : row["start"] + row["length"]]
            np.testing.assert_array_equal(part, decode(path, RATE))
        (skipped,) = file["noise/skipped"].asstr()
        assert "broken.flac" in skipped


def test_the_mixer_draws_the_same_from_a_dataset_and_from_folders(dataset, folders, tmp_path):
    """The same recordings in the same order: the same mixtures by seed."""
    speech, noise, rooms = collections(write(folders, tmp_path / "all.h5", 0.0, 0.0), "train")
    from_file = Mixer(speech, noise, rooms)
    from_folders = Mixer(
        *(load([folder], RATE, tmp_path / kind) for kind, folder in folders.items())
    )
    for seed in range(4):
        a = from_file.draw(np.random.default_rng(seed), RATE)
        b = from_folders.draw(np.random.default_rng(seed), RATE)
        np.testing.assert_array_equal(a.noisy, b.noisy)


def test_file_and_folder_can_be_moved_together_but_not_apart(dataset, tmp_path, monkeypatch):
    wanted = collections(dataset, "train")[0].recordings[0].samples[:]
    away = tmp_path / "away"
    away.mkdir()
    moved = dataset.rename(away / "set.h5")
    with pytest.raises(ValueError, match=r"set\.shards/.* is missing"):
        collections(moved, "train")  # HDF5 itself would give silence
    shard_folder(dataset).rename(away / "set.shards")
    monkeypatch.chdir("/")
    recording = collections(moved, "train")[0].recordings[0]
    np.testing.assert_array_equal(recording.samples[:], wanted)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).samples[:], wanted)
    with h5py.File(moved) as file:
        assert file["speech/samples"][:].any()


def test_what_is_no_dataset_is_refused_in_one_line(dataset, tmp_path):
    text, other, cut = tmp_path / "text.h5", tmp_path / "other.h5", tmp_path / "cut.h5"
    text.write_text("not HDF5")
    h5py.File(other, "w").close()
    cut.write_bytes(dataset.read_bytes()[:3000])
    for path in (text, other, cut, tmp_path / "nowhere.h5"):
        with pytest.raises(ValueError, match=path.name) as told:
            collections(path, "train")
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="train, valid, test"):
        collections(dataset, "dev")


def test_a_changed_file_changes_only_the_shard_that_it_is_in(folders):
    before = [
        shard.name for shard in sound_shards(in_folders([folders["speech"]]), "speech", RATE, 0.1)
    ]
    path = sorted(folders["speech"].rglob("*.flac"))[0]
    os.utime(path, ns=(1, 1))
    after = [
        shard.name for shard in sound_shards(in_folders([folders["speech"]]), "speech", RATE, 0.1)
    ]
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    other_rate = sound_shards(in_folders([folders["speech"]]), "speech", 8000, 0.1)
    assert not {shard.name for shard in other_rate} & set(after)


def test_a_file_that_was_withheld_is_read_by_the_next_build(folders, tmp_path, caplog):
    caplog.set_level("INFO")
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC but no more")
    path, cars = tmp_path / "set.h5", folders["noise"] / "cars.wav"
    shards = sound_shards(in_folders([folders["noise"]]), "noise", RATE, 0.1)
    shard_folder(path).mkdir()
    with withheld(cars):
        for shard in shards:
            write_file(shard_folder(path) / shard.name, shard.fill)
    join(path, shards, 0.0, 0.0)
    first = made_of(path)
    assert len(collections(path, "train")[1].recordings) == 5
    build_shards(shard_folder(path), shards, None, 1)
    assert f"{len(shards) - 1} of {len(shards)} shards are there" in caplog.text
    join(path, shards, 0.0, 0.0)
    assert len(collections(path, "train")[1].recordings) == 6
    assert made_of(path) != first
    # What is broken is not tried each time.
    build_shards(shard_folder(path), shards, None, 1)
    assert f"{len(shards)} of {len(shards)} shards are there" in caplog.text


def test_a_kind_without_readable_sound_is_refused(folders, tmp_path):
    shutil.rmtree(folders["noise"])
    folders["noise"].mkdir()
    with pytest.raises(ValueError, match="no sound in"):
        write(folders, tmp_path / "set.h5")
    (folders["noise"] / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"none of 1 files of noise.*broken\.wav"):
        write(folders, tmp_path / "set.h5")
    assert not (tmp_path / "set.h5").exists()


def test_a_folder_within_another_is_not_heard_twice(folders):
    inner = folders["speech"] / "anna"
    shards = sound_shards(in_folders([folders["speech"], inner]), "speech", RATE, 10.0)
    assert sum(len(shard.files) for shard in shards) == 12


# From a catalogue


@pytest.fixture
def catalogue(folders, tmp_path):
    """Some of the files in the folders, as gathering would have told of them."""
    path = tmp_path / "gathered.sqlite"
    with Catalogue(path) as made:
        for person in ("anna", "ben", "cleo"):
            for piece in (1, 2):
                made.add(
                    "audio_books_tracks",
                    track_name=f"Chapter {piece}",
                    track_path=f"speech/{person}/{person}_{piece}.flac",
                    book_author="Cervantes",
                    book_name="Quijote",
                    speaker=None if person == "cleo" else person,
                    licence="public domain",
                )
        made.add("audio_books_tracks", track_name="gone", track_path="speech/gone.flac")
        made.add(
            "audio_books_tracks",
            track_name="old",
            track_path="speech/dora/dora_1.flac",
            track_status="DELETED",
        )
        made.add("audio_books_tracks", track_name="named by a training run")
        made.add("noise_files", name="brook", path=str(folders["noise"] / "brook.wav"))
        made.add("noise_files", name="cars", path="noise/cars.wav", licence="CC0")
    return path


def test_a_catalogue_says_what_is_there_and_whose_voice_it_is(catalogue, folders, tmp_path):
    speech = in_catalogue(catalogue, "speech")
    assert [file.source for file in speech] == ["anna"] * 2 + ["ben"] * 2 + [
        "Cervantes/Quijote",
        "Cervantes/Quijote",
        "speech/gone",
    ]
    assert speech[0].path == folders["speech"] / "anna" / "anna_1.flac"
    assert speech[0].licence == "public domain"
    noise = in_catalogue(catalogue, "noise")
    assert [(file.source, file.licence) for file in noise] == [("brook", ""), ("cars", "CC0")]

    path = tmp_path / "set.h5"
    # A folder that holds some of the same files adds the others, none twice.
    noise += in_folders([folders["noise"]])
    shards = sound_shards(speech, "speech", RATE, 1.0) + sound_shards(noise, "noise", RATE, 1.0)
    shard_folder(path).mkdir()
    for shard in shards:
        write_file(shard_folder(path) / shard.name, shard.fill)
    join(path, shards, 0.4, 0.0)
    sides = [collections(path, side) for side in ("train", "valid")]
    sources = [{recording.source for recording in side[0].recordings} for side in sides]
    assert sources[0] | sources[1] == {"anna", "ben", "Cervantes/Quijote"}
    assert not sources[0] & sources[1]
    assert sum(len(side[1].recordings) for side in sides) == 6
    assert "gone.flac" in sides[0][0].skipped[0]


def test_a_catalogue_gives_what_is_asked_for(folders, tmp_path):
    path = tmp_path / "gathered.sqlite"
    judged = [
        ("wide", 40.0, 20_000, 0.0, "CC0-1.0"),
        ("noisy", 12.0, 20_000, 0.0, "CC0-1.0"),
        ("telephone", 40.0, 3_900, 0.0, "cc0-1.0"),
        ("clipped", 40.0, 20_000, 0.01, "CC-BY-4.0"),
        ("never-judged", None, None, None, None),
    ]
    with Catalogue(path) as made:
        for name, snr, bandwidth, clipped, licence in judged:
            made.add(
                "audio_books_tracks",
                track_name=name,
                track_path=f"{name}.flac",
                track_snr=snr,
                track_bandwidth=bandwidth,
                track_clipped=clipped,
                licence=licence,
            )
        made.add("noise_files", name="brook", path="brook.wav", bandwidth=4000.0)
        made.add("room_responses", name="hall", path="hall.wav", licence="CC0-1.0")

    def names(**asked):
        return [file.path.stem for file in in_catalogue(path, "speech", Wanted(**asked))]

    everything = [name for name, *_ in judged]
    assert names() == everything
    assert names(snr_db=20.0) == ["wide", "telephone", "clipped"]
    assert names(bandwidth_hz=8000.0) == ["wide", "noisy", "clipped"]
    assert names(clipped=0.001) == ["wide", "noisy", "telephone"]
    assert names(licences=("CC0-1.0",)) == ["wide", "noisy", "telephone"]
    assert names(snr_db=20.0, bandwidth_hz=8000.0, clipped=0.001) == ["wide"]
    # A narrow noise is a noise as well; its licence counts.
    assert len(in_catalogue(path, "noise", Wanted(snr_db=20.0, bandwidth_hz=8000.0))) == 1
    with pytest.raises(TrainingError, match="noise: none of its 1 is as wanted"):
        in_catalogue(path, "noise", Wanted(licences=("CC0-1.0",)))
    assert [file.source for file in in_catalogue(path, "rooms")] == ["hall"]


def test_what_is_no_catalogue_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no such file"):
        in_catalogue(tmp_path / "nowhere.sqlite", "speech")
    (tmp_path / "text.sqlite").write_text("no catalogue at all, but long enough to be read")
    with pytest.raises(TrainingError, match=r"text\.sqlite"):
        in_catalogue(tmp_path / "text.sqlite", "speech")
    with Catalogue(tmp_path / "empty.sqlite"):
        pass
    with pytest.raises(TrainingError, match="holds no file of noise"):
        in_catalogue(tmp_path / "empty.sqlite", "noise")
