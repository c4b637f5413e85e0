"""A hop comes in; the denoiser returns a hop.

Not here: device rates and block sizes (``pipeline``), threads (``live``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.errors import ModelError
from engine.network import Estimate, Estimator, finite
from engine.stft import Analysis, Complex, Float, Synthesis, heard, to_db

MAX_LIMIT_DB = 100.0
"""An attenuation limit from which on nothing audible is left."""

# Samples are within ±1; what is far outside is a broken driver, not sound, and its
# square would overflow float32 before long.
_ABSURD = 1e4

# A network that keeps failing is asked less and less often, twice a minute in the end: each
# failure costs time, and cleaning that comes and goes is worse to hear than none.
_FAILURES = 16
_GOOD = 32
_LONGEST_REST_S = 30.0

# A bin with less than this holds no sound: a ratio to it would say nothing.
_SILENT = 1e-9


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a user may turn while sound runs. Replaced whole, read once a hop."""

    limit_db: float = MAX_LIMIT_DB
    """No bin is turned down by more than this [dB], 0…100; 0 changes nothing."""
    bypass: bool = False
    """Let the sound through as it is, delayed as if it had been cleaned."""
    muted: bool = False
    """Let nothing through."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.limit_db <= MAX_LIMIT_DB:
            raise ValueError(f"limit should be within 0…{MAX_LIMIT_DB:.0f} dB, got {self.limit_db}")

    @property
    def floor(self) -> float:
        """The least gain of any bin."""
        return 0.0 if self.limit_db >= MAX_LIMIT_DB else float(10.0 ** (-self.limit_db / 20.0))


class Frame(NamedTuple):
    """What a viewer may see of one frame; never changed once published."""

    noisy_db: Float
    """(n_fft // 2 + 1,) [dB re full-scale sine]."""
    gain: Float
    """(n_fft // 2 + 1,) in [0, 1], as applied."""
    speech: float
    """Probability of voice in the frame, in [0, 1]."""


class Denoiser:
    """Takes noise out of a stream of hops at the model's sample rate.

    ``fault`` is None, or why the last hop went through uncleaned: a failing network
    never stops the sound, it only stops cleaning it until it answers again.

    Parameters
    ----------
    network : what decides the gains
    knobs : as the user has them
    """

    def __init__(self, network: Estimator, knobs: Knobs | None = None) -> None:
        self.spec = network.spec
        self.knobs = knobs or Knobs()
        self._network = network
        self._analysis = Analysis(self.spec)
        self._synthesis = Synthesis(self.spec)
        self.reset()

    @property
    def latency(self) -> int:
        """Delay between a sample going in and the same sample coming out [samples]."""
        return self.spec.latency

    def reset(self) -> None:
        """Forget everything heard, as if new; the knobs stay."""
        self._analysis.reset()
        self._synthesis.reset()
        self._state = self._network.initial_state()
        silence = np.zeros(self.spec.n_spectrum, np.complex64)
        # Spectra that the network's filter reaches over, the newest first.
        self._past = np.zeros((self.spec.filter_taps, self.spec.filter_bins), np.complex64)
        self._before = silence  # the frame before, from which phases move
        silence_db = to_db(silence, self.spec)
        self._waiting: deque[tuple[Complex, Float]] = deque(
            [(silence, silence_db)] * self.spec.lookahead
        )
        self.fault: Exception | None = None
        self._failures = self._good = 0
        self._rest = self._resting = 0  # hops between two tries, and those of them still to come
        self.frame = Frame(silence_db, np.ones(self.spec.n_spectrum, np.float32), 0.0)

    def process(self, hop: Float) -> Float:
        """Clean one hop.

        Parameters
        ----------
        hop : (hop,) float32 in [-1, 1]; NaN, infinity and absurd values count as silence

        Returns
        -------
        (hop,) float32, ``latency`` samples behind

        Raises
        ------
        ValueError : wrong shape or type
        """
        if hop.shape != (self.spec.hop,) or hop.dtype != np.float32:
            raise ValueError(
                f"hop should be ({self.spec.hop},) float32, got {hop.shape} {hop.dtype}"
            )
        spectrum = self._analysis(only_sound(hop))
        noisy_db = to_db(spectrum, self.spec)
        gain, speech, taps = self._estimate(noisy_db, spectrum)
        self._before = spectrum
        self._waiting.append((spectrum, noisy_db))
        spectrum, noisy_db = self._waiting.popleft()  # the frame that the gain is about
        cleaned = spectrum * gain
        if self.spec.filter_taps:
            gain = self._filter(spectrum, cleaned, gain, taps)
        self.frame = Frame(noisy_db, gain, speech)
        return self._synthesis(cleaned)

    def _filter(
        self, spectrum: Complex, cleaned: Complex, gain: Float, taps: Complex | None
    ) -> Float:
        """Put filtered bins in place of the lowest of ``cleaned``; returns gains as heard."""
        n = self.spec.filter_bins
        self._past[1:] = self._past[:-1]
        self._past[0] = spectrum[:n]
        knobs = self.knobs
        if taps is None or knobs.bypass or knobs.floor >= 1.0:
            return gain
        made = np.einsum("tb,tb->b", taps, self._past)
        made *= gain[:n]
        heard, found = np.abs(self._past[0]), np.abs(made)
        if knobs.floor > 0.0:
            # Where it would turn down by more than the limit, the gain's floor stays.
            made = np.where(found < np.float32(knobs.floor) * heard, cleaned[:n], made)
            found = np.abs(made)
        cleaned[:n] = made
        gain[:n] = np.minimum(found / np.maximum(heard, _SILENT), 1.0)
        return gain

    def _estimate(self, noisy_db: Float, spectrum: Complex) -> tuple[Float, float, Complex | None]:
        """Gain of every bin of the spectrum, the probability of speech, and the filter."""
        spec, knobs = self.spec, self.knobs
        through = np.ones(spec.n_spectrum, np.float32), 0.0, None
        if self._resting:
            self._resting -= 1
            return through
        try:
            told = heard(noisy_db[np.newaxis], spectrum[np.newaxis], spec, self._before)
            estimate = self._network(told, self._state)
            _check(estimate)
        except Exception as error:  # whatever it is, the call goes on
            self.fault = error
            self._state = self._network.initial_state()
            self._note_failure()
            return through
        self.fault = None
        self._good += 1
        if self._good >= _GOOD:
            self._failures = self._rest = 0
        self._state = estimate.state
        gain = estimate.gain[0]
        if spec.n_bins < spec.n_spectrum:
            # One bin jumps about; the mean of the top eighth is steady.
            top = gain[-max(1, spec.n_bins // 8) :].mean() if spec.above == "hold" else 0.0
            gain = np.concatenate([gain, np.full(spec.n_spectrum - spec.n_bins, top, np.float32)])
        least = 1.0 if knobs.bypass else knobs.floor
        gain = np.minimum(np.maximum(gain, np.float32(least)), np.float32(1.0))
        taps = None if estimate.filter is None else estimate.filter[0]
        return gain, float(estimate.speech[0]), taps

    def _note_failure(self) -> None:
        self._failures, self._good = self._failures + 1, 0
        if self._failures > _FAILURES:
            longest = int(_LONGEST_REST_S / self.spec.hop_s)
            self._rest = self._resting = min(max(2 * self._rest, 8), longest)


def _check(estimate: Estimate) -> None:
    """Raise ModelError for gains that are no numbers: one of them would stay in the sound."""
    answers = (estimate.gain, estimate.speech)
    if not finite(*answers if estimate.filter is None else (*answers, estimate.filter)):
        raise ModelError("the network answered NaN or infinity")


def only_sound(block: Float) -> Float:
    """(n,) float32 with every sample that cannot be sound replaced by silence."""
    if np.abs(block).max(initial=0.0) < _ABSURD:  # False as well when a NaN is among them
        return block
    return np.where(np.abs(block) < _ABSURD, block, np.float32(0.0))
