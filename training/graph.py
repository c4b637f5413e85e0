"""The ONNX graph of a network, written operator by operator from its weights.

Fused LSTMs with their state outside, and batch and time open, which converters do not
give. Not here: whether the graph does what was trained (``export``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from engine.errors import TrainingError
from engine.spec import METADATA_KEY, PHASE_PARTS, ModelSpec
from training.bandwise import BACK_WIDTH, LAST_WIDTH, WIDTHS
from training.networks import LEAST_DEVIATION_DB, LOCAL_BINS, STRETCH, Preset, preset_of

# ONNX Runtime 1.20 and all later ones read these.
_OPSET = 17
_IR_VERSION = 8


def graph(weights: Mapping[str, np.ndarray], spec: ModelSpec) -> bytes:
    """The ONNX file of a network (docs/architecture.md has its interface).

    Parameters
    ----------
    weights : as ``networks.weights_of`` gives them; no statistics of a whole clip

    Raises
    ------
    engine.errors.TrainingError : the weights are of no network known, or of another filter than
        the spec tells of
    """
    preset = preset_of(weights)
    if spec.phase_bins != preset.phase_bins:
        raise TrainingError(
            f"the spec tells of phases of {spec.phase_bins} bins, the network hears those of "
            f"{preset.phase_bins}"
        )
    told, made = (spec.filter_bins, spec.filter_taps), (preset.filter_bins, preset.filter_taps)
    if told != made:
        raise TrainingError(f"the spec tells of a filter of {told}, the network's is of {made}")
    writer = _Writer(weights)
    standard, mean, deviation = writer.standardise(preset, spec.n_bins)
    if preset.bands:
        writer.gain_heads(preset, writer.hear_bands(preset, standard), standard)
        writer.join_states("memory")
        return writer.model(spec)
    entered = standard
    if preset.pitches:
        salience = writer.add("MatMul", ["noisy_db", writer.weight("pitch.0")], "salience")
        harmonics = writer.add("Relu", [salience], "harmonics")
        entered = writer.add("Concat", [standard, harmonics], "entering", axis=2)
    if preset.front:
        entered = writer.add("Relu", [writer.dense("front", entered)], "front")
    heard = writer.remember(preset, entered)
    seen = heard
    if preset.front:
        seen = writer.add("Concat", [heard, entered], "seen", axis=2)
    if preset.output == "gain":
        writer.gain_heads(preset, (seen, seen, seen), standard)
    else:
        writer.level_head(preset, seen, mean, deviation)
    return writer.model(spec)


class _Writer:
    """Nodes, constants and states as they are added, in the order in which sound passes."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.states: list[tuple[str, int]] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One node of one output; returns its name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: type = np.float32) -> str:
        """A constant, once under its name."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def dense(self, name: str, heard: str) -> str:
        product = self.add("MatMul", [heard, self.weight(f"{name}.0")], f"{name}_product")
        return self.add("Add", [product, self.weight(f"{name}.1")], f"{name}_sum")

    def standardise(self, preset: Preset, n_bins: int) -> tuple[str, str, str]:
        """Standardised levels, and the mean and deviation they were standardised by."""
        if preset.normalisation == "running":
            return self._running(n_bins)
        mean = self.constant("mean_db", self.weights["standardise.0"])
        deviation = self.constant("deviation_db", self.weights["standardise.1"])
        centred = self.add("Sub", ["noisy_db", mean], "centred")
        return self.add("Div", [centred, deviation], "standard"), mean, deviation

    def _running(self, n_bins: int) -> tuple[str, str, str]:
        """As ``networks.RunningStandardise``, frame by frame.

        Its states are how far mean and variance have moved from the training set's, which
        is 0 at the start, and so are the states of a model file.
        """
        mean, deviation, kept = (self.weights[f"running.{k}"] for k in range(3))
        self.constant("mean_db", mean)
        self.constant("variance_db", np.square(deviation))
        self.constant("kept", kept)
        self.constant("taken", 1.0 - kept)
        self.constant("least_variance_db", np.array(LEAST_DEVIATION_DB**2))
        body = _Writer({})
        for state, new in (("moved", "frame"), ("excess", "surplus")):
            if state == "excess":
                body.add("Sub", ["frame", "moved_new"], "apart")
                body.add("Mul", ["apart", "apart"], "square")
                body.add("Sub", ["square", "variance_db"], "surplus")
            body.add("Mul", [state, "kept"], f"{state}_kept")
            body.add("Mul", [new, "taken"], f"{state}_taken")
            body.add("Add", [f"{state}_kept", f"{state}_taken"], f"{state}_new")
        body.add("Add", ["variance_db", "excess_new"], "variance")
        body.add("Max", ["variance", "least_variance_db"], "bounded")
        body.add("Sqrt", ["bounded"], "frame_deviation")
        body.add("Div", ["apart", "frame_deviation"], "frame_standard")
        body.add("Add", ["mean_db", "moved_new"], "frame_mean")
        inside = helper.make_graph(
            body.nodes,
            "one_frame",
            [_value(name, "batch", n_bins) for name in ("moved", "excess", "frame")],
            [
                _value(name, "batch", n_bins)
                for name in (
                    "moved_new",
                    "excess_new",
                    "frame_standard",
                    "frame_mean",
                    "frame_deviation",
                )
            ],
        )
        centred = self.add("Sub", ["noisy_db", "mean_db"], "centred")
        made = ["standard", "running_mean", "running_deviation"]
        self.nodes.append(
            helper.make_node(
                "Scan",
                ["mean0", "variance0", centred],
                ["mean0_out", "variance0_out", *made],
                num_scan_inputs=1,
                scan_input_axes=[1],
                scan_output_axes=[1, 1, 1],
                body=inside,
            )
        )
        self.states += [("mean0", n_bins), ("variance0", n_bins)]
        return made[0], made[1], made[2]

    def remember(self, preset: Preset, entered: str) -> str:
        """The LSTM layers: (batch, time, features) to (batch, time, units)."""
        if preset.memory:
            heard = self.add("Transpose", [entered], "by_time", perm=[1, 0, 2])  # (T, B, F)
        else:
            size = self.weights["frame0.0"].shape[0]
            shape = self.constant("alone", np.array([1, -1, size]), np.int64)
            heard = self.add("Reshape", [entered, shape], "alone_frames")  # (1, B · T, F)
        first = self.constant("first", np.array([0]), np.int64)
        second = self.constant("second", np.array([1]), np.int64)
        for k, units in enumerate(preset.units):
            name = f"lstm{k}" if preset.memory else f"frame{k}"
            inputs = [heard, *(self.constant(n, v) for n, v in _lstm(self.weights, name))]
            outputs = [f"{name}_y"]
            if preset.memory:
                inputs.append("")
                for state in (f"h{k}", f"c{k}"):
                    inputs.append(self.add("Unsqueeze", [state, first], f"{state}_in"))
                    outputs.append(f"{state}_last")
                    self.states.append((state, units))
            self.nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=units))
            heard = self.add("Squeeze", [outputs[0], second], name)  # (T, B, U)
            for last in outputs[1:]:
                self.add("Squeeze", [last, first], last.replace("_last", "_out"))
        if preset.memory:
            return self.add("Transpose", [heard], "remembered", perm=[1, 0, 2])  # (B, T, U)
        size = self.constant("size", np.array([preset.units[-1]]), np.int64)
        shape = self.add("Shape", ["noisy_db"], "batch_and_time", end=2)
        shape = self.add("Concat", [shape, size], "together", axis=0)
        return self.add("Reshape", [heard, shape], "remembered")

    def gain_heads(self, preset: Preset, seen: tuple[str, str, str], standard: str) -> None:
        opening = self.dense("gain", seen[0])
        if preset.detail:
            stands_out = self.dense("contrast", standard)
            detail = self.add("Mul", [self.dense("slope", seen[1]), stands_out], "detail")
            opening = self.add("Add", [opening, detail], "opening")
            if preset.local:
                refined = self._locally([standard, stands_out, opening])
                opening = self.add("Add", [opening, refined], "refined")
        sure = self.add("Sigmoid", [opening], "sure")
        scale = self.constant("gain_scale", np.array(STRETCH[0]))
        offset = self.constant("gain_offset", np.array(STRETCH[1]))
        scaled = self.add("Mul", [sure, scale], "scaled")
        moved = self.add("Add", [scaled, offset], "moved_gain")
        bounds = [self.constant("least", np.array(0.0)), self.constant("most", np.array(1.0))]
        clipped = self.add("Clip", [moved, *bounds], "clipped" if preset.settle else "gain")
        self.add("Sigmoid", [self.dense("speech", seen[2])], "speech")
        if preset.settle:
            self._settle(clipped)

    def _settle(self, gain: str) -> None:
        """As ``networks.Settle`` and ``networks.Pauses``; its state is 0 where a gain is least."""
        fall, rise, least = self.weights["settle.0"]
        n_bins = len(self.weights["gain.1"])
        self.constant("kept_falling", fall)
        self.constant("kept_rising", rise)
        closed = self.constant("least_gain", least)
        base = self.constant("least_np", np.log(least))
        bounded = self.add("Log", [self.add("Max", [gain, closed], "not_closed")], "gain_np")
        levels = self.add("Sub", [bounded, base], "gain_above")
        body = _Writer({})
        body.add("Sub", ["before", "level"], "falls")
        body.add("Mul", ["falls", "kept_falling"], "falling")
        body.add("Mul", ["falls", "kept_rising"], "rising")
        # Of two shares of a fall, or of a rise, the greater and the less: no branch is needed.
        body.add("Max" if fall >= rise else "Min", ["falling", "rising"], "kept_of_it")
        body.add("Add", ["level", "kept_of_it"], "settled_new")
        body.add("Identity", ["settled_new"], "settled_level")
        inside = helper.make_graph(
            body.nodes,
            "one_gain",
            [_value(name, "batch", n_bins) for name in ("before", "level")],
            [_value(name, "batch", n_bins) for name in ("settled_new", "settled_level")],
        )
        self.nodes.append(
            helper.make_node(
                "Scan",
                ["settled0", levels],
                ["settled0_out", "settled_np"],
                num_scan_inputs=1,
                scan_input_axes=[1],
                scan_output_axes=[1],
                body=inside,
            )
        )
        self.states.append(("settled0", n_bins))
        again = self.add("Add", ["settled_np", base], "again_np")
        # The logarithm's rounding may lead past 1.
        again = self.add("Min", [again, self.constant("open_np", np.array(0.0))], "again_bounded")
        settled = self.add("Exp", [again], "settled")
        sure, left = self.weights["pauses.0"]
        share = self.add("Div", ["speech", self.constant("sure_speech", sure)], "share_left")
        bounds = [self.constant("pause_least", left), self.constant("pause_most", np.array(1.0))]
        self.add("Mul", [settled, self.add("Clip", [share, *bounds], "left_of_it")], "gain")

    def hear_bands(self, preset: Preset, standard: str) -> tuple[str, str, str]:
        """As ``bandwise.hear``: what opening, slope and speech are read from.

        Pictures are (B, channels, T, bands) for convolutions and (T, B, places, channels)
        for LSTMs, to which places are clips.
        """
        channel = self.constant("channel", np.array([1]), np.int64)
        bands = self.dense("bands", standard)
        seen = self.add("Unsqueeze", [bands, channel], "picture")
        if preset.phase:
            seen = self._with_phases(preset, seen)
        n_bands, scales = preset.bands, []
        for k, width in enumerate(WIDTHS):
            # Keras's padding "same": what is odd goes to the end.
            padding = max(0, (-(-n_bands // 2) - 1) * 2 + width - n_bands)
            pads = [0, padding // 2, 0, padding - padding // 2]
            seen = self._convolved("Conv", f"encode{k}", seen, pads=pads, strides=[1, 2])
            scales.append(seen)
            n_bands //= 2
        channels = preset.channels[-1]
        seen = self.add("Transpose", [seen], "encoded", perm=[2, 0, 3, 1])
        for k in range(preset.before):
            seen = self._around(preset, seen, f"before{k}", n_bands, channels)
        shape = self.constant("as_one", np.array([0, 0, n_bands * channels]), np.int64)
        heard = self.add(
            "Relu", [self.dense("front", self.add("Reshape", [seen, shape], "one"))], "front"
        )
        for k, units in enumerate(preset.units):
            heard = self._lstm(f"lstm{k}", heard, units, (f"h{k}", f"c{k}"), 1)
        shape = self.constant("as_places", np.array([0, 0, n_bands, channels]), np.int64)
        told = self.add("Reshape", [self.dense("back", heard), shape], "told")
        seen = self.add("Add", [seen, told], "with_told")
        for k in range(preset.after):
            seen = self._around(preset, seen, f"after{k}", n_bands, channels)
        seen = self.add("Transpose", [seen], "decoded", perm=[1, 3, 0, 2])
        around = (BACK_WIDTH - 2) // 2
        for k in range(len(WIDTHS)):
            seen = self.add("Concat", [seen, scales.pop()], f"decode{k}_in", axis=1)
            seen = self._convolved(
                "ConvTranspose", f"decode{k}", seen, pads=[0, around, 0, around], strides=[1, 2]
            )
        around = LAST_WIDTH // 2
        answers = self._convolved("Conv", "answers", seen, relu=False, pads=[0, around, 0, around])
        heads = []
        for k in range(2):
            which = self.constant(f"answer{k}_of", np.array(k), np.int64)
            heads.append(self.add("Gather", [answers, which], f"answer{k}", axis=1))
        if preset.filter_taps:
            self._filter(preset, seen)
        remembered = self.add("Transpose", [heard], "remembered", perm=[1, 0, 2])
        return heads[0], heads[1], remembered

    def _with_phases(self, preset: Preset, picture: str) -> str:
        """As ``bandwise`` has it: (B, 1, T, bands) to (B, 5, T, bands)."""
        n = preset.phase_bins
        shape = self.constant("as_phases", np.array([0, 0, PHASE_PARTS, n]), np.int64)
        parts = self.add("Reshape", ["phase", shape], "phase_parts")
        parts = self.add("Transpose", [parts], "phases_by_part", perm=[0, 2, 1, 3])
        ends = [0, 0, 0, 0, 0, 0, 0, preset.bands - n]
        parts = self.add(
            "Pad", [parts, self.constant("phase_ends", np.array(ends), np.int64)], "phases"
        )
        return self.add("Concat", [picture, parts], "levels_and_phases", axis=1)

    def _filter(self, preset: Preset, seen: str) -> None:
        """As ``bandwise.taps``."""
        bounds = [
            self.constant(name, np.array([value]), np.int64)
            for name, value in (("lowest", 0), ("bins_end", preset.filter_bins), ("of_bands", 3))
        ]
        low = self.add("Slice", [seen, *bounds], "low")
        around = LAST_WIDTH // 2
        taps = self._convolved("Conv", "taps", low, relu=False, pads=[0, around, 0, around])
        signs = self.weights["turn.0"].T[:, np.newaxis]  # (2 · taps, 1, bins)
        turned = self.add("Mul", [taps, self.constant("signs", signs)], "turned")
        # (B, 2 · taps, T, bins) to (B, T, taps · bins · 2).
        n_taps, n_bins = preset.filter_taps, preset.filter_bins
        parts = self.constant("as_parts", np.array([0, 2, n_taps, -1, n_bins]), np.int64)
        parts = self.add("Reshape", [turned, parts], "taps_by_part")
        by_time = self.add("Transpose", [parts], "taps_by_time", perm=[0, 3, 2, 4, 1])
        flat = self.constant("as_filter", np.array([0, 0, 2 * n_taps * n_bins]), np.int64)
        self.add("Reshape", [by_time, flat], "filter")

    def _convolved(
        self, operator: str, name: str, seen: str, relu: bool = True, **how: list[int]
    ) -> str:
        """A convolution along frequency, of (B, channels, T, bands)."""
        kernel = self.weights[f"{name}.0"]  # Keras: height, width, in, out or out, in
        kernel = kernel.transpose(3, 2, 0, 1)
        inputs = [seen, self.constant(f"{name}.0", kernel), self.weight(f"{name}.1")]
        made = self.add(operator, inputs, f"{name}_out", **how)
        return self.add("Relu", [made], name) if relu else made

    def _around(self, preset: Preset, seen: str, name: str, places: int, channels: int) -> str:
        """A shared LSTM at each of the places of (T, B, places, channels)."""
        folded = self.constant("as_clips", np.array([0, -1, channels]), np.int64)
        heard = self.add("Reshape", [seen, folded], f"{name}_folded")
        states = (f"{name}_h", f"{name}_c")
        heard = self._lstm(name, heard, preset.around, states, places)
        found = self.dense(f"{name}_out", heard)
        unfolded = self.constant("as_pictures", np.array([0, -1, places, channels]), np.int64)
        found = self.add("Reshape", [found, unfolded], f"{name}_unfolded")
        return self.add("Add", [seen, found], f"{name}_added")

    def _lstm(self, name: str, heard: str, units: int, states: tuple[str, str], places: int) -> str:
        """An LSTM over (T, B · places, features), its states (B, places · units) outside."""
        inputs = [heard, *(self.constant(n, v) for n, v in _lstm(self.weights, name)), ""]
        apart = self.constant(f"{name}_state", np.array([1, -1, units]), np.int64)
        inputs += [self.add("Reshape", [state, apart], f"{state}_in") for state in states]
        outputs = [f"{name}_y", *(f"{state}_last" for state in states)]
        self.nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=units))
        joined = self.constant(f"{name}_kept", np.array([-1, places * units]), np.int64)
        for state in states:
            self.add("Reshape", [f"{state}_last", joined], f"{state}_out")
            self.states.append((state, places * units))
        second = self.constant("second", np.array([1]), np.int64)
        return self.add("Squeeze", [outputs[0], second], f"{name}_heard")

    def _locally(self, pictures: list[str]) -> str:
        """As ``networks._locally``; ONNX has channels before time and frequency."""
        channel = self.constant("channel", np.array([1]), np.int64)
        pictures = [self.add("Unsqueeze", [p, channel], f"{p}_picture") for p in pictures]
        seen = self.add("Concat", pictures, "pictures", axis=1)  # (B, C, T, n_bins)
        for k in range(len(LOCAL_BINS)):
            if k:
                seen = self.add("Relu", [seen], f"local{k}_in")
            kernel = self.weights[f"local{k}.0"].transpose(3, 2, 0, 1)
            inputs = [seen, self.constant(f"local{k}.0", kernel), self.weight(f"local{k}.1")]
            around = kernel.shape[-1] // 2
            seen = self.add("Conv", inputs, f"local{k}_out", pads=[0, around, 0, around])
        return self.add("Squeeze", [seen, channel], "local")

    def level_head(self, preset: Preset, seen: str, mean: str, deviation: str) -> None:
        """Clean levels, what gain leads there, and what share of the energy that keeps.

        Such a network was never told where there is voice: a frame whose loud bins pass
        counts as voice.
        """
        if preset.output == "softmax":
            low, high = softmax_range_db(self.weights)
            share = self.add("Softmax", [self.dense("softmax", seen)], "share", axis=-1)
            span = self.constant("span_db", np.array(high - low))
            scaled, base = self.add("Mul", [share, span], "scaled"), "lowest_db"
            self.constant(base, np.array(low))
        else:
            scaled = self.add("Mul", [self.dense("clean_db", seen), deviation], "scaled")
            base = mean
        clean_db = self.add("Add", [scaled, base], "clean_db")
        wanted = self.add("Sub", [clean_db, "noisy_db"], "wanted_db")
        bounded = self.add("Min", [wanted, self.constant("most_db", np.array(0.0))], "bounded_db")
        neper = self.constant("neper", np.array(math.log(10.0) / 20.0))
        gain = self.add("Exp", [self.add("Mul", [bounded, neper], "wanted_np")], "gain")
        two_neper = self.constant("two_neper", np.array(math.log(10.0) / 10.0))
        power = self.add("Exp", [self.add("Mul", ["noisy_db", two_neper], "power_np")], "power")
        passed = self.add("Mul", [gain, power], "passed")
        last = self.constant("last", np.array([2]), np.int64)
        sums = [self.add("ReduceSum", [p, last], f"{p}_sum") for p in (passed, power)]
        self.add("Div", sums, "speech")

    def join_states(self, name: str) -> None:
        """All states as one: what goes in and out costs by the piece, 2 µs each."""
        sizes = [units for _, units in self.states]
        parts = [state for state, _ in self.states]
        sizes_of = self.constant(f"{name}_sizes", np.array(sizes), np.int64)
        self.nodes.insert(0, helper.make_node("Split", [name, sizes_of], parts, axis=1))
        self.add("Concat", [f"{state}_out" for state in parts], f"{name}_out", axis=1)
        self.states = [(name, sum(sizes))]

    def _phase_input(self, spec: ModelSpec) -> list[Any]:
        n = spec.n_heard - spec.n_bins
        return [_value("phase", "batch", "time", n)] if n else []

    def _filter_output(self, spec: ModelSpec) -> list[Any]:
        n = 2 * spec.filter_taps * spec.filter_bins
        return [_value("filter", "batch", "time", n)] if n else []

    def model(self, spec: ModelSpec) -> bytes:
        """The finished file."""
        n_bins = spec.n_bins
        states = self.states
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                spec.name,
                [
                    _value("noisy_db", "batch", "time", n_bins),
                    *self._phase_input(spec),
                    *(_value(name, "batch", units) for name, units in states),
                ],
                [
                    _value("gain", "batch", "time", n_bins),
                    _value("speech", "batch", "time", 1),
                    *self._filter_output(spec),
                    *(_value(f"{name}_out", "batch", units) for name, units in states),
                ],
                list(self.constants.values()),
            ),
            producer_name="denoise-app",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        return bytes(model.SerializeToString())


def softmax_range_db(weights: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """What a share of 0 and of 1 means of a softmax network [dB], for want of the clip's own.

    The lowest and highest level that the training set often has: two deviations from the mean.
    """
    mean, deviation = weights["standardise.0"], weights["standardise.1"]
    return float((mean - 2.0 * deviation).min()), float((mean + 2.0 * deviation).max())


def _value(name: str, *shape: str | int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _lstm(weights: Mapping[str, np.ndarray], name: str) -> list[tuple[str, np.ndarray]]:
    """Kernels and bias of a Keras LSTM as ONNX wants them.

    Keras has the gates side by side as input, forget, cell, output; ONNX has them one
    above the other as input, output, forget, cell, and a bias for each of the kernels.
    """
    kernel, recurrent, bias = (weights[f"{name}.{k}"] for k in range(3))

    def reordered(gates: np.ndarray) -> np.ndarray:
        i, f, c, o = np.split(gates, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1)

    both = np.concatenate([reordered(bias), np.zeros_like(bias)])
    return [
        (f"{name}_kernel", reordered(kernel).T[np.newaxis]),
        (f"{name}_recurrent", reordered(recurrent).T[np.newaxis]),
        (f"{name}_bias", both[np.newaxis]),
    ]
