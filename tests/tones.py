"""A tone that a microphone hears for as long as a test lasts, and what has become of it."""

from __future__ import annotations

import contextlib
import subprocess
import threading

import numpy as np

from app.private_server import PrivateServer
from engine.devices import SAMPLE_RATE
from engine.stft import Float

TONE_HZ = 437.0
"""No whole number of periods in a block: a lost one leaves a step."""
_PART = SAMPLE_RATE // 100


class Tone:
    """Plays into a sink of a server, at a peak, until it is stopped."""

    def __init__(self, server: PrivateServer, sink: str, peak: float = 0.25) -> None:
        self._second = (tone(1.0) * np.float32(peak / 0.25)).astype("<f4").tobytes()
        self._over = threading.Event()
        self._player = subprocess.Popen(
            [
                *("pacat", f"--device={sink}", "--raw", "--format=float32le"),
                *(f"--rate={SAMPLE_RATE}", "--channels=1", "--latency-msec=200"),
            ],
            env=server.environment,
            stdin=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._player.kill()
        self._thread.join(10)
        with contextlib.suppress(BrokenPipeError), self._player:  # closes the pipe
            pass

    def _play(self) -> None:
        """A second whose end fits its beginning, again and again, without a pause."""
        assert self._player.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while not self._over.is_set():
                self._player.stdin.write(self._second)


def tone(seconds: float) -> Float:
    """The tone, (n,) float32."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.25 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.float32)


def hiccups(heard: Float) -> int:
    """Moments in which a tone is not the tone that it was: a gap, a step, another level.

    In 10 ms parts; those that follow each other within 50 ms are one.
    """
    turn = 2 * np.cos(2 * np.pi * TONE_HZ / SAMPLE_RATE)
    # Each sample of a tone follows from the two before.
    odd = np.abs(heard[2:] - turn * heard[1:-1] + heard[:-2])
    n_parts = len(odd) // _PART
    steps = odd[: n_parts * _PART].reshape(n_parts, _PART).max(axis=1)
    level = np.sqrt(np.square(heard[: n_parts * _PART].reshape(n_parts, _PART)).mean(axis=1))
    usual = np.median(level)
    if usual < 0.01:
        return n_parts  # all of it
    bad = np.flatnonzero((steps > 0.15 * usual) | (np.abs(level / usual - 1) > 0.3))
    return int(np.sum(np.diff(bad, prepend=-100) > 5))
