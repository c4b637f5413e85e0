"""From files to rows, with real files."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from acquisition.tracks import read_track, sound_files
from app.cli import main

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "app" / "clips"


@pytest.fixture
def folder(tmp_path):
    """Two voices and what is no sound."""
    folder = tmp_path / "books" / 'ann\'s "voice"; DROP TABLE noise_files;--'
    folder.mkdir(parents=True)
    shutil.copy(CLIPS / "voice.flac", folder / "ann_1.flac")
    shutil.copy(CLIPS / "rain.flac", folder / "ann_2.flac")
    (folder / "empty.mp3").touch()
    (folder / "notes.txt").write_text("no sound")
    (folder / ".hidden.wav").write_bytes(b"no")
    (folder / "text.wav").write_text("no sound either, whatever it is called")
    soundfile.write(folder / "short.wav", np.zeros(3), 8000)
    return folder


def acquire(*arguments):
    return main(["acquire", *map(str, arguments)])


def test_a_track_is_read_to_its_end():
    track = read_track(CLIPS / "voice.flac")
    info = soundfile.info(CLIPS / "voice.flac")
    assert (track.channels, track.sample_rate) == (info.channels, info.samplerate)
    assert track.duration_s == pytest.approx(info.duration)
    assert len(track.sha256) == 64


def test_what_is_no_sound_is_told_in_a_line(folder):
    names = [path.name for path in sound_files(folder)]
    assert names == ["ann_1.flac", "ann_2.flac", "empty.mp3", "short.wav", "text.wav"]
    for name in ("empty.mp3", "short.wav", "text.wav", "gone.wav"):
        with pytest.raises(AcquisitionError, match=f"{name}: ") as found:
            read_track(folder / name)
        assert "\n" not in str(found.value)
    with pytest.raises(AcquisitionError, match="is not a folder"):
        sound_files(folder / "ann_1.flac")


def test_an_empty_file_is_called_so(folder):
    with pytest.raises(AcquisitionError, match=r"empty\.mp3: is empty"):
        read_track(folder / "empty.mp3")


def test_a_killed_program_leaves_no_workers(tmp_path):
    for k in range(12):
        soundfile.write(
            tmp_path / f"{k}.wav", np.random.default_rng(k).normal(0, 0.1, 48_000), 48_000
        )
    program = (
        "import sys, time; from pathlib import Path; from acquisition.tracks import read_tracks\n"
        f"found = read_tracks(sorted(Path({str(tmp_path)!r}).glob('*.wav')), workers=2)\n"
        "next(found); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=-1) as process:
        assert process.stdout.readline() == b"up\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20.0)
    assert not alive


def test_local_folder_to_catalogue(folder, tmp_path, capsys, caplog):
    into = tmp_path / "gathered"
    given = ["local", folder.parent, "--kind", "speech", "--into", into, "--licence", "CC0-1.0"]
    with caplog.at_level(logging.WARNING):
        assert acquire(*given, "--language", "english") == 0
    assert "2 new" in capsys.readouterr().out
    assert sum("skipped" in record.message for record in caplog.records) == 3
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        first, second = catalogue.find("audio_books_tracks")
        assert first["track_path"] == str(folder / "ann_1.flac")
        assert first["speaker"] == second["speaker"] == f"{folder.name}/ann"
        assert (first["licence"], first["book_language"]) == ("CC0-1.0", "english")
        assert first["track_snr"] > 20.0 > second["track_snr"]
        assert first["track_sample_rate"] == 48_000
        assert 0.0 <= first["track_silence"] < 0.8
        assert first["source"] == f"local: {folder.parent.resolve()}"
    # Again: nothing new; then one file is another.
    assert acquire(*given) == 0
    assert "0 new (0.00 h), 2 known" in capsys.readouterr().out
    shutil.copy(CLIPS / "helicopter.flac", folder / "ann_2.flac")
    assert acquire(*given) == 0
    assert "1 new" in capsys.readouterr().out
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        rows = catalogue.find("audio_books_tracks", track_name=second["track_name"])
        assert [row["track_status"] for row in rows] == ["DELETED", "OK"]
        assert rows[0]["sha256"] != rows[1]["sha256"]


def test_noises_and_rooms_have_their_tables(tmp_path, capsys):
    kitchen = tmp_path / "noise" / "KITCHEN"
    kitchen.mkdir(parents=True)
    for name in ("rain", "helicopter"):
        shutil.copy(CLIPS / f"{name}.flac", kitchen)
    into = tmp_path / "noise"
    assert acquire("local", tmp_path, "--kind", "noise", "--by-folder", "--into", into) == 0
    assert acquire("local", tmp_path, "--kind", "rir", "--into", into) == 0
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        noises, rooms = catalogue.find("noise_files"), catalogue.find("room_responses")
        assert [row["name"] for row in noises] == ["noise/KITCHEN"] * 2
        # Below the catalogue's folder paths are relative: both may be moved together.
        assert [row["path"] for row in noises] == ["KITCHEN/helicopter.flac", "KITCHEN/rain.flac"]
        assert [row["name"] for row in rooms] == ["KITCHEN/helicopter", "KITCHEN/rain"]
    capsys.readouterr()


@pytest.mark.parametrize("name", ["gone", "empty", "gone --kind", "empty --kind"])
def test_a_folder_without_sound_is_a_line(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    name, _, kind = name.partition(" ")
    given = [kind, "noise"] if kind else []
    assert acquire("local", tmp_path / name, *given, "--into", tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    told = "holds no sound" if kind else "has no folder speech, noise, rir"
    assert (told if name == "empty" else "is not a folder") in line
