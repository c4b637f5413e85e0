"""Does a window disturb the call? A measurement of minutes, not a test.

    .venv/bin/python -m tests.long.window_run --minutes 10

Two engines hear the same tone, each on a private PulseAudio of its own: one gets a window on
Xvfb for as long as asked, the other never. Beside them a neighbour keeps a core busy all the
time. Lost sound of both, with and without the window, and the memory of window and engine are
printed as a Markdown table. Ends with 1 when the window cost sound or memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from app.bench import machine
from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError
from tests.screen import screen
from tests.tones import Tone, hiccups

ROOT = Path(__file__).parents[2]
LOOK_S = 10.0
SETTLING_S = 60.0
MOST_GROWTH = 0.05
_START_S = 60.0


@dataclass
class Seat:
    """An engine on a sound server of its own."""

    name: str
    server: PrivateServer
    engine: subprocess.Popen[str]
    tone: Tone

    def status(self) -> dict[str, Any]:
        at = Path(self.server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        with ControlClient(at, 120.0) as client:
            return client.ask(do="status")


@dataclass
class Stretch:
    """What a seat lost in some minutes."""

    minutes: float
    drops: int
    hiccups: int
    recoveries: int
    delays_ms: list[float]

    def row(self) -> str:
        return (
            f"{self.minutes:.1f} | {self.drops} ({self.drops / self.minutes:.2f}) | "
            f"{self.hiccups} ({self.hiccups / self.minutes:.2f}) | {self.recoveries} | "
            f"{np.nanmedian(self.delays_ms):.0f} / {np.nanmax(self.delays_ms):.0f}"
        )


@dataclass
class Watched:
    """Memory and processor time of a process, looked at every ten seconds."""

    name: str
    process: psutil.Process
    since_s: float = field(default_factory=time.monotonic)
    megabytes: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def look(self) -> None:
        times = self.process.cpu_times()
        self.megabytes.append(self.process.memory_info().rss / 1e6)
        self.cpu_s.append(times.user + times.system)

    @property
    def settled(self) -> list[float]:
        """Without the first minute."""
        return self.megabytes[round(SETTLING_S / LOOK_S) :] or self.megabytes

    @property
    def growth(self) -> float:
        """From the first half minute after the first minute to the last half minute."""
        n = max(1, round(30.0 / LOOK_S))
        return float(np.mean(self.settled[-n:]) / np.mean(self.settled[:n]) - 1.0)

    def row(self) -> str:
        looked_s = LOOK_S * (len(self.cpu_s) - 1)
        cpu = (self.cpu_s[-1] - self.cpu_s[0]) / looked_s
        return (
            f"{self.megabytes[0]:.0f} | {self.settled[0]:.1f} | {self.settled[-1]:.1f} | "
            f"{max(self.megabytes):.1f} | {100 * self.growth:+.1f} % | {100 * cpu:.1f} %"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="with the window")
    parser.add_argument("--before", type=float, help="without it (default: 0.4 of that)")
    parser.add_argument("--model", default="classic", help="default: classic")
    args = parser.parse_args()
    before = 0.4 * args.minutes if args.before is None else args.before
    with contextlib.ExitStack() as stack:
        # As anybody's, also where all of this runs before others (chrt -r 2).
        hungry = (
            "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n"
            "os.setpriority(os.PRIO_PROCESS, 0, 0)\nwhile True: pass"
        )
        neighbour = subprocess.Popen([sys.executable, "-c", hungry])
        stack.callback(neighbour.wait)
        stack.callback(neighbour.kill)
        display = stack.enter_context(screen())
        shown = stack.enter_context(seat("with a window", args.model))
        alone = stack.enter_context(seat("headless", args.model))
        time.sleep(5.0)
        print(f"{before:.1f} minutes without a window …", file=sys.stderr, flush=True)
        quiet = stretch([shown, alone], before, [])
        window = stack.enter_context(a_window(shown, display))
        time.sleep(10.0)
        watched = [
            Watched("window", psutil.Process(window.pid)),
            Watched("its engine", psutil.Process(shown.engine.pid)),
            Watched("headless engine", psutil.Process(alone.engine.pid)),
        ]
        print(f"{args.minutes:.1f} minutes with it …", file=sys.stderr, flush=True)
        loud = stretch([shown, alone], args.minutes, watched)
        assert window.poll() is None, "the window has ended"
    print("\n".join(table([shown, alone], quiet, loud, watched, args)))
    return verdict(quiet, loud, watched)


@contextlib.contextmanager
def seat(name: str, model: str) -> Iterator[Seat]:
    """A sound server whose microphone hears a tone, and an engine on it that runs."""
    with PrivateServer("pulseaudio") as server:
        server.add_microphone("room", "Room")
        server.control("set-default-source", "room.monitor")
        tone = Tone(server, "room")
        # The tone would be taken for noise; the model works all the same.
        engine = server.clean("room.monitor", "--model", model, "--limit", "0")
        for pipe in (engine.stdout, engine.stderr):
            threading.Thread(target=_drain, args=(pipe,), daemon=True).start()
        made = Seat(name, server, engine, tone)
        try:
            deadline = time.monotonic() + _START_S
            while not _runs(made):
                assert time.monotonic() < deadline, f"the engine {name} does not start"
                time.sleep(0.2)
            yield made
        finally:
            engine.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                engine.wait(10)
            engine.kill()
            engine.wait()
            tone.stop()


def _drain(pipe: Any) -> None:
    for _ in pipe:
        pass


def _runs(seat: Seat) -> bool:
    try:
        return seat.status().get("state") == "running"
    except ControlError:
        return False


@contextlib.contextmanager
def a_window(seat: Seat, display: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real window on the engine that runs there, seen by Xvfb."""
    environment = {**seat.server.environment, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
    window = subprocess.Popen([sys.executable, str(ROOT / "main.py")], env=environment)
    try:
        yield window
    finally:
        window.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            window.wait(15)
        window.kill()
        window.wait()


def stretch(seats: list[Seat], minutes: float, watched: list[Watched]) -> list[Stretch]:
    """Let some minutes pass and see what each seat lost in them."""
    recorders = [one.server.record("denoise_app_microphone") for one in seats]
    time.sleep(1.5)
    skip = [round(one.seconds * SAMPLE_RATE) for one in recorders]
    first = [one.status() for one in seats]
    delays: list[list[float]] = [[] for _ in seats]
    drops, before = [0] * len(seats), [one["drops"] for one in first]
    began = time.monotonic()
    looks = 0
    while (now := time.monotonic()) < began + 60 * minutes:
        for one in watched:
            one.look()
        for at, one in enumerate(seats):
            told = one.status()
            delays[at].append(float(told.get("delay_ms") or np.nan))
            # A session that was opened anew counts anew.
            now_lost = told.get("drops", 0)
            drops[at] += now_lost - before[at] if now_lost >= before[at] else now_lost
            before[at] = now_lost
        looks += 1
        time.sleep(max(0.0, min(began + LOOK_S * looks, began + 60 * minutes) - now))
    for one in watched:
        one.look()
    last = [one.status() for one in seats]
    found = []
    for recorder, start, one, other, lost, delay_ms in zip(
        recorders, skip, first, last, drops, delays, strict=True
    ):
        heard = recorder.stop()[start:]
        found.append(
            Stretch(
                len(heard) / SAMPLE_RATE / 60,
                lost,
                hiccups(heard),
                other["recoveries"] - one["recoveries"],
                delay_ms,
            )
        )
    return found


def table(
    seats: list[Seat],
    quiet: list[Stretch],
    loud: list[Stretch],
    watched: list[Watched],
    args: argparse.Namespace,
) -> list[str]:
    lines = [
        f"Measured on {machine()}, model {args.model}, a neighbour on one core throughout.",
        "",
        "| | minutes | drops (a minute) | hiccups heard (a minute) | recoveries "
        "| delay, median / most [ms] |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for when, stretches in (("before the window", quiet), ("while the window shows", loud)):
        for one, found in zip(seats, stretches, strict=True):
            lines.append(f"| {one.name}, {when} | {found.row()} |")
    lines += [
        "",
        "| memory [MB] | at first | after a minute | at the end | most | growth after the first "
        "minute | CPU of one core |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(f"| {one.name} | {one.row()} |" for one in watched),
    ]
    return lines


def verdict(quiet: list[Stretch], loud: list[Stretch], watched: list[Watched]) -> int:
    """0 when memory is flat and the window cost no sound, as far as the machine can tell."""
    code = 0
    for one in watched:
        if one.growth >= MOST_GROWTH:
            print(f"{one.name}: memory grew by {100 * one.growth:.1f} %", file=sys.stderr)
            code = 1
    (own_before, other_before), (own, other) = (
        [one.hiccups / one.minutes for one in found] for found in (quiet, loud)
    )
    # What the machine does to both is not the window's doing.
    if own > max(other, own_before, other_before) + 1.0:
        print(f"with the window: {own:.2f} hiccups a minute", file=sys.stderr)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
