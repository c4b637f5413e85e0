"""Corpora from a real server, in archives as strangers pack them."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from acquisition import corpus
from acquisition.archives import unpack
from acquisition.catalogue import Catalogue
from acquisition.downloads import Manners, Visitor
from acquisition.errors import AcquisitionError
from app.cli import main
from tests.acquisition.web import Site, drop_after, serving

CLIPS = Path(__file__).parents[2] / "app" / "clips"
BRISK = Manners(pause_s=(0.0, 0.0), tries=4, back_off_s=0.01, longest_wait_s=3.0, timeout_s=5.0)


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def site():
    voice, rain = ((CLIPS / f"{name}.flac").read_bytes() for name in ("voice", "rain"))
    tar = tarred({"small/SPEAKERS.TXT": b"-", "small/7/1/7-1-0.flac": voice})
    archive = zipped({"noises/rain_1.flac": rain, "rooms/hall.flac": rain, "noises/a.txt": b"-"})
    with serving(Site(files={"/small.tar.gz": tar, "/mixed.zip": archive})) as site:
        yield site


@pytest.fixture
def table(site, tmp_path):
    md5 = hashlib.md5(site.files["/small.tar.gz"]).hexdigest()
    path = tmp_path / "mine.toml"
    path.write_text(f"""
[[corpus]]
name = "small"
title = "A small one"
homepage = "{site.at}"
licence = "CC0-1.0"
language = "english"
[[corpus.layout]]
kind = "speech"
files = '^small/(?P<group>\\d+)/.*[.]flac$'
[[corpus.part]]
name = "a"
url = "{site.at}/small.tar.gz"
size_mb = 1
md5 = "{md5}"

[[corpus]]
name = "mixed"
title = "Noises and rooms"
homepage = "{site.at}"
licence = "CC-BY-4.0"
[[corpus.layout]]
kind = "noise"
files = '^noises/(?P<group>[a-z]+).*[.]flac$'
[[corpus.layout]]
kind = "rir"
files = '^rooms/(?P<group>[a-z]+)[.]flac$'
[[corpus.part]]
name = "all"
url = "{site.at}/mixed.zip"
""")
    return path


def gather(table, name, folder):
    chosen, (part,) = corpus.choose(corpus.read_tables(table), name, [])
    with Catalogue(folder / "catalogue.sqlite") as catalogue, Visitor(BRISK) as visitor:
        return corpus.gather(catalogue, chosen, part, folder / "corpora" / name, visitor)


def test_a_corpus_is_a_table_entry(site, table, tmp_path, capsys):
    into = tmp_path / "gathered"
    site.faults["/small.tar.gz"] = [drop_after(10_000)]
    given = ["acquire", "corpus", "small", "--table", str(table), "--into", str(into)]
    assert main(given) == 0
    assert "small a: speech 1 new" in capsys.readouterr().out
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        (row,) = catalogue.find("audio_books_tracks")
    assert row["track_path"] == "corpora/small/a/small/7/1/7-1-0.flac"
    kept = (into / row["track_path"]).read_bytes()
    assert kept == (CLIPS / "voice.flac").read_bytes()
    assert row["sha256"] == hashlib.sha256(kept).hexdigest()
    assert (row["speaker"], row["licence"]) == ("small/7", "CC0-1.0")
    assert row["book_language"] == "english"
    # Only what is wanted was unpacked, and the archive is gone.
    files = [path for path in (into / "corpora").rglob("*") if path.is_file()]
    assert files == [into / row["track_path"]]
    site.asked.clear()
    assert main(given) == 0
    assert "0 new (0.00 h), 1 known" in capsys.readouterr().out
    assert site.asked == []


def test_one_archive_may_hold_noises_and_rooms(table, tmp_path):
    assert gather(table, "mixed", tmp_path).count("1 new") == 2
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        (noise,), (room,) = (catalogue.find(name) for name in ("noise_files", "room_responses"))
        assert (noise["name"], room["name"]) == ("mixed/rain", "mixed/hall")
        # A kill between two rows: what is missing is entered by the next call.
        with catalogue.transaction():
            catalogue.change("noise_files", {"id": noise["id"]}, path="elsewhere.flac")
    assert (
        gather(table, "mixed", tmp_path)
        == "noise 1 new (0.00 h), 0 known; rir 0 new (0.00 h), 1 known"
    )


@pytest.mark.parametrize(("name", "path"), [("small", "/small.tar.gz"), ("mixed", "/mixed.zip")])
def test_killed_while_it_unpacks_nothing_is_fetched_again(
    site, table, tmp_path, monkeypatch, name, path
):
    """Whether an MD5 is known or nothing at all."""

    def killed(*_):
        raise KeyboardInterrupt

    def killed_later(*given):
        unpack(*given)
        raise KeyboardInterrupt

    for unpacking in (killed, killed_later):
        with monkeypatch.context() as patched:
            patched.setattr(corpus, "unpack", unpacking)
            with pytest.raises(KeyboardInterrupt):
                gather(table, name, tmp_path)
    assert "1 new" in gather(table, name, tmp_path)
    assert [asked for asked, _ in site.asked] == [path]
    assert not list(tmp_path.rglob("*.archive"))


def test_a_damaged_archive_of_no_known_checksum_is_fetched_anew(site, table, tmp_path):
    whole = site.files["/mixed.zip"]
    site.files["/mixed.zip"] = whole[: len(whole) // 2]
    with pytest.raises(AcquisitionError, match="is no whole archive"):
        gather(table, "mixed", tmp_path)
    site.files["/mixed.zip"] = whole
    assert gather(table, "mixed", tmp_path).count("1 new") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_what_a_full_disk_stops_is_not_fetched_again(site, table, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = len(site.files["/mixed.zip"]) * 3 // 2 + 400 * 1024  # for the archive, not for all
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    subprocess.run(mount, check=True)
    try:
        with pytest.raises(AcquisitionError, match="the disk is full"):
            gather(table, "mixed", disk)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert gather(table, "mixed", disk).count("1 new") == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert [asked for asked, _ in site.asked] == ["/mixed.zip"]


def test_a_wrong_checksum_or_layout_is_a_line(site, table, tmp_path):
    site.files["/small.tar.gz"] += b"more"
    with pytest.raises(AcquisitionError, match="MD5"):
        gather(table, "small", tmp_path)
    assert not list(tmp_path.glob("corpora/small/*"))
    site.files["/mixed.zip"] = zipped({"other/x.flac": b"-"})
    with pytest.raises(AcquisitionError, match="holds none of the files"):
        gather(table, "mixed", tmp_path)
    site.files["/mixed.zip"] = zipped({"noises/../../x.flac": b"-"})


def test_no_more_is_fetched_than_the_table_promises(site, table, tmp_path, monkeypatch):
    """Twice the size it tells; without one, what no corpus has."""
    site.files["/small.tar.gz"] = bytes(2_000_001)
    with pytest.raises(AcquisitionError, match="has 2000001 bytes, 2000000 are allowed"):
        gather(table, "small", tmp_path)
    monkeypatch.setattr(corpus, "_LARGEST_PART", 1000)
    with pytest.raises(AcquisitionError, match="bytes, 1000 are allowed"):
        gather(table, "mixed", tmp_path)


def test_an_archive_that_leads_elsewhere_writes_nothing(site, table, tmp_path):
    site.files["/mixed.zip"] = zipped({"noises/a.flac": b"-", "noises/../../../x.flac": b"-"})
    with pytest.raises(AcquisitionError, match="outside of its folder"):
        gather(table, "mixed", tmp_path)
    assert not list(tmp_path.rglob("*.flac"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus = 3", "should have"),
        ("[[corpus]\n", "is no table"),
        ('[[corpus]]\nname = "../x"', "cannot be the name"),
        ('[[corpus]]\nname = "x"', "corpus x: 'layout'"),
        ("[[corpus]]\ntitle = 'x'", "cannot be the name"),
    ],
)
def test_a_wrong_table_is_a_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(AcquisitionError, match=message):
        corpus.read_tables(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "rir"', 'kind = "room"', "got room"),
        ("(?P<group>[a-z]+)[.]", "([a-z]+)[.]", "a group named group"),
        ('name = "all"', 'name = ".."', "cannot be the name"),
        ("homepage", "home_page", "home_page"),
        ("size_mb = 1", "size_mb = 0", "size_mb should be above 0"),
        ("size_mb = 1", "size_mb = nan", "size_mb should be above 0"),
        ("size_mb = 1", "size_mb = '1'", "corpus small: '<' not supported"),
        ("(?P<group>[a-z]+)[.]", "(?P<group>[a-z]+[.]", "corpus mixed"),
    ],
)
def test_a_wrong_entry_is_a_line(table, old, new, message):
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(AcquisitionError, match=message):
        corpus.read_tables(table)


def test_ours_are_those_that_were_promised(capsys):
    table = corpus.read_tables(None)
    assert {"librispeech", "vctk", "musan", "demand", "esc-50", "rirs"} <= set(table)
    assert main(["acquire", "corpus"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(table)
    assert (
        "librispeech: LibriSpeech: read English, 16 kHz; speech; 7 parts, 61.4 GB; CC-BY-4.0"
        in told[0]
    )
    for one in table.values():
        assert one.licence
        assert all(part.url.startswith("https://") for part in one.parts)
    # Names as the corpora have them.
    for name, kind, path, group in (
        ("librispeech", "speech", "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac", "84"),
        ("vctk", "speech", "wav48_silence_trimmed/p225/p225_001_mic1.flac", "p225"),
        (
            "musan",
            "noise",
            "musan/noise/free-sound/noise-free-sound-0000.wav",
            "noise-free-sound-0000",
        ),
        (
            "musan",
            "speech",
            "musan/speech/librivox/speech-librivox-0000.wav",
            "speech-librivox-0000",
        ),
        (
            "rirs",
            "rir",
            "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav",
            "smallroom/Room001",
        ),
        (
            "rirs",
            "noise",
            "RIRS_NOISES/pointsource_noises/noise-free-sound-0001.wav",
            "noise-free-sound-0001",
        ),
        ("demand", "noise", "DKITCHEN/ch01.wav", "DKITCHEN"),
        ("esc-50", "noise", "ESC-50-master/audio/1-100032-A-0.wav", "100032"),
        ("esc-10", "noise", "ESC-50-master/audio/1-100032-A-0.wav", "100032"),
    ):
        found = {
            one.kind: m["group"] for one in table[name].layouts if (m := one.files.match(path))
        }
        assert found == {kind: group}
    assert not table["esc-10"].layouts[0].files.match("ESC-50-master/audio/1-100032-A-2.wav")


def test_unknown_names_are_a_line(capsys, tmp_path):
    assert main(["acquire", "corpus", "librispeach", "--into", str(tmp_path)]) == 1
    assert "there is no corpus librispeach, but demand" in capsys.readouterr().err
    assert main(["acquire", "corpus", "demand", "KITCHEN", "--into", str(tmp_path)]) == 1
    assert "demand has no KITCHEN, but DKITCHEN" in capsys.readouterr().err
