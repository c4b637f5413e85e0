"""What is counted as a hiccup of a tone."""

from __future__ import annotations

import numpy as np

from tests.tones import hiccups, tone


def test_a_hiccup_is_seen() -> None:
    whole = np.round(tone(5.0) * 32767) / 32767  # as servers carry it
    assert hiccups(whole) == 0
    assert hiccups(np.delete(whole, np.s_[90_000:90_480])) == 1
    gap = whole.copy()
    gap[60_000:60_480] = 0.0
    gap[150_000:160_000] *= 0.5
    assert hiccups(gap) == 2
