from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from engine.denoiser import Denoiser
from engine.errors import ModelError
from engine.network import Network
from tests.training.conftest import voice
from training import export as exporting
from training.batches import make_batch
from training.mixing import Mixture
from training.networks import PRESETS, from_weights, gain_network, save, set_weights, weights_of
from training.train import CLASSIC

SPEC = replace(CLASSIC, name="tiny", licence="MIT")


@pytest.fixture
def weights(rng):
    """A network with every weight at random, so that a swap of any two would show."""
    mean_db = rng.uniform(-80, -60, 250).astype(np.float32)
    model = gain_network(PRESETS["tiny"], mean_db, rng.uniform(10, 20, 250).astype(np.float32))
    made = weights_of(model)
    return {
        name: w if name.startswith("standardise") else w + 0.2 * rng.standard_normal(w.shape)
        for name, w in made.items()
    }


@pytest.fixture
def levels(rng):
    sound = voice(rng, 8.0, 11_025)[: 160 * 512]
    sound = sound + 0.02 * rng.standard_normal(len(sound)).astype(np.float32)
    return make_batch([Mixture(sound, sound, 20.0)], SPEC).noisy_db


def test_step_by_step_file_equals_whole_keras(weights, levels, tmp_path):
    path = exporting.export(weights, SPEC, tmp_path / "tiny.onnx", levels, {"hours": 1})
    network = Network(path, provider="cpu")
    gain, speech = (np.asarray(y)[0] for y in from_weights(weights)(levels))
    stepped = exporting._step_by_step(network, levels[0])
    whole = network(levels[0], network.initial_state())
    # The contract allows 1e-4; float32 sums in another order differ by less than 1e-5.
    np.testing.assert_allclose(stepped, gain, atol=1e-5)
    np.testing.assert_allclose(whole.gain, gain, atol=1e-5)
    np.testing.assert_allclose(whole.speech, speech[:, 0], atol=1e-5)
    assert gain.std() > 0.01  # the comparison saw something
    assert network.spec == replace(SPEC, training={"hours": 1})
    assert not list(tmp_path.glob("*.part"))


def test_file_runs_in_the_denoiser(weights, levels, tmp_path, rng):
    path = exporting.export(weights, SPEC, tmp_path / "tiny.onnx", levels)
    denoiser = Denoiser(Network(path, provider="cpu"))
    out = [denoiser.process(h) for h in rng.standard_normal((5, 512)).astype(np.float32) * 0.1]
    assert denoiser.fault is None
    assert np.std(out) > 0


@pytest.mark.parametrize("tampering", ["gates", "bias", "mean"])
def test_a_file_that_would_not_do_what_was_trained_is_refused(
    weights, levels, tmp_path, monkeypatch, tampering
):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"the model of yesterday")
    true_graph = exporting.graph

    def tampered(weights, spec):
        changed = dict(weights)
        if tampering == "gates":  # the order of Keras where ONNX wants its own
            i, f, c, o = np.split(weights["lstm1.1"], 4, axis=-1)
            changed["lstm1.1"] = np.concatenate([i, c, f, o], axis=-1)
        elif tampering == "bias":
            changed["gain.1"] = weights["gain.1"] + 0.01
        else:
            changed["standardise.0"] = weights["standardise.0"] * np.nan
        return true_graph(changed, spec)

    monkeypatch.setattr(exporting, "graph", tampered)
    with pytest.raises((exporting.ParityError, ModelError)):
        exporting.export(weights, SPEC, path, levels)
    assert path.read_bytes() == b"the model of yesterday"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


def test_graph_is_plain_onnx_with_open_batch_and_time(weights):
    model = onnx.load_from_string(exporting.graph(weights, SPEC))
    onnx.checker.check_model(model, full_check=True)
    assert sum(node.op_type == "LSTM" for node in model.graph.node) == 2
    assert not any(node.op_type in ("Loop", "Scan") for node in model.graph.node)
    for node in model.graph.input:
        *free, _ = node.type.tensor_type.shape.dim
        assert all(dim.dim_param for dim in free)


def test_a_converter_makes_a_file_that_agrees(weights, levels, tmp_path):
    """tf2onnx knows nothing of our graph: it starts from TensorFlow's own operations."""
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    model = from_weights(weights)
    signature = [tf.TensorSpec((None, None, 250), tf.float32, name="noisy_db")]
    function = tf.function(lambda noisy_db: model(noisy_db), input_signature=signature)
    theirs, _ = tf2onnx.convert.from_function(function, signature, opset=17)
    session = onnxruntime.InferenceSession(
        theirs.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = session.run(None, {session.get_inputs()[0].name: levels})[0]
    path = exporting.export(weights, SPEC, tmp_path / "tiny.onnx", levels)
    np.testing.assert_allclose(
        exporting._step_by_step(Network(path, provider="cpu"), levels[0]), wanted[0], atol=1e-5
    )


def test_weights_survive_a_file(weights, tmp_path):
    save(tmp_path / "weights.npz", weights)
    with np.load(tmp_path / "weights.npz") as file:
        again = weights_of(from_weights(dict(file)))
    for name, weight in weights.items():
        np.testing.assert_array_equal(again[name], weight.astype(np.float32))


def test_weights_of_another_network_are_refused(weights):
    model = from_weights(weights)
    with pytest.raises(ValueError, match="another network"):
        set_weights(model, {name: w for name, w in weights.items() if name != "lstm1.0"})


def test_describing_changes_nothing_but_the_description(weights, levels, tmp_path):
    path = exporting.export(weights, SPEC, tmp_path / "tiny.onnx", levels)
    before = Network(path, provider="cpu")(levels[0], Network(path).initial_state())
    exporting.describe(path, replace(SPEC, above="hold", description="holds"))
    network = Network(path, provider="cpu")
    assert (network.spec.above, network.spec.description) == ("hold", "holds")
    np.testing.assert_array_equal(network(levels[0], network.initial_state()).gain, before.gain)


def test_the_classic_preset_has_its_parameters():
    model = gain_network(PRESETS["classic"], np.zeros(250, np.float32), np.ones(250, np.float32))
    front = 250 * 256 + 256
    lstm = 4 * 400 * (256 + 400 + 1) + 4 * 400 * (400 + 400 + 1)
    heads = (400 + 256) * 251 + 251
    assert model.count_params() == front + lstm + heads + 2 * 250
