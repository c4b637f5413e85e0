"""Sound read from a tape a little faster or slower than it was written.

A fractional-delay filter whose taps are polynomials of the delay (Farrow, "A continuously
variable digital delay element", 1988): any position between two samples at the cost of a
few multiplications. Not here: how fast (``drift``), other sample rates (``resample``).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from engine.stft import Float
from engine.tape import Tape

BEFORE, AFTER = 15, 16
"""Samples needed before a position and after it."""

# 32 taps at 80 dB: flat to 20 kHz at 48 kHz, images below −80 dB. Polynomials of this
# degree follow the taps to −100 dB.
_ATTENUATION_DB = 80.0
_DEGREE = 7


def end_of(position: float, n: int, speed: float) -> int:
    """Position before which all samples lie that ``read`` of ``n`` samples needs."""
    if speed == 0.0 and position.is_integer():
        return int(position) + n
    return int(position + (n - 1) * (1.0 + speed)) + AFTER + 1


def read(tape: Tape, position: float, n: int, speed: float = 0.0) -> Float | None:
    """``n`` samples from ``position`` on, one every ``1 + speed`` samples of the tape.

    Parameters
    ----------
    tape : what to read
    position : of the first [samples], need not be whole
    speed : 0 for as it was written, 0.001 for a thousandth faster

    Returns
    -------
    (n,) float32, or None where the tape does not hold all that is needed
    """
    whole = int(position)
    if speed == 0.0 and position == whole:
        found = np.empty(n, np.float32)
        return found if tape.read(whole, found) else None
    offsets = (position - whole) + (1.0 + speed) * np.arange(n)
    starts = offsets.astype(np.int64)
    n_around = int(starts[-1]) + 1
    around = np.empty(n_around + BEFORE + AFTER, np.float32)
    if not tape.read(whole - BEFORE, around):
        return None
    # Every stretch of as many samples as there are taps, one beginning at each sample.
    stretches: Float = np.ndarray((n_around, BEFORE + AFTER + 1), np.float32, around, 0, (4, 4))
    terms = _taps() @ np.ascontiguousarray(stretches).T  # (degree + 1, n_around)
    if n_around != n or starts[-1] != n - 1:  # a sample is passed over or used twice
        terms = terms[:, starts]
    fractions = (offsets - starts).astype(np.float32) - np.float32(0.5)
    found = terms[_DEGREE]
    for power in range(_DEGREE - 1, -1, -1):
        found *= fractions
        found += terms[power]
    return found


@cache
def _taps() -> Float:
    """(degree + 1, taps): each tap as a polynomial of the fraction less one half."""
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)  # Kaiser 1974
    fraction = np.linspace(0.0, 1.0, 65)[:, np.newaxis]
    distance = np.arange(-BEFORE, AFTER + 1) - fraction
    inside = np.sqrt(np.clip(1.0 - (distance / (AFTER + 0.5)) ** 2, 0.0, None))
    wanted = np.sinc(distance) * np.i0(beta * inside)
    wanted /= wanted.sum(axis=1, keepdims=True)  # a constant stays that constant
    powers = (fraction - 0.5) ** np.arange(_DEGREE + 1)
    return np.linalg.lstsq(powers, wanted, rcond=None)[0].astype(np.float32)
