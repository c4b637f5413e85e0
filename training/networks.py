"""Keras networks that turn levels of bins into gains, and their weights as .npz.

One code for Keras 3 and the Keras 2.14 of tensorflow-rocm: layers and weights only, no
operations of either. Not here: what is learnt from (``batches``) or for (``losses``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from engine.errors import TrainingError
from engine.stft import Float


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a gain network."""

    front: int
    """Units of the dense layer that the bins enter by."""
    units: tuple[int, ...]
    """Units of each LSTM layer."""


PRESETS: Mapping[str, Preset] = {
    # The largest that sees 20 million frames in an hour on two cores.
    "classic": Preset(256, (400, 400)),
    "small": Preset(128, (200,)),
    "tiny": Preset(16, (24, 20)),  # for tests: seconds to train, every part there
}


STRETCH = (1.1, -0.05)
"""Scale and offset of the sigmoid before it is cut to 0…1. A plain sigmoid never quite
opens: clean speech would always lose a little, and pauses would never be silent."""


class Standardise(keras.layers.Layer):
    """Level of each bin to zero mean and unit deviation, by weights that are not trained.

    ``layers.Normalization`` would leave its constants behind as inputs of an exported graph.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: mean [dB] and deviation [dB] of each bin, (n_bins,)."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.deviation = self.add_weight(
            name="deviation", shape=shape, initializer="ones", trainable=False
        )
        super().build(input_shape)

    def call(self, noisy_db: Any) -> Any:
        return (noisy_db - self.mean) / self.deviation


def gain_network(preset: Preset, mean_db: Float, deviation_db: Float) -> keras.Model:
    """Levels in, a gain for each bin and the probability of speech out.

    Parameters
    ----------
    mean_db, deviation_db : (n_bins,) of what it will hear [dB]

    Returns
    -------
    a model of (batch, time, n_bins) to (batch, time, n_bins) and (batch, time, 1), in [0, 1]
    """
    n_bins = len(mean_db)
    noisy_db = keras.Input((None, n_bins), name="noisy_db")
    standard = Standardise(name="standardise")
    front = keras.layers.Dense(preset.front, activation="relu", name="front")(standard(noisy_db))
    heard = front
    for k, units in enumerate(preset.units):
        heard = keras.layers.LSTM(units, return_sequences=True, name=f"lstm{k}")(heard)
    # The gain heads see the frame itself too, so that memory need not carry its details.
    seen = keras.layers.Concatenate(name="seen")([heard, front])
    sure = keras.layers.Dense(n_bins, activation="sigmoid", name="gain")(seen)
    scale, offset = STRETCH
    gain = keras.layers.ReLU(1.0, name="clip")(keras.layers.Rescaling(scale, offset)(sure))
    speech = keras.layers.Dense(1, activation="sigmoid", name="speech")(seen)
    model = keras.Model(noisy_db, [gain, speech], name="gain_network")
    standard.set_weights([mean_db, deviation_db])
    return model


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Every weight under ``layer.number``, in the order in which Keras lists them."""
    return {
        f"{layer.name}.{k}": weight
        for layer in model.layers
        for k, weight in enumerate(layer.get_weights())
    }


def set_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Put back what ``weights_of`` gave; other names are passed over.

    Raises TrainingError when a weight is missing or has another shape.
    """
    for layer in model.layers:
        names = [f"{layer.name}.{k}" for k in range(len(layer.get_weights()))]
        missing = [name for name in names if name not in weights]
        if missing:
            raise TrainingError(f"no weights {', '.join(missing)}: made by another network?")
        layer.set_weights([weights[name] for name in names])


def from_weights(weights: Mapping[str, np.ndarray]) -> keras.Model:
    """The network that some weights belong to: their names and shapes say all."""
    units: list[int] = []
    while f"lstm{len(units)}.1" in weights:
        units.append(weights[f"lstm{len(units)}.1"].shape[0])
    preset = Preset(weights["front.0"].shape[1], tuple(units))
    model = gain_network(preset, weights["standardise.0"], weights["standardise.1"])
    set_weights(model, weights)
    return model


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as .npz under another name first: a kill leaves the old file or the new."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    part.replace(path)
