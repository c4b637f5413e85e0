"""What sound loses beside two busy programs for each core, with and without rtkit.

    python -m tests.long.busy --seconds 60 --rounds 2

An ordinary user's session (nobody there may raise a thread) on a private PulseAudio, in turn
without anybody to ask and with rtkit on a private system bus: the real one where it is installed.
A tone of the server's own is the microphone. Prints a Markdown table. For root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.private_server import PrivateServer
from tests.engine.test_priority import BUS, RTKIT

ROOT = Path(__file__).parents[2]
SETTLE_S = 5.0
AS_A_USER = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")


@contextlib.contextmanager
def neighbours(n: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


@contextlib.contextmanager
def system_bus() -> Iterator[str]:
    """Address of a bus with rtkit on it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        Path(folder, "bus.conf").write_text(BUS.format(folder=folder))
        address = f"unix:path={folder}/bus"
        plays = "polkit" if RTKIT.exists() else "rtkit"
        begin = [["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork"]]
        begin.append([sys.executable, str(ROOT / "tests/engine/authority.py"), plays])
        if plays == "polkit":
            begin.append([str(RTKIT)])
        for what in begin:
            process = subprocess.Popen(
                what,
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            ends.callback(process.wait)
            ends.callback(process.kill)
            time.sleep(1.0)
        yield address


def measure(bus: str, model: str, seconds: float, n_neighbours: int) -> dict[str, Any]:
    """The last status of a session, less what had been lost before the neighbours came."""
    with PrivateServer("pulseaudio") as server:
        microphone = server.add_microphone("room", "Room")
        server.control("load-module", "module-sine", "sink=room", "frequency=440")
        environment = {**server.environment, "DBUS_SYSTEM_BUS_ADDRESS": bus}
        environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "main", "--device", microphone, "--model", model]
        session = subprocess.Popen(
            [*AS_A_USER, *command, "--json"], env=environment, stdout=subprocess.PIPE, text=True
        )
        call = server.record("denoise_app_microphone")
        with session, contextlib.ExitStack() as ends:
            assert session.stdout is not None
            before: dict[str, Any] = {}
            end_s = float("inf")
            for line in session.stdout:
                told = json.loads(line)
                if told["state"] != "running":
                    continue
                if not before and told["seconds"] > SETTLE_S:
                    before, end_s = told, told["seconds"] + seconds
                    ends.enter_context(neighbours(n_neighbours))
                if told["seconds"] > end_s:
                    break
            session.terminate()
        call.stop()
    lost = {key: told[key] - before[key] for key in ("drops", "uncleaned_s")}
    return {**told, **lost}


def main() -> int:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["classic"])
    args = parser.parse_args()
    n = 2 * (os.cpu_count() or 1)
    print("| model | round | threads | drops | uncleaned [s] | delay [ms] | load of the worker |")
    print("|---|---:|---|---:|---:|---:|---:|", flush=True)
    with system_bus() as bus:
        for model in args.models:
            for turn in range(args.rounds):
                for at in ("unix:path=/nowhere", bus):
                    told = measure(at, model, args.seconds, n)
                    print(
                        f"| {model} | {turn + 1} | {told['priority']} ({told['priority_note']}) "
                        f"| {told['drops']} | {told['uncleaned_s']:.2f} "
                        f"| {told['delay_ms'] or 0:.0f} | {told['load']:.2f} |",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
