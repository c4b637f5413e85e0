"""What each kind of network learns for: its losses, what they compare with, its accuracy.

Not here: the layers (``networks``), the arithmetic of the losses (``losses``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.spec import ModelSpec
from engine.stft import Float
from training.batches import Batch, as_array, beside
from training.losses import LevelLoss, WaveLoss, Weights, spectral_loss
from training.networks import Preset, named

LEAST_GAIN_DB = -60.0
"""What is turned down this far is silent: a gain in dB is compared down to here."""


@dataclass(frozen=True, slots=True)
class Objective:
    """For ``compile`` and ``train_on_batch`` of a network with one kind of output."""

    preset: Preset
    losses: list[Any]
    """One of each of the network's outputs."""
    loss_weights: list[float]
    waves: bool
    """Whether batches must hold ``waves`` (``Batches(..., waves=True)``)."""

    def targets(self, batch: Batch) -> list[Float]:
        """What the losses compare the outputs with: one array of each, time in axis 1.

        Raises TrainingError when the batch lacks the waves that a loss needs.
        """
        if self.preset.output == "clean_db":
            return [batch.clean_db]
        if self.preset.output == "softmax":
            return [shares(batch.clean_db)]
        if self.preset.loss == "level":
            return [np.clip(batch.clean_db - batch.noisy_db, LEAST_GAIN_DB, 0.0), batch.speech]
        told = [batch.spectra]
        if self.preset.filter_taps:
            if batch.low is None:
                raise TrainingError("a filter learns from spectra, which layout mixed has not")
            told.append(batch.low)
        if self.waves:
            if batch.waves is None:
                raise TrainingError(
                    "the losses si_sdr, opinion, background and p808 need batches with waves"
                )
            told.append(batch.waves)
        whole = told[0] if len(told) == 1 else beside(told)
        return [whole, batch.speech]

    def accuracy(self, batch: Batch, outputs: list[Float] | Float) -> float:
        """The thesis's: in how many frames the loudest bin of estimate and clean is the same.

        Parameters
        ----------
        outputs : the network's, of ``batch.noisy_db``; Keras gives a single one bare

        Returns
        -------
        share of frames, 0…1
        """
        estimate: np.ndarray = outputs if isinstance(outputs, np.ndarray) else outputs[0]
        noisy_db, clean_db = as_array(batch.noisy_db), as_array(batch.clean_db)
        if self.preset.output == "gain":
            gain = estimate[..., : noisy_db.shape[-1]]
            with np.errstate(divide="ignore"):  # a gain of 0 is −∞ dB, and no bin's maximum
                estimate = noisy_db + 20.0 * np.log10(gain)
        same = np.argmax(estimate, axis=-1) == np.argmax(clean_db, axis=-1)
        return float(np.mean(same))


def objective(preset: str | Preset, spec: ModelSpec, weights: Weights | None = None) -> Objective:
    """What the network of a preset learns for.

    Parameters
    ----------
    preset : one of ``networks.PRESETS`` by its name, or one of your own
    weights : of the parts of a spectral loss; other losses have none

    Raises
    ------
    engine.errors.TrainingError : there is no such preset, a filter is to be learnt by another
        loss than ``spectral``, or samples are to be heard (``weights.hear_samples``) and the
        setting has no whole number of hops in a frame
    """
    chosen, weights = named(preset), weights or Weights()
    if chosen.loss == "crossentropy":
        return Objective(chosen, ["categorical_crossentropy"], [1.0], waves=False)
    if chosen.output == "clean_db":
        return Objective(chosen, [LevelLoss()], [1.0], waves=False)
    waves = chosen.loss == "spectral" and weights.hear_samples
    filtered = chosen.filter_bins, chosen.filter_taps
    if chosen.filter_taps and chosen.loss != "spectral":
        raise TrainingError("a filter is learnt with loss spectral")
    first: Any = spectral_loss(spec, weights, filtered)
    if chosen.loss == "level":
        first = LevelLoss(of_gain=True)
    elif waves:
        first = WaveLoss(spec, weights, filtered)
    return Objective(chosen, [first, "binary_crossentropy"], [1.0, 0.2], waves)


def shares(clean_db: Float) -> Float:
    """The thesis's target: levels of a clip between 0 for its lowest and 1 for its highest.

    Of the clip, not of each bin: the loudest bin of a frame stays the loudest. They do not
    sum to 1 as the network's answers do; cross-entropy takes them as they are.

    Parameters
    ----------
    clean_db : (n_clips, n_frames, n_bins) [dB]

    Returns
    -------
    the same shape, in [0, 1]; all 0 for a clip of one level throughout
    """
    low = clean_db.min(axis=(1, 2), keepdims=True)
    high = clean_db.max(axis=(1, 2), keepdims=True)
    return (clean_db - low) / np.maximum(high - low, 1e-6)
