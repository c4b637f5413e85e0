"""Some seconds of a running session, as they came in and as they went out, sample for sample.

In memory only. Not here: who asks for it, and what is done with it.
"""

from __future__ import annotations

import numpy as np

from engine.stft import Float


class Excerpt:
    """Filled by the thread that cleans; others may look at any time.

    Parameters
    ----------
    n : samples wanted

    Attributes
    ----------
    heard, cleaned : (n,) float32; sample k of both is the same moment
    n_done : so many samples of both are there
    """

    def __init__(self, n: int) -> None:
        self.heard = np.zeros(n, np.float32)
        self.cleaned = np.zeros(n, np.float32)
        self._first, self._next = 0, -1
        self._n_heard = self.n_done = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything that is wanted is there."""
        return self.n_done == len(self.heard)

    def add(self, heard: Float, heard_at: int, cleaned: Float, cleaned_at: int) -> None:
        """Take what has come; what was cleaned is of an earlier moment.

        Parameters
        ----------
        heard, cleaned : (m,) and (k,) float32
        heard_at, cleaned_at : positions in the stream of the first sample of each
        """
        if self.is_complete:
            return
        if heard_at != self._next:
            # The first, or another stream: its clean twin is still to come.
            self._first, self._n_heard, self.n_done = heard_at, 0, 0
        self._next = heard_at + len(heard)
        n = min(len(heard), len(self.heard) - self._n_heard)
        self.heard[self._n_heard : self._n_heard + n] = heard[:n]
        self._n_heard += n
        before = max(self._first - cleaned_at, 0)
        cleaned = cleaned[before:]
        n = min(len(cleaned), len(self.cleaned) - self.n_done)
        self.cleaned[self.n_done : self.n_done + n] = cleaned[:n]
        self.n_done += n
