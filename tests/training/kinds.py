"""Small networks of every kind there is: what holds for one must hold for all."""

from __future__ import annotations

from dataclasses import replace

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
    "bare": replace(TINY, front=0),
    "gain-alone": replace(TINY, memory=False),
    "levels": LEVELS,
    "levels-running": replace(LEVELS, normalisation="running"),
    "levels-clip": replace(LEVELS, front=0, normalisation="clip"),
    "thesis": PRESETS["thesis-tiny"],
}
