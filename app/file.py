"""``denoise-app file``: a sound or video file in, the same without its noise out.

Not here: formats (``engine.audio_file``), arguments (``cli``), drawing (``picture``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import models
from app.picture import SpectrogramCollector, draw
from engine.audio_file import PartFile, Sink, Source, open_sink, open_source
from engine.denoiser import Denoiser, Frame, Knobs
from engine.errors import AudioFileError
from engine.network import Estimator
from engine.pipeline import Pipeline
from engine.trial import open_network


def run(args: argparse.Namespace) -> int:
    """Clean ``args.input`` into ``args.output``.

    Raises
    ------
    AudioFileError, ModelError, KeyboardInterrupt : and nothing partial is left behind
    """
    with contextlib.ExitStack() as files:
        check = files.enter_context(_stoppable())  # first, so that it outlasts the files
        source = files.enter_context(open_source(args.input))
        sink = files.enter_context(open_sink(args.output, source))
        network = open_network(args.model, models.FOLDER, args.provider)
        collector = None
        if args.picture is not None:
            png = files.enter_context(PartFile(args.picture, args.input, args.output))
            collector = SpectrogramCollector(network.spec)
        channels = _channels(source, network, Knobs(args.limit), collector)
        began = time.perf_counter()
        shown = files.enter_context(_progress(source.n_samples / source.sample_rate, args.json))
        for n_samples in _clean(source, sink, channels):
            shown(n_samples / source.sample_rate)
            check()
        took_s = time.perf_counter() - began
        seconds = n_samples / source.sample_rate
        if collector is not None:
            title = f"{args.input.name}, cleaned by {network.spec.name} {network.spec.version}"
            draw(png, collector, seconds, title)
    report = {
        "input": str(args.input),
        "output": str(args.output),
        "picture": None if args.picture is None else str(args.picture),
        "seconds": round(seconds, 3),
        "sample_rate": source.sample_rate,
        "channels": source.channels,
        "model": network.spec.name,
        "provider": network.provider,
        "limit_db": args.limit,
        "speech_fraction": round(float(np.mean([c.speech_fraction for c in channels])), 3),
        "real_time_factor": round(took_s / seconds, 4),
    }
    print(json.dumps(report) if args.json else _summary(report, took_s))
    return 0


def _summary(report: dict[str, Any], took_s: float) -> str:
    """One plain line."""
    return (
        f"{report['output']}: {_clock(report['seconds'])} at {report['sample_rate']} Hz, "
        f"{report['channels']} channel(s), voice in {report['speech_fraction']:.0%} of it; "
        f"{report['model']} took {took_s:.1f} s, {report['seconds'] / took_s:.0f} × real time"
    )


class _Channel:
    """One channel's own state, and what there is to tell about it."""

    def __init__(
        self,
        network: Estimator,
        knobs: Knobs,
        sample_rate: int,
        collector: SpectrogramCollector | None,
    ) -> None:
        self._denoiser = Denoiser(network, knobs)
        self._collect = None if collector is None else collector.channel()
        self._n_frames = self._n_speech = 0
        self.pipeline = Pipeline(self._denoiser, sample_rate, self._watch)

    @property
    def speech_fraction(self) -> float:
        """How many of the frames were more likely voice than not, 0…1."""
        return self._n_speech / max(1, self._n_frames)

    def _watch(self, frame: Frame) -> None:
        if self._denoiser.fault is not None:
            # Live, sound must go on; a file must not come out uncleaned without a word.
            raise self._denoiser.fault
        self._n_frames += 1
        self._n_speech += frame.speech > 0.5
        if self._collect is not None:
            self._collect(frame)


def _channels(
    source: Source, network: Estimator, knobs: Knobs, collector: SpectrogramCollector | None
) -> list[_Channel]:
    """One for each of the source's; raises AudioFileError when its rate cannot be converted."""
    try:
        return [
            _Channel(network, knobs, source.sample_rate, collector) for _ in range(source.channels)
        ]
    except ValueError as error:
        raise AudioFileError(
            f"{source.path}: {error}; convert it to 48000 Hz or another usual rate first"
        ) from error


def _clean(source: Source, sink: Sink, channels: list[_Channel]) -> Iterator[int]:
    """Everything from source to sink; yields how many samples have been read so far."""
    n_samples = 0
    for block in source:
        columns = np.ascontiguousarray(block.T)
        _write(sink, [c.pipeline.process(x) for c, x in zip(channels, columns, strict=True)])
        n_samples += len(block)
        yield n_samples
    _write(sink, [c.pipeline.flush() for c in channels])


def _write(sink: Sink, cleaned: list[np.ndarray]) -> None:
    sink.write(np.stack(cleaned, axis=1))


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM end the work between two blocks: yields what raises then.

    An exception that came while a library was calling back would be lost in its C code.
    Asked a second time, the signal acts as ever: a library may be stuck.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread may catch signals
        return

    def ask(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, before[number])

    def check() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    before: dict[int, Any] = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextlib.contextmanager
def _progress(total_s: float, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show how far it got, on the error stream: yields what wants to be told [s].

    A bar on a terminal, else a line for every tenth, but not for less than a minute of sound.
    """
    if quiet:
        yield lambda done_s: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=math.ceil(total_s) or None, unit="s", leave=False) as bar:
            yield lambda done_s: bar.update(int(done_s) - bar.n)
    else:
        step_s = max(total_s / 10, 60.0)
        due_s = step_s

        def tell(done_s: float) -> None:
            nonlocal due_s
            if done_s >= due_s:
                of = f" of {_clock(total_s)}" if total_s else ""
                print(f"{_clock(done_s)}{of}", file=sys.stderr, flush=True)
                due_s = (done_s // step_s + 1) * step_s

        yield tell


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, as short as can be."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
