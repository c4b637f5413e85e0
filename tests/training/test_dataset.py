from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from acquisition.catalogue import Catalogue
from engine.errors import TrainingError
from tests.training.conftest import dataset_command as command
from tests.training.conftest import voice
from training import dataset
from training.dataset_build import shard_folder

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "main.py"), "dataset"]


def arguments(folders: dict[str, Path], out: Path, *more: str) -> list[str]:
    given = [f"--{kind}={folder}" for kind, folder in folders.items()]
    shares = ["--held-out=0.2", "--test=0.2", "--shard-minutes=0.05"]
    return ["build", *given, f"--out={out}", *shares, *more]


def contents(path: Path) -> dict[str, object]:
    """Every array and attribute of a file by name, numbers as a checksum of their bytes."""
    found: dict[str, object] = {}

    def look(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in thing.attrs.items()})
        if isinstance(thing, h5py.Dataset):
            values = thing[...]
            numbers = thing.dtype.kind in "if"
            plain = hashlib.sha256(values.tobytes()).digest() if numbers else str(values.tolist())
            found[name] = (str(thing.dtype), thing.shape, plain)

    with h5py.File(path) as file:
        look("", file)
        file.visititems(look)
    return {name: _without(value, path.stem) for name, value in found.items()}


def _without(value: object, stem: str) -> str:
    """The tables name the folder of the shards, which is named as the file is."""
    return str(value).replace(f"{stem}.shards/", "")


def shards_of(path: Path) -> dict[str, bytes]:
    """All but the recordings' own file, which joins shards as the whole does."""
    folder = shard_folder(path)
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*.h5")
        if p.name != "sound.h5"
    }


def same(path: Path, other: Path) -> bool:
    """The same content, and shards of the same bytes."""
    inner = [shard_folder(p) / "sound.h5" for p in (path, other)]
    return (
        contents(path) == contents(other)
        and shards_of(path) == shards_of(other)
        and (not inner[0].exists() or contents(inner[0]) == contents(inner[1]))
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a Dask scheduler with two workers, all processes of their own."""
    from distributed import Client

    folder = tmp_path_factory.mktemp("cluster")
    told = folder / "scheduler.json"
    running = []

    def start(*given: str) -> None:
        command = [sys.executable, "-m", "dask", *given, f"--scheduler-file={told}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        running.append(
            subprocess.Popen(
                [*command, "--no-dashboard"],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    try:
        start("scheduler", "--host=127.0.0.1", "--port=0")
        deadline = time.monotonic() + 60.0
        while not (told.exists() and told.read_text().rstrip().endswith("}")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(2):
            start("worker", "--nthreads=1", "--no-nanny")
        address = json.loads(told.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in running:
            process.kill()  # a worker would wait for its scheduler to come back
        for process in running:
            process.wait(30)


def test_a_shard_that_is_cut_off_is_told_of_and_made_anew(folders, tmp_path):
    out = tmp_path / "set.h5"
    command(*arguments(folders, out))
    whole = contents(out)
    shard = next(shard_folder(out).glob("speech-*.h5"))
    os.truncate(shard, 5000)
    with pytest.raises(TrainingError, match=f"{shard.name}: is no HDF5 file, or was cut off"):
        command("info", str(out))
    command(*arguments(folders, out))
    assert contents(out) == whole
    command("info", str(out))


def test_local_processes_build_what_a_cluster_builds(
    folders, tmp_path, cluster, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC but no more")
    local, remote = tmp_path / "local.h5", tmp_path / "remote.h5"
    command(*arguments(folders, local, "--workers=2"))
    assert "broken.flac" in caplog.text
    assert "of 16 shards" in caplog.text  # one file and more in each
    monkeypatch.setattr("distributed.LocalCluster", None)  # calling it would fail
    command(*arguments(folders, remote, f"--scheduler={cluster}"))
    assert same(local, remote)
    told = json.loads(command("info", str(remote), "--json"))
    assert told["layout"] == "pcm"
    assert told["sample_rate"] == 11_025
    assert told["size"] > remote.stat().st_size + 100_000
    (skipped,) = told["skipped"]
    assert "broken.flac" in skipped
    speech = [told["splits"][side]["speech"] for side in ("train", "valid", "test")]
    assert sum(side["recordings"] for side in speech) == 12
    assert [side["voices"] for side in speech] == [4, 1, 1]
    assert sum(side["hours"] for side in speech) == pytest.approx(12 * 3.0 / 3600, rel=0.01)
    text = command("info", str(remote))
    assert "layout pcm, 11025 Hz" in text
    assert "broken.flac" in text


def test_mixtures_in_the_layout_of_the_thesis_come_from_a_seed(folders, tmp_path, cluster):
    given = ["--layout=stft", "--clip-seconds=2", "--simulated-rooms=2", f"--scheduler={cluster}"]
    first, again, other = (tmp_path / f"{name}.h5" for name in ("first", "again", "other"))
    command(*arguments(folders, first, *given))
    command(*arguments(folders, again, *given))
    command(*arguments(folders, other, *given, "--seed=2"))
    assert same(first, again)
    assert not same(first, other)
    rooms = {path.name for path in (shard_folder(first) / "rooms").iterdir()}
    assert rooms == {f"rooms-11025-{n}-1.npz" for n in ("2-0", "1-1", "1-2")}
    told = dataset.describe(first)
    assert told["layout"] == "stft"
    hours = [told["splits"][side]["clean and dirty"]["hours"] for side in ("train", "test")]
    assert hours == pytest.approx([24.0 / 3600, 6.0 / 3600], rel=0.05)


def test_other_inputs_make_only_their_shards_anew(folders, tmp_path, cluster):
    out = tmp_path / "set.h5"
    given = arguments(folders, out, f"--scheduler={cluster}")
    command(*given)
    before = {path: path.stat().st_mtime_ns for path in shard_folder(out).glob("*.h5")}
    left = shard_folder(out) / "noise-0000-123.h5.0a1b.part"
    left.write_bytes(b"what a kill left")
    anna = folders["speech"] / "anna" / "anna_1.flac"
    soundfile.write(anna, np.full(48_000, 0.25), 16_000)
    command(*given)
    after = {path: path.stat().st_mtime_ns for path in shard_folder(out).glob("*.h5")}
    assert len(after) == len(before)
    assert len(set(before.items()) - set(after.items())) == 1
    assert not left.exists()
    recordings = [
        r
        for side in ("train", "valid", "test")
        for r in dataset.collections(out, side)[0].recordings
    ]
    (changed,) = (r for r in recordings if r.name == "anna/anna_1.flac")
    # A constant stays one but for the edges, where the resampler rings.
    np.testing.assert_allclose(changed.samples[1000:30_000], 0.25 * 32768, atol=2)
    fullband = command(*given, "--setting=fullband")
    assert "wrote" in fullband
    assert dataset.describe(out)["sample_rate"] == 48_000


def test_another_layout_leaves_nothing_of_the_one_before(folders, tmp_path, cluster):
    out, pcm = tmp_path / "set.h5", tmp_path / "pcm.h5"
    given = [f"--scheduler={cluster}", "--held-out=0.2", "--test=0.2"]
    mixed = ["--layout=mixed", "--hours=0.01", "--simulated-rooms=1", *given]
    command(*arguments(folders, out, *mixed))
    inner = shard_folder(out)
    assert {"sound.h5", "sound.shards", "rooms"} <= {path.name for path in inner.iterdir()}
    command(*arguments(folders, pcm, *given))
    command("build", f"--dataset={pcm}", f"--out={out}", *mixed)
    assert {path.name for path in inner.iterdir() if path.suffix != ".h5"} == {"rooms"}
    assert not (inner / "sound.h5").exists()
    (inner / "rooms" / "notes.txt").write_text("not of a build")
    (inner / "rooms" / "rooms-11025-1-0-1.npz.0a1b.part").write_bytes(b"what a kill left")
    command(*arguments(folders, out, *given))
    assert shards_of(out) == shards_of(pcm)
    assert [path.name for path in (inner / "rooms").iterdir()] == ["notes.txt"]
    (inner / "rooms" / "notes.txt").unlink()
    command(*arguments(folders, out, *given))
    assert {path.suffix for path in inner.iterdir()} == {".h5"}
    assert dataset.describe(out)["size"] == pytest.approx(dataset.describe(pcm)["size"], rel=0.01)


def test_ten_kills_change_nothing(tmp_path, rng):
    """SIGKILL to the whole build at drawn moments; what is resumed ends up the same."""
    folders = {kind: tmp_path / kind for kind in ("speech", "noise")}
    for kind, folder in folders.items():
        folder.mkdir()
        for k in range(6):
            soundfile.write(folder / f"{kind}{k}_A.wav", voice(rng, 10.0, 44_100), 44_100)
    # Mixtures are made of recordings: kills hit both stages.
    given = ["--layout=stft", "--clip-seconds=4", "--shard-minutes=0.2", "--workers=1"]
    given.append("--simulated-rooms=0")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole.h5", tmp_path / "killed.h5"
    subprocess.run([*COMMAND, *arguments(folders, whole, *given)], env=environment, check=True)

    def made() -> int:
        return len(list(shard_folder(killed).rglob("*.h5")))

    chance = random.Random(20240711)
    kills = unfinished = 0
    while kills < 10 or unfinished < 3:
        assert kills < 40
        build = subprocess.Popen(
            [*COMMAND, *arguments(folders, killed, *given)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # After so many shards more than there are, in the middle of whatever it does then.
        least = made() + chance.randint(0, 3)
        while made() < least and build.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.1))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGKILL)
        build.wait()
        kills += 1
        if killed.exists():  # it was nearly or wholly done: begin again
            assert same(whole, killed)
            killed.unlink()
            shutil.rmtree(shard_folder(killed))
        else:
            unfinished += bool(made())
    subprocess.run([*COMMAND, *arguments(folders, killed, *given)], env=environment, check=True)
    assert same(whole, killed)
    assert not list(shard_folder(killed).rglob("*.part"))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(folders, tmp_path, cluster):
    out = tmp_path / "set.h5"
    command(*arguments(folders, out, f"--scheduler={cluster}"))
    before, shards = contents(out), shards_of(out)
    # A limit on the size of files is to the program what a full disk is: a failing write.
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
    program += f"sys.path.insert(0, {str(ROOT)!r}); import main; sys.exit(main.main())"
    given = ["dataset", *arguments(folders, out, "--setting=fullband", "--workers=1")]
    found = subprocess.run(
        [sys.executable, "-c", program, *given], capture_output=True, text=True, cwd=tmp_path
    )
    assert found.returncode == 1
    (line,) = (line for line in found.stderr.splitlines() if "cannot write" in line)
    assert "too large" in line
    assert "Traceback" not in found.stderr
    assert contents(out) == before
    assert {name: content for name, content in shards_of(out).items() if name in shards} == shards
    assert not list(shard_folder(out).glob("*.part"))


def test_what_a_user_can_mend_is_told(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("training.dataset_build._CONNECT_S", 0.5)
    out = tmp_path / "set.h5"
    (tmp_path / "file").write_text("no folder")
    for given, why in (
        (arguments(folders, tmp_path / "file" / "set.h5"), "cannot write"),
        (arguments(folders, tmp_path), "is a folder"),
        (arguments(folders, tmp_path / "v1.0"), r"should end in \.h5, found .*v1\.0"),
        (arguments(folders, tmp_path / "set.hdf5"), r"should end in \.h5, found .*set\.hdf5"),
        (arguments(folders, out, "--test=0.9"), "leave some for training"),
        (arguments(folders, out, "--shard-minutes=0"), "positive"),
        (arguments(folders, out, "--shard-minutes=inf"), "--shard-minutes.* finite"),
        (arguments(folders, out, "--layout=mixed", "--hours=inf"), "--hours, positive and finite"),
        (arguments(folders, out, "--layout=mixed", "--hours=1", "--seed=-1"), "--seed should"),
        (arguments(folders, out, "--layout=stft", "--clip-seconds=inf"), "--clip-seconds.* finite"),
        (arguments(folders, out, "--layout=stft", "--clip-seconds=1e-5"), r"hop.* 46\.4 ms"),
        (arguments(folders, out, "--scheduler=tcp://127.0.0.1:9"), "no Dask scheduler answers"),
        (arguments(folders | {"noise": tmp_path / "nowhere"}, out), "not a folder"),
        (["info", str(tmp_path / "file")], "no HDF5 file"),
        (["info", str(out)], "no such file"),
    ):
        with pytest.raises(ValueError, match=why):
            command(*given)
    assert not out.exists()


def test_the_bench_measures_the_thesis_as_large_as_it_is(folders, tmp_path, cluster, monkeypatch):
    out = tmp_path / "set.h5"
    command(*arguments(folders, out, f"--scheduler={cluster}"))
    monkeypatch.setattr("training.dataset_bench._MIXTURES", 2)
    table = command("bench", str(out), "--seconds=0.1")
    found = {
        cells[1].strip(): float(cells[2])
        for cells in (line.split("|") for line in table.splitlines())
        if len(cells) == 5 and cells[2].strip().replace(".", "").isdigit()
    }
    # Four float64 of each of 513 bins, 11025/512 frames a second; names and tables add 1 %.
    wanted_mb = 4 * 8 * 513 * 11_025 / 512 * 3600 / 1e6
    assert found.pop("thesis: clean and dirty, dB and phase, float64") == pytest.approx(
        wanted_mb, rel=0.01
    )
    assert len(found) == 8
    assert all(value > 0.0 for value in found.values())


def test_what_was_gathered_becomes_a_dataset(folders, tmp_path, cluster):
    with Catalogue(tmp_path / "gathered.sqlite") as catalogue:
        for person in ("anna", "ben", "cleo"):
            path = f"speech/{person}/{person}_1.flac"
            catalogue.add("audio_books_tracks", track_name=person, track_path=path, speaker=person)
        for path in sorted(folders["noise"].iterdir()):
            catalogue.add("noise_files", name=path.stem, path=str(path), licence="CC0")
    out = tmp_path / "set.h5"
    given = [f"--catalogue={catalogue.path}", f"--rir={folders['rir']}", f"--scheduler={cluster}"]
    command("build", *given, "--held-out=0.4", "--test=0", f"--out={out}")
    told = json.loads(command("info", str(out), "--json"))["splits"]
    assert told["train"]["speech"]["voices"] + told["valid"]["speech"]["voices"] == 3
    assert told["train"]["noise"]["recordings"] + told["valid"]["noise"]["recordings"] == 6
    with h5py.File(out) as file:
        assert set(file["noise/recordings"]["licence"]) == {b"CC0"}
    with pytest.raises(TrainingError, match="no such file"):
        command("build", "--catalogue=nowhere.sqlite", f"--out={tmp_path / 'other.h5'}")
