"""Keras networks that turn levels of bins into gains or clean levels, and their weights as .npz.

One code for Keras 3 and the Keras 2.14 of tensorflow-rocm: layers and elementary operations
only. Not here: what is learnt from (``batches``) or for (``objectives``, ``losses``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from engine.errors import TrainingError
from engine.spec import PHASE_PARTS
from engine.stft import Float
from training import bandwise
from training.files import replacing

try:
    from keras import ops
    from keras.ops import shape as shape_of
except ImportError:  # Keras 2.14
    from tensorflow import shape as shape_of
    from tensorflow.experimental import numpy as ops

NORMALISATIONS = ("training", "running", "clip")
OUTPUTS = ("gain", "clean_db", "softmax")
LOSSES = ("spectral", "level", "crossentropy")


@dataclass(frozen=True, slots=True)
class Preset:
    """What a network is made of, and what it learns for. docs/networks.md compares them."""

    front: int
    """Units of the dense layer that the bins enter by; 0: they enter the LSTM themselves."""
    units: tuple[int, ...]
    """Units of each LSTM layer."""
    normalisation: str = "training"
    """Of the levels, by mean and deviation of each bin: ``training`` takes those of the training
    set, ``running`` those of the sound so far, ``clip`` those of the whole clip, the future
    with it, which no stream can know."""
    output: str = "gain"
    """``gain`` with the probability of speech, ``clean_db``, or ``softmax``: the thesis's, a
    share of each bin where a level is wanted."""
    loss: str = "spectral"
    """``spectral``: ``losses.SpectralLoss``, of gains only. ``level``: squared error of dB.
    ``crossentropy``: of the softmax only."""
    memory: bool = True
    """False: each frame is a sequence of its own, as in the thesis; the LSTM remembers nothing."""
    pitches: int = 0
    """Candidates whose harmonics are looked for in each frame; 0: none."""
    detail: bool = False
    """Of gains only: that of a bin follows how far it stands out from its neighbours too, as
    steeply as what is remembered says. Harmonics need not pass the layers that are narrower."""
    local: int = 0
    """Channels of three convolutions along frequency that refine such gains by what lies around
    each bin: harmonics look alike wherever they are. 0: none."""
    settle: bool = False
    """Of gains only: they rise at once and fall slowly, and are small where no speech is heard
    (``Settle``). What flickers sounds like noise again."""
    bands: int = 0
    """Bands that the bins are gathered in, with layers that all of them share (``bandwise``);
    0: none, and each bin has weights of its own."""
    channels: tuple[int, ...] = ()
    """Of the two convolutions that halve the number of bands."""
    around: int = 0
    """Units of the LSTMs that the places share."""
    before: int = 0
    """How many of those come before the LSTM of all places."""
    after: int = 0
    """How many come after it."""
    filter_bins: int = 0
    """Bins from DC that are filtered over time too: bands of a single bin."""
    filter_taps: int = 0
    """Frames that the filter reaches over."""
    phase: bool = False
    """Whether bands of a single bin are also told how their phase moves (``stft.phase_motion``)."""

    def __post_init__(self) -> None:
        allowed = {"normalisation": NORMALISATIONS, "output": OUTPUTS, "loss": LOSSES}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise TrainingError(
                    f"{name} should be one of {', '.join(values)}, found {getattr(self, name)!r}"
                )
        fits = {"gain": ("spectral", "level"), "clean_db": ("level",), "softmax": ("crossentropy",)}
        if self.detail and self.output != "gain":
            raise TrainingError(f"detail is of gains, not of output {self.output}")
        if self.settle and self.output != "gain":
            raise TrainingError(f"gains settle, not output {self.output}")
        if self.local and not self.detail:
            raise TrainingError("local convolutions refine detail, and there is none")
        if self.loss not in fits[self.output]:
            raise TrainingError(f"output {self.output} cannot be learnt with loss {self.loss}")
        if self.bands:
            self._check_bands()
        elif self.phase:
            raise TrainingError("phases are told of bands, and there are none")
        single = bandwise.single_bins(self.bands)
        if bool(self.filter_bins) != bool(self.filter_taps) or self.filter_bins > single:
            raise TrainingError(
                f"filter_bins and filter_taps go together, and with bands of a single bin "
                f"({single} here), found {self.filter_bins} and {self.filter_taps}"
            )

    @property
    def phase_bins(self) -> int:
        """Bins from DC whose phase is heard."""
        return bandwise.single_bins(self.bands) if self.phase else 0

    def _check_bands(self) -> None:
        """Raise TrainingError for what layers that bands share do not go with."""
        if self.bands < 2 * bandwise.FOLD or self.bands % bandwise.FOLD:
            raise TrainingError(
                f"bands should be a multiple of {bandwise.FOLD} from {2 * bandwise.FOLD} on, "
                f"found {self.bands}"
            )
        if len(self.channels) != len(bandwise.WIDTHS) or min(self.channels) < 2:
            raise TrainingError(f"bands need two channels of 2 or more, found {self.channels}")
        if (self.before or self.after) and not self.around:
            raise TrainingError("LSTMs that places share need units: around is 0")
        if self.output != "gain" or not self.memory or not self.front:
            raise TrainingError("bands go with output gain, memory and a front layer")
        if self.pitches or self.local:
            raise TrainingError("bands go without pitches and local convolutions")


_FULLBAND_2 = Preset(192, (288,), bands=96, channels=(24, 48), around=48, before=1, after=1)
_CLASSIC = Preset(256, (400, 400), detail=True, local=16)
_THESIS = Preset(
    0, (512, 512, 512), normalisation="clip", output="softmax", loss="crossentropy", memory=False
)

# The thesis's network with one thing changed after the other (docs/thesis.md).
_STATISTICS = replace(_THESIS, normalisation="training")
_SEQUENCES = replace(_STATISTICS, memory=True)
_LINEAR = replace(_SEQUENCES, output="clean_db", loss="level")
_GAIN = replace(_LINEAR, output="gain")

PRESETS: Mapping[str, Preset] = {
    # The largest that sees 20 million frames in an hour on two cores.
    "classic": _CLASSIC,
    "classic-running": replace(_CLASSIC, normalisation="running"),
    "classic-pitch": replace(_CLASSIC, pitches=48),
    "classic-detail": replace(_CLASSIC, local=0),
    "classic-plain": replace(_CLASSIC, detail=False, local=0),
    "small": Preset(128, (200,), detail=True),
    # For 48 kHz: no dearer than RNNoise, sound in and sound out.
    "fullband": replace(
        _FULLBAND_2, front=320, units=(512,), filter_bins=64, filter_taps=5, phase=True
    ),
    "fullband-2": _FULLBAND_2,
    "tiny": Preset(16, (24, 20)),  # for tests: seconds to train, every part there
    "thesis-multi": _THESIS,
    "thesis-multi-statistics": _STATISTICS,
    "thesis-multi-sequences": _SEQUENCES,
    "thesis-multi-linear": _LINEAR,
    "thesis-multi-gain": _GAIN,
    "thesis-multi-spectral": replace(_GAIN, loss="spectral"),
    "thesis-single": replace(_THESIS, units=(2048,)),
    "thesis-single-linear": replace(_LINEAR, units=(2048,)),
    "thesis-tiny": replace(_THESIS, units=(24, 20)),  # for tests, as the other
}

STRETCH = (1.1, -0.05)
"""Scale and offset of the sigmoid before it is cut to 0…1. A plain sigmoid never quite
opens: clean speech would always lose a little, and pauses would never be silent."""

LEAST_DEVIATION_DB = 3.0
"""Lower bound of a deviation that is measured while running: a bin that was silent for long
must not turn the first sound into a number out of all proportion."""

RUNNING_FRAMES = 100.0
"""Frames after which the running statistics have forgotten all but 1/e: 4.6 s for classic."""

NEIGHBOURS = 12
"""Bins to each side that one is compared with for its detail: 130 Hz for classic, about the
distance of two harmonics."""

LOCAL_BINS = (17, 9, 9)
"""Width of each of the local convolutions: together they see 16 bins to each side."""

SETTLING = (0.5, 0.0, 1e-3)
"""How gains settle: the share of the old one, in decibels, that is kept where a gain falls and
where it rises, and the least one that counts (−60 dB)."""

PAUSES = (0.3, 0.2)
"""From what probability of speech on a frame's gains stay as they are, and what is left of
them at least, in proportion, where it is lower."""

GATES = 4
"""Of an LSTM, side by side in its matrices."""

PITCH_HZ = (70.0, 400.0)
"""Of voices: lowest and highest candidate, evenly spaced on a logarithmic scale."""


class Standardise(keras.layers.Layer):
    """Level of each bin to zero mean and unit deviation, by weights that are not trained.

    Called with noisy_db (batch, time, n_bins) [dB], it returns the standardised levels and
    the mean and deviation [dB] it took, all of that shape, so that an answer can be turned
    back. ``layers.Normalization`` would leave its constants as inputs of an exported graph.
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
        mean, deviation = self.statistics(noisy_db)
        shape = 0.0 * noisy_db
        return (noisy_db - mean) / deviation, mean + shape, deviation + shape

    def statistics(self, noisy_db: Any) -> tuple[Any, Any]:
        """Mean and deviation [dB] to standardise by, in a shape that fits noisy_db's."""
        return self.mean, self.deviation


class ClipStandardise(Standardise):
    """The same by the statistics of the clip at hand; the weights are for export alone."""

    def statistics(self, noisy_db: Any) -> tuple[Any, Any]:
        mean = ops.mean(noisy_db, axis=1, keepdims=True)
        variance = ops.mean((noisy_db - mean) ** 2, axis=1, keepdims=True)
        return mean, ops.maximum(variance, LEAST_DEVIATION_DB**2) ** 0.5


class RunningStandardise(Standardise):
    """The same by exponentially weighted statistics of the sound up to the frame itself.

    They begin with those of the training set. One more weight, (1,): how much of the old
    stays at each frame, in (0, 1).
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.kept = self.add_weight(
            name="kept",
            shape=(1,),
            initializer=keras.initializers.Constant(np.exp(-1.0 / RUNNING_FRAMES)),
            trainable=False,
        )

    def statistics(self, noisy_db: Any) -> tuple[Any, Any]:
        # Both are kept as what differs from the training set's, so that they begin at 0,
        # as the states of a model file do.
        mean = self.mean + self._smooth(noisy_db - self.mean)
        excess = self._smooth((noisy_db - mean) ** 2 - self.deviation**2)
        variance = self.deviation**2 + excess
        return mean, ops.maximum(variance, LEAST_DEVIATION_DB**2) ** 0.5

    def _smooth(self, values: Any) -> Any:
        """``y[t] = kept · y[t − 1] + (1 − kept) · values[t]`` from y = 0, in one product.

        (batch, time, n_bins) in and out; a loop over time would hold up training.
        """
        time = ops.cumsum(ops.ones_like(values[0, :, :1]), axis=0)  # (T, 1)
        age = time - ops.transpose(time)
        weight = (1.0 - self.kept) * self.kept ** ops.maximum(age, 0.0)
        return ops.matmul(ops.where(age >= 0.0, weight, 0.0 * weight), values)


STANDARDISE: Mapping[str, tuple[str, type[Standardise]]] = {
    "training": ("standardise", Standardise),
    "running": ("running", RunningStandardise),
    "clip": ("clip", ClipStandardise),
}
"""Name and class of the layer for each normalisation. Weights that are saved bear the name."""


class Harmonics(keras.layers.Layer):
    """How clearly a frame shows the harmonics of each candidate pitch, 0 where it does not.

    (batch, time, n_bins) [dB] to (batch, time, n_pitches) [10 dB]. Its weights, the combs
    (n_bins, n_pitches), are not trained.
    """

    def __init__(self, n_pitches: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_pitches = n_pitches

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.combs = self.add_weight(
            name="combs",
            shape=(input_shape[-1], self.n_pitches),
            initializer="zeros",
            trainable=False,
        )
        super().build(input_shape)

    def call(self, noisy_db: Any) -> Any:
        return ops.maximum(ops.matmul(noisy_db, self.combs), 0.0)


def combs(n_bins: int, n_pitches: int, bin_hz: float) -> Float:
    """Weights that compare the level at the harmonics of a pitch with that between them.

    Each comb sums to 0, so that loudness does not matter, and to 0.1 over the harmonics:
    what it gives is the contrast in tens of decibels. Higher harmonics count less, by
    1/√h, as they blur when a voice glides.

    Returns
    -------
    (n_bins, n_pitches) float32
    """
    made = np.zeros((n_bins, n_pitches))
    bins = np.arange(n_bins)
    for k, pitch_hz in enumerate(np.geomspace(*PITCH_HZ, n_pitches)):
        spacing = pitch_hz / bin_hz
        for sign, first in ((1.0, 1.0), (-1.0, 0.5)):
            number = np.arange(first, n_bins / spacing)
            # A Hann window's main lobe, within two bins of each tooth.
            distance = bins[:, np.newaxis] - number * spacing
            lobe = np.where(np.abs(distance) < 2.0, np.cos(np.pi * distance / 4.0) ** 2, 0.0)
            teeth = (lobe / np.sqrt(np.ceil(number))).sum(axis=1)
            made[:, k] += sign * 0.1 * teeth / max(teeth.sum(), 1e-9)
    return made.astype(np.float32)


def contrast(n_bins: int) -> Float:
    """Weights that take from each bin the mean of those around it: (n_bins, n_bins) float32."""
    distance = np.abs(np.subtract.outer(np.arange(n_bins), np.arange(n_bins)))
    near = (distance <= NEIGHBOURS).astype(np.float32)
    return (np.eye(n_bins, dtype=np.float32) - near / near.sum(axis=0)).astype(np.float32)


class SettlingCell(keras.layers.Layer):
    """One frame of ``Settle``: levels above the least gain (batch, n_bins) [neper], and those of
    the frame before as the state, 0 at first.
    """

    def __init__(self, n_bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = self.output_size = n_bins

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: SETTLING, (3,)."""
        self.settling = self.add_weight(
            name="settling", shape=(3,), initializer="zeros", trainable=False
        )
        super().build(input_shape)

    def call(self, levels: Any, states: Any, training: bool | None = None) -> Any:
        falls = states[0] - levels
        kept = ops.where(falls > 0.0, self.settling[0], self.settling[1])
        settled = levels + kept * falls
        return settled, [settled]


class Settle(keras.layers.Layer):
    """Gains (batch, time, n_bins) in 0…1 that fall slowly, by weights that are not trained."""

    def __init__(self, n_bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames = keras.layers.RNN(SettlingCell(n_bins), return_sequences=True)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.frames.build(input_shape)
        super().build(input_shape)

    def call(self, gain: Any) -> Any:
        least = self.frames.cell.settling[2]
        levels = ops.log(ops.maximum(gain, least)) - ops.log(least)
        # The logarithm's rounding may lead past 1.
        return ops.minimum(ops.exp(self.frames(levels)) * least, 1.0)


class Pauses(keras.layers.Layer):
    """Gains (batch, time, n_bins) turned down where speech (batch, time, 1) is improbable, by
    weights that are not trained.
    """

    def build(self, input_shape: Any) -> None:
        """Make the weights: PAUSES, (2,)."""
        self.pauses = self.add_weight(
            name="pauses", shape=(2,), initializer="ones", trainable=False
        )
        super().build(input_shape)

    def call(self, gain: Any, speech: Any) -> Any:
        left = ops.maximum(speech / self.pauses[0], self.pauses[1])
        return gain * ops.minimum(left, 1.0)


class Alone(keras.layers.Layer):
    """Each frame of each clip as a clip of one frame: (batch, time, n) to (batch · time, 1, n)."""

    def call(self, frames: Any) -> Any:
        return ops.reshape(frames, (-1, 1, frames.shape[-1]))


class Together(keras.layers.Layer):
    """What ``Alone`` took apart, as before; ``like`` (batch, time, any) tells the length."""

    def call(self, frames: Any, like: Any) -> Any:
        return ops.reshape(frames, (-1, shape_of(like)[1], frames.shape[-1]))


def build(
    preset: str | Preset, mean_db: Float, deviation_db: Float, bin_hz: float = 11025 / 1024
) -> keras.Model:
    """The network of a preset, with weights drawn at random.

    Parameters
    ----------
    preset : one of PRESETS by its name, or one of your own
    mean_db, deviation_db : (n_bins,) of what it will hear [dB]
    bin_hz : distance of two bins; only pitches are looked for by it [Hz]

    Returns
    -------
    a model of what is heard, (batch, time, n_bins) [dB] and with ``phase`` the motion of phases
    behind it (``Batch.heard``), to float32 outputs, see ``answers``: for ``gain``
    gains (batch, time, n_bins) and probabilities of speech (batch, time, 1), in [0, 1]; for
    ``clean_db`` levels (batch, time, n_bins) [dB]; for ``softmax`` shares of that shape,
    which sum to 1 over the bins. With ``filter_taps`` the first output has the filter behind the
    gains, as the model contract orders it: (batch, time, n_bins + 2 · filter_taps · filter_bins)

    Raises
    ------
    engine.errors.TrainingError : there is no such preset
    """
    chosen = named(preset)
    n_bins = len(mean_db)
    n_phases = PHASE_PARTS * chosen.phase_bins
    entering = keras.Input((None, n_bins + n_phases), name="heard")
    noisy_db, phases = entering, None
    if chosen.phase:
        noisy_db, phases = entering[..., :n_bins], entering[..., n_bins:]
    name, layer = STANDARDISE[chosen.normalisation]
    standardise = layer(name=name)
    standard, mean, deviation = standardise(noisy_db)
    if chosen.bands:
        outputs = _of_bands(chosen, standard, phases, n_bins)
    else:
        outputs = _of_bins(chosen, noisy_db, standard, (mean, deviation), bin_hz)
    model = keras.Model(entering, outputs, name="network")
    standardise.set_weights([mean_db, deviation_db, *standardise.get_weights()[2:]])
    if chosen.bands:
        # Each bin begins as its band is, and open: what is learnt is what to turn down.
        of_band = (bandwise.filter_bank(n_bins, chosen.bands) > 0.0).T.astype(np.float32)
        model.get_layer("gain").set_weights([of_band, np.ones(n_bins, np.float32)])
    return model


def _of_bands(chosen: Preset, standard: Any, phases: Any, n_bins: int) -> list[Any]:
    """The outputs of a network whose layers the bands share."""
    bank = bandwise.filter_bank(n_bins, chosen.bands)
    decoded, heard = bandwise.hear(chosen, standard, phases, bank)
    opening, slope = bandwise.answers(decoded)
    outputs = _gains(chosen, (opening, slope, heard), standard, n_bins)
    if chosen.filter_taps:
        # One loss must see both, so that both are one output here.
        both = [outputs[0], bandwise.taps(chosen, decoded)]
        outputs[0] = keras.layers.Concatenate(name="gain_and_filter")(both)
    return outputs


def _of_bins(
    chosen: Preset, noisy_db: Any, standard: Any, statistics: tuple[Any, Any], bin_hz: float
) -> list[Any]:
    """The outputs of a network that has weights for each bin."""
    n_bins = standard.shape[-1]
    entering = standard
    if chosen.pitches:
        harmonics = Harmonics(chosen.pitches, name="pitch")
        entering = keras.layers.Concatenate(name="entering")([standard, harmonics(noisy_db)])
        harmonics.set_weights([combs(n_bins, chosen.pitches, bin_hz)])
    entered = entering
    if chosen.front:
        entered = keras.layers.Dense(chosen.front, activation="relu", name="front")(entering)
    heard = entered if chosen.memory else Alone(name="alone")(entered)
    for k, units in enumerate(chosen.units):
        # Without memory they go by another name, so that weights say what they belong to.
        name = f"lstm{k}" if chosen.memory else f"frame{k}"
        heard = keras.layers.LSTM(units, return_sequences=True, name=name)(heard)
    if not chosen.memory:
        heard = Together(name="together")(heard, noisy_db)
    # The heads see the frame itself too, so that memory need not carry its details.
    seen = keras.layers.Concatenate(name="seen")([heard, entered]) if chosen.front else heard
    if chosen.output == "gain":
        return _gains(chosen, (seen, seen, seen), standard, n_bins)
    return _levels(chosen.output, seen, n_bins, *statistics)


def _gains(chosen: Preset, seen: tuple[Any, Any, Any], standard: Any, n_bins: int) -> list[Any]:
    """Gains and the probability of speech, from what the gain, the slope and the latter see."""
    layers = keras.layers
    opening = layers.Dense(n_bins, name="gain")(seen[0])
    if chosen.detail:
        stands_out = layers.Dense(n_bins, name="contrast")
        contrasts = stands_out(standard)
        stands_out.set_weights([contrast(n_bins), np.zeros(n_bins, np.float32)])
        slope = layers.Dense(n_bins, kernel_initializer="zeros", name="slope")(seen[1])
        detail = layers.Multiply(name="detail")([slope, contrasts])
        opening = layers.Add(name="opening")([opening, detail])
        if chosen.local:
            refined = _locally(chosen.local, [standard, contrasts, opening])
            opening = layers.Add(name="refined")([opening, refined])
    sure = layers.Activation("sigmoid", name="sure")(opening)
    scale, offset = STRETCH
    gain = layers.ReLU(1.0, name="clip_gain")(layers.Rescaling(scale, offset)(sure))
    speech = layers.Dense(1, activation="sigmoid", name="speech")(seen[2])
    if chosen.settle:
        settle, pauses = Settle(n_bins, name="settle"), Pauses(name="pauses")
        gain = pauses(settle(gain), speech)
        settle.set_weights([np.array(SETTLING, np.float32)])
        pauses.set_weights([np.array(PAUSES, np.float32)])
    return [gain, speech]


def _locally(channels: int, pictures: list[Any]) -> Any:
    """What convolutions along frequency add to an opening: (batch, time, n_bins), 0 at first."""
    layers = keras.layers
    n_bins = pictures[0].shape[-1]
    seen = layers.Concatenate(name="pictures")(
        [layers.Reshape((-1, n_bins, 1))(picture) for picture in pictures]
    )
    for k, width in enumerate(LOCAL_BINS):
        last = k == len(LOCAL_BINS) - 1
        seen = layers.Conv2D(
            1 if last else channels,
            (1, width),
            padding="same",
            activation=None if last else "relu",
            kernel_initializer="zeros" if last else "glorot_uniform",
            name=f"local{k}",
        )(seen)
    return layers.Reshape((-1, n_bins), name="local")(seen)


def _levels(kind: str, seen: Any, n_bins: int, mean: Any, deviation: Any) -> list[Any]:
    """Clean levels, or the thesis's shares."""
    dense = keras.layers.Dense
    if kind == "softmax":
        return [dense(n_bins, activation="softmax", name="softmax")(seen)]
    standard = dense(n_bins, name="clean_db")(seen)
    scaled = keras.layers.Multiply(name="in_db")([standard, deviation])
    return [keras.layers.Add(name="restored")([scaled, mean])]


def named(preset: str | Preset) -> Preset:
    """The preset meant by a name; raises TrainingError when there is none."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise TrainingError(f"preset should be one of {', '.join(PRESETS)}, found {preset!r}")
    return PRESETS[preset]


def answers(model: keras.Model, heard: Float) -> list[Float]:
    """All outputs of a network as arrays; Keras gives a single one without its list."""
    outputs = model(heard)
    several = isinstance(outputs, list | tuple)
    to_array = ops.convert_to_numpy if hasattr(ops, "convert_to_numpy") else np.asarray
    return [to_array(output) for output in (outputs if several else [outputs])]


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
        try:
            layer.set_weights([weights[name] for name in names])
        except ValueError as error:
            raise TrainingError(f"{layer.name}: {error}: made by another network?") from error


def begin_with(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """As ``set_weights``; a network may begin as one without its ``detail``, ``local``, ``phase``
    or filter. One whose gains settle may begin as one whose do not, and one of bands as one with
    fewer units in its front layer and in the LSTMs of all places.

    These then count nothing at first: the answers are those of the other network. One with
    running statistics may begin as one with those of the training set, and must learn anew how
    levels so standardised are to be read.
    """
    own = weights_of(model)
    added = {
        name: w
        for name, w in own.items()
        if name.startswith(("contrast.", "slope.", "local", "taps.", "turn.", "settle.", "pauses."))
    }
    if "running.2" in own and "standardise.0" in weights:
        added |= {f"running.{k}": weights[f"standardise.{k}"] for k in range(2)}
        added["running.2"] = own["running.2"]
    weights = added | dict(weights)
    if "bands.0" in own:
        widened = ("encode0.", "front.", "lstm", "back.", "speech.")  # the first by phases
        for name in own.keys() & weights.keys():
            if name.startswith(widened) and own[name].shape != weights[name].shape:
                gates = GATES if name.startswith("lstm") else 1
                weights[name] = _widened(own[name], weights[name], gates)
    set_weights(model, weights)


def _widened(own: np.ndarray, weight: np.ndarray, gates: int) -> np.ndarray:
    """A kernel (…, n_in, gates · n_out) or bias of a layer with more units, or behind one.

    Units that are new hear as ``own`` has them at random; none that was there hears them yet.
    Larger than ``own``, a weight stays as it is.
    """
    wide = own.reshape(*own.shape[:-1], gates, -1).copy()
    narrow = weight.reshape(*weight.shape[:-1], gates, -1)
    if any(old > new for old, new in zip(narrow.shape, wide.shape, strict=True)):
        return weight
    wide[..., : narrow.shape[-1]] = 0.0
    wide[tuple(slice(size) for size in narrow.shape)] = narrow
    return wide.reshape(own.shape)


def preset_of(weights: Mapping[str, np.ndarray]) -> Preset:
    """What some weights belong to: their names and shapes say all but the loss.

    Raises TrainingError when they are of no network of ours.
    """
    kinds = [kind for kind, (name, _) in STANDARDISE.items() if f"{name}.0" in weights]
    heads = [kind for kind in OUTPUTS if f"{kind}.0" in weights]
    memory = "lstm0.0" in weights
    name = "lstm" if memory else "frame"
    units: list[int] = []
    while f"{name}{len(units)}.1" in weights:
        units.append(weights[f"{name}{len(units)}.1"].shape[0])
    if not (len(kinds) == len(heads) == 1 and units):
        raise TrainingError("these are not the weights of a network known here")
    return Preset(
        front=weights["front.0"].shape[1] if "front.0" in weights else 0,
        units=tuple(units),
        normalisation=kinds[0],
        output=heads[0],
        loss={"gain": "spectral", "clean_db": "level", "softmax": "crossentropy"}[heads[0]],
        memory=memory,
        pitches=weights["pitch.0"].shape[1] if "pitch.0" in weights else 0,
        detail="slope.0" in weights,
        local=weights["local0.0"].shape[-1] if "local0.0" in weights else 0,
        settle="settle.0" in weights,
        **_bands_of(weights),
    )


def _bands_of(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What weights say of layers that bands share."""
    if "bands.0" not in weights:
        return {}
    counts = {
        which: sum(f"{which}{k}.1" in weights for k in range(len(weights)))
        for which in ("before", "after")
    }
    shared = [weights[f"{which}0.1"] for which, count in counts.items() if count]
    return counts | {
        "bands": weights["bands.0"].shape[1],
        "channels": tuple(weights[f"encode{k}.0"].shape[-1] for k in range(len(bandwise.WIDTHS))),
        "around": shared[0].shape[0] if shared else 0,
        "phase": weights["encode0.0"].shape[2] > 1,
        "filter_bins": weights["turn.0"].shape[0] if "turn.0" in weights else 0,
        "filter_taps": weights["turn.0"].shape[1] // 2 if "turn.0" in weights else 0,
    }


def from_weights(weights: Mapping[str, np.ndarray]) -> keras.Model:
    """The network that some weights belong to; raises as ``preset_of`` and ``set_weights``."""
    preset = preset_of(weights)
    standardise = STANDARDISE[preset.normalisation][0]
    model = build(preset, weights[f"{standardise}.0"], weights[f"{standardise}.1"])
    set_weights(model, weights)
    return model


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as .npz under another name first: a kill leaves the old file or the new."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
