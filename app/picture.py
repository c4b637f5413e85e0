"""What was heard and what was kept of it, drawn: noisy and clean spectrograms, and the gain.

matplotlib's room. The collector takes frames from any pipeline, of a file or live, and
holds a bounded number of columns however long that goes on. Not here: making frames.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import IO, Any

import numpy as np

from engine.denoiser import Frame
from engine.spec import ModelSpec
from engine.stft import Float

MAX_COLUMNS = 1500
"""About as many as the picture is wide [pixels]: more could not be seen."""

_MINUTES_FROM_S = 180.0
_RANGE_DB = 80.0
_GAIN_RANGE_DB = 30.0


class SpectrogramCollector:
    """Sums frames into columns of equal length; two columns become one when all are full.

    Parameters
    ----------
    spec : of the model that made the frames
    max_columns : how many to hold at most, even
    """

    def __init__(self, spec: ModelSpec, max_columns: int = MAX_COLUMNS) -> None:
        if max_columns < 2 or max_columns % 2:
            raise ValueError(f"max_columns should be even and positive, got {max_columns}")
        self.spec = spec
        self.frames_per_column = 1
        # Power of the noisy sound, power of the clean, gain; sums over the frames.
        self._sums = np.zeros((3, max_columns, spec.n_spectrum), np.float32)
        self._counts = np.zeros(max_columns, np.int64)

    def channel(self) -> Callable[[Frame], None]:
        """Return a ``watch`` for one pipeline; several are averaged."""
        n_frames = 0

        def watch(frame: Frame) -> None:
            nonlocal n_frames
            self._add(n_frames, frame)
            n_frames += 1

        return watch

    def _add(self, index: int, frame: Frame) -> None:
        while index // self.frames_per_column >= len(self._counts):
            self._merge()
        column = index // self.frames_per_column
        power = np.float32(10.0) ** (frame.noisy_db / np.float32(10.0))
        self._sums[0, column] += power
        self._sums[1, column] += power * np.square(frame.gain)
        self._sums[2, column] += frame.gain
        self._counts[column] += 1

    def _merge(self) -> None:
        """Every two columns become one, and half of the room is free."""
        half = len(self._counts) // 2
        self._counts[:half] = self._counts[0::2] + self._counts[1::2]
        self._counts[half:] = 0
        self._sums[:, :half] = self._sums[:, 0::2] + self._sums[:, 1::2]
        self._sums[:, half:] = 0.0
        self.frames_per_column *= 2

    @property
    def column_s(self) -> float:
        """Time from one column to the next [s]."""
        return self.frames_per_column * self.spec.hop_s

    def columns(self) -> tuple[Float, Float, Float]:
        """Noisy level, clean level [dB re full-scale sine] and gain 0…1.

        Each (n_columns, n_fft // 2 + 1) float32: the mean over the frames of a column, of
        the power for levels.
        """
        n_columns = max(1, int(np.count_nonzero(self._counts)))
        counts = np.maximum(1, self._counts[:n_columns, np.newaxis]).astype(np.float32)
        means = self._sums[:, :n_columns] / counts
        least = np.float32(10.0 ** (self.spec.floor_db / 10.0))
        noisy_db, clean_db = 10.0 * np.log10(np.maximum(means[:2], least))
        return noisy_db, clean_db, means[2]


def draw(
    to: str | PathLike[str] | IO[bytes] | Any,
    collector: SpectrogramCollector,
    seconds: float,
    title: str,
    top_hz: float | None = None,
) -> None:
    """Write a PNG: the noisy spectrogram, below it the clean one, below it the gain.

    Parameters
    ----------
    to : path, or anything with ``write``
    seconds : length of the sound; columns after it are not shown
    title : one line, e.g. file and model
    top_hz : highest frequency shown (default: all) [Hz]
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    noisy_db, clean_db, gain = collector.columns()
    spec = collector.spec
    # Frame k ends after k + 1 hops and is told of when the look-ahead has been heard; each
    # is drawn one hop wide around the middle of its window.
    start_s = (0.5 - spec.lookahead) * spec.hop_s - spec.n_fft / 2 / spec.sample_rate
    edges_s = start_s + collector.column_s * np.array([0, len(gain)])
    bin_khz = spec.sample_rate / spec.n_fft / 1000
    extent = (*edges_s, -bin_khz / 2, (spec.n_spectrum - 0.5) * bin_khz)
    top_db = 5 * np.ceil(max(noisy_db.max(), spec.floor_db + _RANGE_DB) / 5)
    gain_db = 20 * np.log10(np.maximum(gain, 1e-3))

    figure = Figure(figsize=(12, 9), dpi=125, layout="constrained")
    FigureCanvasAgg(figure)
    # A file's name need not be text, and is no formula.
    title = title.encode(errors="backslashreplace").decode()
    figure.suptitle(title, fontsize=13, parse_math=False)
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    panels = (
        ("noisy", noisy_db, "magma", top_db - _RANGE_DB, top_db),
        ("clean", clean_db, "magma", top_db - _RANGE_DB, top_db),
        ("gain", gain_db, "viridis", -_GAIN_RANGE_DB, 0.0),
    )
    for axis, (name, values, colours, low, high) in zip(axes, panels, strict=True):
        image = axis.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            extent=extent,
            interpolation="nearest",
            cmap=colours,
            vmin=low,
            vmax=high,
        )
        axis.set_title(name, loc="left", fontsize=11)
        axis.set_ylabel("frequency [kHz]")
        if name != "noisy":
            label = "gain [dB]" if name == "gain" else "level [dB re full-scale sine]"
            shared = axes[2:] if name == "gain" else axes[:2]
            figure.colorbar(image, ax=list(shared), label=label, pad=0.01, aspect=20 * len(shared))
    axes[0].set_xlim(0.0, seconds)
    axes[0].set_ylim(0.0, (top_hz or spec.sample_rate / 2) / 1000)
    if seconds > _MINUTES_FROM_S:
        axes[-1].xaxis.set_major_locator(MaxNLocator(steps=[1, 1.5, 3, 6, 10]))
        axes[-1].xaxis.set_major_formatter(lambda at_s, _: f"{at_s // 60:.0f}:{at_s % 60:02.0f}")
    axes[-1].set_xlabel("time [min:s]" if seconds > _MINUTES_FROM_S else "time [s]")
    figure.savefig(to, format="png")
