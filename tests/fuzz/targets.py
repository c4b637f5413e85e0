"""The readers of files that strangers may have made: what is written for each, and how it is read.

A target is made in the process that does the reading. ``write(folder, None)`` writes a whole
file, ``write(folder, seed)`` a damaged one; ``read`` may raise ``refusal`` and nothing else.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile as sf

from acquisition.errors import AcquisitionError
from acquisition.tracks import read_track
from app.file import _channels
from engine.audio_file import open_source
from engine.denoiser import Knobs
from engine.errors import AudioFileError, ModelError, TrainingError
from engine.network import Estimate, Network
from engine.spec import ModelSpec
from engine.stft import Float
from engine.trial import attempt, raise_verdict
from tests.fuzz import mutations
from tests.onnx_models import CLASSIC, write_identity, write_lstm
from training.recordings import decode

_RATE = 16_000


class Models:
    """``engine.network.Network``: opened, and asked at several levels."""

    refusal: type[Exception] = ModelError

    def __init__(self, folder: Path) -> None:
        self._whole = [
            write_lstm(folder / "lstm.onnx", CLASSIC, units=4).read_bytes(),
            write_identity(folder / "identity.onnx", CLASSIC).read_bytes(),
        ]

    def write(self, folder: Path, seed: int | None) -> Path:
        path = folder / "case.onnx"
        path.write_bytes(self._whole[0] if seed is None else self.content(random.Random(seed)))
        return path

    def content(self, rng: random.Random) -> bytes:
        how, whole = rng.random(), rng.choice(self._whole)
        if how < 0.3:
            return mutations.of_bytes(rng, whole, self._whole)
        if how < 0.7:
            return mutations.of_fields(rng, whole)
        made = mutations.hostile(rng, CLASSIC)
        return mutations.of_fields(rng, made) if how > 0.9 else made

    def read(self, path: Path) -> None:
        """As ``engine.trial.open_network``, but the trial's process is a fork of this one."""
        content = path.read_bytes()
        code, told = in_a_fork(lambda: attempt(content, path))
        raise_verdict(code, told, path)
        ask(Network(path, "cpu", content=content))


def in_a_fork(work: Callable[[], dict[str, object]]) -> tuple[int, bytes]:
    """Exit code (negative: a signal) and answer of what runs in a copy of this process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ours)
            os.write(theirs, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told


def ask(network: Network) -> None:
    """Frames at several levels; what comes back is checked by the network itself."""
    state = network.initial_state()
    rng = np.random.default_rng(1)
    for level_db in (-100.0, -60.0, -20.0, 0.0):
        frames = rng.uniform(level_db - 1, level_db, (2, network.spec.n_heard))
        state = network(frames.astype(np.float32), state).state


class Specs:
    """``ModelSpec.from_json``: a spec, or a refusal."""

    refusal: type[Exception] = ModelError

    def __init__(self, folder: Path) -> None:
        self._whole = CLASSIC.to_json()

    def write(self, folder: Path, seed: int | None) -> Path:
        path = folder / "case.json"
        text = (
            self._whole if seed is None else mutations.spec_text(random.Random(seed), self._whole)
        )
        path.write_text(text, "utf-8", errors="surrogatepass")
        return path

    def read(self, path: Path) -> None:
        text = path.read_text("utf-8", errors="surrogatepass")
        spec = ModelSpec.from_json(text)
        assert ModelSpec.from_json(spec.to_json()) == spec


class Sounds:
    """Files of sound; each reader of ours has a target below."""

    refusal: type[Exception] = AudioFileError
    names: tuple[str, ...] = ("a.wav", "f.wav", "c.wav", "a.flac", "a.ogg", "o.ogg", "a.mp3")
    videos: tuple[str, ...] = ("v.mp4", "v.mkv", "v.mov", "v.webm", "a.m4a")

    def __init__(self, folder: Path) -> None:
        self._whole = {name: _sound(folder, name) for name in self.names}
        self._whole |= {name: _video(folder, name) for name in self.videos}

    def write(self, folder: Path, seed: int | None) -> Path:
        rng = random.Random(seed)
        name = next(iter(self._whole)) if seed is None else rng.choice(list(self._whole))
        content = self._whole[name]
        if seed is not None:
            content = mutations.of_bytes(rng, content, list(self._whole.values()))
        path = folder / f"case{Path(name).suffix}"
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> None:
        raise NotImplementedError


class Files(Sounds):
    """``engine.audio_file``, as ``denoise-app file`` goes through it: every channel cleaned."""

    def read(self, path: Path) -> None:
        with open_source(path) as source:
            channels = _channels(source, Open(), Knobs(), None)
            # A megabyte of silence may decode to days: so much in memory, however long it is.
            for block in islice(source, 50):
                for channel, samples in zip(channels, block.T, strict=True):
                    made = channel.pipeline.process(np.ascontiguousarray(samples))
                    assert np.isfinite(made).all()


class Recordings(Sounds):
    """``training.recordings.decode``: the whole recording at once."""

    refusal: type[Exception] = TrainingError
    videos = ()

    def read(self, path: Path) -> None:
        assert decode(path, 48_000).dtype == np.int16


class Tracks(Sounds):
    """``acquisition.tracks.read_track``: read to its end, and judged."""

    refusal: type[Exception] = AcquisitionError
    videos = ()

    def read(self, path: Path) -> None:
        track = read_track(path)
        assert track.duration_s > 0
        assert np.isfinite(track.quality).all()


TARGETS: dict[str, Any] = {
    "models": Models,
    "specs": Specs,
    "files": Files,
    "recordings": Recordings,
    "tracks": Tracks,
}


class Open:
    """A network whose gains are 1, without a file."""

    spec = CLASSIC

    def initial_state(self) -> tuple[Float, ...]:
        return ()

    def __call__(self, noisy_db: Float, state: tuple[Float, ...]) -> Estimate:
        return Estimate(np.ones_like(noisy_db), np.ones(len(noisy_db), np.float32), ())


def _samples(n: int, channels: int) -> Float:
    rng = np.random.default_rng(5)
    tone = np.sin(2 * np.pi * 440 / _RATE * np.arange(n))[:, np.newaxis]
    return (0.3 * tone + 0.01 * rng.standard_normal((n, channels))).astype(np.float32)


def _sound(folder: Path, name: str) -> bytes:
    """A third of a second: under 20 kB of every format."""
    path = folder / f"whole-{name}"
    channels, encoding = {"c.wav": (6, "PCM_24"), "f.wav": (2, "FLOAT")}.get(name, (1, None))
    encoding = "OPUS" if name == "o.ogg" else encoding
    sf.write(path, _samples(_RATE // 3, channels), _RATE, subtype=encoding)
    return path.read_bytes()


def _video(folder: Path, name: str) -> bytes:
    """Sound, and a picture where the container is one for videos."""
    path = folder / f"whole-{name}"
    with av.open(str(path), "w") as container:
        rate = 48_000
        audio = container.add_stream("libopus" if name.endswith("webm") else "aac", rate=rate)
        video = None
        if not name.endswith("m4a"):
            codec = "libvpx" if name.endswith("webm") else "mpeg4"
            video = container.add_stream(codec, rate=10)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        if video is not None:
            for k in range(4):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * k, np.uint8))
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        sound = _samples(rate // 3, 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(sound, format="flt", layout="mono")
        frame.sample_rate = rate
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path.read_bytes()
