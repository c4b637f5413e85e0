"""Small networks of every kind there is: what holds for one must hold for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.spec import PHASE_PARTS
from engine.stft import Float
from training.networks import PRESETS, Preset

TINY = PRESETS["tiny"]
LEVELS = replace(TINY, output="clean_db", loss="level")
BANDS = Preset(12, (14,), detail=True, bands=16, channels=(4, 6), around=5, before=1, after=1)
KINDS = {
    "gain": TINY,
    "running": replace(TINY, normalisation="running"),
    "pitch": replace(TINY, pitches=12),
    "detail": replace(TINY, detail=True),
    "local": replace(TINY, detail=True, local=3),
    "settle": replace(TINY, settle=True),
    "bands": BANDS,
    "bands-running": replace(
        BANDS, normalisation="running", detail=False, before=0, after=2, settle=True
    ),
    "bands-filter": replace(BANDS, filter_bins=9, filter_taps=3),
    "bands-phase": replace(BANDS, filter_bins=9, filter_taps=3, phase=True),
    "bare": replace(TINY, front=0),
    "gain-alone": replace(TINY, memory=False),
    "levels": LEVELS,
    "levels-running": replace(LEVELS, normalisation="running"),
    "levels-clip": replace(LEVELS, front=0, normalisation="clip"),
    "thesis": PRESETS["thesis-tiny"],
}


def heard(kind: str, levels: Float) -> Float:
    """Levels (…, n_bins) with some motion of phases behind them for a network that hears them."""
    n = PHASE_PARTS * KINDS[kind].phase_bins
    return np.concatenate([levels, np.cos(levels[..., -1:] * np.arange(n))], -1, dtype=np.float32)
