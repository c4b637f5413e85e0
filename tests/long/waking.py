"""How soon an idle session sounds again, on a real sound server.

    python -m tests.long.waking --server pulseaudio

Noise is played into a microphone, the program lets it through (a real model of gain 1), and again
and again, whenever it has closed the microphone, a call begins to record the virtual one. Told is,
from the moment in which the server knows of the call's stream: until the server knows of a stream
of ours that records the microphone; until the call has its first sound; and the same less the
delay that the session then tells, which would have passed on a session that was awake. Prints
Markdown. Exit code 1: some call heard nothing, or sound from before the microphone was open, or
a stream was left on the microphone while idle.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pulsectl

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError
from tests.long.faults import prefer
from tests.long.overload import Ear
from tests.onnx_models import FULLBAND, write_identity

ROOM, VIRTUAL = "room", "denoise_app_microphone"
IDLE_S = 30.0
"""By then a session of which nobody wants anything has to be idle."""
HEARD_S = 3.0
RESTS_S = (2.0, 4.8, 8.0)
"""In turn so long after it is idle a call comes: WirePlumber suspends devices after 5 s."""
LEVEL, AUDIBLE = 0.1, 0.01


class Streams:
    """Remembers when the server told of each stream that records, and what it records."""

    def __init__(self, server: PrivateServer) -> None:
        self.began_s: list[tuple[float, str]] = []
        self._at = server.environment["PULSE_SERVER"]
        self._stopping = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def first_s(self, source: str, after_s: float) -> float:
        """When the first stream on a source began after a moment; NaN: never."""
        found = [at for at, name in list(self.began_s) if name == source and at >= after_s]
        return min(found, default=float("nan"))

    def _watch(self) -> None:
        came: list[tuple[float, int]] = []
        recorded: dict[int, str] = {}

        def hear(event: Any) -> None:
            if event.t == "new":
                came.append((time.monotonic(), event.index))
            raise pulsectl.PulseLoopStop

        with pulsectl.Pulse("waking", server=self._at) as pulse:
            pulse.event_callback_set(hear)
            pulse.event_mask_set("source_output")
            while not self._stopping:
                if not came:
                    pulse.event_listen(0.2)
                names = {one.index: one.name for one in pulse.source_list()}
                recorded = {one.index: names.get(one.source, "") for one in _streams(pulse)}
                known = [one for one in came if recorded.get(one[1], "")]
                self.began_s += [(at, recorded[number]) for at, number in known]
                came[:] = [one for one in came if one not in known and one[1] in recorded]
                if came:  # PipeWire tells of a stream before it knows what that records
                    time.sleep(0.005)


def _streams(pulse: pulsectl.Pulse) -> list[Any]:
    return list(pulse.source_output_list())


def run(
    server: PrivateServer, rounds: int, model: Path
) -> tuple[list[list[float]], int, int, float]:
    """Times of each call [ms], streams left while idle, calls with old sound, processor."""
    room = server.add_microphone(ROOM, "Room")
    seconds = 60.0 + rounds * (IDLE_S + HEARD_S)
    noise = np.random.default_rng(7).normal(0.0, LEVEL, round(seconds * SAMPLE_RATE))
    player = server.play(noise.astype(np.float32), ROOM)
    session = server.clean(room, "--model", str(model), idle=True)
    drained = threading.Thread(target=session.stdout.read, daemon=True)  # type: ignore[union-attr]
    drained.start()
    for process in (session, player):
        prefer(process.pid)
    streams, times, left, stale, idle_cpu = Streams(server), [], 0, 0, []
    folder = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
    try:
        for number in range(rounds):
            told = _until(folder, lambda told: bool(told["idle"]), IDLE_S)
            time.sleep(RESTS_S[number % len(RESTS_S)])
            with pulsectl.Pulse("waking", server=server.environment["PULSE_SERVER"]) as pulse:
                names = {one.index: one.name for one in pulse.source_list()}
                left += sum(names.get(one.source) == room for one in _streams(pulse))
            idle_cpu.append(_until(folder, lambda told: True, IDLE_S)["cpu_percent"])
            began_s = time.monotonic()
            ear = Ear(server, VIRTUAL)
            time.sleep(HEARD_S)
            told = _until(folder, lambda told: told.get("delay_ms") is not None, IDLE_S)
            heard = ear.stop()
            stream_s = streams.first_s(VIRTUAL, began_s)
            opened_s = streams.first_s(room, began_s)
            audible = np.flatnonzero(np.abs(heard.sound) > AUDIBLE)
            sound_s = float("nan")
            if len(audible):
                after = heard.arrivals[:, 1] > audible[0]
                sound_s = float(heard.arrivals[after, 0][0])
            stale += sound_s < opened_s
            waited_ms = 1000 * (sound_s - stream_s)
            times.append(
                [
                    1000 * (opened_s - stream_s),
                    waited_ms,
                    told["delay_ms"],
                    waited_ms - told["delay_ms"],
                ]
            )
            print("  ".join(f"{one:6.0f}" for one in times[-1]), file=sys.stderr, flush=True)
    finally:
        streams.stop()
        session.terminate()
        session.wait()
        player.terminate()
        player.wait()
    return times, left, stale, statistics.mean(idle_cpu)


def _until(folder: Path, wanted: Any, at_most_s: float) -> dict[str, Any]:
    until_s = time.monotonic() + at_most_s
    while True:
        try:
            with ControlClient(folder) as client:
                told = client.ask(do="status")
            if wanted(told):
                return told
        except ControlError:
            told = {}
        if time.monotonic() > until_s:
            raise SystemExit(f"not so in {at_most_s} s: {told}")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", choices=("pulseaudio", "pipewire"), default="pulseaudio")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="calls (default: 10)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PrivateServer(args.server) as server:
        model = write_identity(Path(folder) / "identity.onnx", FULLBAND)
        times, left, stale, idle_cpu = run(server, args.rounds, model)
    print("| server | | median [ms] | least | most |\n|---|---|---:|---:|---:|")
    rows = (
        "microphone's stream is there",
        "the call has its first sound",
        "delay told",
        "first sound less delay",
    )
    for name, column in zip(rows, zip(*times, strict=True), strict=True):
        print(
            f"| {args.server} | {name} | {statistics.median(column):.0f} | {min(column):.0f} "
            f"| {max(column):.0f} |"
        )
    print(f"\n{args.rounds} calls; processor while idle {idle_cpu:.1f} % of a core; ", end="")
    print(f"streams left on the microphone {left}; calls that heard sound from before {stale}")
    return int(left > 0 or stale > 0 or bool(np.isnan(times).any()))


if __name__ == "__main__":
    sys.exit(main())
