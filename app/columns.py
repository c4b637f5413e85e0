"""Spectra as columns of a picture: which bins a row stands for, which byte a level is.

Not here: who paints them.
"""

from __future__ import annotations

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float

ROWS = 160
"""Frequencies in a column of a picture, on a scale that is linear to 1 kHz and then logarithmic."""
FLOOR_DB, CEILING_DB = -100.0, 0.0
"""Levels in a picture: bytes 0 and 255."""


def rows_of(spec: ModelSpec, top_hz: float | None = None) -> np.ndarray:
    """First bin of each row of a picture that ends at ``top_hz`` or with the band, (ROWS,)."""
    share = np.linspace(0.0, 1.0, ROWS, endpoint=False)
    top = spec.sample_rate / 2 if top_hz is None else top_hz
    # As the ear does it: alike steps up to 1 kHz, alike ratios above.
    hz = 700.0 * (np.exp(share * np.log1p(top / 700.0)) - 1.0)
    bins = np.floor(hz / spec.sample_rate * spec.n_fft).astype(int)
    return np.minimum(np.maximum.accumulate(bins), spec.n_spectrum - 1)


def byte(level_db: Float) -> np.ndarray:
    """Levels [dB] as a picture holds them, uint8 of the same shape."""
    share = (level_db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)
    return np.round(255.0 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
