"""From a catalogue to a page, with real recordings."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from acquisition.catalogue import DELETED, Catalogue
from app.cli import main
from training import explore, explore_figures, explore_sounds, explore_tables
from training.explore_page import Picture, Section, page
from training.mixing import active_level_db
from training.settings import CLASSIC, FULLBAND
from training.signals import rms_db

CLIPS = Path(__file__).parents[2] / "app" / "clips"

HOSTILE = (
    "</td></table><script>alert('1')</script><img src=\"http://a.example/x\"> | & \x1b[31m\n日本"
)

COUNTED = {"languages", "rates", "quality"}


class Seen(HTMLParser):
    """What a page holds: its words, its pictures, and all that it refers to."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: dict[str, str] = {}
        self.references: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.references += [found[name] for name in ("src", "href", "srcset") if name in found]
        assert not any(name.startswith("on") for name in found)
        if tag == "img":
            self.pictures[found["id"]] = found["src"]
            assert found["alt"]
        if tag not in ("img", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text += data


def seen(path):
    content = path.read_text("utf-8")
    assert "url(" not in content
    assert "@import" not in content
    found = Seen(content)
    assert all(one.startswith("data:image/png;base64,") for one in found.references)
    assert "script" not in found.tags
    return found


@pytest.fixture
def folder(tmp_path):
    """A voice and a noise with hostile names, one in two books; a DELETED one that is not there."""
    for name in ("voice", "rain", "helicopter"):
        shutil.copy(CLIPS / f"{name}.flac", tmp_path)
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        track = {
            "track_name": HOSTILE,
            "track_path": "voice.flac",
            "track_sample_rate": 48_000,
            "track_duration": 8.0,
            "track_snr": 40.0,
            "track_bandwidth": 20_000.0,
            "track_silence": 0.2,
            "track_clipped": 0.0,
            "speaker": HOSTILE,
            "book_language": "日本語 $x^2$ $",
        }
        for book in ("A", HOSTILE):
            catalogue.add("audio_books_tracks", **track, book_name=book, book_url=book)
        gone = {**track, "track_path": "gone.flac", "track_status": DELETED}
        catalogue.add("audio_books_tracks", **gone)
        for name in ("rain", "helicopter"):
            catalogue.add(
                "noise_files",
                name=f"{name} {HOSTILE}",
                path=f"{name}.flac",
                sample_rate=48_000,
                duration=10.0,
            )
    return tmp_path


def run(*arguments):
    return main(["explore", *map(str, arguments)])


def test_a_page_holds_everything(folder, capsys):
    out = folder / "new" / "page.html"
    assert run(folder / "catalogue.sqlite", "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kinds"][0]["tracks"] == 2
    assert told["kinds"][0]["files"] == 1
    assert told["combinations"]["pairs"] == 4
    assert told["shown"]["voice"] == HOSTILE
    assert told["shown"]["snr_db"] == 5.0
    found = seen(out)
    assert set(found.pictures) == set(explore.SAYS)
    assert "alert('1')" in found.text  # as text
    assert "SNR of 5 dB" in found.text
    assert "\x1b" not in found.text
    for table in explore_tables.tables(told).values():
        assert table.title in found.text
    assert {path.stem for path in (out.parent / "page_figures").iterdir()} == set(explore.SAYS)
    assert sorted(told["figures"]) == sorted(map(str, (out.parent / "page_figures").iterdir()))
    for path in (out.parent / "page_figures").iterdir():
        picture = matplotlib.image.imread(path)
        assert picture.shape[1] == 896
        assert picture[..., :3].std() > 0.02  # something is drawn
    assert {path.name for path in out.parent.iterdir()} == {"page.html", "page_figures"}


def test_the_same_seed_shows_the_same(folder, capsys):
    pages = []
    for name in ("a", "b"):
        assert run(folder / "catalogue.sqlite", "--out", folder / f"{name}.html", "--seed", 3) == 0
        pages.append((folder / f"{name}.html").read_bytes())
    assert pages[0] == pages[1]
    capsys.readouterr()


def test_without_a_page_there_are_tables(folder, capsys):
    assert run(folder / "catalogue.sqlite", "--setting", "fullband") == 0
    out = capsys.readouterr().out
    assert "48000 Hz" in out
    assert "\x1b" not in out
    assert HOSTILE not in out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert any("alert" in row and "\\|" in row for row in rows)
    assert re.search(r"^\| speech +\| +2 \| +1 \| +0\.00 \| +1 \|$", out, re.MULTILINE)
    assert sorted(path.suffix for path in folder.iterdir()) == [".flac"] * 3 + [".sqlite"]


def test_what_is_missing_is_told(folder, capsys):
    out = folder / "page.html"
    (folder / "rain.flac").unlink()
    (folder / "helicopter.flac").write_text("no sound")
    assert run(folder / "catalogue.sqlite", "--out", out) == 0
    found = seen(out)
    assert "No noise can be shown: none of 2 files has sound in it." in found.text
    assert "spectrograms" in found.pictures
    (folder / "voice.flac").unlink()
    assert run(folder / "catalogue.sqlite", "--out", out) == 0
    found = seen(out)
    assert set(found.pictures) == COUNTED
    # Figures of the page before are gone with it.
    assert {path.stem for path in (folder / "page_figures").iterdir()} == COUNTED
    capsys.readouterr()


@pytest.mark.parametrize("kind", ["nothing", "noise"])
def test_a_catalogue_without_voices_gives_a_page(folder, tmp_path, capsys, kind):
    path, out = tmp_path / "other.sqlite", tmp_path / "page.html"
    with Catalogue(path) as catalogue:
        if kind == "noise":
            catalogue.add("noise_files", name="rain", path="rain.flac")
    assert run(path, "--out", out) == 0
    found = seen(out)
    assert "No voice can be shown" in found.text
    if kind == "nothing":
        assert not found.pictures
    else:
        assert set(found.pictures) == set(explore.SAYS) - {"languages", "quality"}
    assert run(path, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rates"] is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "there is no such catalogue"),
        ("text", "not a database"),
        ("theirs", "another program"),
        ("folder", "there is no such catalogue"),
    ],
)
def test_what_is_no_catalogue_is_a_line(tmp_path, capsys, name, message):
    path = tmp_path / name
    if name == "text":
        path.write_text("no catalogue " * 500)
    elif name == "theirs":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    elif name == "folder":
        path.mkdir()
    assert run(path, "--out", tmp_path / "page.html") == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert message in line
    assert "Traceback" not in line
    assert not (tmp_path / "page.html").exists()
    assert path.exists() == (name != "gone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a catalogue"),
        (["catalogue.sqlite", "--seed", "-1"], "--seed"),
        (["catalogue.sqlite", "--out", "catalogue.sqlite"], "is the catalogue"),
        (["--bench", "0"], "1 or more"),
    ],
)
def test_wrong_wishes_are_a_line(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    before = (folder / "catalogue.sqlite").read_bytes()
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err
    assert (folder / "catalogue.sqlite").read_bytes() == before


def test_a_write_that_fails_leaves_the_page_before(folder, capsys, monkeypatch):
    out = folder / "page.html"
    out.write_text("the page before")
    for path in folder.glob("*.flac"):  # fewer figures are faster drawn
        path.unlink()

    def full(path, content):
        if path.suffix == ".html":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patched:
        patched.setattr(explore, "replace_file", full)
        assert run(folder / "catalogue.sqlite", "--out", out) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_text() == "the page before"
    shutil.rmtree(folder / "page_figures")
    (folder / "page_figures").write_text("in the way")
    assert run(folder / "catalogue.sqlite", "--out", out) == 1
    assert len(capsys.readouterr().err.splitlines()[-1:]) == 1
    assert out.read_text() == "the page before"
    assert not list(folder.glob("*.part"))


def test_a_voice_and_a_noise_come_together_at_their_ratio(rng):
    voice = rng.standard_normal(20_000).astype(np.float32)
    noise = 0.01 * rng.standard_normal(7_000).astype(np.float32)
    made = explore_sounds.together(voice, noise, 11_025)
    assert all(len(sound) == 20_000 for sound in made.values())
    np.testing.assert_allclose(made["voice"] + made["noise"], made["mixture"], atol=1e-6)
    ratio_db = active_level_db(made["voice"], 11_025) - rms_db(made["noise"])
    assert ratio_db == pytest.approx(explore_sounds.SNR_DB, abs=0.01)
    assert np.abs(made["mixture"]).max() <= 1.0


def test_of_a_long_recording_the_voice_is_shown(tmp_path, rng):
    """Only one place in four of the recording is not silent, and some draws find it."""
    sound = np.zeros(40 * 8000)
    sound[20 * 8000 :] = 0.1 * rng.standard_normal(20 * 8000)
    soundfile.write(tmp_path / "long.wav", sound, 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        for name in ("silent", "long", "not\0there"):
            catalogue.add("noise_files", name=name, path=f"{name}.wav")
        found = explore_sounds.draw(catalogue, "noise", 5, 11_025, rng)
    (piece,) = found.drawn
    assert piece.name == "long"
    assert len(piece.sound) == 8 * 11_025
    assert rms_db(piece.sound) > -30.0
    assert found.missing == 2


@pytest.mark.parametrize("spec", [CLASSIC, FULLBAND], ids=lambda spec: spec.name)
def test_the_shortest_sounds_can_be_drawn(rng, spec):
    sound = 0.1 * rng.standard_normal(spec.sample_rate // 10).astype(np.float32)
    sounds = {"voice": sound, "noise": sound, "mixture": 2.0 * sound}
    for drawn in (
        explore_figures.spectrograms(sounds, spec),
        explore_figures.spectra(sounds, spec),
        explore_figures.envelopes(sounds, spec),
        explore_figures.time_histogram(sounds),
        explore_figures.frequency_histogram(sounds, spec),
        explore_figures.normalisation([sound], spec),
    ):
        assert drawn.startswith(b"\x89PNG")


def test_the_page_is_text_wherever_it_is_given_text():
    table = explore_tables.Table(HOSTILE, HOSTILE, (HOSTILE, "n"), [(HOSTILE, 1), (None, 2)])
    made = page(
        HOSTILE, HOSTILE, [Section(HOSTILE, HOSTILE, [Picture("x", b"", HOSTILE)], [table])]
    )
    assert "<script" not in made
    found = Seen(made)
    assert found.tags.count("td") == 4
    assert found.pictures == {"x": "data:image/png;base64,"}


def test_text_is_one_short_line():
    assert explore_tables.plain("a\n b\x1b[2J\u202e") == "a b\ufffd[2J\ufffd"
    assert len(explore_tables.plain("x" * 10**6)) == explore_tables.LONGEST_TEXT
    assert [explore_tables.text_of(cell) for cell in (None, True, 1234567, 0.125)] == [
        "–",
        "yes",
        "1,234,567",
        "0.12",
    ]


def test_a_large_catalogue_is_measured(capsys):
    assert run("--bench", 200) == 0
    out = capsys.readouterr().out
    assert "200 tracks (4 of them in two books), 300 noises, 60,000 pairs" in out
    assert len([line for line in out.splitlines() if line.startswith("| ")]) == 8
