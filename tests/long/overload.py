"""Five seconds without a processor, on a real sound server: how soon delay and sound are back.

    python -m tests.long.overload --server pulseaudio

Noise is played into a microphone, the program lets it through (a real model of gain 1), and a
call records the virtual microphone beside another that records the microphone itself. Twice
the program gets nothing for 5 s: it is stopped, and the machine is full, with three busy
processes for each core, in sessions of their own, so that the system shares the processor
evenly between them and us. The delay is cross-correlated every half a second, beside what the
program tells. Prints Markdown. Exit code 1: not back at what it was within 5 s, or not continuous.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError, DeviceError
from engine.measure import delay_between
from engine.stft import Float
from tests.long.faults import FORMAT, MICROPHONE, NICE, ROOT, prefer
from tests.long.session import options
from tests.onnx_models import FULLBAND, write_identity

CAUSE_S = 5.0
MOST_S = 5.0
"""From the cause's end to the delay's return."""
AROUND_MS = 10.0
"""By so much a delay may be more than it was before."""
RESUMES_S = 0.75
"""Until sound is whole again. The program plays on 0.11 s after it may; PulseAudio's sink, which
nobody fed for 5 s, is heard after 0.3 s to 0.5 s."""
BEFORE_S, AFTER_S, SETTLING_S = 4.0, 10.0, 8.0
STEP_S = 0.5
LATEST_S = 1.5
"""Sound that comes later than that is not looked for."""
ALIKE = 0.5
WINDOW_S = 0.25
LEVEL, LOWEST_HZ, TOP_HZ = 0.1, 50, 600
HOLE_S, HOLE_DB = 0.01, -20.0


class Ear:
    """Records a source, and remembers when what came."""

    def __init__(self, server: PrivateServer, source: str) -> None:
        self._parts: list[bytes] = []
        self._arrivals: list[tuple[float, int]] = []  # time [s], samples by then
        self._process = subprocess.Popen(
            ["parec", "--device", source, "--latency-msec=20", *FORMAT],
            env=server.environment,
            stdout=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        n_bytes = 0
        while part := os.read(self._process.stdout.fileno(), 65536):
            n_bytes += len(part)
            self._parts.append(part)
            self._arrivals.append((time.monotonic(), n_bytes // 4))

    def stop(self) -> Heard:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        raw = b"".join(self._parts)
        return Heard(
            np.frombuffer(raw[: len(raw) // 4 * 4], "<f4"), np.array(self._arrivals, np.float64)
        )


class Heard(NamedTuple):
    """A recording."""

    sound: Float
    arrivals: np.ndarray
    """(n, 2): time [s] and how many samples had come by then."""

    def origin_s(self, time_s: float) -> float:
        """When sample 0 came, as seen around a moment: the least delayed arrival tells."""
        times, counts = self.arrivals.T
        near = np.abs(times - time_s) < 2 * STEP_S
        if not near.any():
            return float("nan")
        return float((times - counts / SAMPLE_RATE)[near].min())

    def between(self, start_s: float, end_s: float) -> tuple[Float, float]:
        """The sound of a stretch of time, and when its first sample came."""
        origin_s = self.origin_s(start_s)
        if np.isnan(origin_s):
            return np.zeros(0, np.float32), start_s
        first, last = (round((at - origin_s) * SAMPLE_RATE) for at in (start_s, end_s))
        first = max(first, 0)
        return self.sound[first : max(last, first)], origin_s + first / SAMPLE_RATE

    def holes(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        """When it was silent for 10 ms or more, and for how long [s]."""
        sound, begin_s = self.between(start_s, end_s)
        n = round(HOLE_S * SAMPLE_RATE)
        windows = sound[: len(sound) // n * n].reshape(-1, n)
        silent = np.sqrt(np.mean(windows**2, axis=1)) < LEVEL * 10 ** (HOLE_DB / 20)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(int), [0]])))
        pairs = edges.reshape(-1, 2)
        return [(begin_s + a * HOLE_S, (b - a) * HOLE_S) for a, b in pairs]


def delay_ms(said: Heard, heard: Heard, at_s: float) -> float | None:
    """By how much what came at a moment was heard later [ms]; None: it was not."""
    window, said_s = said.between(at_s, at_s + WINDOW_S)
    around, heard_s = heard.between(at_s, at_s + WINDOW_S + LATEST_S)
    if len(window) < 0.5 * WINDOW_S * SAMPLE_RATE or len(around) < len(window):
        return None
    shift, alike = delay_between(window, around)
    if alike < ALIKE:
        return None
    return 1000.0 * (heard_s + shift / SAMPLE_RATE - said_s)


def dark_noise(seconds: int) -> Float:
    """(n,) of low frequencies alone: what is played 0.2 % faster is still like it."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(seconds * SAMPLE_RATE))
    spectrum[TOP_HZ * seconds :] = 0.0
    spectrum[: LOWEST_HZ * seconds] = 0.0
    noise = np.fft.irfft(spectrum)
    noise *= LEVEL / np.sqrt(np.mean(noise**2))
    return noise.astype(np.float32)


# The causes


def stopped(session: subprocess.Popen[bytes]) -> None:
    session.send_signal(signal.SIGSTOP)
    time.sleep(CAUSE_S)
    session.send_signal(signal.SIGCONT)


def full(_session: subprocess.Popen[bytes]) -> None:
    busy = [
        # A session of its own each: Linux shares the processor between sessions first.
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(3 * (os.cpu_count() or 2))
    ]
    try:
        time.sleep(CAUSE_S)
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


CAUSES: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
    "process stopped for 5 s": stopped,
    "full machine for 5 s": full,
}


# The run


@dataclass(slots=True)
class Course:
    """How it went around one cause. Times are from its end."""

    name: str
    before_ms: float = float("nan")
    rows: list[tuple[float, float | None, float | None]] = field(default_factory=list)
    """Time [s], delay heard and delay told [ms]."""
    back_s: float | None = None
    """From when on it stayed near what it was before."""
    cause_silent_s: float = 0.0
    ended_s: float = 0.0
    """When the last hole of the cause was over."""
    later: list[tuple[float, float]] = field(default_factory=list)
    """Holes after that, which the microphone itself had not."""

    @property
    def complaints(self) -> list[str]:
        found = []
        if self.back_s is None or self.back_s > MOST_S:
            found.append(f"{self.name}: delay back after {self.back_s} s")
        if self.ended_s > RESUMES_S or self.later:
            found.append(f"{self.name}: holes until {self.ended_s:.2f} s, later {self.later}")
        return found


class Told(threading.Thread):
    """Asks the session every tenth of a second how it does."""

    def __init__(self, server: PrivateServer) -> None:
        super().__init__(daemon=True)
        self._at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        self.said: list[tuple[float, dict[str, Any]]] = []
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            with contextlib.suppress(ControlError), ControlClient(self._at) as client:
                told = dict(client.ask(do="status"))
                self.said.append((time.monotonic(), told))

    def delay_ms(self, time_s: float) -> float | None:
        """As it was told by then, or soon after: once a second it is another."""
        return next((told.get("delay_ms") for said_s, told in self.said if said_s >= time_s), None)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@contextlib.contextmanager
def world(kind: str, folder: Path) -> Iterator[tuple[PrivateServer, subprocess.Popen[bytes]]]:
    """A sound server, noise in its microphone, and the program."""
    with PrivateServer(kind) as server:
        server.add_microphone("room", "Room")
        model = write_identity(folder / "identity.onnx", FULLBAND)
        player = server.play(dark_noise(120), "room")
        session = subprocess.Popen(
            [sys.executable, "-m", "main", *options(model)],
            env={**server.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            yield server, session
        finally:
            session.send_signal(signal.SIGCONT)
            session.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                session.wait(timeout=10)
            session.kill()
            session.wait()
            player.kill()
            player.wait()


def run(kind: str, say: Callable[[str], None]) -> list[Course]:
    """Both causes, one after the other; raises DeviceError when no sound comes to begin with."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    prefer(os.getpid())  # the ears: what starves here would be held against the program
    with tempfile.TemporaryDirectory() as folder, world(kind, Path(folder)) as (server, session):
        told = Told(server)
        deadline_s = time.monotonic() + 20.0
        while not told.said or told.said[-1][1].get("state") != "running":
            if time.monotonic() > deadline_s:
                raise DeviceError("the session does not begin to run")
            time.sleep(0.1)
        said, heard = Ear(server, "room.monitor"), Ear(server, MICROPHONE)
        ends = []
        for name, cause in CAUSES.items():
            time.sleep(SETTLING_S)
            say(name)
            cause(session)
            ends.append(time.monotonic())
            time.sleep(AFTER_S + STEP_S + LATEST_S)
        recordings = said.stop(), heard.stop()
        told.stop()
    return [
        _course(name, end_s, *recordings, told) for name, end_s in zip(CAUSES, ends, strict=True)
    ]


def _course(name: str, end_s: float, said: Heard, heard: Heard, told: Told) -> Course:
    course = Course(name)
    start_s = end_s - CAUSE_S
    calm = np.arange(start_s - BEFORE_S, start_s - STEP_S, STEP_S)
    delays = [one for at_s in calm if (one := delay_ms(said, heard, at_s)) is not None]
    if delays:
        course.before_ms = float(np.median(delays))
    for after_s in np.arange(0.0, AFTER_S, STEP_S):
        at_s = end_s + after_s
        delay = delay_ms(said, heard, at_s)
        course.rows.append((float(after_s), delay, told.delay_ms(at_s)))
        # Sound that comes sooner than before is no delay: margins shrink, and recorders move.
        if delay is None or not delay - course.before_ms <= AROUND_MS:
            course.back_s = None
        elif course.back_s is None:
            course.back_s = float(after_s)
    theirs = said.holes(start_s, end_s + AFTER_S)
    for at_s, length_s in heard.holes(start_s, end_s + AFTER_S):
        if at_s < end_s + RESUMES_S:
            course.cause_silent_s += length_s
            course.ended_s = max(course.ended_s, at_s + length_s - end_s)
        elif not any(abs(at_s - other_s) < LATEST_S for other_s, _ in theirs):
            course.later.append((round(at_s - end_s, 2), round(length_s, 2)))
    return course


def tables(kind: str, courses: list[Course]) -> str:
    """Markdown."""
    lines = [
        f"| {kind} | delay before [ms] | at most 10 ms more after [s] | silent in all [s] "
        "| until [s] after the end | holes later |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for course in courses:
        back = "not" if course.back_s is None else f"{course.back_s:.1f}"
        lines.append(
            f"| {course.name} | {course.before_ms:.0f} | {back} | {course.cause_silent_s:.2f} "
            f"| {course.ended_s:.2f} | {len(course.later)} |"
        )
    lines += ["", "| after the end [s] |", "|---:|"]
    for course in courses:
        lines[-2] += f" {course.name}: heard [ms] | told [ms] |"
        lines[-1] += "---:|---:|"
    for rows in zip(*(course.rows for course in courses), strict=False):
        cells = [f"| {rows[0][0]:.1f} |"]
        for _, *figures in rows:
            cells += [f" {'–' if one is None else f'{one:.0f}'} |" for one in figures]
        lines.append("".join(cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("pulseaudio", "pipewire"), default="pulseaudio")
    args = parser.parse_args()
    courses = run(args.server, lambda line: print(line, file=sys.stderr, flush=True))
    print(tables(args.server, courses))
    wrong = [complaint for course in courses for complaint in course.complaints]
    for complaint in wrong:
        print(f"- {complaint}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
