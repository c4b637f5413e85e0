"""Layers that bands along frequency share: what is learnt of one band serves all.

Levels are gathered in bands, single bins where harmonics lie and wider ones above. Two
convolutions along frequency halve their number each; LSTMs whose weights all of the remaining
places share follow each place in time; one LSTM hears all places together and tells each what
it made of them. Two transposed convolutions lead back to the bands. Far fewer weights than
layers over all bins, more arithmetic for each, and no place that must learn alone what noise
is. After Hao et al. 2021, "FullSubNet" (arXiv:2010.15508), and Le et al. 2021, "DPCRN"
(arXiv:2107.05429). Not here: statistics and heads, which all networks have (``networks``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from engine.spec import PHASE_PARTS
from engine.stft import Float

try:
    from keras import ops
    from keras.ops import shape as shape_of
except ImportError:  # Keras 2.14
    from tensorflow import shape as shape_of
    from tensorflow.experimental import numpy as ops

if TYPE_CHECKING:
    from training.networks import Preset

WIDTHS = (9, 5)
"""Of the convolutions that halve the bands."""

BACK_WIDTH = 4
"""Of the transposed ones that double them."""

LAST_WIDTH = 3
"""Of the convolution that gives each band its answers."""

FOLD = 4
"""Bands for each place where LSTMs are shared."""


_Shape = tuple[int | None, ...]


class Fold(keras.layers.Layer):
    """Places as clips of their own: (batch, time, places, n) to (batch · places, time, n)."""

    def call(self, seen: Any) -> Any:
        time, n = shape_of(seen)[1], seen.shape[-1]
        return ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (-1, time, n))

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """Told, since Keras on JAX cannot find out: the time is open."""
        return (None, input_shape[1], input_shape[3])


class Unfold(keras.layers.Layer):
    """What ``Fold`` took apart, as before; ``like`` (batch, time, places, any)."""

    def call(self, folded: Any, like: Any) -> Any:
        time, places, n = shape_of(like)[1], like.shape[2], folded.shape[-1]
        return ops.transpose(ops.reshape(folded, (-1, places, time, n)), (0, 2, 1, 3))

    def compute_output_shape(self, folded_shape: _Shape, like_shape: _Shape) -> _Shape:
        """As of ``Fold``."""
        return (*like_shape[:3], folded_shape[-1])


class Turn(keras.layers.Layer):
    """Taps as if the phase of each bin stood still: (batch, time, bins, 2 · taps) to the same.

    From frame to frame the phase of bin k advances by π k where a hop is half of the frame: older
    taps of odd bins change their sign, so that bins can share weights. Its weight, the signs
    (bins, 2 · taps), is not trained.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        n_bins, n = (size or 0 for size in input_shape[2:])
        self.signs = self.add_weight(
            name="signs", shape=(n_bins, n), initializer="ones", trainable=False
        )
        super().build(input_shape)
        bins, taps = np.arange(n_bins), np.arange(n) % (n // 2)
        signs = 1.0 - 2.0 * (np.outer(bins, taps) % 2)
        self.set_weights([signs.astype(np.float32)])

    def call(self, found: Any) -> Any:
        return found * self.signs


class Flat(keras.layers.Layer):
    """Taps as the model contract has them, of real parts first and then imaginary ones.

    (batch, time, bins, 2 · taps) to (batch, time, taps · bins · 2).
    """

    def call(self, taps: Any) -> Any:
        bins, n = taps.shape[2], taps.shape[3]
        parts = ops.reshape(taps, (-1, bins, 2, n // 2))
        parts = ops.transpose(parts, (0, 3, 1, 2))
        return ops.reshape(parts, (-1, shape_of(taps)[1], n * bins))

    def compute_output_shape(self, input_shape: _Shape) -> _Shape:
        """As of ``Fold``."""
        return (*input_shape[:2], (input_shape[2] or 0) * (input_shape[3] or 0))


class Channel(keras.layers.Layer):
    """One of the last axis: (batch, time, bands, n) to (batch, time, bands)."""

    def __init__(self, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def call(self, seen: Any) -> Any:
        return seen[..., self.number]


def single_bins(n_bands: int) -> int:
    """How many bands, from DC, are a bin each: two thirds."""
    return 2 * n_bands // 3


def filter_bank(n_bins: int, n_bands: int) -> Float:
    """Weights of the mean level of each band: (n_bins, n_bands) float32.

    The lower two thirds of the bands are single bins, the others grow evenly on a logarithmic
    scale, as hearing does up there. With no more bins than bands each bin has one of its own,
    and bands are left over.
    """
    single = min(n_bins, single_bins(n_bands))
    rest = n_bands - single
    edges = np.round(np.geomspace(single, n_bins, rest + 1)).astype(int)
    made = np.zeros((n_bins, n_bands), np.float32)
    made[np.arange(single), np.arange(single)] = 1.0
    for k in range(rest):
        inside = slice(edges[k], max(edges[k + 1], edges[k] + 1))
        made[inside, single + k] = 1.0 / max(1, len(made[inside]))
    return made


def hear(chosen: Preset, standard: Any, phases: Any, bank: Float) -> tuple[Any, Any]:
    """The network between standardised levels and its heads.

    Parameters
    ----------
    standard : (batch, time, n_bins)
    phases : (batch, time, 4 · phase_bins) as ``stft.phase_motion`` gives them; None without
    bank : of ``filter_bank``, which the first layer begins with

    Returns
    -------
    channels of each band (batch, time, bands, n), and what was made of all places: (batch,
    time, units)
    """
    layers = keras.layers
    bands = layers.Dense(chosen.bands, name="bands")
    seen = layers.Reshape((-1, chosen.bands, 1), name="picture")(bands(standard))
    bands.set_weights([bank, np.zeros(chosen.bands, np.float32)])
    if chosen.phase:
        seen = layers.Concatenate(name="levels_and_phases")([seen, _pictured(chosen, phases)])
    scales = []
    for k, (channels, width) in enumerate(zip(chosen.channels, WIDTHS, strict=True)):
        seen = layers.Conv2D(
            channels,
            (1, width),
            strides=(1, 2),
            padding="same",
            activation="relu",
            name=f"encode{k}",
        )(seen)
        scales.append(seen)
    for k in range(chosen.before):
        seen = _around(chosen, seen, f"before{k}")
    places, channels = seen.shape[2], chosen.channels[-1]
    together = layers.Reshape((-1, places * channels), name="places")(seen)
    heard = layers.Dense(chosen.front, activation="relu", name="front")(together)
    for k, units in enumerate(chosen.units):
        heard = layers.LSTM(units, return_sequences=True, name=f"lstm{k}")(heard)
    told = layers.Dense(places * channels, name="back")(heard)
    told = layers.Reshape((-1, places, channels), name="told")(told)
    seen = layers.Add(name="with_told")([seen, told])
    for k in range(chosen.after):
        seen = _around(chosen, seen, f"after{k}")
    for k, channels in enumerate((chosen.channels[0], chosen.channels[0] // 2)):
        seen = layers.Concatenate(name=f"decode{k}_in")([seen, scales.pop()])
        seen = layers.Conv2DTranspose(
            channels,
            (1, BACK_WIDTH),
            strides=(1, 2),
            padding="same",
            activation="relu",
            name=f"decode{k}",
        )(seen)
    return seen, heard


def _pictured(chosen: Preset, phases: Any) -> Any:
    """Four channels of each band, 0 in those of several bins: (batch, time, bands, 4)."""
    layers, n = keras.layers, chosen.phase_bins
    parts = layers.Reshape((-1, PHASE_PARTS, n), name="phase_parts")(phases)
    parts = layers.Permute((1, 3, 2), name="phases_of_bins")(parts)
    rest = (0, chosen.bands - n)
    return layers.ZeroPadding2D(((0, 0), rest), name="phases_of_bands")(parts)


def answers(decoded: Any) -> list[Any]:
    """Two numbers of each band, for the gain and its slope: (batch, time, bands) both."""
    made = keras.layers.Conv2D(2, (1, LAST_WIDTH), padding="same", name="answers")(decoded)
    return [Channel(k, name=f"answer{k}")(made) for k in range(2)]


def taps(chosen: Preset, decoded: Any) -> Any:
    """The filter as the model contract has it; at first it lets the newest frame pass."""
    low = decoded[:, :, : chosen.filter_bins]
    newest = np.zeros(2 * chosen.filter_taps, np.float32)
    newest[0] = 1.0
    found = keras.layers.Conv2D(
        2 * chosen.filter_taps,
        (1, LAST_WIDTH),
        padding="same",
        kernel_initializer="zeros",
        name="taps",
    )
    made = Turn(name="turn")(found(low))
    found.set_weights([found.get_weights()[0], newest])
    return Flat(name="filter")(made)


def _around(chosen: Preset, seen: Any, name: str) -> Any:
    """A shared LSTM at each place, beside what passes it by."""
    layers = keras.layers
    folded = Fold(name=f"{name}_fold")(seen)
    heard = layers.LSTM(chosen.around, return_sequences=True, name=name)(folded)
    found = layers.Dense(seen.shape[-1], name=f"{name}_out")(heard)
    found = Unfold(name=f"{name}_unfold")(found, seen)
    return layers.Add(name=f"{name}_sum")([seen, found])
