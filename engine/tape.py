"""The newest stretch of an endless sound, shared by threads without waiting.

One thread writes, any number read, each sample by its position in the stream. The writer
never waits for a reader and nobody takes a lock, so a slow thread can never hold up a sound
card's callback: who comes too late is told that the sound has gone. Not here: devices, meaning.
"""

from __future__ import annotations

import numpy as np

from engine.stft import Float


class Tape:
    """The last ``capacity`` samples of a stream.

    Parameters
    ----------
    capacity : samples that stay readable
    """

    def __init__(self, capacity: int) -> None:
        if capacity <= 0:
            raise ValueError(f"capacity should be positive, got {capacity}")
        self.capacity = capacity
        self._samples = np.zeros(capacity, np.float32)
        self.written = 0
        """Position after the newest sample; only the writer changes it."""
        self._claimed = 0  # position up to which older samples are being overwritten
        # Begin of the stretch that is being written, and begin and end of the one before.
        # Replaced whole, so that a reader sees one moment's value.
        self._stretches = (0, 0, 0)

    @property
    def begun(self) -> int:
        """First position of the newest stretch without a gap, as far as it is still here."""
        return max(self._stretches[0], self._claimed - self.capacity)

    def write(self, block: Float) -> None:
        """Append (n,) float32; of a block longer than the tape only the end stays."""
        n = len(block)
        self._claimed = self.written + n
        kept = block[-self.capacity :] if n > self.capacity else block
        start = (self._claimed - len(kept)) % self.capacity
        first = min(len(kept), self.capacity - start)
        self._samples[start : start + first] = kept[:first]
        self._samples[: len(kept) - first] = kept[first:]
        self.written += n  # last: a reader must not see samples before they are there

    def leap(self, position: int) -> None:
        """Go on at another position (the writer's call); what was written stays readable.

        Positions from a later one on are written anew when it lies before ``written``.
        """
        # What has gone stays gone when positions fall: ``begun`` knows how far it was overwritten.
        begun, written = self.begun, self.written
        self._stretches = (position, begun, min(written, position))
        self._claimed = self.written = position

    def holds(self, start: int, end: int) -> bool:
        """Whether all samples from position ``start`` to before ``end`` can be read."""
        if start < self._claimed - self.capacity:
            return False
        begun, before, before_end = self._stretches
        return (begun <= start and end <= self.written) or (before <= start and end <= before_end)

    def read(self, position: int, into: Float) -> bool:
        """Fill ``into`` (n,) from ``position`` on; False, and anything in it, where it cannot."""
        end = position + len(into)
        if len(into) > self.capacity or not self.holds(position, end):
            return False
        start = position % self.capacity
        first = min(len(into), self.capacity - start)
        into[:first] = self._samples[start : start + first]
        into[first:] = self._samples[: len(into) - first]
        # The writer may have come round while we copied.
        return position >= self._claimed - self.capacity
