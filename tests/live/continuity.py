"""Whether all that was said was heard: second by second, and what the machine did meanwhile."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np

from engine.devices import SAMPLE_RATE
from engine.measure import aligned, delay_between, level_dbfs
from engine.stft import Float

# Below this nothing is said [dBFS].
_SILENT_DBFS = -60.0
# Both servers carry 16-bit sound; one lost or repeated block would be as loud as it.
_ERROR = 0.02
# On an idle machine the worst wait of a minute is 1 ms to 4 ms.
_DISTURBED_S = 0.005


@dataclass(frozen=True, slots=True)
class Second:
    """One second of what was said, and how it was heard."""

    start: int
    """Position of its first sample in what was said."""
    delay: int
    """How many samples later it was heard."""
    intact: bool
    """Whether no sample of it was lost or repeated."""


class Witness:
    """Asks each processor for a moment every 2 ms, and remembers when it had to wait.

    What is promised is promised of an idle machine. A shared one has others to serve, and what
    its host takes away no program here can see; a loss of our own making comes without a wait.
    """

    def __enter__(self) -> Witness:
        self.waits: list[tuple[float, float]] = []
        """When each ended, on the monotonic clock, and how long it was [s, s]."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(processor,), daemon=True)
            for processor in os.sched_getaffinity(0)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def _look(self, processor: int) -> None:
        os.sched_setaffinity(0, {processor})  # of this thread alone
        while not self._stop.is_set():
            before_s = time.monotonic()
            time.sleep(0.002)
            after_s = time.monotonic()
            if after_s - before_s - 0.002 > _DISTURBED_S:
                self.waits.append((after_s, after_s - before_s - 0.002))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        worst_s = max((wait_s for _, wait_s in self.waits), default=0.0)
        return f"{len(self.waits)} times waited for a processor, {1000 * worst_s:.0f} ms at most"

    def waited(self, from_s: float, to_s: float) -> bool:
        """Whether the machine was taken away between two times of the monotonic clock."""
        return any(from_s < ended_s and ended_s - wait_s < to_s for ended_s, wait_s in self.waits)


def seconds_of(said: Float, heard: Float, steered: bool = False) -> list[Second]:
    """Every second in which something was said, wherever it stands in what was heard.

    Parameters
    ----------
    said, heard : (n,) and (m,) at ``SAMPLE_RATE``
    steered : drift control was at work, so it may be a little faster or slower
    """
    delay, _ = delay_between(said, heard)
    slack = SAMPLE_RATE // 4
    found = []
    for start in range(slack, len(said) - SAMPLE_RATE - slack, SAMPLE_RATE):
        second = said[start : start + SAMPLE_RATE]
        if level_dbfs(second) < _SILENT_DBFS:
            continue
        begin = max(0, start + delay - slack)
        around = heard[begin : start + delay + SAMPLE_RATE + slack]
        shift, _ = delay_between(second, around)
        intact = _same(second, around, shift) or (steered and _flows(second, around, shift))
        found.append(Second(start, begin + shift - start, intact))
    return found


def error_of(said: Float, heard: Float) -> float:
    """Largest difference between what was said and heard, as a share of the largest sample."""
    first, second = aligned(said, heard, delay_between(said, heard)[0])
    return float(np.abs(second - first).max() / np.abs(first).max())


def _same(second: Float, around: Float, shift: int) -> bool:
    found = around[max(0, shift) :][:SAMPLE_RATE]
    return len(found) == SAMPLE_RATE and error_of(second, found) < _ERROR


def _flows(second: Float, around: Float, shift: int) -> bool:
    """Whether all of it is there, a little faster or slower: drift control was at work.

    Where callbacks of a busy machine come earlier and earlier, it takes them for another clock.
    """
    n, reach = 960, 480
    before, pieces = None, 1  # where the piece heard last stood, and how many ago that was
    for start in range(0, SAMPLE_RATE - n + 1, n):
        piece, first = second[start : start + n], max(0, shift + start - reach)
        if level_dbfs(piece) < _SILENT_DBFS:
            pieces += 1  # silence is nowhere and everywhere
            continue
        at = delay_between(piece, around[first : first + n + 2 * reach])[0]
        found = around[first + max(0, at) :][:n]
        if len(found) < n:
            return False
        alike = np.dot(piece, found) / (np.linalg.norm(piece) * np.linalg.norm(found) + 1e-9)
        moved = 0 if before is None else first + at - start - before
        # A lost or repeated block moves what follows by 480 samples; 2000 ppm by 2 in a piece.
        if alike < 0.7 or abs(moved) > 4 * pieces:
            return False
        before, pieces = first + at - start, 1
    return True


def speech_like(rng: np.random.Generator, seconds: float, top_hz: float) -> Float:
    """Noise below ``top_hz`` whose level moves as syllables do: every moment is unlike others."""
    n = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.normal(0.0, 1.0, n))
    spectrum[np.fft.rfftfreq(n, 1 / SAMPLE_RATE) > top_hz] = 0
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3.0 * np.arange(n) / SAMPLE_RATE)
    sound = np.fft.irfft(spectrum, n) * envelope
    edge = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / 4800, 0, 1)
    return (0.3 * sound * edge / np.abs(sound).max()).astype(np.float32)
