"""Small networks of every kind there is: what holds for one must hold for all."""

from __future__ import annotations

from dataclasses import replace

from training.networks import PRESETS

TINY = PRESETS["tiny"]
LEVELS = replace(TINY, output="clean_db", loss="level")
KINDS = {
    "gain": TINY,
    "running": replace(TINY, normalisation="running"),
    "pitch": replace(TINY, pitches=12),
    "detail": replace(TINY, detail=True),
    "local": replace(TINY, detail=True, local=3),
    "bare": replace(TINY, front=0),
    "gain-alone": replace(TINY, memory=False),
    "levels": LEVELS,
    "levels-running": replace(LEVELS, normalisation="running"),
    "levels-clip": replace(LEVELS, front=0, normalisation="clip"),
    "thesis": PRESETS["thesis-tiny"],
}
