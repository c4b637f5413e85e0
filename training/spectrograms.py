"""Pictures of a clip before and after: noisy, processed and clean levels, and the gain.

Not here: which clips are worth a picture (``evaluate``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float
from training.files import replacing

_RANGE_DB = 80.0
_GAIN_RANGE_DB = 30.0


def draw(
    path: Path,
    spec: ModelSpec,
    noisy_db: Float,
    processed_db: Float,
    clean_db: Float,
    gain: Float,
    title: str,
) -> None:
    """Write a PNG of four panels, one above the other.

    Parameters
    ----------
    spec : whose setting the frames have
    noisy_db, processed_db, clean_db : (n_frames, n_fft // 2 + 1) [dB re full-scale sine]
    gain : (n_frames, n_fft // 2 + 1), 0…1
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 11), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, parse_math=False)  # a file's name is no formula
    axes = figure.subplots(4, 1, sharex=True, sharey=True)
    top_db = 5.0 * np.ceil(max(float(noisy_db.max()), spec.floor_db + _RANGE_DB) / 5.0)
    gain_db = 20.0 * np.log10(np.maximum(gain, 1e-3))
    panels: tuple[tuple[str, Any, str, float, float], ...] = (
        ("noisy", noisy_db, "magma", top_db - _RANGE_DB, top_db),
        ("processed", processed_db, "magma", top_db - _RANGE_DB, top_db),
        ("clean", clean_db, "magma", top_db - _RANGE_DB, top_db),
        ("gain", gain_db, "viridis", -_GAIN_RANGE_DB, 0.0),
    )
    for axis, (name, values, colours, low, high) in zip(axes, panels, strict=True):
        image = axis.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            extent=(0.0, len(values) * spec.hop_s, 0.0, spec.sample_rate / 2000.0),
            interpolation="nearest",
            cmap=colours,
            vmin=low,
            vmax=high,
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylabel("frequency [kHz]")
        figure.colorbar(image, ax=axis, label="dB", pad=0.01)
    axes[-1].set_xlabel("time [s]")
    with replacing(path) as part:
        figure.savefig(part, format="png")
