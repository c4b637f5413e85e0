"""What a model costs on this machine: measured once, in a process of its own.

A process, because a model that is only measured should leave no memory behind, and low in
priority, because somebody is on a call meanwhile. Not here: what is made of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np

from engine import cache
from engine.denoiser import Denoiser
from engine.errors import ModelError
from engine.network import Network, read
from engine.sessions import runtime_version

log = logging.getLogger(__name__)

_KIND = "effort"
# Enough for a median, and no more than this of the processor: a heavy model is known sooner.
_HOPS, _LEAST_HOPS, _WORK_S = 200, 5, 0.5
_NICE = 10
_PATIENCE_S = 60.0
# A measurement that failed is tried again: the machine may have been too busy for it.
_REST_S = 60.0


class Efforts:
    """What models cost, asked for as often as one likes; never waits."""

    def __init__(self) -> None:
        self._known: dict[Path, float] = {}
        self._rests_until_s: dict[Path, float] = {}
        self._asked: deque[Path] = deque()
        self._measuring: threading.Thread | None = None

    def of(self, path: Path) -> float | None:
        """Processor time for a second of sound, hop after hop without a pause [s].

        None while it is not known; it is found out then, one model after the other.
        """
        if path in self._known:
            return self._known[path]
        if time.monotonic() >= self._rests_until_s.get(path, 0.0):
            self._rests_until_s[path] = time.monotonic() + _REST_S
            self._asked.append(path)
        if self._asked and (self._measuring is None or not self._measuring.is_alive()):
            self._measuring = threading.Thread(
                target=self._find_out, name="denoise effort", daemon=True
            )
            self._measuring.start()
        return None

    def _find_out(self) -> None:
        while self._asked:
            path = self._asked.popleft()
            try:
                self._known[path] = effort_of(path)
            except ModelError as error:
                log.info("%s", error)


def effort_of(path: Path) -> float:
    """Processor time for a second of sound [s], as it was measured on this machine, or is now.

    Raises
    ------
    ModelError : the model cannot be opened, or the measurement did not come to its end
    """
    key = f"{hashlib.sha256(read(path)).hexdigest()}-{runtime_version()}"
    found = cache.recall(_KIND, key)
    effort = found.get("effort") if found else None
    if isinstance(effort, float) and math.isfinite(effort) and effort > 0.0:
        return effort
    effort = _measured_in_a_process(path)
    cache.keep(_KIND, key, {"effort": effort})
    return effort


def _measured_in_a_process(path: Path) -> float:
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "engine.effort", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=_PATIENCE_S,
            check=True,
        )
        effort = float(json.loads(done.stdout)["effort"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: what it costs could not be measured: {error}") from error
    if not (math.isfinite(effort) and effort > 0.0):
        raise ModelError(f"{path}: what it costs could not be measured: {effort}")
    return effort


def measure(path: Path) -> float:
    """Processor time for a second of sound on the CPU [s], now and in this thread."""
    network = Network(path, "cpu")
    denoiser = Denoiser(network)
    rng = np.random.default_rng(1)
    hop = (0.05 * rng.standard_normal(network.spec.hop)).astype(np.float32)
    costs: list[float] = []
    while len(costs) < _LEAST_HOPS or (len(costs) < _HOPS and sum(costs) < _WORK_S):
        before_s = time.thread_time()
        denoiser.process(hop)
        costs.append(time.thread_time() - before_s)
    return float(np.median(costs)) / network.spec.hop_s


def main() -> None:
    """In the process: a path comes in, a number goes out."""
    if hasattr(os, "setpriority"):
        # Nobody's sound should wait for it, whatever the priority of who started us.
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    sys.stdout.write(json.dumps({"effort": measure(Path(sys.argv[1]))}))


if __name__ == "__main__":
    main()
