"""Change of sample rate in a stream, at a few milliseconds' delay.

A polyphase windowed-sinc filter (Smith, "Digital Audio Resampling", CCRMA 2002)
without phase of its own: sample k that comes out stands for the time k / rate_out,
and is withheld until the samples after it that the filter needs have come in.
Not here: whole files at studio quality (soxr does that for training data).
"""

from __future__ import annotations

from math import ceil, gcd

import numpy as np

from engine.stft import Float

# Pass band up to 0.84 of the lower Nyquist frequency, stop band from it on: 4.6 kHz
# pass at 11025 Hz, for a filter of under 3 ms to either side.
_PASS = 0.84
_ATTENUATION_DB = 80.0
# Rates with no common factor need a phase for each output sample of a second: 32 MB hold
# every rate from 8 to 96 kHz against 11025 Hz, 44056 Hz (NTSC) and its like included.
_MAX_TAPS = 8 * 1024 * 1024


class Resampler:
    """Blocks of any length at one rate in, blocks at another rate out.

    Parameters
    ----------
    rate_in, rate_out : [Hz]

    Raises
    ------
    ValueError : a rate is not positive, or their ratio has terms that are too large
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        if rate_in <= 0 or rate_out <= 0:
            raise ValueError(f"rates should be positive, got {rate_in} and {rate_out} Hz")
        divisor = gcd(rate_in, rate_out)
        self._up, self._down = rate_out // divisor, rate_in // divisor
        self._filter = _polyphase(rate_in, rate_out, self._up)
        self._half = self._filter.shape[1] // 2
        self.rate_in, self.rate_out = rate_in, rate_out
        self.reset()

    @property
    def latency_s(self) -> float:
        """How long a sample is withheld for the ones after it [s]."""
        return 0.0 if self._up == self._down else self._half / self.rate_in

    def reset(self) -> None:
        """Forget everything heard."""
        # Silence before the first sample, so that output 0 stands for input 0.
        self._heard = np.zeros(self._half, np.float32)
        self._first = -self._half  # index in the stream of _heard[0]
        self._next_out = 0

    def process(self, block: Float) -> Float:
        """Return every output sample that can be known now: (m,) float32, m ≥ 0.

        Parameters
        ----------
        block : (n,) float32, any n ≥ 0
        """
        if self._up == self._down:
            return block.copy()  # the caller may reuse the block
        self._heard = np.concatenate([self._heard, block])
        known = self._first + len(self._heard)  # samples 0 … known − 1 of the stream are here
        # Output k sits at input position k·down/up and needs `half` samples after it.
        last = ((known - self._half) * self._up - 1) // self._down
        if last < self._next_out:
            return np.zeros(0, np.float32)
        position = np.arange(self._next_out, last + 1, dtype=np.int64) * self._down
        start = position // self._up - self._half + 1 - self._first
        taps = _windows(self._heard, 2 * self._half)[start]
        made = np.einsum("ij,ij->i", taps, self._filter[position % self._up])
        self._next_out = last + 1
        needed = (self._next_out * self._down) // self._up - self._half + 1 - self._first
        self._heard = self._heard[needed:].copy()
        self._first += needed
        return made

    def wanted(self, n_out: int) -> int:
        """Input samples after which ``process`` will have made ``n_out`` more samples."""
        if self._up == self._down:
            return n_out
        last = self._next_out + n_out - 1
        known = (last * self._down) // self._up + 1 + self._half
        return max(0, known - self._first - len(self._heard))

    def flush(self, n_in: int) -> Float:
        """The samples still withheld when ``n_in`` samples have come in all; then ``reset``.

        All blocks and this make ``ceil(n_in · rate_out / rate_in)`` samples.
        """
        wanted = ceil(n_in * self._up / self._down)
        rest = wanted - self._next_out
        if self._up == self._down:
            return np.zeros(0, np.float32)
        made = self.process(np.zeros(2 * self._half + 1, np.float32))[:rest]
        self.reset()
        return made


def _windows(sound: Float, width: int) -> Float:
    """Every stretch of a contiguous (n,), without a copy: (n − width + 1, width).

    NumPy's ``sliding_window_view`` takes 30 µs for it, two fifths of all that a block costs.
    """
    step = sound.itemsize
    return np.ndarray((len(sound) - width + 1, width), sound.dtype, sound, 0, (step, step))


def _polyphase(rate_in: int, rate_out: int, up: int) -> Float:
    """One row of taps for each of ``up`` positions between two input samples."""
    lower = min(rate_in, rate_out) / 2.0
    width = (1.0 - _PASS) * lower / rate_in  # transition [cycles per input sample]
    # Kaiser's estimates of the length and the shape for an attenuation (1974).
    n_taps = (_ATTENUATION_DB - 7.95) / (14.36 * width)
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)
    half = ceil(n_taps / 2.0) + 1
    cut_off = (1.0 + _PASS) * lower / rate_in  # twice the mid-transition frequency
    if up * 2 * half > _MAX_TAPS:
        raise ValueError(f"{rate_in} Hz to {rate_out} Hz would need a filter of {up} phases")
    tap = np.arange(-half + 1, half + 1)
    table = np.empty((up, 2 * half), np.float32)
    for start in range(0, up, 1024):  # in parts: float64 throughout would take ten times the room
        phase = np.arange(start, min(start + 1024, up))[:, np.newaxis] / up
        distance = tap - phase  # input samples between a tap and the output position
        inside = np.sqrt(np.clip(1.0 - (distance / half) ** 2, 0.0, None))
        rows = np.sinc(cut_off * distance) * np.i0(beta * inside)
        rows /= rows.sum(axis=1, keepdims=True)  # a constant stays that constant in every phase
        table[start : start + 1024] = rows
    return table
