"""Where a frequency lies in a picture: the rows of ``app.columns.rows_of``, told by their top.

Alike steps up to 1 kHz and alike ratios above. Not here: drawing.
"""

from __future__ import annotations

import math

TOP, BOTTOM = 6, 22
"""Margins of everything that shares the frequency axis, so that it lines up [pixels]."""

_CORNER_HZ = 700.0
_TICKS_HZ = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def share_of(hz: float, top_hz: float) -> float:
    """Height of a frequency in a picture, 0 at its foot and 1 at ``top_hz``."""
    return math.log1p(max(hz, 0.0) / _CORNER_HZ) / math.log1p(top_hz / _CORNER_HZ)


def hz_at(share: float, top_hz: float) -> float:
    """The frequency at a height of a picture [Hz].

    >>> round(hz_at(share_of(1000.0, 5512.5), 5512.5))
    1000
    """
    return _CORNER_HZ * math.expm1(share * math.log1p(top_hz / _CORNER_HZ))


def ticks(top_hz: float, room: float) -> list[tuple[float, str]]:
    """(height as in ``share_of``, label in kHz) of marks no closer than ``room``, a share.

    >>> [label for _, label in ticks(5512.5, 0.1)]
    ['0.1', '0.5', '1', '2', '5']
    """
    found: list[tuple[float, str]] = []
    for hz in _TICKS_HZ:
        share = share_of(hz, top_hz)
        # A label needs half its height below the top.
        apart = not found or share - found[-1][0] >= room
        if share <= 1.0 - room / 4 and apart and share >= room / 2:
            found.append((share, f"{hz / 1000:g}"))
    return found
