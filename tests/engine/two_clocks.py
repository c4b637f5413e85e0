"""A microphone and an output whose clocks differ, faster than real time.

The session's own callbacks and worker are called as a card and a scheduler would, at times
that a simulated clock tells: late by chance, never early, in order. Every run of the same
seed is the same run.

    python -m tests.engine.two_clocks --hours 8

prints the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine import devices, live
from engine.devices import BLOCK, CAPTURE_BLOCK, SAMPLE_RATE
from engine.live import LiveSession
from engine.network import Estimator
from engine.spec import ModelSpec
from engine.stft import Float
from tests.estimators import Steady
from tests.onnx_models import CLASSIC, FULLBAND

TONE_HZ = 997.0
OUTPUT_S = 0.030
"""What the output's buffer holds: a block is asked for so long before it is heard."""


class Stream:
    """What a session opens and closes; the simulation turns it."""

    def close(self, ignore_errors: bool = True) -> None:
        pass


class Held:
    """A pipeline that only withholds and bursts, as one of this setting does."""

    def __init__(self, spec: ModelSpec, knobs: Any) -> None:
        self.latency_s = spec.total_latency_s
        self.burst = round(spec.hop_s * SAMPLE_RATE)
        self.knobs = knobs
        self.denoiser = SimpleNamespace(fault=None, frame=SimpleNamespace(speech=0.0))
        self._withheld = round(spec.latency / spec.sample_rate * SAMPLE_RATE)
        self.reset()

    def reset(self) -> None:
        self._waiting = np.zeros(0, np.float32)

    @property
    def wanted(self) -> int:
        return max(1, self._withheld + self.burst - len(self._waiting))

    def process(self, block: Float) -> Float:
        self._waiting = np.concatenate([self._waiting, block])
        n = (len(self._waiting) - self._withheld) // self.burst * self.burst
        if n <= 0:
            return np.zeros(0, np.float32)
        made, self._waiting = self._waiting[:n], self._waiting[n:]
        return made


class TwoClocks:
    """One session and the world around it.

    Parameters
    ----------
    network : what cleans
    drift_ppm : how much faster the microphone's clock is than the output's
    seed : of the lateness of everything
    jitter_s : mean lateness of a callback; one in a thousand comes ten times later
    held : whether a stand-in takes the place of the pipeline, which is nine tenths of the work
    """

    def __init__(
        self,
        network: Estimator,
        drift_ppm: float,
        seed: int = 1,
        jitter_s: float = 0.001,
        held: bool = False,
    ) -> None:
        self._now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._rng = np.random.default_rng(seed)
        self._lateness = iter(())
        self._jitter_s = jitter_s
        # Both are off, in opposite directions, as it is between two quartzes.
        self.capture_hz = SAMPLE_RATE * (1.0 + 0.5e-6 * drift_ppm)
        self.playback_hz = SAMPLE_RATE * (1.0 - 0.5e-6 * drift_ppm)
        self.session = LiveSession(network, "microphone", ["speaker"], clock=self)
        if held:
            pipeline: Any = Held(network.spec, self.session.knobs)
            self.session._pipeline = pipeline
        self.n_captured = self.n_played = 0
        self._first_slot_s = 0.0037 + OUTPUT_S
        self.worker_free_s = 0.0
        self.worker_cost_s = 0.0003
        self.machine_free_s = 0.0
        """Until when nothing runs at all."""
        self.quantum_s = 0.0
        """The output asks for sound so often, as PipeWire does; 0: whenever a block is free."""
        self.told_more_s: Callable[[float], float] = lambda _now_s: 0.0
        """What the output tells of its delay beside the truth, at a moment."""
        self._cleaning = False
        self.sound = self._tone
        # A whole number of periods and of blocks in a second.
        second = 2.0 * np.pi * TONE_HZ * np.arange(SAMPLE_RATE) / SAMPLE_RATE
        self._second = (0.5 * np.sin(second)).astype(np.float32).reshape(-1, CAPTURE_BLOCK)
        self.heard: list[Float] | None = []
        """What was played; None to keep none."""
        self.delays_ms: list[float] = []
        self.targets_ms: list[float] = []
        self.device_underruns = 0
        self._out = np.zeros((BLOCK, 1), np.float32)

    # The session's clock

    def monotonic(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let everybody else go on (the playback's call)."""
        end_s = self._now_s + min(seconds, 0.001)
        self._run_until(end_s, playing=True)

    # The world

    def spend(self, seconds: float) -> None:
        """Let the others go on while the worker works (its call, from within the network)."""
        self._run_until(self._now_s + seconds)

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        if not self._events and not self.n_captured:
            self._start()
        self._run_until(self._now_s + seconds)

    def _start(self) -> None:
        opened = devices.open_input, devices.open_output
        start = self.session._worker.start
        devices.open_input = devices.open_output = lambda *_: Stream()  # type: ignore[assignment]
        self.session._worker.start = lambda: None  # type: ignore[method-assign]
        hurry, live._hurry = live._hurry, lambda: None  # hours of it are in no hurry
        try:
            self.session.start()
        finally:
            devices.open_input, devices.open_output = opened
            live._hurry = hurry
            self.session._worker.start = start  # type: ignore[method-assign]
        self._at(self._due_capture(), self._capture)
        self._at(0.0037, self._play)

    def _run_until(self, end_s: float, playing: bool = False) -> None:
        waiting = []
        while self._events and self._events[0][0] <= end_s:
            event = heapq.heappop(self._events)
            if event[0] < self.machine_free_s:
                heapq.heappush(self._events, (self.machine_free_s, *event[1:]))
                continue
            if playing and event[2] == self._play:
                waiting.append(event)  # the output's thread is the one that sleeps
                continue
            self._now_s = max(self._now_s, event[0])
            event[2]()
        for event in waiting:
            heapq.heappush(self._events, event)
        self._now_s = max(self._now_s, end_s)

    def _at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), do))

    def _late(self) -> float:
        for lateness in self._lateness:
            return float(lateness)
        drawn = self._rng.exponential(self._jitter_s, 4096)
        drawn[self._rng.random(4096) < 0.001] *= 10.0
        self._lateness = iter(np.minimum(drawn, 0.02))
        return self._late()

    def _due_capture(self) -> float:
        return (self.n_captured + CAPTURE_BLOCK) / self.capture_hz + self._late()

    def _capture(self) -> None:
        first, now_s = self.n_captured, self._now_s
        block = self.sound(first)
        times = SimpleNamespace(currentTime=now_s, inputBufferAdcTime=first / self.capture_hz)
        self.session._capture.callback(block[:, np.newaxis], CAPTURE_BLOCK, times, None)
        self.n_captured += CAPTURE_BLOCK
        self._at(max(self._due_capture(), now_s), self._capture)
        wanted = self.session._at + self.session._pipeline.wanted
        if not self._cleaning and self.session._capture.tape.written >= wanted:
            self._cleaning = True
            start_s = max(now_s, self.worker_free_s) + 0.2 * self._late()
            self._at(start_s + self.worker_cost_s, self._clean)

    def _clean(self) -> None:
        if self._now_s < self.worker_free_s:  # stopped meanwhile
            self._at(self.worker_free_s, self._clean)
            return
        self.session.clean()
        self._cleaning = False

    def _slot(self) -> float:
        """When the next block is heard."""
        return self._first_slot_s + self.n_played / self.playback_hz

    def _play(self) -> None:
        if self._now_s > self._slot():
            # It has run dry, and goes on with what it gets from now on.
            self.device_underruns += 1
            self._first_slot_s += self._now_s - self._slot() + 0.001
        playback, slot_s = self.session._playbacks[0], self._slot()
        told_s = max(slot_s + self.told_more_s(self._now_s), self._now_s)
        times = SimpleNamespace(currentTime=self._now_s, outputBufferDacTime=told_s)
        before = playback.played
        playback.callback(self._out, BLOCK, times, None)
        if self.heard is not None:
            self.heard.append(self._out[:, 0].copy())
        if playback.played > before:
            first = playback._position - BLOCK * (1.0 + playback.drift.speed)
            self.delays_ms.append(1000.0 * (slot_s - first / self.capture_hz))
            target = (playback.behind + playback._margin) / SAMPLE_RATE + OUTPUT_S
            self.targets_ms.append(1000.0 * target)
        self.n_played += BLOCK
        free_s = self._slot() - OUTPUT_S
        if self.quantum_s:
            free_s = math.ceil(free_s / self.quantum_s) * self.quantum_s
        self._at(max(free_s + self._late(), self._now_s), self._play)

    def _tone(self, first: int) -> Float:
        return self._second[first // CAPTURE_BLOCK % len(self._second)]


def artefacts_db(sound: Float) -> float:
    """Power outside of ±25 Hz of the strongest tone, against the tone's [dB].

    The window is Blackman and Harris's (92 dB); within the band a tone that wavers is pitch.
    """
    n = len(sound)
    turn = 2.0 * np.pi * np.arange(n) / n
    window = 0.35875 - 0.48829 * np.cos(turn) + 0.14128 * np.cos(2 * turn)
    window -= 0.01168 * np.cos(3 * turn)
    power = np.abs(np.fft.rfft(window * sound)) ** 2
    peak, width = int(power.argmax()), int(np.ceil(25.0 * n / SAMPLE_RATE))
    rest = power[: peak - width].sum() + power[peak + width + 1 :].sum()
    return float(10.0 * np.log10(rest / power[peak - width : peak + width + 1].sum()))


def largest_bend(sound: Float) -> float:
    """Largest second difference, as a multiple of the captured tone's: a click has 4 and more."""
    tone = 0.5 * (2.0 * np.pi * TONE_HZ / SAMPLE_RATE) ** 2
    return float(np.abs(np.diff(sound, 2)).max() / tone)


def _row(spec: ModelSpec, drift_ppm: float, hours: float) -> str:
    world = TwoClocks(Steady(spec), drift_ppm, held=True)
    artefacts, off, began = [], [], time.perf_counter()
    stops_at_first = 0
    delays: list[tuple[float, float]] = []
    for part in range(round(hours * 60)):
        world.heard = []
        world.run(1.0 if part == 0 else 57.0)
        if part == 0:
            stops_at_first = world.session._playbacks[0].stops
        world.heard = []
        world.run(59.0 if part == 0 else 3.0)
        sound = np.concatenate(world.heard)[-2 * SAMPLE_RATE :]
        artefacts.append(artefacts_db(sound))
        off_ms = np.array(world.delays_ms) - np.array(world.targets_ms)
        off.append((off_ms.min(), off_ms.max()))
        delays.append((min(world.delays_ms), max(world.delays_ms)))
        world.delays_ms, world.targets_ms = [], []
    playback = world.session._playbacks[0]
    low, high = min(one[0] for one in off), max(one[1] for one in off)
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    return (
        f"| {spec.name} | {drift_ppm:+.0f} | {low:+.1f} … {high:+.1f} "
        f"| {min(d[0] for d in delays):.1f} … {max(d[1] for d in delays):.1f} "
        f"| {playback.stops - stops_at_first} | {playback.uncleaned / SAMPLE_RATE:.2f} "
        f"| {playback.jumps} | {max(artefacts):.0f} |"
    )


def main() -> None:
    """Print a row for each drift, all of the same seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0, help="simulated [h] (default: 8)")
    parser.add_argument("--drift", type=float, nargs="*", help="[ppm] (default: ±50, ±200, ±500)")
    parser.add_argument("--setting", choices=("fullband", "classic"), default="fullband")
    args = parser.parse_args()
    spec = FULLBAND if args.setting == "fullband" else CLASSIC
    print(
        "| setting | drift [ppm] | delay − target [ms] | delay [ms] | underruns "
        "| uncleaned [s] | jumps | artefacts [dB] |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for drift_ppm in args.drift or (-500.0, -200.0, -50.0, 50.0, 200.0, 500.0):
        print(_row(spec, drift_ppm, args.hours), flush=True)


if __name__ == "__main__":
    main()
