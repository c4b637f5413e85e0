"""yt-dlp itself, against a real server."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from acquisition import noise
from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from app.cli import main
from tests.acquisition.web import Site, drop_after, kill_when, serving, status

ROOT = Path(__file__).parents[2]
RAIN = (ROOT / "app" / "clips" / "rain.flac").read_bytes()


def encoded(folder, kind, codec, rate=48_000):
    """Two seconds of a tone in a container as the web has them."""
    path = folder / f"tone.{kind}"
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    with av.open(str(path), "w") as writer:
        stream = writer.add_stream(codec, rate=rate)
        stream.layout = "mono"
        step = stream.codec_context.frame_size or 960
        for k in range(0, len(tone) - step + 1, step):
            frame = av.AudioFrame.from_ndarray(
                np.float32(tone[k : k + step])[None], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, k, Fraction(1, rate)
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def site():
    page = b'<html><title>Rain &amp; "wind"</title><body><audio src="/rain.flac"></audio></html>'
    with serving(Site(files={"/rain.flac": RAIN, "/page.html": page})) as site:
        yield site


@pytest.fixture
def table(site, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f"""
[[noise]]
name = "rain"
url = "{site.at}/rain.flac"
licence = "CC0-1.0"
[[noise]]
name = "wind"
url = "{site.at}/page.html"
[[noise]]
name = "gone"
url = "{site.at}/gone.flac"
note = "it never was"
""")
    return path


def acquire(*given):
    return main(["acquire", "noise", *map(str, given)])


def rows(into):
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        return catalogue.find("noise_files")


def test_a_file_and_a_page_are_fetched_and_entered(site, table, tmp_path, capsys, caplog):
    into = tmp_path / "gathered"
    with caplog.at_level(logging.WARNING):
        assert acquire("rain", "gone", "wind", "--table", table, "--into", into) == 1
    out, err = capsys.readouterr()
    assert "rain: 0.2 min, CC0-1.0" in out
    assert err.splitlines()[-1].startswith("denoise-app: 1 of 3 noises could not be had: gone")
    assert "404" in caplog.text
    assert "(it never was)" in caplog.text
    rain, wind = rows(into)
    assert (into / rain["path"]).read_bytes() != b""
    assert (
        soundfile.info(into / rain["path"]).frames
        == soundfile.info(ROOT / "app" / "clips" / "rain.flac").frames
    )
    assert rain["sha256"] == hashlib.sha256((into / rain["path"]).read_bytes()).hexdigest()
    assert (rain["url"], rain["licence"]) == (f"{site.at}/rain.flac", "CC0-1.0")
    assert 'Rain & "wind"' in wind["source"]
    assert wind["licence"] is None
    assert not [path for path in into.rglob("*") if "unfinished" in str(path) and path.is_file()]
    # What is there is not asked for again.
    site.asked.clear()
    assert acquire("rain", "--table", table, "--into", into) == 0
    assert "is there already" in capsys.readouterr().out
    assert site.asked == []


def test_dropped_lines_and_busy_servers_are_borne(site, table, tmp_path):
    site.faults["/rain.flac"] = [drop_after(50_000), drop_after(90_000), status(503)]
    assert acquire("rain", "--table", table, "--into", tmp_path) == 0
    (row,) = rows(tmp_path)
    given, kept = (
        soundfile.read(file)[0] for file in (ROOT / "app/clips/rain.flac", tmp_path / row["path"])
    )
    assert np.array_equal(given, kept)


def test_a_kill_loses_nothing(site, table, tmp_path):
    """SIGKILL while the server holds back the rest, each time when more is stored than before."""
    line = [sys.executable, "main.py", "acquire", "noise", "rain"]
    line += ["--table", str(table), "--into", str(tmp_path)]
    part = tmp_path / "noise" / "unfinished" / "rain.flac.part"

    def stored() -> int:
        return part.stat().st_size if part.exists() else 0

    firsts = []
    for _ in range(3):
        least = stored() + 80_000  # yt-dlp stores in blocks, each up to twice the one before
        site.asked.clear()
        with site.holding("/rain.flac", 200_000):
            process = subprocess.Popen(line, cwd=ROOT)
            kill_when(process, lambda least=least: stored() >= least)
        firsts.append(site.asked[-1][1])
    assert acquire("rain", "--table", table, "--into", tmp_path) == 0
    first, second, third = (int(a.removeprefix("bytes=").rstrip("-") or 0) for a in firsts)
    assert first == 0
    assert 80_000 <= second <= third - 80_000
    (row,) = rows(tmp_path)
    given, kept = (
        soundfile.read(file)[0] for file in (ROOT / "app/clips/rain.flac", tmp_path / row["path"])
    )
    assert np.array_equal(given, kept)


@pytest.mark.parametrize(
    ("kind", "codec", "suffix"),
    [("webm", "libopus", ".opus"), ("m4a", "aac", ".flac"), ("mp3", "libmp3lame", ".mp3")],
)
def test_what_the_web_has_becomes_what_training_reads(tmp_path, kind, codec, suffix):
    (tmp_path / "a").write_bytes(encoded(tmp_path, kind, codec))
    kept = noise.keep(tmp_path / "a", tmp_path / "b", 60.0)
    assert kept == tmp_path / f"b{suffix}"
    sound, rate = soundfile.read(kept)
    assert rate == 48_000
    assert sound.ndim == 1
    assert len(sound) == pytest.approx(2 * rate, rel=0.05)
    middle = sound[rate // 2 : rate]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * rate / len(middle) == pytest.approx(440, abs=2)
    half = noise.keep(tmp_path / "a", tmp_path / "c", 1.0)
    assert soundfile.info(half).duration == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"<html>no sound</html>" * 100])
def test_what_is_no_sound_is_a_line(site, tmp_path, table, capsys, content):
    site.files["/rain.flac"] = content
    assert acquire("rain", "--table", table, "--into", tmp_path) == 1
    assert "could not be had: rain" in capsys.readouterr().err
    assert rows(tmp_path) == []
    assert not [path for path in (tmp_path / "noise").iterdir() if path.is_file()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk_is_a_line_and_nothing_is_lost(site, table, tmp_path, capsys, caplog):
    """A file system of 500 KiB, really full: the noise has 672 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "none", str(disk)]
    subprocess.run(mount, check=True)
    try:
        assert acquire("rain", "--table", table, "--into", disk) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("denoise-app: 1 of 1 noises could not be had: rain")
        assert caplog.messages[-1].startswith("rain: ")
        assert "No space left on device" in caplog.messages[-1]
        assert not [path for path in (disk / "noise").iterdir() if path.is_file()]
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert rows(disk) == []
        assert acquire("rain", "--table", table, "--into", disk) == 0
        (row,) = rows(disk)
        given, kept = (
            soundfile.read(file)[0] for file in (ROOT / "app/clips/rain.flac", disk / row["path"])
        )
        assert np.array_equal(given, kept)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_recording_of_that_name(site, table, tmp_path):
    assert acquire("rain", "--table", table, "--into", tmp_path) == 0
    site.files["/other.mp3"] = encoded(tmp_path, "mp3", "libmp3lame")
    table.write_text(table.read_text().replace("/rain.flac", "/other.mp3"))
    assert acquire("rain", "--table", table, "--into", tmp_path) == 0
    assert [row["status"] for row in rows(tmp_path)] == ["DELETED", "OK"]


def test_the_thesis_s_ten_are_there(capsys, tmp_path):
    assert acquire("--list") == 0
    told = capsys.readouterr().out
    assert len(told.splitlines()) == 10
    assert "airDryer  https://www.youtube.com/watch?v=PNAQqh2h3AA" in told
    assert acquire("--open") == 0
    assert "demand: DEMAND" in capsys.readouterr().out
    assert acquire("hairDryer", "--into", tmp_path) == 1
    assert "there is no noise hairDryer, but airDryer" in capsys.readouterr().err


def test_a_wrong_table_is_a_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[[noise]]\nname = 'a'\nlink = 'b'")
    with pytest.raises(AcquisitionError, match="a noise has name, url"):
        noise.read_tables(path)
