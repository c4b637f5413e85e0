"""Blocks at any rate in, cleaned blocks at the same rate out.

Rates are converted and blocks cut into hops here, so that the denoiser sees only
what its model was made for. Sample k that comes out belongs to sample k that went
in: what the transform and the filters need to hear first is withheld, not filled
with silence. Live sound and files take this one path. Not here: devices, threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.denoiser import Denoiser, Frame, Knobs, only_sound
from engine.resample import Resampler
from engine.stft import Float

# Long enough not to click, short enough to feel immediate.
_CROSSFADE_S = 0.02


class Pipeline:
    """One channel through one denoiser, at any sample rate.

    Parameters
    ----------
    denoiser : used by this pipeline alone
    sample_rate : of the blocks in and out [Hz]
    watch : called with each frame that the denoiser made; must not block
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sample_rate: int,
        watch: Callable[[Frame], object] | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.sample_rate = sample_rate
        self.watch = watch
        self._to_model = Resampler(sample_rate, denoiser.spec.sample_rate)
        self._from_model = Resampler(denoiser.spec.sample_rate, sample_rate)
        self.knobs = denoiser.knobs
        """What the user has turned; may be replaced from any thread."""
        self._fade_step = 1.0 / (_CROSSFADE_S * sample_rate)
        self.reset()

    @property
    def latency_s(self) -> float:
        """How long a sample is withheld at most, collecting its hop included [s]."""
        return (
            self.denoiser.spec.total_latency_s
            + self._to_model.latency_s
            + self._from_model.latency_s
        )

    @property
    def burst(self) -> int:
        """About how many samples come out at a time: one hop at this rate [samples]."""
        return round(self.denoiser.spec.hop_s * self.sample_rate)

    @property
    def wanted(self) -> int:
        """Samples still to come in before the next hop can be cleaned."""
        return self._to_model.wanted(self.denoiser.spec.hop - len(self._hops))

    def reset(self) -> None:
        """Forget everything heard."""
        self.denoiser.reset()
        self._to_model.reset()
        self._from_model.reset()
        self._hops = np.zeros(0, np.float32)  # model rate, less than a hop
        self._dry = np.zeros(0, np.float32)  # as it came in, waiting for its clean twin
        self._skip = self.denoiser.latency  # leading silence of the denoiser's answer
        self._wet = 0.0 if self._through(self.knobs) else 1.0
        self._open = 0.0 if self.knobs.muted else 1.0
        self.n_in = self.n_out = 0

    def process(self, block: Float) -> Float:
        """Return every cleaned sample that can be known now.

        Parameters
        ----------
        block : (n,) float32 in [-1, 1], any n ≥ 0; NaN, infinity and absurd values count
            as silence

        Returns
        -------
        (m,) float32, m ≥ 0: the samples n_out … n_out + m − 1 of the stream
        """
        # Before the filter, which would smear one bad sample over its whole length.
        block = only_sound(block)
        self.n_in += len(block)
        self._dry = np.concatenate([self._dry, block])
        return self._finish(self._from_model.process(self._clean(self._to_model.process(block))))

    def flush(self) -> Float:
        """Return the samples still withheld, so that as many came out as went in; then reset."""
        rest = self.n_in - self.n_out
        spec = self.denoiser.spec
        cleaned = self._clean(self._to_model.flush(self.n_in))
        silence = np.zeros(spec.hop + self.denoiser.latency, np.float32)
        # The second stretch of silence is what the upward filter needs to hear.
        filter_tail = round(self._from_model.latency_s * spec.sample_rate) + 2 * spec.hop
        silence = np.concatenate([silence, np.zeros(filter_tail, np.float32)])
        cleaned = np.concatenate([cleaned, self._clean(silence)])
        made = self._finish(self._from_model.process(cleaned)[:rest])
        self.reset()
        return made

    def _clean(self, heard: Float) -> Float:
        """Model-rate samples through the denoiser, hop by hop, without its leading silence."""
        hop = self.denoiser.spec.hop
        self._hops = np.concatenate([self._hops, heard])
        n_hops = len(self._hops) // hop
        if n_hops == 0:
            return np.zeros(0, np.float32)
        cleaned = np.empty(n_hops * hop, np.float32)
        for start in range(0, n_hops * hop, hop):
            self.denoiser.knobs = self.knobs  # read once a hop
            cleaned[start : start + hop] = self.denoiser.process(self._hops[start : start + hop])
            if self.watch is not None:
                self.watch(self.denoiser.frame)
        self._hops = self._hops[n_hops * hop :].copy()
        skipped = min(self._skip, len(cleaned))
        self._skip -= skipped
        return cleaned[skipped:]

    def _finish(self, cleaned: Float) -> Float:
        """Put the sound as it came in, of the same moment, in place of the cleaned: bypass."""
        n = len(cleaned)
        dry, self._dry = self._dry[:n], self._dry[n:]
        self.n_out += n
        if n == 0:
            return cleaned
        wet, self._wet = self._faded(self._wet, not self._through(self.knobs), n)
        made = cleaned if wet is None else wet * cleaned + (1 - wet) * dry
        if wet is None and self._wet == 0.0:
            made = dry.copy()
        loud, self._open = self._faded(self._open, not self.knobs.muted, n)
        if loud is not None:
            return loud * made
        return made if self._open else np.zeros(n, np.float32)

    def _faded(self, now: float, wanted: bool, n: int) -> tuple[Float | None, float]:
        """Weights (n,) on the way to 1 or 0, None when that is reached; and the last of them."""
        target = 1.0 if wanted else 0.0
        if now == target:
            return None, now
        steps = self._fade_step * np.arange(1, n + 1, dtype=np.float32)
        weights = np.clip(now + (steps if wanted else -steps), 0.0, 1.0).astype(np.float32)
        return weights, float(weights[-1])

    @staticmethod
    def _through(knobs: Knobs) -> bool:
        """Turning nothing down is the same as not cleaning, only better: the whole band."""
        return knobs.bypass or knobs.limit_db == 0.0
