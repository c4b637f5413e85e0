from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import soundfile
import soxr

from tests.training.conftest import withheld
from training import recordings
from training.dataset_build import write_file
from training.dataset_pcm import sound_shards
from training.dataset_sources import in_folders
from training.recordings import Collection, Recording, decode, load, source_of, split, united


def test_every_file_of_every_folder_is_decoded_at_the_rate(folders, tmp_path):
    heard = load([folders["speech"], folders["noise"]], 11_025, tmp_path / "cache" / "all")
    assert len(heard.recordings) == 18
    for recording in heard.recordings:
        seconds = 3.0 if recording.name.endswith(".flac") else 2.5
        assert len(recording.samples) == pytest.approx(11_025 * seconds, abs=1)
        assert recording.samples.dtype == np.int16
    assert heard.hours == pytest.approx((12 * 3.0 + 6 * 2.5) / 3600, rel=1e-3)


def test_a_tone_keeps_its_level_and_frequency(tmp_path):
    t = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), 48_000, "FLOAT")
    heard = decode(tmp_path / "tone.wav", 11_025)[1000:-1000] / 32768.0
    k = np.arange(1000, 1000 + len(heard))
    wanted = 0.5 * np.sin(2 * np.pi * 1000 * k / 11_025)
    # 16 bits are 3e-5 apart; the resampler's ripple is below that.
    np.testing.assert_allclose(heard, wanted, atol=6e-5)


def test_unreadable_files_are_named_and_counted(folders, tmp_path, caplog):
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC but no more")
    (folders["noise"] / "text.wav").write_text("not sound")
    soundfile.write(folders["noise"] / "nothing.wav", np.zeros(16_000), 16_000)
    soundfile.write(folders["noise"] / "blink.wav", np.ones(10) * 0.1, 16_000)
    heard = load([folders["noise"]], 11_025, tmp_path / "noise")
    assert len(heard.recordings) == 6
    assert len(heard.skipped) == 4
    for name in ("broken.flac", "text.wav", "nothing.wav", "blink.wav"):
        assert any(name in reason for reason in heard.skipped)
        assert name in caplog.text


def test_what_is_no_file_is_named_and_waited_for_by_nobody(folders, tmp_path, caplog):
    os.mkfifo(folders["noise"] / "pipe.wav")
    (folders["noise"] / "folder.wav").mkdir()
    (folders["noise"] / "loop.wav").symlink_to("loop.wav")
    (folders["noise"] / "nowhere.wav").symlink_to("gone.wav")
    odd = os.fsencode(folders["noise"]) + b"/caf\xe9.wav"
    with open(odd, "wb") as file:
        file.write((folders["noise"] / "cars.wav").read_bytes())
    heard = load([folders["noise"]], 11_025, tmp_path / "noise")
    assert len(heard.recordings) == 6
    assert len(heard.skipped) == 4
    for name in ("pipe.wav", "folder.wav", "loop.wav", "nowhere.wav", "caf\\udce9.wav: its name"):
        assert name in caplog.text
    assert len(load([folders["noise"]], 11_025, tmp_path / "noise").recordings) == 6
    files = in_folders([folders["noise"]])
    (shard,) = sound_shards(files, "noise", 11_025, 60.0)
    write_file(tmp_path / "x.h5", shard.fill)
    with h5py.File(tmp_path / "x.h5") as file:
        assert (len(file["recordings"]), len(file["skipped"])) == (6, 4)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_nobody_who_decodes(folders, tmp_path, how):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from training import recordings\n"
        "recordings.decode = lambda *_: print('decodes', flush=True) or time.sleep(600.0)\n"
        "recordings.load([Path(sys.argv[1])], 11_025, Path(sys.argv[2]), workers=2)\n"
    )
    run = [sys.executable, "-c", program, str(folders["speech"]), str(tmp_path / "cache")]
    with subprocess.Popen(run, cwd=Path(__file__).parents[2], stdout=-1) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"decodes\n"] * 2
        workers = psutil.Process(process.pid).children()
        process.send_signal(how)
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=20.0)
    for worker in alive:
        worker.kill()
    assert not alive


def test_long_files_are_decoded_piece_by_piece(tmp_path, rng):
    sound = (0.1 * rng.standard_normal((60 * 48_000, 2))).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 48_000, subtype="FLOAT")
    tracemalloc.start()
    found = decode(tmp_path / "long.wav", 11_025)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 23 MB of float32 in the file; a piece of 5 s, its mean, and 1.3 MB of result twice over.
    assert peak < 9e6
    whole = soxr.resample(sound.mean(axis=1), 48_000, 11_025) * 32768
    assert len(found) == len(whole)
    # Rounded to integers, from sums in another order.
    assert np.abs(found - whole).max() < 0.51


def test_second_load_takes_what_the_first_decoded(folders, tmp_path, monkeypatch):
    first = load([folders["speech"]], 11_025, tmp_path / "speech")
    monkeypatch.setattr("training.recordings._decode_all", None)  # calling it would fail
    second = load([folders["speech"]], 11_025, tmp_path / "speech")
    for a, b in zip(first.recordings, second.recordings, strict=True):
        assert (a.name, a.source) == (b.name, b.source)
        np.testing.assert_array_equal(a.samples, b.samples)


@pytest.mark.parametrize("what", ["rate", "file", "index"])
def test_a_stale_cache_is_made_anew(folders, tmp_path, what):
    cache, rate = tmp_path / "noise", 11_025
    load([folders["noise"]], rate, cache)
    if what == "rate":
        rate = 8_000
    elif what == "file":
        soundfile.write(folders["noise"] / "more.wav", np.full(16_000, 0.1), 16_000)
    else:
        cache.with_suffix(".json").write_text('{"sample_rate": 110')  # a kill cut it off
    heard = load([folders["noise"]], rate, cache)
    assert len(heard.recordings) == (7 if what == "file" else 6)
    assert len(heard.recordings[0].samples) == pytest.approx(2.5 * rate, abs=1)
    assert json.loads(cache.with_suffix(".json").read_text())["sample_rate"] == rate


def meanwhile(monkeypatch, module, name, do):
    """Have something done by another when a function is called for the first time."""
    known = getattr(module, name)

    def called(*given):
        monkeypatch.setattr(module, name, known)
        do()
        return known(*given)

    monkeypatch.setattr(module, name, called)


def test_two_that_fill_one_cache_are_not_in_each_other_s_way(folders, tmp_path, monkeypatch):
    wanted = load([folders["noise"]], 11_025, tmp_path / "alone")
    cache, others = tmp_path / "shared" / "noise", []
    meanwhile(
        monkeypatch,
        recordings,
        "name_of",
        lambda: others.append(load([folders["noise"]], 11_025, cache)),
    )
    for found in (load([folders["noise"]], 11_025, cache), *others):
        for a, b in zip(found.recordings, wanted.recordings, strict=True):
            np.testing.assert_array_equal(a.samples, b.samples)
    assert {path.name for path in cache.parent.iterdir()} == {"noise.json", "noise.pcm"}


def test_a_kill_between_samples_and_index_leaves_no_wrong_sound(folders, tmp_path, monkeypatch):
    wanted = load([folders["noise"]], 11_025, tmp_path / "alone")
    load([folders["noise"]], 11_025, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(recordings, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            load([folders["speech"]], 11_025, tmp_path / "cache")
    found = load([folders["noise"]], 11_025, tmp_path / "cache")
    for a, b in zip(found.recordings, wanted.recordings, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


def killed(*_):
    raise KeyboardInterrupt


def test_two_of_other_folders_in_one_cache_hear_each_its_own(folders, tmp_path, monkeypatch):
    wanted = [load([folders[k]], 11_025, tmp_path / k) for k in ("speech", "noise")]
    cache, others = tmp_path / "shared", []
    # The samples of the one, then all of the other, then the index of the first.
    meanwhile(
        monkeypatch,
        recordings,
        "replace_file",
        lambda: others.append(load([folders["noise"]], 11_025, cache)),
    )
    found = [load([folders["speech"]], 11_025, cache), *others]
    found += [load([folders[k]], 11_025, cache) for k in ("speech", "noise")]
    for heard, alone in zip(found, 2 * wanted, strict=True):
        for a, b in zip(heard.recordings, alone.recordings, strict=True):
            np.testing.assert_array_equal(a.samples, b.samples)


def test_samples_that_are_gone_or_cut_off_are_decoded_again(folders, tmp_path):
    wanted = load([folders["noise"]], 11_025, tmp_path / "alone")
    for left in (None, b"", bytes(1001), bytes(4000)):
        load([folders["noise"]], 11_025, tmp_path / "cache")
        (tmp_path / "cache.pcm").unlink()
        if left is not None:
            (tmp_path / "cache.pcm").write_bytes(left)
        found = load([folders["noise"]], 11_025, tmp_path / "cache")
        for a, b in zip(found.recordings, wanted.recordings, strict=True):
            np.testing.assert_array_equal(a.samples, b.samples)


def test_a_file_that_was_withheld_is_read_when_the_system_gives_it(
    folders, tmp_path, monkeypatch, caplog
):
    (folders["noise"] / "broken.flac").write_bytes(b"fLaC but no more")
    with withheld(folders["noise"] / "cars.wav"):
        heard = load([folders["noise"]], 11_025, tmp_path / "noise")
    assert len(heard.recordings) == 5
    assert len(heard.skipped) == 2
    assert "cars.wav" in caplog.text
    heard = load([folders["noise"]], 11_025, tmp_path / "noise")
    assert [r.name for r in heard.recordings][2] == "noise/cars.wav"
    assert len(heard.recordings) == 6
    # What is broken is not tried each time.
    monkeypatch.setattr(recordings, "_decode_all", None)
    assert len(load([folders["noise"]], 11_025, tmp_path / "noise").skipped) == 1


def test_no_sound_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        load([tmp_path / "nowhere"], 11_025, tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no readable sound"):
        load([tmp_path / "empty"], 11_025, tmp_path / "cache")


def collection(lengths: dict[str, list[int]]) -> Collection:
    return Collection(
        11_025,
        tuple(
            Recording(f"{source}_{k}", source, np.ones(n, np.int16))
            for source, pieces in lengths.items()
            for k, n in enumerate(pieces)
        ),
        (),
    )


def test_no_source_is_on_both_sides_and_nothing_is_lost(rng):
    whole = collection({f"voice{k}": list(rng.integers(1, 900, 4)) for k in range(60)})
    learnt, held_out = split(whole, 0.1)
    assert not {r.source for r in learnt.recordings} & {r.source for r in held_out.recordings}
    assert {r.name for r in learnt.recordings} | {r.name for r in held_out.recordings} == {
        r.name for r in whole.recordings
    }
    assert 0.05 < held_out.hours / whole.hours <= 0.1


def test_a_voice_too_large_for_the_share_is_learnt_from():
    learnt, held_out = split(collection({"large": [900], "small": [50], "tiny": [50]}), 0.1)
    assert {r.source for r in learnt.recordings} == {"large"}
    assert {r.source for r in held_out.recordings} == {"small", "tiny"}


def test_more_files_move_no_voice_across_needlessly():
    before = {f"voice{k}": [100] for k in range(40)}
    _, first = split(collection(before), 0.2)
    _, second = split(collection(before | {"new": [100]}), 0.2)
    moved = {r.source for r in first.recordings} ^ {r.source for r in second.recordings}
    assert len(moved - {"new"}) <= 1  # it may have taken one place


def test_the_same_recording_in_two_folders_is_on_one_side(folders, tmp_path):
    for k, path in enumerate(sorted(folders["noise"].iterdir())):
        # Losslessly packed it is another file of the same sound.
        sound, rate = soundfile.read(path, dtype="int16")
        (tmp_path / f"again{k}").mkdir()
        soundfile.write(tmp_path / f"again{k}" / "17367.flac", sound, rate)
    both = [folders["noise"], *(tmp_path / f"again{k}" for k in range(6))]
    learnt, held_out = split(load(both, 11_025, tmp_path / "cache"), 0.4)
    sounds = [{r.samples[:].tobytes() for r in side.recordings} for side in (learnt, held_out)]
    assert [len(side) for side in sounds] == [4, 2]
    assert not sounds[0] & sounds[1]


def test_sources_that_share_recordings_by_way_of_others_are_one():
    sources = ["d", "c", "c", "b", "b", "a", "e"]
    assert united(sources, ["1", "1", "2", "2", "3", "3", "4"]) == ["a"] * 6 + ["e"]


def test_pieces_of_one_recording_have_one_source():
    assert source_of(Path("a/rain_1.opus")) == source_of(Path("a/rain_2.opus"))
    assert source_of(Path("a/1-48413-A.ogg")) == source_of(Path("a/1-48413-B.ogg"))
    assert source_of(Path("a/061.opus")) != source_of(Path("a/062.opus"))
    assert source_of(Path("a/061.opus")) != source_of(Path("b/061.opus"))
