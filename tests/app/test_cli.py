"""The command line as a stranger meets it: usage, listings, and one clear line for bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile as sf

import models
from app import training
from app.cli import build_parser, main
from tests.onnx_models import CLASSIC, constant_model, write_identity

ROOT = Path(__file__).parents[2]
LOG = """look,step,minutes,rate,loss,accuracy,held_out,held_out_accuracy,averaged,frames_s,waiting
1,150,12.9,0.0003,-89.6,0.53,-90.7,0.49,1,1323.9,0.1
"""


def in_shell(arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as a shell runs it, whatever becomes of it."""
    return subprocess.run(
        f"{sys.executable} {ROOT / 'main.py'} {arguments}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def sound(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "noisy.wav"
    sf.write(path, rng.normal(0, 0.1, 16_000), 16_000)
    return path


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("denoise-app: ")
    return line


@pytest.mark.parametrize("command", ["file", "--device"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("missing", "no model"),
        ("empty", "not a model that can be opened"),
        ("text", "not a model that can be opened"),
        ("truncated", "not a model that can be opened"),
        ("foreign", "has no denoise_app.spec in its metadata"),
        ("directory", "is not a file"),
    ],
)
def test_bad_models(
    command: str,
    damage: str,
    expected: str,
    sound: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "bad.onnx"
    output = tmp_path / "clean.wav"
    if damage == "empty":
        model.touch()
    elif damage == "text":
        model.write_text("I am not a network.\n" * 100)
    elif damage == "truncated":
        whole = write_identity(model, CLASSIC).read_bytes()
        model.write_bytes(whole[: len(whole) // 2])
    elif damage == "foreign":
        onnx.save(constant_model(CLASSIC, gain=1.0, speech=1.0), model)
    elif damage == "directory":
        model.mkdir()
    arguments = ["file", str(sound), str(output)] if command == "file" else ["--device"]
    assert main([*arguments, "--model", str(model)]) == 1
    assert expected in complaint(capsys)
    assert not output.exists()


def test_an_uninstalled_provider_is_named(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_identity(tmp_path / "identity.onnx", CLASSIC)
    output = tmp_path / "clean.wav"
    arguments = ["file", str(sound), str(output), "--model", str(model), "--provider", "rocm"]
    assert main(arguments) == 1
    assert "provider rocm is not in the installed ONNX Runtime build" in complaint(capsys)
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--monitor"],
        ["no-such-command"],
        ["file", "only-one"],
        ["--device", "x", "--limit", "-1"],
        ["--device", "x", "--limit", "nan"],
        ["--device", "x", "--limit", "loud"],
        ["--device", "x", "--provider", "abacus"],
        ["bench", "--limited"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse's way
        code = int(stopped.code or 0)
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip().splitlines()[-1].startswith("denoise-app")


def test_help_tells_units_and_defaults() -> None:
    text = " ".join(build_parser().format_help().split())
    assert "[dB], 0…100" in text
    assert f"default: {models.DEFAULT}" in text
    assert "Exit codes: 0 done, 1 could not do it, 2 wrong usage, 130 interrupted." in text


def test_models_lists_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    shipped = {path.stem for path in (ROOT / "models").glob("*.onnx")}
    assert set(listed) == shipped
    assert listed["classic"]["sample_rate"] == 11025
    assert listed["classic"]["latency_ms"] == 92.9
    assert listed["classic"]["licence"]
    assert main(["models"]) == 0
    assert "classic" in capsys.readouterr().out


def test_every_shipped_model_has_a_card() -> None:
    for path in (ROOT / "models").glob("*.onnx"):
        card = path.with_suffix(".md").read_text()
        for word in ("licence", "SI-SDR", "latency"):
            assert word.lower() in card.lower(), f"{path.stem}'s card says nothing of {word}"


def test_a_reader_that_goes_away_is_not_a_traceback(tmp_path: Path) -> None:
    assert in_shell("models | true", PYTHONUNBUFFERED="1").stderr == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict", "utf-8:strict"])
def test_a_terminal_that_lacks_a_character_is_no_traceback(tmp_path: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    said = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--help"], env=environment, capture_output=True
    )
    assert (said.returncode, said.stderr) == (0, b"")
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"  # no UTF-8
    sf.write(tmp_path / "in.wav", np.zeros(4800, np.float32), 48000)
    said = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "file", str(tmp_path / "in.wav"), name],
        env=environment,
        capture_output=True,
    )
    assert (said.returncode, said.stderr) == (0, b"")
    assert os.path.exists(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("models > /dev/full", "No space left on device"),
        ("file {0}/noisy.wav {0}/out.wav --json > /dev/full", "No space left on device"),
        ("figures {0}/run --out {0}/none/c.png", "/none/c.png.part: No such file or directory"),
        ("figures {0}/run --out {0}", "Is a directory"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    sound: Path, tmp_path: Path, arguments: str, words: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text(LOG)
    done = in_shell(arguments.format(tmp_path))
    said = [line for line in done.stderr.splitlines() if line.startswith("denoise-app: ")]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(said) == 1
    assert words in said[0]


def test_missing_portaudio_is_one_line(tmp_path: Path) -> None:
    # The package finds the library by name; a module in its place fails as it does.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "devices"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("denoise-app: PortAudio is missing: install it")


@pytest.mark.parametrize("command", training.COMMANDS)
def test_training_commands_describe_themselves(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"denoise-app {command}" in capsys.readouterr().out


def test_training_complains_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "no run"), str(tmp_path / "x.onnx")]) == 1
    assert "is not a run with a checkpoint" in complaint(capsys)


def test_training_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)  # importing it fails as if it were missing
    for name in [name for name in sys.modules if name.startswith("training")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["train", "--help"]) == 1
    assert "train needs soxr" in complaint(capsys)


def test_a_demo_on_a_real_microphone_has_all_that_a_live_session_asks_for() -> None:
    live, demo = (vars(build_parser().parse_args([one])) for one in ("--device", "demo"))
    assert set(live) - set(demo) == set()
