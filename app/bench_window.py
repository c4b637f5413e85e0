"""``denoise-app bench --window``: how soon the window shows something, and what it costs.

The real window and engine on a private sound server, whose microphone plays a voice in rain, and
a private screen. Not here: the window that is measured (``watched_window``), what the engine costs
(``bench``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from app.bench import machine
from app.example import noisy_voice
from app.private_screen import PrivateScreen
from app.private_server import PrivateServer
from engine.errors import DeviceError

_START_S = 60.0
_RUNS = 3
# What is read from these makes the difference between a first start and the next.
_PACKAGES = ("PySide6", "shiboken6", "numpy", "onnxruntime", "sounddevice")


@dataclass
class Cost:
    """How the window does; times are medians."""

    warm_s: float
    """From the command to the first sound in the pictures on the screen."""
    cold_s: float | None
    """The same with the program's files no longer in memory; None: this system keeps them."""
    warm_cpu_s: float
    """Processor time of the window's process until then: other programs do not add to it."""
    bare_s: float
    """From the command to a painted window of Python and Qt with nothing in it."""
    shown_percent: float
    """Processor time of the window's process while shown, of one core."""
    frames_per_s: float
    """Repaints of a picture."""
    hidden_percent: float
    memory_mb: float


def run(args: argparse.Namespace) -> int:
    """Measure and print; raises DeviceError when a part is missing."""
    cost = measure(args.seconds)
    if args.json:
        print(json.dumps({"machine": machine(), "window": asdict(cost)}))
    else:
        print("\n".join(_markdown(cost)))
    return 0


def measure(seconds: float) -> Cost:
    """Open it again and again; look at the last one for ``seconds``, shown and then hidden."""
    _, noisy = noisy_voice()
    with PrivateScreen() as screen, PrivateServer("pulseaudio") as server:
        server.add_microphone("desk", "Desk")
        server.control("set-default-source", "desk.monitor")
        player = server.play(np.tile(noisy, 60), "desk")
        environment = {**server.environment, **screen.environment}
        try:
            _open(environment, "once")  # what it compiles and writes at its very first start
            bare = [_open(environment, "bare")["after_s"] for _ in range(_RUNS)]
            warm = [_open(environment, "once") for _ in range(_RUNS)]
            cold = [_open(environment, "once")["after_s"] for _ in range(_RUNS) if _forget()]
            found = _open(environment, str(seconds))
        finally:
            player.kill()
            player.wait()
    return Cost(
        warm_s=float(np.median([one["after_s"] for one in warm])),
        warm_cpu_s=float(np.median([one["cpu_s"] for one in warm])),
        cold_s=float(np.median(cold)) if cold else None,
        bare_s=float(np.median(bare)),
        shown_percent=found["shown_percent"],
        frames_per_s=found["frames_per_s"],
        hidden_percent=found["hidden_percent"],
        memory_mb=found["memory_mb"],
    )


def _open(environment: dict[str, str], what: str) -> dict[str, float]:
    """Run one window to its end; what it tells, and ``after_s``, how soon its picture came."""
    # The clock is the same in both processes.
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "app.watched_window", what],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=10 * _START_S,
    )
    if done.returncode != 0 or not done.stdout.strip():
        raise DeviceError(f"the window ended early, with exit code {done.returncode}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    told["after_s"] = told.pop("at_s") - started_s
    return told


def _forget() -> bool:
    """Have the system drop the program's files from memory; False when it does not do that."""
    if not hasattr(os, "posix_fadvise"):
        return False
    here = Path(__file__).parents[1]
    folders = [here / "app", here / "engine", here / "models", Path(os.__file__).parent]
    folders += [
        path for base in sys.path for name in _PACKAGES if (path := Path(base, name)).is_dir()
    ]
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _markdown(cost: Cost) -> list[str]:
    cold = "–" if cost.cold_s is None else f"{cost.cold_s:.2f}"
    return [
        f"Measured on {machine()}.",
        "",
        "| window | |",
        "|---|---:|",
        f"| command to first picture of sound, warm [s] | {cost.warm_s:.2f} |",
        f"| processor time of the window until then [s] | {cost.warm_cpu_s:.2f} |",
        f"| command to first picture of sound, files not in memory [s] | {cold} |",
        f"| an empty window of Python and Qt, warm [s] | {cost.bare_s:.2f} |",
        f"| CPU of one core while shown [%] | {cost.shown_percent:.1f} |",
        f"| pictures a second | {cost.frames_per_s:.0f} |",
        f"| CPU of one core while hidden [%] | {cost.hidden_percent:.2f} |",
        f"| resident memory [MB] | {cost.memory_mb:.0f} |",
    ]
