"""How good a recording is, told from the recording alone.

Estimates, to choose by among many recordings, not to measure one: a dataset asks for clean,
wide tracks with them. Not here: reading files (``tracks``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FRAME_S = 0.02

# So far under the loudest part of the mean spectrum nothing of a voice is heard: speech at
# 15 kHz lies 60 dB under its peak, what a codec or a resampler left out 90 dB and more.
_BAND_DB = -75.0

# Digital silence is an edit or a gate, not the room: it says nothing of the noise in it.
_DIGITAL_DB = -90.0

# Frames this far under the loud ones hold no voice.
_SILENT_DB = -40.0

_HIGHEST_SNR_DB = 80.0


class Quality(NamedTuple):
    """What is told of one recording."""

    snr_db: float
    """Of the loud fifth of its frames over the quiet twentieth [dB], −10…80: low for steady
    noise, but not for noise that comes with the voice alone."""
    clipped: float
    """Share of samples, 0…1, in runs of three and more at the recording's own highest level."""
    bandwidth_hz: float
    """Highest frequency with sound, however high its rate is [Hz]."""
    silence: float
    """Share of frames, 0…1, that are 40 dB under the loud ones or digital silence."""


def measure(blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> Quality:
    """Judge a recording that comes block by block.

    Parameters
    ----------
    blocks : (n,) each, of any length, ±1 is full scale; at least one frame of 20 ms together
    sample_rate : [Hz]

    Raises
    ------
    ValueError : shorter than a frame
    """
    size = round(_FRAME_S * sample_rate)
    window = np.hanning(size).astype(np.float32)
    spectrum = np.zeros(size // 2 + 1)
    powers: list[NDArray[np.float64]] = []
    clipping = _Clipping()
    rest = np.zeros(0, np.float32)
    for block in blocks:
        clipping.add(block)
        sound = np.concatenate((rest, block))
        frames = sound[: len(sound) // size * size].reshape(-1, size)
        rest = sound[frames.size :]
        powers.append(np.mean(np.square(frames, dtype=np.float64), axis=1))
        spectrum += np.sum(np.abs(np.fft.rfft(frames * window)) ** 2, axis=0)
    power = np.concatenate(powers) if powers else np.zeros(0)
    if not len(power):
        raise ValueError(f"should be {_FRAME_S:g} s at least")
    level_db = 10.0 * np.log10(np.maximum(power, 1e-12))
    heard = np.sort(power[level_db > _DIGITAL_DB])
    if not len(heard):
        return Quality(-10.0, 0.0, 0.0, 1.0)
    loud = float(np.mean(heard[-max(1, len(heard) // 5) :]))
    quiet = float(np.mean(heard[: max(1, len(heard) // 20)]))
    # The loud frames hold the noise as well.
    snr_db = 10.0 * math.log10(max(loud - quiet, 1e-12) / quiet)
    silent = level_db < max(10.0 * math.log10(loud) + _SILENT_DB, _DIGITAL_DB)
    return Quality(
        float(np.clip(snr_db, -10.0, _HIGHEST_SNR_DB)),
        clipping.share(),
        _highest(spectrum) * sample_rate / size,
        float(np.mean(silent)),
    )


class _Clipping:
    """Counts samples that stand still at the highest level there is."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._stuck = 0
        self._n = 0

    def add(self, block: NDArray[np.float32]) -> None:
        if not len(block):
            return
        self._n += len(block)
        level = np.abs(block)
        peak = float(level.max())
        if peak > self._peak * 1.001:
            self._peak, self._stuck = peak, 0
        if peak < 0.05:  # nothing is clipped at −26 dBFS
            return
        at_top = np.concatenate(([False], level >= self._peak * 0.999, [False]))
        edges = np.flatnonzero(np.diff(at_top.astype(np.int8)))
        runs = edges[1::2] - edges[::2]
        self._stuck += int(np.sum(runs[runs >= 3]))

    def share(self) -> float:
        return self._stuck / max(1, self._n)


def _highest(spectrum: NDArray[np.float64]) -> int:
    """Index of the highest bin that is not empty."""
    power = np.maximum(spectrum[1:], 1e-30)  # a constant is no sound
    level_db = 10.0 * np.log10(power / power.max())
    return int(np.flatnonzero(level_db > _BAND_DB)[-1]) + 1
