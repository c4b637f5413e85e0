"""``denoise-app --device`` with a network that fails when told to: SIGUSR1 on, SIGUSR2 off.

For a process of its own; takes the program's arguments.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from pathlib import Path

from app.cli import main
from engine import trial
from engine.errors import ModelError
from engine.network import Estimate, Network, State
from engine.stft import Float


def options(model: Path) -> tuple[str, ...]:
    """For a session that is measured: it keeps its model and never rests."""
    always = ("--keep-model", "--no-idle", "--json")
    return ("--device", "room.monitor", "--model", str(model), *always)


def _raise(error: Exception) -> None:
    raise error


FAULTS = (
    lambda: _raise(ModelError("inference failed: told to")),
    lambda: _raise(MemoryError("told to")),
    lambda: _raise(RuntimeError("told to")),
    lambda: time.sleep(0.05),  # a machine that cannot keep up: five hops
)


class Moody(Network):
    """A real model that does what it is told, each time in another way."""

    _fault: int | None = None
    _faults = itertools.cycle(range(len(FAULTS)))

    @classmethod
    def turn(cls, number: int, _frame: object) -> None:
        cls._fault = next(cls._faults) if number == signal.SIGUSR1 else None

    def __call__(self, heard: Float, state: State) -> Estimate:
        if Moody._fault is not None:
            FAULTS[Moody._fault]()
        return super().__call__(heard, state)


if __name__ == "__main__":
    trial.Network = Moody  # type: ignore[misc]
    for which in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(which, Moody.turn)
    sys.exit(main(sys.argv[1:]))
