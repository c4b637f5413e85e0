"""With a real synthesiser."""

from __future__ import annotations

import sys

import pytest
import soundfile

from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from acquisition.synthetic import sentences, speak
from app.cli import main

TEXT = """The north wind and the sun
argued. Which was the stronger?

— — —

Ein zweiter Absatz, "mit 'Zitaten'"; DROP TABLE x."""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


def test_sentences(text):
    assert list(sentences(text)) == [
        "The north wind and the sun argued.",
        "Which was the stronger?",
        "Ein zweiter Absatz, \"mit 'Zitaten'\"; DROP TABLE x.",
    ]
    text.write_text("word " * 300, "utf-8")
    pieces = list(sentences(text))
    assert all(len(piece) <= 400 for piece in pieces)
    assert " ".join(pieces).split() == ["word"] * 300


def test_voices_read_a_text(text, tmp_path, capsys):
    into = tmp_path / "gathered"
    given = ["acquire", "synthetic", "--text", text, "--voices", "en-gb", "de+f3", "--into", into]
    assert main([*map(str, given), "--licence", "CC0-1.0"]) == 0
    assert "en-gb: 3 new" in capsys.readouterr().out
    with Catalogue(into / "catalogue.sqlite") as catalogue:
        rows = catalogue.find("audio_books_tracks")
    assert {row["speaker"] for row in rows} == {"espeak-ng/en-gb", "espeak-ng/de+f3"}
    assert all(row["track_duration"] > 1.0 and row["licence"] == "CC0-1.0" for row in rows)
    assert soundfile.info(into / rows[0]["track_path"]).samplerate == 22_050
    assert {path.suffix for path in (into / "synthetic").rglob("*") if path.is_file()} == {".wav"}
    assert main(list(map(str, given))) == 0
    assert "0 new (0.00 h), 3 known" in capsys.readouterr().out


def test_any_engine_that_is_a_command(text, tmp_path, capsys):
    program = tmp_path / "mytts.py"
    program.write_text(
        "import sys, wave\n"
        "said = open(sys.argv[1], encoding='utf-8').read()\n"
        "file = wave.open(sys.argv[2], 'wb')\n"
        "file.setparams((1, 2, 8000, 0, 'NONE', ''))\n"
        "file.writeframes(b'\\x00\\x10\\x00\\xf0' * (400 * len(said)))\n"
        "file.close()\n"
    )
    line = f"{sys.executable} {program} {{text}} {{out}}"
    given = ["--voices", "/models/ann.onnx", "--into", str(tmp_path), "--command", line]
    assert main(["acquire", "synthetic", "--text", str(text), *given]) == 0
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        row = catalogue.find("audio_books_tracks")[0]
    assert row["track_duration"] == pytest.approx(0.1 * len("The north wind and the sun argued."))
    assert "_models_ann.onnx" in row["track_path"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--voices", "klingon-xx"], "espeak-ng failed with klingon-xx"),
        (["--voices", "en", "--command", "espeak-ng {text}"], "should have {out}"),
        (["--voices", "en", "--command", "espeak-ng {text} {out} {rate}"], "should have only"),
        (["--voices", "en", "--command", "no-such-tts {text} {out}"], "is not installed"),
        (["--voices", "en", "--command", "true {text} {out}"], "said nothing"),
    ],
)
def test_what_cannot_be_is_a_line(text, tmp_path, capsys, given, message):
    assert main(["acquire", "synthetic", "--text", str(text), "--into", str(tmp_path), *given]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"-- ...\n\n!?"])
def test_nothing_to_read_is_a_line(tmp_path, content):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(AcquisitionError, match=r"has nothing to read|is no text"):
        list(sentences(path))


def test_a_slow_engine_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("acquisition.synthetic._TIMEOUT_S", 0.2)
    with pytest.raises(AcquisitionError, match="longer than"):
        speak(("sh", "-c", "sleep 5; true {text} {out}"), "en", "a", tmp_path)
    assert not list(tmp_path.iterdir())
