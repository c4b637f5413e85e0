from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.denoiser import Denoiser
from engine.errors import ModelError, TrainingError
from engine.network import Network
from tests import onnx_models
from tests.training.conftest import voice
from tests.training.kinds import KINDS, TINY, heard
from training import export as exporting
from training import graph as writing
from training.batches import make_batch
from training.graph_weights import weights_in
from training.mixing import Mixture
from training.networks import answers, build, from_weights, save, weights_of

SPEC = replace(onnx_models.CLASSIC, name="tiny", licence="MIT", above="hold")


def random_weights(rng, preset):
    """A network with every weight at random, so that a swap of any two would show."""
    mean_db = rng.uniform(-80, -60, 250).astype(np.float32)
    made = weights_of(build(preset, mean_db, rng.uniform(10, 20, 250).astype(np.float32)))
    fixed = ("standardise", "running", "clip", "pitch", "settle", "pauses")
    return {
        name: w if name.startswith(fixed) else w + 0.2 * rng.standard_normal(w.shape)
        for name, w in made.items()
    }


@pytest.fixture
def weights(rng):
    return random_weights(rng, TINY)


@pytest.fixture
def levels(rng):
    sound = voice(rng, 8.0, 11_025)[: 160 * 512]
    sound = sound + 0.02 * rng.standard_normal(len(sound)).astype(np.float32)
    return make_batch([Mixture(sound, sound, 20.0)], SPEC).noisy_db


def spec_of(preset):
    return replace(
        SPEC,
        filter_bins=preset.filter_bins,
        filter_taps=preset.filter_taps,
        phase_bins=preset.phase_bins,
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "clip" not in kind])
def test_weights_are_read_back_from_a_file(kind, tmp_path, rng):
    weights = random_weights(rng, KINDS[kind])
    path = tmp_path / "tiny.onnx"
    path.write_bytes(writing.graph(exporting.streamable(weights), spec_of(KINDS[kind])))
    found, _ = weights_in(path)
    assert set(found) == set(exporting.streamable(weights))
    for name, weight in exporting.streamable(weights).items():
        # A deviation went through its square.
        np.testing.assert_allclose(found[name], weight, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(("kind", "heavy"), [("gain", "lstm0.1"), ("bands", "gain.0")])
def test_weights_are_read_back_from_8_bits_to_half_a_step(
    kind, heavy, levels, tmp_path, rng, monkeypatch
):
    monkeypatch.setattr(exporting, "INT8_TOLERANCE", 1.0)  # weights at random round worse
    weights = random_weights(rng, KINDS[kind])
    model = exporting.export(weights, spec_of(KINDS[kind]), tmp_path / "tiny.onnx", levels)
    exporting.quantise(model, tmp_path / "small.onnx", levels)
    (found, _), (whole, _) = weights_in(tmp_path / "small.onnx"), weights_in(model)
    assert set(found) == set(whole)
    rounded = {name for name in whole if not np.array_equal(found[name], whole[name])}
    assert heavy in rounded
    for name in rounded:
        # Seven bits, a scale for each column: 64 steps to either side.
        step = np.abs(whole[name]).max(axis=0) / 64
        assert np.all(np.abs(found[name] - whole[name]) <= 0.51 * step), name


def test_a_file_that_cannot_be_read_has_no_weights(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"):
        weights_in(tmp_path / "none.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_file_equals_whole_keras(kind, levels, tmp_path, rng):
    weights, levels = random_weights(rng, KINDS[kind]), heard(kind, levels)
    path = exporting.export(
        weights, spec_of(KINDS[kind]), tmp_path / "tiny.onnx", levels, {"hours": 1}
    )
    network = Network(path, provider="cpu")
    gain, speech = (y[0] for y in exporting.estimates(exporting.streamable(weights), levels))
    stepped = exporting._step_by_step(network, levels[0])
    whole = network(levels[0], network.initial_state())
    # The contract allows 1e-4; float32 sums in another order differ by less than 1e-5.
    np.testing.assert_allclose(stepped, gain, atol=1e-5)
    np.testing.assert_allclose(whole.gain, gain[:, : SPEC.n_bins], atol=1e-5)
    np.testing.assert_allclose(whole.speech, speech[:, 0], atol=1e-5)
    # The comparison saw something; shares of 250 bins leave the thesis's gains near 0.
    assert gain.std() > 100 * 1e-5
    assert network.spec.training["hours"] == 1
    assert ("normalisation" in network.spec.training) == (KINDS[kind].normalisation == "clip")
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
    true_graph = writing.graph

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

    monkeypatch.setattr(writing, "graph", tampered)
    with pytest.raises((exporting.ParityError, ModelError)):
        exporting.export(weights, SPEC, path, levels)
    assert path.read_bytes() == b"the model of yesterday"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(
    ("beyond", "difference", "passes"),
    [
        (1, 9e-4, True),  # a sudden sound, for a moment
        (1, 2e-3, False),
        (300, 2e-4, False),
        (1, np.nan, False),
    ],
)
def test_only_a_moment_may_differ_and_not_by_much(
    weights, levels, tmp_path, monkeypatch, beyond, difference, passes
):
    step_by_step = exporting._step_by_step

    def differing(network, frames):
        gains = step_by_step(network, frames)
        assert 10_000 < gains.size < 2_000_000  # one of them is rare, 300 are not
        gains.ravel()[:beyond] += difference
        return gains

    monkeypatch.setattr(exporting, "_step_by_step", differing)
    path = tmp_path / "tiny.onnx"
    if passes:
        assert exporting.export(weights, SPEC, path, levels) == path
    else:
        with pytest.raises(exporting.ParityError, match="differ from Keras by up to"):
            exporting.export(weights, SPEC, path, levels)
    assert path.exists() == passes


@pytest.mark.parametrize("kind", KINDS)
def test_graph_is_plain_onnx_with_open_batch_and_time(kind, rng):
    made = exporting.streamable(random_weights(rng, KINDS[kind]))
    model = onnx.load_from_string(writing.graph(made, spec_of(KINDS[kind])))
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    kind_of = KINDS[kind]
    assert operators.count("LSTM") == len(kind_of.units) + kind_of.before + kind_of.after
    assert "Loop" not in operators
    assert operators.count("Scan") == (kind_of.normalisation == "running") + kind_of.settle
    for node in model.graph.input:
        *free, _ = node.type.tensor_type.shape.dim
        assert all(dim.dim_param for dim in free)


@pytest.mark.parametrize("kind", KINDS)
def test_a_converter_makes_a_file_that_agrees(kind, levels, tmp_path, rng):
    """tf2onnx knows nothing of our graph: it starts from TensorFlow's own operations."""
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    weights = exporting.streamable(random_weights(rng, KINDS[kind]))
    model = from_weights(weights)
    levels = heard(kind, levels)
    signature = [tf.TensorSpec((None, None, levels.shape[-1]), tf.float32, name="heard")]
    theirs, _ = tf2onnx.convert.from_keras(model, signature, opset=17)
    session = onnxruntime.InferenceSession(
        theirs.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {session.get_inputs()[0].name: levels})[0]
    wanted = answers(model, levels)[0]
    # Levels [dB] are some ten thousand times as large as what float32 rounds them by.
    tolerance = 1e-3 if KINDS[kind].output == "clean_db" else 1e-5
    np.testing.assert_allclose(found, wanted, atol=tolerance)


def test_a_filter_that_the_spec_does_not_tell_of_is_refused(rng, levels, tmp_path):
    made = random_weights(rng, KINDS["bands-filter"])
    with pytest.raises(TrainingError, match=r"a filter of \(0, 0\), the network's is of \(9, 3\)"):
        exporting.export(made, SPEC, tmp_path / "m.onnx", levels)
    assert not list(tmp_path.iterdir())


def test_phases_that_the_spec_does_not_tell_of_are_refused(rng, levels, tmp_path):
    made, spec = random_weights(rng, KINDS["bands-phase"]), spec_of(KINDS["bands-filter"])
    with pytest.raises(TrainingError, match=r"phases of 0 bins, the network hears those of 10"):
        exporting.export(made, spec, tmp_path / "m.onnx", heard("bands-phase", levels))
    assert not list(tmp_path.iterdir())


def test_describing_changes_nothing_but_the_description(weights, levels, tmp_path):
    path = exporting.export(weights, SPEC, tmp_path / "tiny.onnx", levels)
    before = Network(path, provider="cpu")(levels[0], Network(path).initial_state())
    exporting.describe(path, replace(SPEC, above="hold", description="holds"))
    network = Network(path, provider="cpu")
    assert (network.spec.above, network.spec.description) == ("hold", "holds")
    np.testing.assert_array_equal(network(levels[0], network.initial_state()).gain, before.gain)


def write_run(folder, weights, levels):
    """What a training run leaves."""
    folder.mkdir()
    told = {"spec": asdict(SPEC), "training": {"preset": "tiny"}, "frames_per_step": 4608}
    (folder / "run.json").write_text(json.dumps(told))
    np.save(folder / "levels.npy", levels)
    save(folder / "checkpoint.npz", weights | {"step": np.array(1000)})


def parsed(*given):
    parser = argparse.ArgumentParser()
    exporting.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in given])


def test_runs_are_blended(weights, levels, tmp_path, rng):
    others = {n: w + rng.standard_normal(w.shape).astype(w.dtype) for n, w in weights.items()}
    for name, held in (("run", weights), ("other", others)):
        write_run(tmp_path / name, held, levels)
    run, other, path = tmp_path / "run", str(tmp_path / "other"), tmp_path / "blend.onnx"
    exporting.run(parsed(run, path, "--blend", other, "0.25"), print)
    found, spec = weights_in(path)
    told = spec.training
    wanted = {n: 0.75 * w + 0.25 * others[n] for n, w in weights.items()}
    for name, weight in found.items():
        np.testing.assert_allclose(weight, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert (told["blended"], told["steps"]) == ([0.25], 1000)
    for share, match in (
        ("1.5", "from 0 to 1, found 1.5"),
        ("nan", "from 0 to 1, found nan"),
        ("half", "'half' is no share"),
    ):
        with pytest.raises(TrainingError, match=match):
            exporting.run(parsed(run, path, "--blend", other, share), print)
    twice = ("--blend", other, "0.125", "--blend", other, "0.125")
    exporting.run(parsed(run, path, *twice), print)
    again, spec = weights_in(path)
    for name, weight in again.items():
        np.testing.assert_allclose(weight, found[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert spec.training["blended"] == [0.125, 0.125]
    with pytest.raises(TrainingError, match=r"from 0 to 1, found 0\.6 \+ 0\.6"):
        exporting.run(parsed(run, path, "--blend", other, "0.6", "--blend", other, "0.6"), print)
    save(tmp_path / "other" / "checkpoint.npz", {"step": np.array(3)})
    with pytest.raises(TrainingError, match="another network"):
        exporting.run(parsed(run, path, "--blend", other, "0.5"), print)
    with pytest.raises(TrainingError, match="nowhere is not a run"):
        exporting.run(parsed(run, path, "--blend", str(tmp_path / "nowhere"), "0.5"), print)


@pytest.mark.parametrize("name", ["run.json", "levels.npy", "checkpoint.npz"])
@pytest.mark.parametrize("content", [None, b"", b"3", b"half of it was wri"])
def test_a_broken_run_is_told_of_in_a_line(name, content, weights, levels, tmp_path):
    write_run(tmp_path / "run", weights, levels)
    path = tmp_path / "run" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(TrainingError) as told:
        exporting.run(parsed(tmp_path / "run", tmp_path / "tiny.onnx"), print)
    assert str(tmp_path / "run") in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "tiny.onnx").exists()


@pytest.mark.parametrize("kind", ["gain", "running"])
def test_8_bit_weights_are_close_and_told_of(kind, levels, tmp_path, rng, caplog):
    caplog.set_level(logging.INFO)
    write_run(tmp_path / "run", random_weights(rng, KINDS[kind]), levels)
    path, whole = tmp_path / "small.onnx", tmp_path / "whole.onnx"
    told: list[str] = []
    exporting.run(parsed(tmp_path / "run", path, "--int8", "--licence=CC0"), told.append)
    exporting.run(parsed(tmp_path / "run", whole), told.append)
    assert not caplog.records  # the quantiser's own remarks are of no use to anybody
    network = Network(path, provider="cpu")
    gains = (exporting._step_by_step(n, levels[0]) for n in (network, Network(whole)))
    error = np.abs(np.subtract(*gains)).mean()
    training = network.spec.training
    assert training["int8_gain_error"] == pytest.approx(error, abs=1e-5)  # rounded to that
    assert (training["weights"], training["steps"]) == ("int8", 1000)
    assert (network.spec.name, network.spec.licence) == ("tiny", "CC0")
    assert 0 < error < 0.01
    assert path.stat().st_size < 0.6 * whole.stat().st_size  # tiny: much of it is no weights
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "small.onnx", "whole.onnx"]


@pytest.mark.parametrize("name", ["small.onnx", "small.float32", "small"])
def test_8_bit_weights_cost_no_other_file(name, weights, levels, tmp_path):
    """Nor the model itself, whatever it is called and in a folder that is made for it."""
    write_run(tmp_path / "run", weights, levels)
    made = tmp_path / "made"
    path, beside = made / name, made / "small.float32"
    if path != beside:
        made.mkdir()
        beside.write_bytes(b"somebody's")
    exporting.run(parsed(tmp_path / "run", path, "--int8"), str)
    assert Network(path, provider="cpu").spec.training["weights"] == "int8"
    assert path == beside or beside.read_bytes() == b"somebody's"
    assert {p.name for p in made.iterdir()} == {path.name, beside.name}


def test_8_bits_that_are_too_few_are_refused_with_the_figure(
    weights, levels, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporting, "INT8_TOLERANCE", 1e-5)  # 256 steps cannot be that close
    write_run(tmp_path / "run", weights, levels)
    path = tmp_path / "small.onnx"
    path.write_bytes(b"the model of yesterday")
    with pytest.raises(TrainingError, match=r"differ by 0\.\d+ on average"):
        exporting.run(parsed(tmp_path / "run", path, "--int8"), str)
    assert path.read_bytes() == b"the model of yesterday"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "small.onnx"]


def test_the_shipped_model_is_what_its_weights_say(levels, tmp_path):
    """The graph of today, with the weights of the shipped file, tells the same gains.

    Rounded to 8 bits again they are what they were, so the answers are too.
    """
    shipped = Path(__file__).parents[2] / "models" / "classic.onnx"
    weights, spec = weights_in(shipped)
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    exporting.export(weights, spec, whole, levels)
    exporting.quantise(whole, small, levels[0])
    networks = [Network(path, provider="cpu") for path in (shipped, small, whole)]
    wanted, rounded, exact = (n(levels[0], n.initial_state()).gain for n in networks)
    np.testing.assert_allclose(rounded, wanted, atol=1e-5)
    np.testing.assert_allclose(exporting.estimates(weights, levels)[0][0], exact, atol=1e-5)
