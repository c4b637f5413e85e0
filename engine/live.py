"""Microphone to virtual microphone, for as long as a call lasts.

Three concurrent activities, and what each may do:

- The *capture callback* (PortAudio's thread) copies its block into a ring and counts.
- The *playback callback* (another of PortAudio's threads) copies from a ring and counts.
  Neither runs the model, logs, or takes a lock. Playback alone may wait for a moment:
  no longer than what it handed over before still plays.
- The *worker* (ours) cleans what has come, and may be late: the rings absorb it.

Sample k that comes out of the pipeline is sample k that went in, so the delay is the
time its playback is due minus the time it was captured: PortAudio tells both.
Not here: what is shown of it, and where models and settings come from.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import devices
from engine.denoiser import Denoiser, Frame, Knobs
from engine.devices import BLOCK, SAMPLE_RATE
from engine.errors import DeviceError
from engine.excerpt import Excerpt
from engine.measure import dbfs
from engine.network import Estimator
from engine.pipeline import Pipeline
from engine.ring import Ring
from engine.stft import Float

_RING_S = 2.0
# A stream begins with a backlog of the time before anybody listened (up to 0.6 s on
# PulseAudio, measured): its blocks are older than this, and each younger than the last.
_STALE_S = 0.05
# What lies ready beyond a hop when playback starts: covers the usual jitter of callbacks
# (3 ms to 5 ms, measured). Each underrun adds to it.
_MARGIN_S = 0.015
_MARGIN_STEP_S = 0.005
_MARGIN_MAX_S = 0.060
# Rare jitter (25 ms a minute, measured) is covered by waiting, while at least this much
# of earlier sound has still to be played.
_UNTOUCHED_S = 0.010
# Sound that lies ready for longer than it needs to is delay: it is taken out.
_EXCESS_S = 0.015
_ORIGIN_SHARE = 0.05  # of the newest callback in a mean over 0.2 s
_NICE = -11  # what PulseAudio gives itself
_BACKLOG_S = 0.25
_SILENT_DEVICE_S = 1.0


@dataclass(frozen=True, slots=True)
class Status:
    """How a session does. Levels, CPU and gaps are of the time since the status before."""

    state: str
    """``starting``, ``running``, or ``stalled`` when a device delivers nothing."""
    input_dbfs: float
    """RMS level captured [dB re full scale]."""
    output_dbfs: float
    """RMS level after cleaning [dB re full scale]."""
    delay_ms: float | None
    """From the microphone's capture to the playback of the same sample; None at first."""
    cpu_percent: float
    """Processor time of this process, in percent of one core."""
    drops: int
    """Events since the start in which sound was lost, repeated or came too late."""
    speech: float
    """Probability of voice in the newest frame."""
    seconds: float
    """Since the start."""
    fault: str | None
    """Why sound goes through uncleaned at the moment, if it does."""
    worker_percent: float = 0.0
    """Processor time of this session's worker alone, in percent of one core."""


class LiveSession:
    """One running path from a microphone to one or more outputs.

    Parameters
    ----------
    network : the model
    source : name of the input device
    outputs : names of the output devices; the first is the one whose delay is told
    knobs : as the user has them
    watch : called with each frame, in the worker; must not block

    Raises
    ------
    DeviceError : from ``start``, when a device cannot be opened
    """

    def __init__(
        self,
        network: Estimator,
        source: str,
        outputs: Sequence[str],
        knobs: Knobs | None = None,
        watch: Callable[[Frame], object] | None = None,
    ) -> None:
        self._watch = watch
        self.excerpt: Excerpt | None = None
        """Filled with what comes in and goes out, by the worker; may be replaced at any time."""
        denoiser = Denoiser(network, knobs)
        self._pipeline = Pipeline(denoiser, SAMPLE_RATE, self._show)
        self._source = source
        self._capture = _Capture()
        hop = self._pipeline.burst
        self._playbacks = [_Playback(name, hop) for name in outputs]
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name="denoise worker", daemon=True)
        self._streams: list[tuple[str, Any]] = []  # of which device
        self._levels = _Levels()
        self._skipped = 0  # captured samples never cleaned, to catch up
        self._catch_ups = 0
        self._worker_s = self._asked_worker_s = 0.0

    @property
    def knobs(self) -> Knobs:
        """What the user has turned; may be replaced while sound runs."""
        return self._pipeline.knobs

    @knobs.setter
    def knobs(self, knobs: Knobs) -> None:
        self._pipeline.knobs = knobs

    def start(self) -> None:
        """Open the devices and begin; raises DeviceError and leaves nothing open."""
        _hurry()
        self._started_s = self._asked_s = time.monotonic()
        self._asked_cpu_s = time.process_time()
        try:
            # Outputs first: what is captured before they run would only be late.
            for playback in self._playbacks:
                opened = devices.open_output(playback.name, playback.callback)
                self._streams.append((playback.name, opened))
            opened = devices.open_input(self._source, self._capture.callback)
            self._streams.append((self._source, opened))
        except DeviceError:
            self._close_streams()
            raise
        self._worker.start()

    def stop(self) -> None:
        """Close the devices and wait for the worker. Safe to call twice."""
        self._stop.set()
        self._close_streams()
        if self._worker.is_alive():
            self._worker.join(timeout=5.0)

    def __enter__(self) -> LiveSession:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_running(self, timeout_s: float) -> bool:
        """Wait for the first clean sample to be played; False when it did not come in time."""
        deadline_s = time.monotonic() + timeout_s
        while not self._playbacks[0].ring.taken and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return self._playbacks[0].ring.taken > 0

    def status(self) -> Status:
        """How it goes; called by one thread, about once a second."""
        now, cpu_s = time.monotonic(), time.process_time()
        elapsed_s = max(now - self._asked_s, 1e-6)
        cpu = (cpu_s - self._asked_cpu_s) / elapsed_s
        worker_s = self._worker_s
        worker = (worker_s - self._asked_worker_s) / elapsed_s
        self._asked_s, self._asked_cpu_s, self._asked_worker_s = now, cpu_s, worker_s
        self._capture.look_for_gap()
        input_dbfs, output_dbfs = self._levels.read()
        denoiser = self._pipeline.denoiser
        return Status(
            state=self._state(now),
            input_dbfs=input_dbfs,
            output_dbfs=output_dbfs,
            delay_ms=self._delay_ms(),
            cpu_percent=100.0 * cpu,
            drops=self._drops(),
            speech=denoiser.frame.speech,
            seconds=now - self._started_s,
            fault=str(denoiser.fault) if denoiser.fault else None,
            worker_percent=100.0 * worker,
        )

    def _work(self) -> None:
        """Clean what has come, until told to stop."""
        ring, block = self._capture.ring, np.zeros(4096, np.float32)
        while not self._stop.is_set():
            self._capture.wait(self._pipeline.wanted, timeout_s=0.1)
            late = ring.fill - round(_BACKLOG_S * SAMPLE_RATE)
            if late > 0:
                # The machine could not keep up: sound this late would stay late.
                self._skipped += ring.skip(ring.fill)
                self._catch_ups += 1
                continue
            while n := ring.read(block):
                heard = block[:n]
                at = self._pipeline.n_in, self._pipeline.n_out
                cleaned = self._pipeline.process(heard)
                self._levels.add(heard, cleaned)
                if self.excerpt is not None:
                    self.excerpt.add(heard, at[0], cleaned, at[1])
                for playback in self._playbacks:
                    playback.ring.write(cleaned)
            self._worker_s = time.thread_time()

    def _show(self, frame: Frame) -> None:
        """Hand a frame to the viewer; one that fails is not asked again, the sound goes on."""
        if self._watch is not None:
            try:
                self._watch(frame)
            except Exception:
                self._watch = None

    def lost(self) -> str | None:
        """Name of a device whose stream has ended by itself: it never calls again; else None."""
        for name, stream in self._streams:
            if not stream.active:
                return name
        return None

    def silent_s(self) -> float:
        """How long the device that called least recently is silent [s]; infinite: ever."""
        called_s = min(self._capture.called_s, *(p.called_s for p in self._playbacks))
        return time.monotonic() - called_s

    def _state(self, now: float) -> str:
        if self._playbacks[0].ring.taken and self.silent_s() < _SILENT_DEVICE_S:
            return "running"
        return "starting" if now - self._started_s < 2 * _SILENT_DEVICE_S else "stalled"

    def _delay_ms(self) -> float | None:
        """Time between capture and playback of the same sample [ms]."""
        heard_s, played_s = self._capture.origin.mean_s, self._playbacks[0].origin.mean_s
        if heard_s is None or played_s is None:
            return None
        # Skips still on their way out make this wrong for an instant, not for long.
        return 1000.0 * (played_s - heard_s - self._skipped / SAMPLE_RATE)

    def _drops(self) -> int:
        first = self._playbacks[0]
        return self._capture.gaps + self._catch_ups + first.underruns + first.skips

    def _close_streams(self) -> None:
        while self._streams:
            _, stream = self._streams.pop()
            devices.close(stream)


def _hurry() -> None:
    """Be served before programs that nobody is listening to, where the system allows it."""
    # A callback that finds the interpreter busy asks for it after this time.
    sys.setswitchinterval(0.001)
    with contextlib.suppress(AttributeError, OSError):  # not this system, not this user
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0), _NICE))


class _Capture:
    """The microphone's callback and the ring it fills."""

    def __init__(self) -> None:
        self.ring = Ring(round(_RING_S * SAMPLE_RATE))
        self.called_s = float("-inf")
        self.gaps = 0
        self.origin = _Origin()
        self._age_s = float("inf")  # of the newest block; 0 once the backlog is over
        self._wanted = 0
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._newest_origin_s = float("inf")  # of sample 0, by the least delayed block
        self._origin_s: float | None = None
        self._lost_before = 0

    def callback(self, block: Any, n: int, times: Any, flags: Any) -> None:
        self.called_s = time.monotonic()
        age_s = times.currentTime - times.inputBufferAdcTime
        if _STALE_S < age_s < self._age_s:
            self._age_s = age_s
            return
        self._age_s = 0.0
        first = self.ring.written
        self.ring.write(block[:, 0])
        self.origin.add(first, times.inputBufferAdcTime)
        origin_s = times.inputBufferAdcTime - first / SAMPLE_RATE
        self._newest_origin_s = min(self._newest_origin_s, origin_s)
        # One call is enough, so the queue never grows.
        if self.ring.fill >= self._wanted and self._wake.empty():
            self._wake.put(None)

    def wait(self, n: int, timeout_s: float) -> None:
        """Sleep until ``n`` samples have come (the worker's call): once a hop, not a block."""
        self._wanted = n
        if self.ring.fill < n:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=timeout_s)

    def look_for_gap(self) -> None:
        """Count samples the system lost without a word: the clock runs on, the count does not."""
        newest, self._newest_origin_s = self._newest_origin_s, float("inf")
        if self.ring.lost > self._lost_before:
            self._lost_before = self.ring.lost
            self.gaps += 1
        if newest == float("inf"):
            return
        # Clocks that differ by 500 ppm move this by half a millisecond a second.
        if self._origin_s is not None and abs(newest - self._origin_s) > 0.02:
            self.gaps += 1
        self._origin_s = newest


class _Playback:
    """An output's callback, the ring it empties, and what keeps the delay where it belongs."""

    def __init__(self, name: str, hop: int) -> None:
        self.name = name
        self.ring = Ring(round(_RING_S * SAMPLE_RATE))
        self.called_s = float("-inf")
        self.underruns = self.skips = 0
        self.origin = _Origin()
        self._hop = hop
        self._margin = round(_MARGIN_S * SAMPLE_RATE)
        if hop % BLOCK:
            self._margin += BLOCK  # hops are complete up to a block later than on average
        self._silence_left: int | None = None  # None: playing, or nothing has come yet
        self._playing = False
        self._lowest = self.ring.capacity  # fill left, the least in this second
        self._watched = 0  # samples played in this second

    def callback(self, block: Any, n: int, times: Any, flags: Any) -> None:
        self.called_s = time.monotonic()
        out = block[:, 0]
        out[:] = 0.0
        if not self._playing and not self._ready(n):
            return
        self.origin.add(self.ring.taken, times.outputBufferDacTime)
        if self._playing and self.ring.fill < n:
            self._wait(n, times.outputBufferDacTime - times.currentTime - _UNTOUCHED_S)
        if self.ring.fill < n:
            self._run_dry(out)
        elif not self._playing:
            self._playing = True
            self._lowest, self._watched = self.ring.capacity, 0
            self.ring.read(out)
            out *= np.linspace(0.0, 1.0, n, dtype=np.float32)
        else:
            self._play(out)

    def _ready(self, n: int) -> bool:
        """A margin of silence after the first hop came, so that the next comes in time."""
        if self.ring.fill == 0:
            return False
        if self._silence_left is None:
            # What piled up while this device was starting would stay as delay.
            self.ring.skip(self.ring.fill - self._hop)
            self._silence_left = self._margin
        self._silence_left -= n
        if self._silence_left > 0:
            return False
        self._silence_left = None
        return True

    def _wait(self, n: int, at_most_s: float) -> None:
        """Give a late worker the time until this block is due: waiting is no loss yet."""
        until_s = time.monotonic() + at_most_s
        while self.ring.fill < n and time.monotonic() < until_s:
            time.sleep(0.001)

    def _play(self, out: Float) -> None:
        n = len(out)
        self.ring.read(out)
        self._lowest = min(self._lowest, self.ring.fill)
        self._watched += n
        if self._watched < SAMPLE_RATE:
            return
        excess = self._lowest - self._margin
        self._lowest, self._watched = self.ring.capacity, 0
        if excess > round(_EXCESS_S * SAMPLE_RATE):
            self.ring.skip(excess - n)
            later = np.zeros(n, np.float32)
            self.ring.read(later)
            fade = np.linspace(0.0, 1.0, n, dtype=np.float32)
            out *= 1.0 - fade
            out += fade * later
            self.skips += 1

    def _run_dry(self, out: Float) -> None:
        n = self.ring.read(out)
        out[:n] *= np.linspace(1.0, 0.0, n, dtype=np.float32)
        self.underruns += 1
        self._playing = False
        grown = self._margin + round(_MARGIN_STEP_S * SAMPLE_RATE)
        self._margin = min(grown, round(_MARGIN_MAX_S * SAMPLE_RATE))


class _Origin:
    """When sample 0 of a stream passed its device, on PortAudio's clock.

    A running mean of what the callbacks are told: where the server's periods are no whole
    number of blocks, a single one is off by up to a period (10 ms, measured).
    """

    def __init__(self) -> None:
        self.mean_s: float | None = None
        """None before the first callback [s]."""

    def add(self, index: int, time_s: float) -> None:
        origin_s = time_s - index / SAMPLE_RATE
        if self.mean_s is None:
            self.mean_s = origin_s
        self.mean_s += _ORIGIN_SHARE * (origin_s - self.mean_s)


class _Levels:
    """Sums of squares, added by the worker and read by the status."""

    def __init__(self) -> None:
        self._sums = np.zeros(4)
        self._before = np.zeros(4)

    def add(self, heard: Float, cleaned: Float) -> None:
        energies = (np.dot(heard, heard), len(heard), np.dot(cleaned, cleaned), len(cleaned))
        self._sums = self._sums + np.array(energies, np.float64)

    def read(self) -> tuple[float, float]:
        """Levels in and out since the last call [dBFS]."""
        now = self._sums  # replaced whole by the worker, so this is one moment's value
        heard, n_heard, cleaned, n_cleaned = now - self._before
        self._before = now
        return dbfs(heard / max(n_heard, 1)), dbfs(cleaned / max(n_cleaned, 1))
