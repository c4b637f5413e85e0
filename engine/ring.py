"""Samples handed from one thread to another without waiting.

One thread writes, one reads. Each index is changed by one side only and an int is
stored whole under the interpreter lock, so no lock of our own is needed and a slow
thread can never hold up a sound card's callback. Not here: devices, meaning.
"""

from __future__ import annotations

import numpy as np

from engine.stft import Float


class Ring:
    """A bounded queue of float32 samples for one writer and one reader.

    Parameters
    ----------
    capacity : samples it can hold at most
    """

    def __init__(self, capacity: int) -> None:
        if capacity <= 0:
            raise ValueError(f"capacity should be positive, got {capacity}")
        self.capacity = capacity
        self._samples = np.zeros(capacity, np.float32)
        self.written = 0
        """Samples accepted since the beginning; only the writer changes it."""
        self.taken = 0
        """Samples handed out since the beginning; only the reader changes it."""
        self.lost = 0
        """Samples that found no room; only the writer changes it."""

    @property
    def fill(self) -> int:
        """Samples waiting."""
        return self.written - self.taken

    def write(self, block: Float) -> int:
        """Append what fits of (n,) float32; the rest is counted as lost. Returns how many fit."""
        n = min(len(block), self.capacity - self.fill)
        start = self.written % self.capacity
        first = min(n, self.capacity - start)
        self._samples[start : start + first] = block[:first]
        self._samples[: n - first] = block[first:n]
        self.written += n  # last: the reader must not see samples before they are there
        self.lost += len(block) - n
        return n

    def read(self, into: Float) -> int:
        """Fill the head of ``into`` (n,) with what is there. Returns how many came."""
        n = min(len(into), self.fill)
        start = self.taken % self.capacity
        first = min(n, self.capacity - start)
        into[:first] = self._samples[start : start + first]
        into[first:n] = self._samples[: n - first]
        self.taken += n  # last: the writer must not reuse the room before it is copied
        return n

    def skip(self, n: int) -> int:
        """Drop up to ``n`` of the oldest samples (the reader's call). Returns how many."""
        n = max(0, min(n, self.fill))
        self.taken += n
        return n
