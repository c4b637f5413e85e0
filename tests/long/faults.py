"""Faults of every kind, at random, on a real sound server; and how soon the sound is back.

    python -m tests.long.faults --server pulseaudio --faults 120 --seed 1

A voice (a tone that the model keeps, and one that it takes out) is played into a microphone,
the program cleans it, and a call records the virtual microphone by its name, as call apps do.
Each fault has an end; from there to the first quarter of a second of clean sound may pass
3 s. Prints Markdown. Exit code 1: the sound was not back, or something was left or grew.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pulsectl

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError, DeviceError
from engine.stft import Float
from tests.long.session import options
from tests.onnx_models import FULLBAND, write_lowpass

ROOT = Path(__file__).parents[2]

MOST_S = 3.0
"""From a fault's end to clean sound."""
STUCK_S = 5.0
"""A call that hears nothing for so long begins anew: later than what is allowed."""
LOST_S = 30.0
"""When waiting for it ends."""

# Both have whole numbers of periods in a window.
WANTED_HZ, UNWANTED_HZ, LIMIT_HZ = 440.0, 5000.0, 2000.0
WINDOW = SAMPLE_RATE // 20
LEVEL = 0.2
CLEAN_WINDOWS = 5
WITHIN_DB, NOISE_DB, RESIDUE_DB, PITCH = 3.0, -40.0, -30.0, 0.006

MICROPHONE = "denoise_app_microphone"
FORMAT = ("--raw", "--format=float32le", f"--rate={SAMPLE_RATE}", "--channels=1")
PAUSE_S = 0.05
NICE = -11


# What plays and what listens


class Voice:
    """Plays both tones to the sink ``room`` and begins again whenever it is cut off."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server
        self._stopping = threading.Event()
        time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        tones = sum(np.sin(2 * np.pi * hz * time_s) for hz in (WANTED_HZ, UNWANTED_HZ))
        self._sound = (LEVEL * tones).astype("<f4").tobytes()
        self._player: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self, paused: bool) -> None:
        """Leave a server that starts in peace: WirePlumber is apt to lose who comes early."""
        self._paused = paused

    def restart(self) -> None:
        """Look for the room anew: a server may have moved it elsewhere."""
        if self._player is not None:
            self._player.kill()

    def stop(self) -> None:
        self._stopping.set()
        self.restart()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._paused:
                time.sleep(PAUSE_S)
                continue
            with subprocess.Popen(
                ["pacat", "--device", "room", "--latency-msec=20", *FORMAT],
                env=self._server.environment,
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as self._player:
                assert self._player.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    while not self._stopping.is_set() and self._player.poll() is None:
                        self._player.stdin.write(self._sound)
                self._player.kill()
                with contextlib.suppress(BrokenPipeError):
                    self._player.stdin.close()
            time.sleep(PAUSE_S)


class Call:
    """Records the virtual microphone, takes it up again when it was lost, and hears how it is."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._windows: deque[tuple[float, bool]] = deque(maxlen=4000)  # arrival [s], clean
        self._recorder: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self, paused: bool) -> None:
        """As of ``Voice``; a recording in progress goes on."""
        self._paused = paused

    def clean_since(self, start_s: float) -> float | None:
        """When clean sound began that came after ``start_s`` and lasted; None: not yet."""
        began_s, n = 0.0, 0
        for arrived_s, clean in list(self._windows):
            if arrived_s < start_s or not clean:
                n = 0
                continue
            began_s = began_s if n else arrived_s
            n += 1
            if n == CLEAN_WINDOWS:
                return began_s
        return None

    def share_of_clean(self, start_s: float) -> float:
        """How many of the windows since then were clean; at most 200 s are remembered."""
        clean = [clean for arrived_s, clean in list(self._windows) if arrived_s >= start_s]
        return sum(clean) / max(1, len(clean))

    def stop(self) -> None:
        self._stopping.set()
        if self._recorder is not None:
            self._recorder.kill()
        self._thread.join()

    def _is_there(self) -> bool:
        # Where it is not, PipeWire would give another microphone without a word.
        return MICROPHONE in asked(self._server, lambda pulse: pulse.source_list(), "name")

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._paused or not self._is_there():
                self._windows.append((time.monotonic(), False))
                time.sleep(PAUSE_S)
                continue
            with subprocess.Popen(
                ["parec", "--device", MICROPHONE, "--latency-msec=20", *FORMAT],
                env=self._server.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as self._recorder:
                assert self._recorder.stdout is not None
                left, pipe = b"", self._recorder.stdout
                while select.select([pipe], [], [], STUCK_S)[0]:
                    chunk = os.read(pipe.fileno(), 65536)
                    if not chunk:
                        break
                    left = self._hear(left + chunk)
                self._recorder.kill()
            self._windows.append((time.monotonic(), False))
            time.sleep(PAUSE_S)

    def _hear(self, raw: bytes) -> bytes:
        now_s, n_bytes = time.monotonic(), 4 * WINDOW
        while len(raw) >= n_bytes:
            window, raw = np.frombuffer(raw[:n_bytes], "<f4"), raw[n_bytes:]
            self._windows.append((now_s, is_clean(window)))
        return raw


def asked(server: PrivateServer, what: Callable[[pulsectl.Pulse], list[Any]], of: str) -> list[Any]:
    """An attribute of everything that the sound server lists; nothing where it does not answer."""
    try:
        with pulsectl.Pulse("watcher", server=server.environment["PULSE_SERVER"]) as pulse:
            return [getattr(one, of) for one in what(pulse)]
    except (pulsectl.PulseError, pulsectl.PulseDisconnected):
        return []


_TIME_S = np.arange(WINDOW) / SAMPLE_RATE


def is_clean(window: Float) -> bool:
    """Whether the wanted tone is there, the other is not, and nothing else is.

    The tone may be off by as much as the session speeds sound up to keep its delay.
    """
    first, second = (_at(WANTED_HZ, half, _TIME_S[: len(half)]) for half in np.split(window, 2))
    turned = np.angle(second * np.conj(first))
    off_hz = turned / (2 * np.pi * WINDOW / 2 / SAMPLE_RATE)
    if abs(off_hz) > PITCH * WANTED_HZ:
        return False
    wanted_hz = WANTED_HZ + off_hz
    wanted, unwanted = _at(wanted_hz, window, _TIME_S), _at(UNWANTED_HZ, window, _TIME_S)
    residue = window - np.real(wanted * np.exp(2j * np.pi * wanted_hz * _TIME_S))
    level = max(float(np.abs(wanted)), 1e-9)
    return bool(
        abs(20 * np.log10(level / LEVEL)) < WITHIN_DB
        and np.abs(unwanted) < level * 10 ** (NOISE_DB / 20)
        and np.sqrt(np.mean(residue**2)) < level * 10 ** (RESIDUE_DB / 20)
    )


def _at(hz: float, window: Float, time_s: np.ndarray) -> complex:
    """Complex amplitude of a tone."""
    return complex(2.0 * np.mean(window * np.exp(-2j * np.pi * hz * time_s)))


# The world in which it happens


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds, and what the sound server holds for it."""

    threads: int
    files: int
    rss_mb: float
    modules: int

    @classmethod
    def of(cls, world: World) -> Resources:
        proc = Path(f"/proc/{world.session.pid}")
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        return cls(
            threads=int(status["Threads"]),
            files=len(list((proc / "fd").iterdir())),
            rss_mb=int(status["VmRSS"].split()[0]) / 1024,
            modules=world.modules(),
        )


class World:
    """A sound server, a microphone, the program, a call, and a small disk for the log."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._exits = contextlib.ExitStack()
        self.server = self._exits.enter_context(PreferredServer(kind))
        self.server.add_microphone("room", "Room")
        self.state = Path(self.server.environment["XDG_STATE_HOME"]) / "denoise-app"
        self.state.mkdir(parents=True)
        self.disk = self._exits.enter_context(_small_disk(self.state))
        model = write_lowpass(folder / "lowpass.onnx", FULLBAND, LIMIT_HZ)
        # Another model would clean otherwise, and the ear here would not know it.
        self.errors = self._exits.enter_context((folder / "stderr").open("w+b"))
        self.session = subprocess.Popen(
            [sys.executable, "-m", "tests.long.session", *options(model)],
            env={**self.server.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            cwd=ROOT,
        )
        with contextlib.suppress(OSError):
            # As the program and the server do: what starves here would be held against them.
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
        prefer(os.getpid())
        self.voice, self.call = Voice(self.server), Call(self.server)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        self.voice.stop()
        self.call.stop()
        if self.session.poll() is None:
            self.session.kill()
        self.session.wait()
        self._exits.close()

    def status(self) -> dict[str, Any]:
        """What the session says of itself; empty where it does not answer."""
        at = Path(self.server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        try:
            with ControlClient(at) as client:
                return dict(client.ask(do="status"))
        except ControlError as error:
            return {"error": str(error)}

    def wait(self, start_s: float) -> float | None:
        """How long after ``start_s`` all is well: the microphone whole, clean sound from it [s]."""
        whole_s = start_s
        while time.monotonic() < start_s + LOST_S:
            if self.modules() != 2:
                whole_s = time.monotonic()
                time.sleep(PAUSE_S)
                continue
            clean_s = self.call.clean_since(whole_s)
            if clean_s is not None:
                return clean_s - start_s
            time.sleep(PAUSE_S)
        return None

    def modules(self, name: str = "denoise_app") -> int:
        """How many modules of the server have this in their line; 0 where it does not answer."""
        lines = asked(self.server, lambda pulse: pulse.module_list(), "argument")
        return sum(name in (line or "") for line in lines)

    def unload(self, name: str) -> None:
        (number,) = (line.split()[0] for line in self._module_lines() if name in line)
        self.server.control("unload-module", number)

    def plug_in(self, rate: int = SAMPLE_RATE) -> None:
        """Make the microphone; a voice that plays elsewhere by now comes back to it."""
        self.server.control(
            *("load-module", "module-null-sink", "sink_name=room", f"rate={rate}", "channels=1"),
            *("norewinds=1", "sink_properties='device.description=\"Room\"'"),
        )
        self.voice.restart()

    def _module_lines(self) -> list[str]:
        return self.server.control("list", "short", "modules").splitlines()


def prefer(pid: int) -> None:
    """Let a process and those of its session go before others that this machine happens to run.

    Linux shares the processor between sessions first, and looks at niceness inside each.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))


class PreferredServer(PrivateServer):
    """A sound server that goes before whatever else this machine does."""

    def _launch(self) -> subprocess.Popen[bytes]:
        process = super()._launch()
        prefer(process.pid)
        return process


@contextlib.contextmanager
def _small_disk(at: Path) -> Iterator[Path | None]:
    """Mount a disk of 256 kB here; None where we may not."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(at)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)


# The faults: each returns when its cause has ended


def server_dies(world: World, chance: random.Random) -> None:
    world.call.pause(True)
    world.voice.pause(True)
    world.server.kill()
    time.sleep(chance.uniform(0.0, 4.0))
    world.server.restart()
    world.voice.pause(False)
    world.plug_in()
    world.call.pause(False)


def microphone_is_unplugged(world: World, chance: random.Random) -> None:
    world.unload("sink_name=room ")
    time.sleep(chance.uniform(0.0, 4.0))
    world.plug_in()


def microphone_changes_its_rate(world: World, chance: random.Random) -> None:
    """As a Bluetooth headset does, when a call begins or ends."""
    world.unload("sink_name=room ")
    time.sleep(chance.uniform(0.0, 1.0))
    world.plug_in(chance.choice((16_000, 44_100, 48_000)))


def virtual_microphone_is_unloaded(world: World, chance: random.Random) -> None:
    time.sleep(1.0)  # a call that began less than a second ago is not yet known
    world.unload(chance.choice(("sink_name=denoise_app_sink", "source_name=denoise_app_mic")))


def source_is_suspended(world: World, chance: random.Random) -> None:
    _suspend(world, "room", chance)  # its monitor with it


def sink_is_suspended(world: World, chance: random.Random) -> None:
    _suspend(world, "denoise_app_sink", chance)


def _suspend(world: World, sink: str, chance: random.Random) -> None:
    world.server.control("suspend-sink", sink, "1")
    time.sleep(chance.uniform(0.2, 4.0))
    # The session may have made it anew meanwhile.
    with contextlib.suppress(DeviceError):
        world.server.control("suspend-sink", sink, "0")
    if sink == "room":
        world.voice.restart()  # PipeWire leaves it suspended until somebody plays


def process_is_stopped(world: World, chance: random.Random) -> None:
    world.session.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.2, 5.0))
    world.session.send_signal(signal.SIGCONT)


def machine_is_busy(world: World, chance: random.Random) -> None:
    with _load():
        time.sleep(chance.uniform(0.5, 4.0))


def inference_throws(world: World, chance: random.Random) -> None:
    world.session.send_signal(signal.SIGUSR1)
    time.sleep(chance.uniform(0.1, 3.0))
    world.session.send_signal(signal.SIGUSR2)


def disk_of_the_log_fills(world: World, chance: random.Random) -> None:
    """And stays full while a line is to be written: the microphone goes and comes back."""
    if world.disk is not None:
        with contextlib.suppress(OSError), (world.disk / "filler").open("wb", 0) as filler:
            while True:
                filler.write(bytes(1024))
    microphone_is_unplugged(world, chance)


def busy_while_the_server_dies(world: World, chance: random.Random) -> None:
    with _load():
        server_dies(world, chance)


_BUSY = "while True: pass"


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """More busy processes than there are cores."""
    busy = [
        subprocess.Popen(
            # As programs run by default, whatever goes before others here.
            ["chrt", "--other", "0", "nice", "-n", str(-NICE), sys.executable, "-c", _BUSY]
        )
        for _ in range(2 * (os.cpu_count() or 2))
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


Fault = Callable[[World, random.Random], None]

FAULTS: dict[str, Fault] = {
    "server killed, 0–4 s away": server_dies,
    "the same on a busy machine": busy_while_the_server_dies,
    "microphone unplugged, 0–4 s away": microphone_is_unplugged,
    "microphone back at 16, 44.1 or 48 kHz": microphone_changes_its_rate,
    "virtual microphone unloaded, half or whole": virtual_microphone_is_unloaded,
    "microphone suspended, 0.2–4 s": source_is_suspended,
    "virtual microphone suspended, 0.2–4 s": sink_is_suspended,
    "process stopped, 0.2–5 s": process_is_stopped,
    "every core busy, 0.5–4 s": machine_is_busy,
    "inference throws or takes too long, 0.1–3 s": inference_throws,
    "disk of the log full, microphone unplugged": disk_of_the_log_fills,
}


# The run


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    recovered_s: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    """By kind of fault; None: not while it was waited for."""
    first: Resources | None = None
    last: Resources | None = None
    delays_ms: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Faults after which it took longer than it may."""
    complaints: list[str] = field(default_factory=list)
    """Whatever else went wrong."""

    @property
    def n(self) -> int:
        return sum(map(len, self.recovered_s.values()))

    def table(self) -> str:
        """Markdown."""
        lines = [
            "| fault | count | back within 3 s | median [s] | worst [s] |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, times in self.recovered_s.items():
            back = [one for one in times if one is not None]
            worst = "never" if len(back) < len(times) else f"{max(back):.2f}"
            middle = f"{statistics.median(back):.2f}" if back else "–"
            in_time = sum(one <= MOST_S for one in back)
            lines.append(f"| {name} | {len(times)} | {in_time} | {middle} | {worst} |")
        everything = [one for times in self.recovered_s.values() for one in times]
        back = [one for one in everything if one is not None]
        worst = "never" if len(back) < len(everything) else f"{max(back):.2f}"
        in_time = sum(one <= MOST_S for one in back)
        lines.append(
            f"| **all** | {len(everything)} | {in_time} | {statistics.median(back):.2f} | {worst} |"
        )
        if self.first is not None and self.last is not None:
            lines += [
                "",
                "| | threads | files | memory [MB] | modules |",
                "|---|---:|---:|---:|---:|",
            ]
            for when, held in (("before", self.first), ("after", self.last)):
                lines.append(
                    f"| {when} | {held.threads} | {held.files} | {held.rss_mb:.0f} "
                    f"| {held.modules} |"
                )
        return "\n".join(lines)


def run(
    kind: str,
    n_faults: int,
    seed: int,
    say: Callable[[str], None],
    among: Callable[[str], bool] = lambda name: True,
    turns: Path | None = None,
) -> Outcome:
    """Inject faults into a session on a server of this kind, each kind as often as the others.

    Runs that are given the same file of ``turns`` go on side by side, but for faults that take
    the whole machine: these wait for the others, and the others for them.
    """
    chance = random.Random(seed)
    kinds = [name for name in FAULTS if among(name)]
    chance.shuffle(kinds)
    names = list(itertools.islice(itertools.cycle(kinds), n_faults))
    chance.shuffle(names)
    outcome = Outcome()
    # What a session holds once it has seen a little of everything.
    warm = min(len(FAULTS), n_faults // 2)
    with tempfile.TemporaryDirectory() as folder, World(kind, Path(folder)) as world:
        if world.wait(time.monotonic()) is None:
            raise DeviceError(f"no clean sound to begin with: {world.status()}")
        for number, name in enumerate(names):
            if number == warm:
                outcome.first = _settled(world)
            with _turn(turns, alone="busy" in name):
                FAULTS[name](world, chance)
                took_s = world.wait(time.monotonic())
            outcome.recovered_s[name].append(took_s)
            if world.disk is not None:
                (world.disk / "filler").unlink(missing_ok=True)
            shown = "never" if took_s is None else f"{took_s:.2f} s"
            say(f"{number + 1:4} {name}: {shown}")
            if took_s is None:
                outcome.complaints.append(f"{name}: never; {world.status()}")
            elif took_s > MOST_S:
                outcome.late.append(f"{name}: {shown}; {world.status()}")
            if world.session.poll() is not None:
                outcome.complaints.append("the process has ended")
                break
            time.sleep(chance.uniform(0.0, 1.0))
        if world.session.poll() is None:
            outcome.last = _settled(world)
            _complain_of_growth(outcome)
            world.session.send_signal(signal.SIGINT)
            code = world.session.wait(timeout=10)
            if code != 0 or world.modules():
                outcome.complaints.append(f"at its end: code {code}, {world.modules()} modules")
        world.errors.seek(0)
        text = world.errors.read().decode(errors="replace")
        outcome.complaints += [f"stderr:\n{told}" for told in tracebacks(text)]
    return outcome


@contextlib.contextmanager
def _turn(file: Path | None, alone: bool) -> Iterator[None]:
    """Nobody else's fault meanwhile, or nobody's who must be alone."""
    if file is None:
        yield
        return
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def tracebacks(text: str) -> list[str]:
    """What went wrong unforeseen, whole: the line before each traceback, it, and its error.

    >>> tracebacks("a\\nb: oh\\nTraceback (most recent call last):\\n  File\\nKeyError: 1\\nc")
    ['b: oh\\nTraceback (most recent call last):\\n  File\\nKeyError: 1']
    """
    found: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Traceback"):
            inside = itertools.takewhile(lambda one: one.startswith(" "), lines[number + 1 :])
            end = number + 1 + len(list(inside))
            found.append("\n".join(lines[max(0, number - 1) : end + 1]))
        elif "unforeseen" in line and not lines[number + 1 : number + 2]:
            found.append(line)  # nothing followed
    return found


def _settled(world: World) -> Resources:
    """What is held when all is well again and nothing waits to be closed."""
    time.sleep(1.5)
    return Resources.of(world)


def _complain_of_growth(outcome: Outcome) -> None:
    first, last = outcome.first, outcome.last
    assert first is not None
    assert last is not None
    if last.threads > first.threads or last.files > first.files:
        outcome.complaints.append(f"threads or files have grown: {first} {last}")
    # A tenth of it is what the allocator keeps for itself.
    if last.rss_mb > 1.1 * first.rss_mb:
        outcome.complaints.append(f"memory has grown: {first} {last}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("pulseaudio", "pipewire"), default="pulseaudio")
    parser.add_argument("--faults", type=int, default=110)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument("--without", default="\n", help="kinds with this in their name")
    parser.add_argument("--turns", type=Path, help="file that runs side by side share")
    args = parser.parse_args()
    outcome = run(
        args.server,
        args.faults,
        args.seed,
        lambda line: print(line, file=sys.stderr, flush=True),
        lambda name: args.only in name and args.without not in name,
        args.turns,
    )
    print(f"{outcome.n} faults on {args.server}, seed {args.seed}\n\n{outcome.table()}")
    wrong = outcome.late + outcome.complaints
    for complaint in wrong:
        print(f"- {complaint}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
