"""Some seconds before and after cleaning: asked for, fetched, and made into pictures.

In a thread of its own, so that the window never waits. Not here: who records (``app.excerpts``),
playing (``player``), showing (``hear_page``).
"""

from __future__ import annotations

import base64
import threading
import time
from pathlib import Path

import numpy as np

from app.columns import byte, rows_of
from engine.control import Answer, ControlClient
from engine.errors import ControlError
from engine.spec import ModelSpec
from engine.stft import Float, stft, to_db

TOP_HZ = 12_000.0
"""Of the pictures: where voices end, and nearly all of what a call carries."""

_POLL_S = 0.1
# A device that went takes its sound with it; the session opens another within seconds.
_PATIENCE_S = 8.0
_MOMENT_S = 0.05
_QUIETEST = 20  # percent
_NOTHING = 1e-9  # -90 dBFS


class Comparison:
    """Begins to record when it is made.

    Parameters
    ----------
    seconds : to record
    at : folder of the session's socket (default: the user's)

    Attributes
    ----------
    share : 0…1 of it is recorded
    sounds : before and after, (n,) float32 each at ``sample_rate``; None until they are there
    levels : columns of a picture of each, (columns, ROWS) uint8
    problem : why there will be no sounds, or nothing
    """

    def __init__(self, seconds: float, at: Path | None = None) -> None:
        self.seconds, self._at = seconds, at
        self.share, self.problem = 0.0, ""
        self.sample_rate = 0
        self.sounds: tuple[Float, Float] | None = None
        self.levels: tuple[np.ndarray, np.ndarray] | None = None
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denoise comparison", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._cancelled.set()

    @property
    def is_over(self) -> bool:
        """Whether there are sounds, or there never will be."""
        return not self._thread.is_alive()

    def quieter_db(self) -> float | None:
        """How much lower the quiet moments are after than before [dB]; None: they are the same."""
        assert self.sounds is not None
        before, after = self.sounds
        if np.array_equal(before, after):
            return None
        return quieter_db(before, after, self.sample_rate)

    def _run(self) -> None:
        try:
            with ControlClient(self._at) as client:
                client.ask(do="record", seconds=self.seconds)
                if self._wait(client):
                    self._fetch(client)
                client.ask(do="forget")
        except (ControlError, KeyError, TypeError, ValueError) as error:
            self.problem = str(error) or type(error).__name__

    def _wait(self, client: ControlClient) -> bool:
        """Until it is recorded; False when nobody wants it, raises ValueError when none comes."""
        grown_s = time.monotonic()
        while not self._cancelled.wait(_POLL_S):
            share = float(client.ask(do="recorded")["share"])
            if share != self.share:
                grown_s = time.monotonic()
            self.share = share
            if share >= 1.0:
                return True
            if time.monotonic() - grown_s > _PATIENCE_S:
                raise ValueError("no sound came")
        return False

    def _fetch(self, client: ControlClient) -> None:
        before: list[Float] = []
        after: list[Float] = []
        n = 0
        while True:
            told = client.ask(do="recorded", **{"from": n})
            before.append(_unpacked(told, "before"))
            after.append(_unpacked(told, "after"))
            n += len(before[-1])
            if n >= int(told["samples"]) or not len(before[-1]):
                break
        sounds = np.concatenate(before), np.concatenate(after)
        self.sample_rate = int(told["sample_rate"])
        self.levels = (
            columns_of(sounds[0], self.sample_rate),
            columns_of(sounds[1], self.sample_rate),
        )
        self.sounds = sounds


def columns_of(sound: Float, sample_rate: int) -> np.ndarray:
    """A picture up to ``TOP_HZ``, (columns, ROWS) uint8, a column for 10 ms."""
    shown = ModelSpec(
        "shown", "1", sample_rate, n_fft=2048, hop=round(sample_rate / 100), n_bins=1025
    )
    level_db = to_db(stft(sound, shown), shown)
    return byte(np.maximum.reduceat(level_db, rows_of(shown, TOP_HZ), axis=1))


def quieter_db(before: Float, after: Float, sample_rate: int) -> float:
    """How much lower ``after`` is where ``before`` is quietest, which is between words [dB].

    Moments in which nothing was heard at all, as where sound was lost, do not count.
    """
    n = round(_MOMENT_S * sample_rate)
    powers = [
        np.mean(np.square(sound[: len(sound) // n * n].reshape(-1, n), dtype=np.float64), axis=1)
        for sound in (before, after)
    ]
    heard = powers[0] > _NOTHING
    if not heard.any():
        return 0.0
    powers = [power[heard] for power in powers]
    quiet = powers[0] <= np.percentile(powers[0], _QUIETEST)
    left = max(float(np.mean(powers[1][quiet])), _NOTHING)
    return 10.0 * float(np.log10(np.mean(powers[0][quiet]) / left))


def _unpacked(told: Answer, side: str) -> Float:
    as_int = np.frombuffer(base64.b64decode(told[side]), "<i2")
    return (as_int / 32767.0).astype(np.float32)
