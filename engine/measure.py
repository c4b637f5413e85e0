"""How far apart and how alike two recordings are.

Not here: models of human judgement (PESQ, DNSMOS), which training's evaluation has.
"""

from __future__ import annotations

import numpy as np

from engine.stft import Float

_SILENT_DBFS = -120.0
# Drift control moves a piece by 20 samples at most, what a machine that stood still leaves is more.
_PIECE, _STEP, _REACH, _STEERED = 9600, 4800, 2400, 20
_ALIKE = 0.5
_BLOCK = 480


def delay_between(reference: Float, heard: Float) -> tuple[int, float]:
    """How many samples later ``heard`` carries what ``reference`` does, by cross-correlation.

    Parameters
    ----------
    reference, heard : (n,) and (m,) float32 at the same rate

    Returns
    -------
    delay : [samples], negative when ``heard`` comes first
    peak : normalised correlation at that delay, 1 for the same sound
    """
    n = len(reference) + len(heard)
    size = 1 << (n - 1).bit_length()
    cross = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(reference, size)), size)
    delay = int(np.argmax(cross))
    if delay > size // 2:
        delay -= size
    first, second = aligned(reference, heard, delay)
    energy = np.sqrt(np.dot(first, first) * np.dot(second, second))
    return delay, float(np.dot(first, second) / energy) if energy > 0 else 0.0


def aligned(reference: Float, heard: Float, delay: int) -> tuple[Float, Float]:
    """The stretches of both that carry the same sound, of one length."""
    if delay >= 0:
        heard = heard[delay:]
    else:
        reference = reference[-delay:]
    n = min(len(reference), len(heard))
    return reference[:n], heard[:n]


def followed(reference: Float, heard: Float) -> Float:
    """What of ``heard`` belongs to each sample of ``reference``, where its delay is not the same
    throughout: drift control was at work, or a machine stood still.

    Pieces of 0.2 s are looked for within 50 ms of where the one before was. Where they are unlike,
    in noise that was taken out, the delay of the next that is alike counts.

    Parameters
    ----------
    reference, heard : (n,) and (m,) float32 at 48 kHz

    Returns
    -------
    (n,) float32, silent where ``heard`` had not begun or had ended
    """
    delay, _ = delay_between(reference, heard)
    at: list[float] = []
    delays: list[float] = []
    for start in range(0, len(reference) - _PIECE + 1, _STEP):
        piece, first = reference[start : start + _PIECE], max(start + delay - _REACH, 0)
        around = heard[first : max(start + delay, 0) + _PIECE + _REACH]
        if len(around) < _PIECE:
            break
        shift, peak = delay_between(piece, around)
        if peak < _ALIKE:
            continue
        found, middle = first + shift - start, start + _PIECE / 2
        if at and abs(found - delays[-1]) > _STEERED * (middle - at[-1]) / _STEP:
            jumped = (at[-1] + middle) / 2
            at += [jumped, jumped]
            delays += [delays[-1], found]
        at.append(middle)
        delays.append(found)
        delay = found
    positions = np.arange(len(reference), dtype=np.float64)
    positions += np.interp(positions, at, delays) if at else delay
    # What is between two samples is off by 30 dB less than sound of 3 kHz, the top of voices.
    sound = np.interp(positions, np.arange(len(heard)), heard, left=0.0, right=0.0)
    return sound.astype(np.float32)


def si_sdr_db(reference: Float, estimate: Float) -> float:
    """Scale-invariant signal-to-distortion ratio [dB] (Le Roux et al. 2019).

    Parameters
    ----------
    reference, estimate : (n,) aligned, neither silent

    Raises
    ------
    ValueError : different lengths, or a silent one

    Examples
    --------
    >>> clean, noise = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    >>> round(si_sdr_db(clean, 3.0 * (clean + 0.1 * noise)), 6)
    20.0
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"lengths should be equal, got {len(reference)} and {len(estimate)}")
    clean = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    heard = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    energy = float(np.dot(clean, clean))
    if energy == 0.0 or not heard.any():
        raise ValueError("a silent signal has no distortion ratio")
    target = float(np.dot(heard, clean)) / energy * clean
    distortion = heard - target
    rest = float(np.dot(distortion, distortion))
    if rest == 0.0:
        return float("inf")
    return float(10.0 * np.log10(np.dot(target, target) / rest))


def level_dbfs(signal: Float) -> float:
    """RMS level, −3 dB for a full-scale sine, at least −120 [dBFS]."""
    return dbfs(float(np.mean(signal.astype(np.float64) ** 2))) if len(signal) else _SILENT_DBFS


def usual_dbfs(noise: Float) -> float:
    """Level of the median block of 10 ms at 48 kHz [dBFS].

    Where a machine was late, half a second and more went through as it is. The mean power shows
    little but that: 6 dB of suppression where all the rest was 58 dB quieter.
    """
    blocks = noise[: len(noise) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    return (
        float(np.median([level_dbfs(block) for block in blocks])) if len(blocks) else _SILENT_DBFS
    )


def dbfs(mean_square: float) -> float:
    """The same of a mean of squares, silent or broken ones included [dBFS]."""
    if not mean_square > 0:
        return _SILENT_DBFS
    return max(10.0 * float(np.log10(mean_square)), _SILENT_DBFS)
