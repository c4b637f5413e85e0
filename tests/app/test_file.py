"""``denoise-app file``: rate, channels, length and place stay; nothing partial is left."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from app import cli
from engine.spec import ModelSpec
from engine.stft import Float
from tests import onnx_models

ROOT = Path(__file__).parents[2]
WHOLE_BAND = replace(onnx_models.CLASSIC, n_bins=513)
"""11025 Hz with every bin steered, so that gains of 1 change nothing."""


@pytest.fixture
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that changes nothing at 11025 Hz; it lies outside of tmp_path."""
    return onnx_models.write_identity(tmp_path_factory.mktemp("model") / "one.onnx", WHOLE_BAND)


@pytest.fixture
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with state, whose gains differ by bin and time."""
    return onnx_models.write_lstm(tmp_path_factory.mktemp("model") / "two.onnx", WHOLE_BAND)


def clean(source: Path, sink: Path, model: Path, *more: str) -> int:
    """Run the command in this process; returns its exit code."""
    return cli.main(["file", str(source), str(sink), "--model", str(model), *more])


def start(*arguments: str, **how: object) -> subprocess.Popen[str]:
    """Run the command in a process of its own."""
    program = "import sys; from app import cli; sys.exit(cli.main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, "file", *arguments],
        cwd=ROOT,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},  # type: ignore[call-overload]
    )


def chirp(n_samples: int, rate: int, seed: int = 0) -> Float:
    """A sweep that starts and ends softly, within what every rate here can carry: (n_samples,)."""
    top_hz = 0.8 * min(rate, WHOLE_BAND.sample_rate) / 2  # the resampler passes 0.84 of it
    low_hz = 100.0 * (1 + seed)
    time_s = np.arange(n_samples) / rate
    phase = 2 * np.pi * (low_hz + (top_hz - low_hz) * time_s / (2 * time_s[-1])) * time_s
    edges = np.minimum(1.0, np.minimum(time_s, time_s[::-1]) / 0.1)
    return (0.5 * edges * np.sin(phase)).astype(np.float32)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(text: str) -> str:
    """The only line of ``text``, without the program's name."""
    (line,) = text.splitlines()
    name, _, message = line.partition(": ")
    assert name == "denoise-app"
    return message


@pytest.mark.parametrize("extension", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_output_lines_up_to_the_sample(
    tmp_path: Path, identity: Path, rate: int, channels: int, extension: str
) -> None:
    n_samples = rate + 123
    sound = np.stack([chirp(n_samples, rate, seed) for seed in range(channels)], axis=1)
    sf.write(tmp_path / f"in{extension}", sound, rate, "PCM_24")
    assert clean(tmp_path / f"in{extension}", tmp_path / f"out{extension}", identity) == 0
    cleaned, found_rate = sf.read(tmp_path / f"out{extension}", dtype="float32", always_2d=True)
    assert found_rate == rate
    assert cleaned.shape == sound.shape
    assert sf.info(tmp_path / f"out{extension}").subtype == "PCM_24"
    # Two resamplers of 80 dB at half of full scale, and the ripple of their pass band.
    tolerance = 2e-6 if rate == WHOLE_BAND.sample_rate else 5e-4
    np.testing.assert_allclose(cleaned, sound, rtol=0, atol=tolerance)
    # One sample of shift would be seen: the sweep's slope is far above the tolerance.
    assert np.abs(cleaned[1:] - sound[:-1]).max() > 20 * tolerance


@pytest.mark.parametrize("extension", [".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("n_samples", [1, 700, 48_001])
def test_lossy_formats_keep_length_and_place(
    tmp_path: Path, identity: Path, extension: str, n_samples: int
) -> None:
    sound = chirp(48_001, 48000)[:n_samples]
    sf.write(tmp_path / "in.wav", sound, 48000)
    assert clean(tmp_path / "in.wav", tmp_path / f"out{extension}", identity) == 0
    decoded, rate = sf.read(tmp_path / f"out{extension}", dtype="float32")
    assert (len(decoded), rate) == (n_samples, 48000)
    if n_samples > 10_000:
        # Encoding costs some of the likeness; a shift by one sample costs more (measured:
        # the correlation of a sweep that ends at 4.4 kHz falls by 0.02 per sample).
        likeness = [
            np.corrcoef(sound[10:-10], decoded[10 + shift : n_samples - 10 + shift])[0, 1]
            for shift in (-1, 0, 1)
        ]
        assert int(np.argmax(likeness)) == 1
        assert likeness[1] > 0.97


def test_a_silent_channel_stays_silent(tmp_path: Path, lstm: Path) -> None:
    sound = np.stack([chirp(30_000, 44100), np.zeros(30_000, np.float32)], axis=1)
    sf.write(tmp_path / "in.wav", sound, 44100)
    assert clean(tmp_path / "in.wav", tmp_path / "out.wav", lstm) == 0
    cleaned = sf.read(tmp_path / "out.wav", dtype="int16")[0]
    assert np.abs(cleaned[:, 0]).max() > 1000
    assert np.abs(cleaned[:, 1]).max() == 0


def test_each_channel_has_its_own_state(tmp_path: Path, lstm: Path) -> None:
    sound = np.stack([chirp(50_000, 22050, seed) for seed in range(3)], axis=1)
    sf.write(tmp_path / "all.wav", sound, 22050)
    assert clean(tmp_path / "all.wav", tmp_path / "all_out.wav", lstm) == 0
    together = sf.read(tmp_path / "all_out.wav", dtype="int16")[0]
    for channel in range(3):
        sf.write(tmp_path / "one.wav", sound[:, channel], 22050)
        assert clean(tmp_path / "one.wav", tmp_path / "one_out.wav", lstm) == 0
        alone = sf.read(tmp_path / "one_out.wav", dtype="int16")[0]
        np.testing.assert_array_equal(together[:, channel], alone)


def test_a_limit_of_0_db_changes_nothing(tmp_path: Path, lstm: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (70_000, 2))
    sf.write(tmp_path / "in.wav", noise, 48000)
    assert clean(tmp_path / "in.wav", tmp_path / "out.wav", lstm, "--limit", "0") == 0
    before, after = (sf.read(tmp_path / name, dtype="int16")[0] for name in ("in.wav", "out.wav"))
    np.testing.assert_array_equal(after, before)


# What is told


def test_json_has_stable_keys_and_nothing_else(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sf.write(tmp_path / "in.flac", chirp(22050, 11025), 11025)
    arguments = ("--json", "--limit", "20", "--provider", "cpu")
    assert clean(tmp_path / "in.flac", tmp_path / "out.wav", identity, *arguments) == 0
    told = capsys.readouterr()
    assert told.err == ""
    report = json.loads(told.out)
    assert report.pop("real_time_factor") > 0
    assert report == {
        "input": str(tmp_path / "in.flac"),
        "output": str(tmp_path / "out.wav"),
        "picture": None,
        "seconds": 2.0,
        "sample_rate": 11025,
        "channels": 1,
        "model": "classic",
        "provider": "cpu",
        "limit_db": 20.0,
        "speech_fraction": 1.0,  # as the model says of every frame
    }


def test_plain_lines_tell_how_far_it_got(
    tmp_path: Path, identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sf.write(tmp_path / "in.flac", np.zeros(8000 * 200), 8000)
    assert clean(tmp_path / "in.flac", tmp_path / "out.flac", identity) == 0
    told = capsys.readouterr()
    # Blocks last 4.1 s; a line for each minute that is over.
    assert told.err.splitlines() == ["1:01 of 3:20", "2:03 of 3:20", "3:00 of 3:20"]
    (line,) = told.out.splitlines()
    assert "out.flac: 3:20 at 8000 Hz, 1 channel(s)" in line


def test_a_terminal_gets_a_bar(tmp_path: Path, identity: Path) -> None:
    sf.write(tmp_path / "in.flac", np.zeros(8000 * 200), 8000)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    os.set_blocking(ours, False)
    arguments = (str(tmp_path / "in.flac"), str(tmp_path / "out.flac"), "--model", str(identity))
    with start(*arguments, stderr=theirs) as process:
        process.communicate()
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0
    assert "%|" in shown


# What goes wrong


def write_nan(path: Path) -> None:
    sound = np.zeros(48_000, np.float32)
    sound[12_000] = np.nan
    sf.write(path, sound, 48000, "FLOAT")


BAD_INPUTS = {
    "missing": ("No such file", lambda path: None),
    "empty": ("is empty", lambda path: path.touch()),
    "folder": ("is a folder", lambda path: path.mkdir()),
    "text": ("not a sound or video file", lambda path: path.write_text("no sound\n" * 99)),
    "NaN": ("is not sound at 0.250 s: found nan", write_nan),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_a_bad_input_gives_one_line_and_no_output(
    tmp_path: Path, identity: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message, write = BAD_INPUTS[case]
    write(tmp_path / "in.wav")
    (tmp_path / "out.wav").write_text("precious")
    before = left_over(tmp_path)
    assert clean(tmp_path / "in.wav", tmp_path / "out.wav", identity, "--picture", "x.png") == 1
    told = capsys.readouterr()
    assert message in one_line(told.err)
    assert told.out == ""
    assert left_over(tmp_path) == before
    assert (tmp_path / "out.wav").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("out.xyz",), "cannot write files named .xyz"),
        (("in.wav",), "itself; choose another output name"),
        (("nowhere/out.wav",), "cannot be created"),
        (("out.wav", "--picture", "in.wav"), "itself; choose another output name"),
        (("out.wav", "--picture", "out.wav"), "itself; choose another output name"),
        (("out.wav", "--picture", "nowhere/x.png"), "cannot be created"),
        (("out.wav", "--model", "in.wav"), "not a model"),
        (("out.wav", "--model", "nothing"), "no model 'nothing'"),
    ],
)
def test_a_bad_request_gives_one_line_and_no_output(
    tmp_path: Path,
    identity: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sf.write("in.wav", chirp(9000, 8000), 8000)
    before = Path("in.wav").read_bytes()
    assert (
        cli.main(["file", "in.wav", *arguments[:1], "--model", str(identity), *arguments[1:]]) == 1
    )
    assert message in one_line(capsys.readouterr().err)
    assert left_over(tmp_path) == ["in.wav"]
    assert Path("in.wav").read_bytes() == before


def test_a_network_that_fails_leaves_no_uncleaned_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec: ModelSpec = WHOLE_BAND
    failing = onnx_models.save(tmp_path / "m.onnx", onnx_models.infinity_model(spec, -50.0), spec)
    sound = np.concatenate([np.zeros(40_000, np.float32), chirp(4000, 8000), np.zeros(9000)])
    sf.write(tmp_path / "in.wav", sound, 8000)
    assert clean(tmp_path / "in.wav", tmp_path / "out.wav", failing) == 1
    assert "NaN or infinity" in one_line(capsys.readouterr().err)
    assert left_over(tmp_path) == ["in.wav", "m.onnx"]


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ogg", "out.mp3", "out.mkv"])
@pytest.mark.parametrize("limit", [100, 15_000])
def test_a_full_disk_leaves_the_old_output(
    tmp_path: Path, identity: Path, name: str, limit: int
) -> None:
    """A limit on the size of files makes write() itself fail, for root as for anybody."""
    noise = np.random.default_rng(0).uniform(-1, 1, 400_000)  # 50 kB as Vorbis
    sf.write(tmp_path / "in.wav", noise, 48000)
    (tmp_path / name).write_text("precious")
    with start(
        str(tmp_path / "in.wav"),
        str(tmp_path / name),
        "--model",
        str(identity),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    ) as process:
        told = process.communicate()
    assert process.returncode == 1
    assert one_line(told[1]).endswith("cannot be written: File too large")
    assert left_over(tmp_path) == ["in.wav", name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_picture_of_a_file_whose_name_is_no_text(tmp_path: Path, identity: Path) -> None:
    name = tmp_path / os.fsdecode(b"caf\xe9 $^$.wav")
    sf.write(os.fsencode(name), np.zeros(3000), 8000)
    assert clean(name, tmp_path / "out.wav", identity, "--picture", str(tmp_path / "p.png")) == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_while_drawing_leaves_nothing(tmp_path: Path, identity: Path) -> None:
    sf.write(tmp_path / "in.wav", np.zeros(3000), 8000)
    with start(
        str(tmp_path / "in.wav"),
        str(tmp_path / "out.wav"),
        "--model",
        str(identity),
        "--picture",
        str(tmp_path / "out.png"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    ) as process:
        told = process.communicate()
    assert process.returncode == 1
    assert "out.png: cannot be written: File too large" in one_line(told[1])
    assert left_over(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["out.flac", "out.mkv"])
def test_stopping_leaves_nothing(
    tmp_path: Path, identity: Path, name: str, number: signal.Signals
) -> None:
    write_silence(tmp_path / "in.wav", n_samples=3600 * 8000, rate=8000)
    (tmp_path / "out").mkdir()
    arguments = (str(tmp_path / "in.wav"), str(tmp_path / "out" / name), "--model", str(identity))
    with start(*arguments) as process:
        deadline_s = time.monotonic() + 30
        while not left_over(tmp_path / "out") and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert left_over(tmp_path / "out")
        process.send_signal(number)
        told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert one_line(told[1]) == "interrupted"
    assert left_over(tmp_path / "out") == []


# Long files


def write_silence(path: Path, n_samples: int, rate: int) -> None:
    """A wav file of 16-bit silence that takes no room on the disk."""
    sf.write(path, np.zeros(0), rate, "PCM_16")
    header = bytearray(path.read_bytes())
    header[4:8] = (len(header) - 8 + 2 * n_samples).to_bytes(4, "little")
    at = header.rindex(b"data") + 4
    header[at : at + 4] = (2 * n_samples).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * n_samples)


def test_a_long_file_is_not_held_in_memory(tmp_path: Path) -> None:
    n_samples = 96_000 * 60 * 14  # 323 MB as float32, more than is allowed in all
    write_silence(tmp_path / "in.wav", n_samples, 96_000)
    # Long hops at the file's own rate: the test is about memory, and short.
    spec = replace(WHOLE_BAND, sample_rate=96_000, n_fft=2048, hop=1024, n_bins=1025)
    model = onnx_models.write_identity(tmp_path / "m.onnx", spec)
    arguments = ["file", str(tmp_path / "in.wav"), str(tmp_path / "out.flac"), "--json"]
    arguments += ["--model", str(model), "--picture", str(tmp_path / "out.png")]
    # Not getrusage: a new process inherits the largest size its parent ever had.
    program = (
        "import sys; from app import cli; code = cli.main(sys.argv[1:]); "
        "print(*(line for line in open('/proc/self/status') if 'VmHWM' in line)); sys.exit(code)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert json.loads(told[0])["seconds"] == 840.0
    assert sf.info(tmp_path / "out.flac").frames == n_samples
    # What the design promises for three hours [kB].
    assert int(told[1].split()[1]) < 300_000
