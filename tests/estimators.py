"""Estimators of a few lines, where a test must know or steer the network's answer."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from engine.errors import ModelError
from engine.network import Estimate, Estimator, State
from engine.spec import ModelSpec
from engine.stft import Complex, Float


class Steady:
    """The same gain for every bin of every frame; (n_bins,) for a gain of each bin."""

    def __init__(self, spec: ModelSpec, gain: float | Float = 1.0, speech: float = 1.0) -> None:
        self.spec = spec
        self._gain = np.broadcast_to(np.float32(gain), (spec.n_bins,))
        self._speech = np.float32(speech)

    def initial_state(self) -> State:
        return ()

    def __call__(self, heard: Float, state: State) -> Estimate:
        gain = np.tile(self._gain, (len(heard), 1))
        return Estimate(gain, np.full(len(heard), self._speech), state)


class Filtering(Steady):
    """The same filter for every frame, (filter_taps, filter_bins), beside a steady gain."""

    def __init__(self, spec: ModelSpec, taps: Complex, gain: float | Float = 1.0) -> None:
        super().__init__(spec, gain)
        self._taps = taps.astype(np.complex64)

    def __call__(self, heard: Float, state: State) -> Estimate:
        taps = np.tile(self._taps, (len(heard), 1, 1))
        return super().__call__(heard, state)._replace(filter=taps)


class Failing:
    """Another estimator that fails at some of its calls, counted from 0."""

    def __init__(self, network: Estimator, at: Collection[int]) -> None:
        self.spec = network.spec
        self._network = network
        self._at = at
        self.calls = 0

    def initial_state(self) -> State:
        return self._network.initial_state()

    def __call__(self, heard: Float, state: State) -> Estimate:
        call = self.calls
        self.calls += 1
        if call in self._at:
            raise ModelError(f"call {call} failed")
        return self._network(heard, state)


class Broken(Failing):
    """Another estimator that answers NaN at some of its calls, counted from 0."""

    def __call__(self, heard: Float, state: State) -> Estimate:
        call = self.calls
        self.calls += 1
        estimate = self._network(heard, state)
        if call in self._at:
            return estimate._replace(gain=np.full_like(estimate.gain, np.nan))
        return estimate


class Slow:
    """Another estimator that takes ``cost_s`` for a frame, by whatever spends time."""

    def __init__(self, network: Estimator, spend: Callable[[float], object]) -> None:
        self.spec = network.spec
        self.cost_s = 0.0
        self._network = network
        self._spend = spend

    def initial_state(self) -> State:
        return self._network.initial_state()

    def __call__(self, heard: Float, state: State) -> Estimate:
        self._spend(self.cost_s * len(heard))
        return self._network(heard, state)


class Lagging:
    """Gains decided ``spec.lookahead`` frames ago: 0 for frames louder than ``loud_db``, else 1.

    As a network with look-ahead does, it answers for frame k when frame k + lookahead comes.
    """

    def __init__(self, spec: ModelSpec, loud_db: float) -> None:
        self.spec = spec
        self._loud_db = loud_db

    def initial_state(self) -> State:
        return (np.ones((1, self.spec.lookahead), np.float32),)

    def __call__(self, heard: Float, state: State) -> Estimate:
        decided = np.concatenate([state[0][0], heard.max(axis=1) < self._loud_db])
        decided = decided.astype(np.float32)
        now = decided[: len(heard)]
        gain = np.repeat(now[:, np.newaxis], self.spec.n_bins, axis=1)
        return Estimate(gain, now, (decided[np.newaxis, len(heard) :],))
