"""Short-time Fourier transform, one hop at a time or a whole signal at once.

The whole-signal functions give the very frames and samples that the streaming
objects give: training and serving share this one feature code. Not here: gains.

Frame k ends with hop k, so it covers samples ``[(k + 1)·hop − n_fft, (k + 1)·hop)``
with silence before the signal.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.spec import ModelSpec

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]


@lru_cache(maxsize=64)
def window(name: str, n_fft: int) -> Float:
    """Periodic window; computed once, so it must not be written to.

    Parameters
    ----------
    name : ``hann``, ``sqrt_hann`` or ``rect``
    n_fft : length [samples]

    Returns
    -------
    (n_fft,) float32 in [0, 1]

    Examples
    --------
    >>> window("hann", 4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    shapes = {"rect": np.ones(n_fft), "hann": hann, "sqrt_hann": np.sqrt(hann)}
    if name not in shapes:
        raise ValueError(f"window should be one of {', '.join(shapes)}, got {name!r}")
    shape = shapes[name].astype(np.float32)
    shape.flags.writeable = False
    return shape


@lru_cache(maxsize=64)
def _full_scale(name: str, n_fft: int) -> np.float32:
    """1 / |X| of a full-scale sine at a bin centre, which is sum(window) / 2."""
    return np.float32(2.0 / window(name, n_fft).sum(dtype=np.float64))


def synthesis_window(spec: ModelSpec) -> Float:
    """The synthesis window, scaled so that analysis followed by overlap-add is a pure delay.

    Dividing by the overlapped product of both windows makes any pair invertible
    (Griffin & Lim 1984, weighted overlap-add), as long as that sum is nowhere near zero.
    Returns (n_fft,) float32; raises ValueError for a pair that cannot be inverted.
    """
    analysis = window(spec.window, spec.n_fft).astype(np.float64)
    synthesis = window(spec.synthesis_window, spec.n_fft).astype(np.float64)
    overlapped = np.zeros(spec.hop)
    for start in range(0, spec.n_fft, spec.hop):
        part = (analysis * synthesis)[start : start + spec.hop]
        overlapped[: len(part)] += part
    # Where little window lies over a sample, the division amplifies float32's rounding:
    # from 0.2 up the delay stays pure to 1e-6.
    if overlapped.min() < 0.2:
        raise ValueError(
            f"windows {spec.window}/{spec.synthesis_window} with n_fft {spec.n_fft} and hop "
            f"{spec.hop} leave gaps: use a hop of at most half of n_fft"
        )
    repeated = np.tile(overlapped, -(-spec.n_fft // spec.hop))[: spec.n_fft]
    return (synthesis / repeated).astype(np.float32)


class Analysis:
    """Hops in, spectra out.

    ``analysis(hop)`` takes (hop,) float32 and returns (n_fft // 2 + 1,) complex64.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._window = window(spec.window, spec.n_fft)
        self.reset()

    def reset(self) -> None:
        """Forget every sample heard."""
        self._recent = np.zeros(self._spec.n_fft, np.float32)

    def __call__(self, hop: Float) -> Complex:
        keep = self._spec.n_fft - self._spec.hop
        self._recent[:keep] = self._recent[self._spec.hop :]
        self._recent[keep:] = hop
        return np.fft.rfft(self._recent * self._window).astype(np.complex64, copy=False)


class Synthesis:
    """Spectra in, hops out, by overlap-add.

    ``synthesis(spectrum)`` takes (n_fft // 2 + 1,) complex64 and returns (hop,) float32.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._window = synthesis_window(spec)
        self.reset()

    def reset(self) -> None:
        """Forget the overlap of earlier frames."""
        self._overlap = np.zeros(self._spec.n_fft, np.float32)

    def __call__(self, spectrum: Complex) -> Float:
        spec = self._spec
        self._overlap += np.fft.irfft(spectrum, spec.n_fft) * self._window
        done = self._overlap[: spec.hop].copy()
        self._overlap[: spec.n_fft - spec.hop] = self._overlap[spec.hop :]
        self._overlap[spec.n_fft - spec.hop :] = 0.0
        return done


def stft(signal: Float, spec: ModelSpec) -> Complex:
    """All frames of a signal, as ``Analysis`` would give them.

    Parameters
    ----------
    signal : (n_samples,) or (n_clips, n_samples) float32; a last incomplete hop is dropped

    Returns
    -------
    (n_frames, n_fft // 2 + 1) or (n_clips, n_frames, n_fft // 2 + 1) complex64
    """
    n_frames = signal.shape[-1] // spec.hop
    if n_frames == 0:
        return np.zeros((*signal.shape[:-1], 0, spec.n_spectrum), np.complex64)
    before = np.zeros((*signal.shape[:-1], spec.n_fft - spec.hop), np.float32)
    padded = np.concatenate([before, signal[..., : n_frames * spec.hop]], axis=-1)
    frames = sliding_window_view(padded, spec.n_fft, axis=-1)[..., :: spec.hop, :]
    windowed = frames * window(spec.window, spec.n_fft)
    return np.fft.rfft(windowed).astype(np.complex64, copy=False)


def istft(spectra: Complex, spec: ModelSpec) -> Float:
    """Overlap-add all frames, as ``Synthesis`` would: delayed by ``n_fft − hop`` samples.

    Parameters
    ----------
    spectra : (n_frames, n_fft // 2 + 1) complex64

    Returns
    -------
    (n_frames · hop,) float32
    """
    frames = np.fft.irfft(spectra, spec.n_fft) * synthesis_window(spec)
    n_frames, hop = len(spectra), spec.hop
    signal = np.zeros(n_frames * hop + spec.n_fft, np.float32)
    for k, frame in enumerate(frames):
        signal[k * hop : k * hop + spec.n_fft] += frame
    return signal[: n_frames * hop]


def heard(
    noisy_db: Float, spectra: Complex, spec: ModelSpec, before: Complex | None = None
) -> Float:
    """What a network reads of frames: levels of its bins, behind them how phases move.

    Parameters
    ----------
    noisy_db : (…, n_frames, n_bins or more), of ``to_db``
    spectra, before : as of ``phase_motion``

    Returns
    -------
    (…, n_frames, spec.n_heard) float32
    """
    levels = noisy_db[..., : spec.n_bins]
    if not spec.phase_bins:
        return levels
    return np.concatenate([levels, phase_motion(spectra, spec, before)], axis=-1)


def phase_motion(spectra: Complex, spec: ModelSpec, before: Complex | None = None) -> Float:
    """How the phases of the lowest ``spec.phase_bins`` bins move, as numbers without a level.

    Of each bin: how far its phase has moved since the frame before, beyond what a sine at its
    centre moves by, and how far it is from that of the bin above, beyond what a steady sine
    between them has. A voice's harmonic holds both steady, noise does not; and the first tells
    how far from the centre it lies (Flanagan & Golden 1966, "Phase vocoder"), which levels
    of bins wider than half of a voice's pitch cannot say.

    Parameters
    ----------
    spectra : (…, n_frames, n_fft // 2 + 1) complex64
    before : (…, n_fft // 2 + 1), the frame before the first; silence unless given

    Returns
    -------
    (…, n_frames, 4 · phase_bins) float32 in [-1, 1]: cosine and sine of the first, cosine and
    sine of the second, each of all bins; smaller under ``floor_db``, 0 where there is no sound
    """
    n = spec.phase_bins
    low, above = spectra[..., :n], spectra[..., 1 : n + 1]
    first = np.zeros_like(low[..., :1, :]) if before is None else before[..., np.newaxis, :n]
    earlier = np.concatenate([first, low[..., :-1, :]], axis=-2)
    moved = _direction(low * np.conj(earlier) * advance(n, spec.hop, spec.n_fft), spec)
    apart = _direction(-above * np.conj(low), spec)
    return np.concatenate([moved.real, moved.imag, apart.real, apart.imag], axis=-1)


def _direction(product: Complex, spec: ModelSpec) -> Complex:
    """Of length 1, or less where there is next to nothing."""
    way = product / np.maximum(np.abs(product), least_product(spec))
    return way.astype(np.complex64, copy=False)


def least_product(spec: ModelSpec) -> np.float32:
    """Of two bins at ``floor_db``, under which levels are not told apart either."""
    floor = np.float32(10.0 ** (spec.floor_db / 20.0)) / _full_scale(spec.window, spec.n_fft)
    return np.float32(floor * floor)


@lru_cache(maxsize=64)
def advance(n_bins: int, hop: int, n_fft: int) -> Complex:
    """Takes back what a sine at each bin's centre moves by from frame to frame: (n_bins,)."""
    return np.exp(-2j * np.pi * hop / n_fft * np.arange(n_bins)).astype(np.complex64)


def to_db(spectrum: Complex, spec: ModelSpec) -> Float:
    """Level of each bin [dB], 0 for a full-scale sine at a bin centre, clamped at ``floor_db``.

    Any shape; complex64 in, float32 out.
    """
    magnitude = np.abs(spectrum)
    magnitude *= _full_scale(spec.window, spec.n_fft)
    np.maximum(magnitude, np.float32(10.0 ** (spec.floor_db / 20.0)), out=magnitude)
    np.log10(magnitude, out=magnitude)
    magnitude *= np.float32(20.0)
    return magnitude
