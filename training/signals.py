"""Levels, filters and speed of whole signals, through one transform of each.

Lengths with small factors keep the transforms fast; they take most of the time that
mixing takes. Not here: what is drawn at random.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.stft import Float


def fast_length(n_samples: int) -> int:
    """The next length that is a power of two, or three quarters or five eighths of one.

    Examples
    --------
    >>> [fast_length(n) for n in (5, 33, 41, 49)]
    [5, 40, 48, 64]
    """
    power = 1 << max(3, (n_samples - 1).bit_length())
    return min(n for n in (5 * power // 8, 3 * power // 4, power) if n >= n_samples)


def frequencies_hz(n_fft: int, sample_rate: int) -> Float:
    """Of the bins of a real transform: (n_fft // 2 + 1,) [Hz]."""
    return np.arange(n_fft // 2 + 1, dtype=np.float32) * np.float32(sample_rate / n_fft)


def filtered(signal: Float, response: NDArray[np.floating], n_fft: int) -> Float:
    """A signal whose bins are multiplied by (n_fft // 2 + 1,) factors, as long as before."""
    spectrum = np.fft.rfft(signal, n_fft) * response
    return np.fft.irfft(spectrum, n_fft)[: len(signal)].astype(np.float32, copy=False)


def convolved(signal: Float, *responses: Float) -> list[Float]:
    """The signal through each impulse response; the head of each, as long as the signal."""
    n_fft = fast_length(len(signal) + max(map(len, responses)))
    spectrum = np.fft.rfft(signal, n_fft)
    made = (np.fft.irfft(spectrum * np.fft.rfft(r, n_fft), n_fft) for r in responses)
    return [m[: len(signal)].astype(np.float32, copy=False) for m in made]


def shelf(ratio: NDArray[np.floating], gain_db: float) -> NDArray[np.floating]:
    """Magnitude of a first-order shelf; ``ratio`` of frequency to corner, 0…infinity."""
    square = np.square(ratio)
    return np.sqrt((1.0 + square * 10.0 ** (gain_db / 10.0)) / (1.0 + square))


def low_pass(ratio: NDArray[np.floating], order: int) -> NDArray[np.floating]:
    """Magnitude of a Butterworth low-pass; ``ratio`` of frequency to corner, 0…infinity."""
    # 300 dB down is enough, and float32 ends at 1e38.
    return 1.0 / np.sqrt(1.0 + np.minimum(ratio, np.float32(10.0 ** (15.0 / order))) ** (2 * order))


def faster(signal: Float, speed: float) -> Float:
    """Play a signal faster, higher in pitch, by cutting or filling its spectrum.

    In steps of 3 %: both transforms then have lengths with small factors, many times faster.
    """
    n_fft = max(256, fast_length(len(signal)))
    n_out = n_fft // 32 * round(32 / speed)
    if n_out == n_fft:
        return signal
    made = np.fft.irfft(np.fft.rfft(signal, n_fft), n_out) * np.float32(n_out / n_fft)
    return made[: round(len(signal) * n_out / n_fft)].astype(np.float32, copy=False)


def rms_db(signal: Float) -> float:
    """RMS level [dB re 1]; -inf for silence."""
    # Sums in float64 (a dot product in float32 loses a hundredth of a dB over minutes).
    power = float(np.mean(np.square(signal), dtype=np.float64))
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def at_level(signal: Float, level_db: float) -> Float:
    """The signal, not silent, at an RMS level [dB re 1]."""
    return signal * np.float32(10.0 ** ((level_db - rms_db(signal)) / 20.0))


def at_peak(signal: Float) -> Float:
    """The signal, not silent, turned down where it would exceed full scale."""
    return signal * np.float32(min(1.0, 0.99 / float(np.abs(signal).max())))
