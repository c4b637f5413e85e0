"""What lies in a run's folder, and how it is read.

Not here: writing it (``train``), what the arrays are (``networks``), model files (``export``,
``graph_weights``).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import TrainingError
from engine.stft import Float

STATE, BEST, TOLD, LEVELS = "state.npz", "checkpoint.npz", "run.json", "levels.npy"
"""Names in the folder: what resuming takes; what is exported, what it tells of itself, and real
noisy speech to compare a model file with the network on."""

# What NumPy raises for files that are missing, cut short, empty, or something else.
_BROKEN = (OSError, ValueError, EOFError, zipfile.BadZipFile)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What a file of weights holds; raises TrainingError."""
    try:
        with np.load(path) as file:
            return dict(file)
    except _BROKEN as error:
        raise TrainingError(f"{path}: {error}") from error


def checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """A run's best weights so far, and the ``step`` they are of; raises TrainingError."""
    path = folder / BEST
    if not path.exists():
        raise TrainingError(f"{folder} is not a run with a checkpoint: it has no {BEST}")
    return arrays(path)


def told_of(folder: Path) -> dict[str, Any]:
    """What a run wrote of itself; nothing where that is missing."""
    try:
        return dict(json.loads((folder / TOLD).read_text()))
    except (OSError, ValueError, TypeError):  # the last: JSON, but no object
        return {}


def exported(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Float]:
    """All that a model file is made of: ``checkpoint``, ``told_of``, levels to compare it on.

    Raises TrainingError when the folder is no run, has no checkpoint yet or is broken.
    """
    weights, told = checkpoint(folder), told_of(folder)
    if not {"spec", "training", "frames_per_step"} <= told.keys():
        raise TrainingError(f"{folder / TOLD} is missing or does not tell what the run was")
    try:
        return weights, told, np.load(folder / LEVELS)
    except _BROKEN as error:
        raise TrainingError(f"{folder / LEVELS}: {error}") from error


def behind(told: Mapping[str, Any], step: int) -> dict[str, float]:
    """Updates, and hours of sound heard, behind a run's weights.

    Those behind what it began with (``--start``) count too.

    Parameters
    ----------
    told : as ``told_of`` gives it
    step : of the checkpoint
    """
    hop_s = told["spec"]["hop"] / told["spec"]["sample_rate"]
    before = told.get("before", {})
    hours = step * told["frames_per_step"] * hop_s / 3600.0 + before.get("hours_seen", 0.0)
    return {"steps": step + before.get("steps", 0), "hours_seen": round(hours, 1)}


class Beginning(NamedTuple):
    """What a run begins with."""

    weights: dict[str, np.ndarray]
    """As ``networks.weights_of`` names them."""
    before: dict[str, float]
    """What is ``behind`` them; empty where it is not known."""
    preset: str | None
    """Name of the preset that their network began as, if it is told."""


def beginning(start: Path) -> Beginning:
    """Weights to begin with, of a run or of a model file; raises TrainingError or ModelError."""
    if start.suffix == ".onnx":
        from training.graph_weights import weights_in

        weights, spec = weights_in(start)
        training = spec.training
        before = {name: training[name] for name in ("steps", "hours_seen") if name in training}
    else:
        weights, told = checkpoint(start), told_of(start)
        training = told.get("training", {})
        before = behind(told, int(weights["step"])) if "spec" in told else {}
    return Beginning(weights, before, training.get("preset"))
