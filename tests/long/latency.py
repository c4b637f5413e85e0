"""Where the time goes between a microphone and the virtual microphone, on real sound servers.

    python -m tests.long.latency --repeats 3

For each server and setting (models of gain 1) sessions are begun anew, a sound is played into a
microphone, and calls record both it and the virtual microphone: the delay is cross-correlated.
Inside the program what the callbacks got is kept as well, so that the delay falls into pieces:

- *capture*: from a call that records the microphone itself to the capture's callback;
- *inside*: from there to the playback's callback that hands the same sample over;
- *playback*: from there to a call that records the virtual microphone.

The calls' own delay (20 ms asked for) is in none of the sums. PipeWire gives two recorders unlike
places in its quanta, wrong by up to 38 ms against each other, so there one stream records both
sounds, a channel each; *capture* and *playback* may still be wrong by what *heard* is not.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from app.private_server import PrivateServer
from engine.devices import SAMPLE_RATE
from engine.errors import DeviceError
from engine.measure import delay_between, level_dbfs
from engine.stft import Float
from tests.long.faults import MICROPHONE, ROOT, PreferredServer, prefer
from tests.long.overload import dark_noise
from tests.onnx_models import CLASSIC, FULLBAND, write_identity

SETTINGS = {"fullband": FULLBAND, "classic": replace(CLASSIC, above="hold")}
GOALS_MS = {"fullband": 60.0, "classic": 140.0}
SERVERS = ("pulseaudio", "pipewire")
QUANTA = (256, 512)
"""Of PipeWire [samples]: what streams of 10 ms make of it where nobody forbids, and more."""
SETTLE_S, SOUND_S = 5.0, 8.0
STRETCH_S, LATEST_S = 0.5, 0.4
QUIETEST_DBFS = -40.0
ALIKE = 0.98
KEPT = "LATENCY_KEPT"
"""Environment variable: where the program inside leaves what it saw."""


# Inside the program


def inside() -> int:
    """``denoise-app`` with the given arguments, keeping what its callbacks saw."""
    from app.cli import main
    from engine import devices

    blocks: list[Float] = []
    captured: list[tuple[float, ...]] = []
    played: list[tuple[float, ...]] = []
    open_input, open_output = devices.open_input, devices.open_output

    def hears(name: str, callback: Any) -> Any:
        capture = callback.__self__
        if not hasattr(capture, "tape"):  # a second ear
            return open_input(name, callback)

        def called(block: Any, n: int, times: Any, flags: Any) -> None:
            now_s, before = time.monotonic(), capture.tape.written
            callback(block, n, times, flags)
            if capture.tape.written > before:
                blocks.append(block[:, 0].copy())
                age_s = times.currentTime - times.inputBufferAdcTime
                captured.append((now_s, capture.tape.written, age_s))

        return open_input(name, called)

    def plays(name: str, callback: Any) -> Any:
        playback = callback.__self__

        def called(block: Any, n: int, times: Any, flags: Any) -> None:
            now_s = time.monotonic()
            callback(block, n, times, flags)
            if playback.played:
                ahead_s = times.outputBufferDacTime - times.currentTime
                played.append((now_s, playback._position - n, ahead_s, playback._margin))

        return open_output(name, called)

    devices.open_input, devices.open_output = hears, plays
    code = main(sys.argv[2:])
    np.savez(
        os.environ[KEPT],
        sound=np.concatenate(blocks),
        first=len(blocks[0]),
        captured=np.array(captured),
        played=np.array(played),
    )
    return code


# Outside


@dataclass(frozen=True, slots=True)
class Pieces:
    """One session's delay [ms]."""

    heard: float
    whole: float
    """Share of the stretches that came through as they were."""
    told: tuple[float, float, float]
    """Least, median and most."""
    capture: float
    inside: float
    playback: float
    told_capture: float
    told_playback: float
    margin: float
    drops: int
    uncleaned_s: float


class Pair:
    """Records microphone and virtual microphone by one stream of PipeWire: by one clock."""

    def __init__(self, server: PrivateServer, path: Path) -> None:
        self._server, self._path = server, path
        options = ("--target", "0", "--rate", str(SAMPLE_RATE), "--channels", "2", "--format")
        properties = "{ node.name = pair }"
        self._process = subprocess.Popen(
            ["pw-record", *options, "f32", "-P", properties, str(path)], env=server.environment
        )
        ports = f"{MICROPHONE}:capture_MONO", "room:monitor_MONO"
        for source, end in zip(ports, ("pair:input_FR", "pair:input_FL"), strict=True):
            self._link(source, end)

    def _link(self, source: str, end: str) -> None:
        deadline_s = time.monotonic() + 5.0
        while subprocess.run(
            ["pw-link", source, end],
            env=self._server.environment,
            check=False,
            stderr=subprocess.DEVNULL,
        ).returncode:
            if time.monotonic() > deadline_s:
                self._process.kill()
                raise DeviceError(f"{source} cannot be recorded")
            time.sleep(0.05)

    def stop(self) -> tuple[Float, Float]:
        """What the microphone and the virtual microphone recorded, (n,) each."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=5.0)
        sound, _ = sf.read(self._path, dtype="float32")
        return sound[:, 0].copy(), sound[:, 1].copy()


def measure(server: PrivateServer, model: Path, sound: Float, kept: Path) -> Pieces:
    """One session from its begin to its end."""
    options = ("--device", "room.monitor", "--model", str(model), "--keep-model", "--json")
    session = subprocess.Popen(
        [sys.executable, "-m", "tests.long.latency", "inside", *options],
        env={**server.environment, "PYTHONPATH": str(ROOT), KEPT: str(kept)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with session:
        assert session.stdout is not None
        told: list[dict[str, Any]] = []
        for line in session.stdout:
            told.append(json.loads(line))
            if told[-1]["state"] == "running":
                break
        said, heard = server.record("room.monitor"), server.record(MICROPHONE)
        pair = Pair(server, kept.with_suffix(".wav")) if server.kind == "pipewire" else None
        silence = np.zeros(round(SETTLE_S * SAMPLE_RATE), np.float32)
        player = server.play(np.concatenate([silence, sound]), "room")
        # A room whose first player connects changes its timing, and a start finds its place.
        begin_s, now_s = time.monotonic() + SETTLE_S, 0.0
        before: dict[str, Any] = {}
        while now_s < begin_s + SOUND_S + 0.5:
            line = session.stdout.readline()
            if not line:
                raise DeviceError("the session ended by itself")
            told.append(json.loads(line))
            now_s = time.monotonic()
            if now_s < begin_s:
                before = told[-1]
                told.clear()
        player.wait()
        both = pair.stop() if pair else None
        recordings = said.stop(), heard.stop()
        session.terminate()
        session.stdout.read()
    if session.returncode:
        raise DeviceError(f"the session ended with {session.returncode}")
    compared = (*both, 0.0) if both else (*recordings, heard.origin_s - said.origin_s)
    delays_s, whole = delays_heard(*compared)
    heard_s = statistics.median(delays_s) if delays_s else float("nan")
    seen = np.load(kept)
    captured, played = (rows[rows[:, 0] > begin_s] for rows in (seen["captured"], seen["played"]))
    captured_origin_s = float((captured[:, 0] - captured[:, 1] / SAMPLE_RATE).mean())
    lag, _ = delay_between(recordings[0], seen["sound"])
    n_before = int(seen["captured"][0, 1]) - int(seen["first"])
    capture_s = captured_origin_s + (lag + n_before) / SAMPLE_RATE - said.origin_s
    inside_s = float((played[:, 0] - played[:, 1] / SAMPLE_RATE).mean()) - captured_origin_s
    delays = [line["delay_ms"] for line in told if line.get("delay_ms") is not None]
    return Pieces(
        heard=1000 * heard_s,
        whole=whole,
        told=(min(delays), statistics.median(delays), max(delays)),
        capture=1000 * capture_s,
        inside=1000 * inside_s,
        playback=1000 * (heard_s - capture_s - inside_s),
        told_capture=1000 * float(np.median(captured[:, 2]))
        - 1000 * int(seen["first"]) / SAMPLE_RATE,
        told_playback=1000 * float(np.median(played[:, 2])),
        margin=1000 * float(np.median(played[:, 3])) / SAMPLE_RATE,
        drops=told[-1]["drops"] - before["drops"],
        uncleaned_s=told[-1]["uncleaned_s"] - before["uncleaned_s"],
    )


def delays_heard(said: Float, heard: Float, later_s: float) -> tuple[list[float], float]:
    """Delay [s] of each stretch that came through as it was, and the share of those.

    Parameters
    ----------
    said, heard : what the microphone and the virtual microphone recorded
    later_s : how much later the second recording begins
    """
    n, latest = round(STRETCH_S * SAMPLE_RATE), round(LATEST_S * SAMPLE_RATE)
    found, spoken = [], 0
    for start in range(0, len(said) - n, n):
        stretch = said[start : start + n]
        first = start - round(later_s * SAMPLE_RATE)
        if level_dbfs(stretch) < QUIETEST_DBFS or first < 0:
            continue
        spoken += 1
        shift, alike = delay_between(stretch, heard[first : first + n + latest])
        if alike > ALIKE:
            found.append((first + shift - start) / SAMPLE_RATE + later_s)
    return found, len(found) / max(spoken, 1)


def main() -> int:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--quanta", nargs="+", type=int, default=QUANTA)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    prefer(os.getpid())  # what starves around the program would be held against it
    sound = dark_noise(round(SOUND_S))
    print(
        "| server | setting | heard [ms] | told [ms] | capture | inside | of which margin "
        "| playback | told of capture, playback | drops | uncleaned [s] | whole |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        flush=True,
    )
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept.npz")
        for kind in args.servers:
            for quantum in args.quanta if kind == "pipewire" else (0,):
                name = f"{kind}, {quantum}" if quantum else kind
                with PreferredServer(kind, quantum) as server:
                    server.add_microphone("room", "Room")
                    for setting in args.settings:
                        model = write_identity(Path(folder, f"{setting}.onnx"), SETTINGS[setting])
                        for _ in range(args.repeats):
                            pieces = measure(server, model, sound, kept)
                            _say(name, setting, pieces)
                            missed |= pieces.whole < 1.0 or pieces.heard >= GOALS_MS[setting]
    return 1 if missed else 0


def _say(kind: str, setting: str, it: Pieces) -> None:
    least, median, most = it.told
    print(
        f"| {kind} | {setting} | {it.heard:.1f} | {median:.1f} ({least:.1f}…{most:.1f}) "
        f"| {it.capture:.1f} | {it.inside:.1f} | {it.margin:.1f} | {it.playback:.1f} "
        f"| {it.told_capture:.1f}, {it.told_playback:.1f} | {it.drops} | {it.uncleaned_s:.2f} "
        f"| {it.whole:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(inside() if sys.argv[1:2] == ["inside"] else main())
