from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from engine.errors import TrainingError
from tests.training.kinds import KINDS, LEVELS, TINY, heard
from training.bandwise import Turn, filter_bank
from training.graph_weights import weights_in
from training.networks import (
    PRESETS,
    Harmonics,
    Preset,
    RunningStandardise,
    answers,
    begin_with,
    build,
    combs,
    contrast,
    from_weights,
    preset_of,
    save,
    set_weights,
    weights_of,
)

N_BINS = 30


@pytest.fixture
def statistics(rng):
    return (
        rng.uniform(-80, -60, N_BINS).astype(np.float32),
        rng.uniform(10, 20, N_BINS).astype(np.float32),
    )


@pytest.fixture
def levels(rng):
    return rng.uniform(-100, -20, (2, 25, N_BINS)).astype(np.float32)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


# The thesis's own figures, and what of them our statistics of the levels add (250 means and
# deviations, not trained).
@pytest.mark.parametrize(
    ("preset", "n_parameters"), [("thesis-multi", 5_889_274), ("thesis-single", 19_345_658)]
)
def test_the_thesis_networks_have_its_parameters(preset, n_parameters):
    model = build(preset, np.zeros(250, np.float32), np.ones(250, np.float32))
    assert trainable(model) == n_parameters
    assert model.count_params() == n_parameters + 2 * 250


def test_the_classic_preset_has_its_parameters():
    model = build("classic", np.zeros(250, np.float32), np.ones(250, np.float32))
    front = 250 * 256 + 256
    lstm = 4 * 400 * (256 + 400 + 1) + 4 * 400 * (400 + 400 + 1)
    heads = (400 + 256) * 251 + 251
    detail = (400 + 256) * 250 + 250 + 250 * 250 + 250
    local = 17 * 3 * 16 + 16 + 9 * 16 * 16 + 16 + 9 * 16 + 1
    assert trainable(model) == front + lstm + heads + detail + local


def test_each_row_of_the_thesis_changes_one_thing():
    names = ["thesis-multi", *(f"thesis-multi-{n}" for n in ("statistics", "sequences", "linear"))]
    names += ["thesis-multi-gain", "thesis-multi-spectral"]
    for before, after in pairwise(names):
        one, other = PRESETS[before], PRESETS[after]
        changed = {f.name for f in fields(Preset) if getattr(one, f.name) != getattr(other, f.name)}
        # A loss goes with the output that it can be of.
        assert len(changed - {"loss"}) == 1 or changed == {"loss"}, (before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_survive_a_file_and_say_what_they_belong_to(kind, statistics, levels, tmp_path):
    model = build(KINDS[kind], *statistics)
    save(tmp_path / "weights.npz", weights_of(model) | {"step": np.array(7)})
    with np.load(tmp_path / "weights.npz") as file:
        weights = dict(file)
    assert preset_of(weights) == KINDS[kind]
    again = from_weights(weights)
    levels = heard(kind, levels)
    for ours, theirs in zip(answers(model, levels), answers(again, levels), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_added_begins_as_the_network_without_it(statistics, levels):
    plain = build(TINY, *statistics)
    detailed = build(replace(TINY, detail=True), *statistics)
    local = build(replace(TINY, detail=True, local=3), *statistics)
    begin_with(detailed, weights_of(plain))
    begin_with(local, weights_of(detailed))
    for model in (detailed, local):
        for ours, theirs in zip(answers(model, levels), answers(plain, levels), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    bands, filtered = (build(KINDS[kind], *statistics) for kind in ("bands", "bands-filter"))
    begin_with(filtered, weights_of(bands))
    both, speech = answers(filtered, levels)
    np.testing.assert_array_equal(both[..., :N_BINS], answers(bands, levels)[0])
    np.testing.assert_array_equal(speech, answers(bands, levels)[1])
    told = build(KINDS["bands-phase"], *statistics)
    begin_with(told, weights_of(filtered))
    for with_phases, without in zip(
        answers(told, heard("bands-phase", levels)), answers(filtered, levels), strict=True
    ):
        np.testing.assert_allclose(with_phases, without, atol=1e-6)
    with pytest.raises(TrainingError, match="another network"):
        begin_with(plain, {})
    with pytest.raises(TrainingError, match="detail is of gains"):
        replace(LEVELS, detail=True)
    with pytest.raises(TrainingError, match="local convolutions refine detail"):
        replace(TINY, local=3)


def test_more_units_begin_as_the_network_with_fewer(statistics, levels):
    narrow = replace(KINDS["bands"], units=(12, 10))
    small = build(narrow, *statistics)
    wide = build(replace(narrow, front=narrow.front + 5, units=(15, 11)), *statistics)
    drawn = weights_of(wide)
    begin_with(wide, weights_of(small))
    for ours, theirs in zip(answers(wide, levels), answers(small, levels), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    found = weights_of(wide)
    # New units hear at once, each gate its own, so that what follows them can learn.
    for gate in range(4):
        new = slice(15 * gate + 12, 15 * (gate + 1))
        np.testing.assert_array_equal(found["lstm0.0"][:, new], drawn["lstm0.0"][:, new])
        assert np.abs(found["lstm0.0"][:, new]).min() > 0.0
    for name in ("back.0", "speech.0"):
        assert not found[name][10:].any()
    with pytest.raises(TrainingError, match="another network"):
        begin_with(small, found)


def test_running_statistics_may_begin_as_those_of_the_training_set(statistics):
    plain = weights_of(build(TINY, *statistics))
    running = build(KINDS["running"], np.zeros(N_BINS, np.float32), np.ones(N_BINS, np.float32))
    kept = weights_of(running)["running.2"]
    begin_with(running, plain)
    found = weights_of(running)
    np.testing.assert_array_equal(found.pop("running.2"), kept)
    assert {name.replace("running", "standardise") for name in found} == set(plain)
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, plain[name.replace("running", "standardise")])


def test_bands_hold_every_bin_once():
    bank = filter_bank(481, 64)
    assert bank.shape == (481, 64)
    np.testing.assert_array_equal(bank[:42, :42], np.eye(42))
    assert ((bank > 0).sum(axis=1) == 1).all()
    np.testing.assert_allclose(bank.sum(axis=0), 1.0, rtol=1e-6)
    widths = (bank > 0).sum(axis=0)
    assert widths[-1] > 20  # 1 kHz at the top
    assert (np.diff(widths[42:]) >= -1).all()
    few = filter_bank(10, 24)
    np.testing.assert_array_equal(few[:, :10], np.eye(10))
    assert not few[:, 10:].any()


def test_bands_that_cannot_be_are_refused():
    for change, match in (
        ({"bands": 18}, "multiple of 4 from 8 on, found 18"),
        ({"channels": (4,)}, r"two channels of 2 or more, found \(4,\)"),
        ({"around": 0}, "around is 0"),
        ({"front": 0}, "a front layer"),
        ({"pitches": 3}, "without pitches"),
        ({"filter_bins": 11, "filter_taps": 2}, r"single bin \(10 here\), found 11 and 2"),
        ({"filter_taps": 2}, "go together"),
        ({"bands": 0, "channels": (), "phase": True}, "phases are told of bands"),
    ):
        with pytest.raises(TrainingError, match=match):
            replace(KINDS["bands"], **change)


def test_taps_of_a_steady_tone_are_alike_in_all_bins():
    """A tone in each bin, a hop being half of the frame: turned taps add up frames in step."""
    n_fft, n_taps = 64, 4
    signal = np.zeros(n_fft * 8)
    time = np.arange(len(signal))
    for k in (5, 8):
        signal = np.cos(2 * np.pi * k / n_fft * time)
        starts = range(len(signal) - n_fft, len(signal) - n_fft - n_taps * n_fft // 2, -n_fft // 2)
        found = np.array([np.fft.rfft(signal[s : s + n_fft])[k] for s in starts])
        turn = Turn()
        signs = np.asarray(turn(np.ones((1, 1, 10, 2 * n_taps), np.float32)))[0, 0, k]
        np.testing.assert_allclose(signs[:n_taps] * found, found[0], atol=1e-9)
        np.testing.assert_array_equal(signs[:n_taps], signs[n_taps:])


def test_all_places_share_their_lstms(statistics):
    weights = weights_of(build(KINDS["bands"], *statistics))
    assert weights["before0.0"].shape == weights["after0.0"].shape == (6, 4 * 5)


def test_what_all_neighbours_share_is_no_detail():
    made = contrast(60)
    assert np.abs(np.full(60, 3.0) @ made).max() < 1e-6
    alone = np.eye(60)[30] @ made
    assert alone[30] == pytest.approx(1 - 1 / 25)
    assert alone[18:30] == pytest.approx(-1 / 25)
    assert alone[17] == 0.0


def test_weights_of_another_network_are_refused(statistics):
    model = build(TINY, *statistics)
    weights = weights_of(model)
    with pytest.raises(TrainingError, match="another network"):
        set_weights(model, {name: w for name, w in weights.items() if name != "lstm1.0"})
    with pytest.raises(TrainingError, match="another network"):
        set_weights(model, weights | {"front.0": weights["front.0"][:-1]})
    with pytest.raises(TrainingError, match="not the weights of a network"):
        from_weights({"conv.0": np.ones(3)})


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_in_range_and_finite(kind, statistics, levels):
    outputs = answers(build(KINDS[kind], *statistics), heard(kind, levels))
    # A filter follows the gains.
    n = 2 * KINDS[kind].filter_taps * KINDS[kind].filter_bins
    assert outputs[0].shape == (2, 25, N_BINS + n)
    outputs[0], found = outputs[0][..., :N_BINS], outputs[0][..., N_BINS:]
    if n:  # at first the newest frame passes as it is
        newest = np.zeros((KINDS[kind].filter_taps, KINDS[kind].filter_bins, 2))
        newest[0, :, 0] = 1.0
        np.testing.assert_array_equal(found, np.broadcast_to(newest.ravel(), found.shape))
    for output in outputs:
        assert output.dtype == np.float32
        assert np.isfinite(output).all()
    if KINDS[kind].output == "softmax":
        np.testing.assert_allclose(outputs[0].sum(axis=-1), 1.0, rtol=1e-5)
    elif KINDS[kind].output == "gain":
        assert outputs[1].shape == (2, 25, 1)
        assert all(y.min() >= 0.0 and y.max() <= 1.0 for y in outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_only_whole_clip_statistics_know_the_future(kind, statistics, levels):
    model = build(KINDS[kind], *statistics)
    changed = levels.copy()
    changed[:, 20:] = -30.0
    before, after = (answers(model, heard(kind, sound))[0] for sound in (levels, changed))
    causal = bool(np.allclose(before[:, :20], after[:, :20], atol=1e-6))
    assert causal == (KINDS[kind].normalisation != "clip")
    assert not np.allclose(before[:, 20:], after[:, 20:], atol=1e-6)


def test_without_memory_frames_do_not_know_of_each_other(statistics, levels):
    order = np.random.default_rng(1).permutation(25)
    for kind, alike in (("gain-alone", True), ("gain", False)):
        model = build(KINDS[kind], *statistics)
        shuffled = answers(model, levels[:, order])[0]
        same = np.allclose(answers(model, levels)[0][:, order], shuffled, atol=1e-6)
        assert same == alike


def test_running_statistics_are_those_of_the_recursion(statistics, levels):
    mean, deviation = statistics
    layer = RunningStandardise(name="running")
    found = [np.asarray(y) for y in layer(levels)]
    kept = np.float32(0.9)
    layer.set_weights([mean, deviation, np.array([kept])])
    found = [np.asarray(y) for y in layer(levels)]
    m, v = np.tile(mean, (2, 1)).astype(float), np.tile(deviation**2, (2, 1)).astype(float)
    for t in range(25):
        m = kept * m + (1 - kept) * levels[:, t]
        v = kept * v + (1 - kept) * (levels[:, t] - m) ** 2
        wanted = ((levels[:, t] - m) / np.sqrt(v), m, np.sqrt(v))
        for ours, theirs in zip(wanted, found, strict=True):
            np.testing.assert_allclose(theirs[:, t], ours, rtol=1e-4, atol=1e-4)  # float32


def test_running_statistics_survive_silence_and_an_hour():
    """Nothing overflows where frames are as long ago as float32 can tell."""
    layer = RunningStandardise(name="running")
    silence = np.full((1, 3000, 2), -100.0, np.float32)
    silence[0, -1] = 0.0
    layer(silence)
    standard, mean, deviation = (np.asarray(y) for y in layer(silence))
    assert deviation.min() == pytest.approx(3.0)
    np.testing.assert_allclose(mean[0, -2], -100.0, atol=1e-3)
    assert np.isfinite(standard).all()


def test_harmonics_tell_the_pitch_and_not_the_level(rng):
    rate, n_fft, bin_hz = 11_025, 1024, 11_025 / 1024
    t = np.arange(n_fft) / rate
    layer = Harmonics(96, name="pitch")
    layer(np.zeros((1, 1, 250), np.float32))
    layer.set_weights([combs(250, 96, bin_hz)])
    pitches = np.geomspace(70.0, 400.0, 96)
    found = []
    for pitch_hz in (90.0, 137.0, 210.0, 330.0):
        sound = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, 12))
        sound = sound + 0.01 * rng.standard_normal(n_fft)
        db = 20 * np.log10(np.abs(np.fft.rfft(sound * np.hanning(n_fft)))[:250] + 1e-9)
        salience = np.asarray(layer(db[np.newaxis, np.newaxis].astype(np.float32)))[0, 0]
        louder = np.asarray(layer((db + 20.0)[np.newaxis, np.newaxis].astype(np.float32)))[0, 0]
        np.testing.assert_allclose(louder, salience, atol=1e-4)  # sums of 250 levels in float32
        found.append(pitches[np.argmax(salience)] / pitch_hz)
        assert salience.max() > 1.0  # ten decibels between harmonics and what lies between
    np.testing.assert_allclose(found, 1.0, atol=0.03)
    noise_db = 20 * np.log10(np.abs(np.fft.rfft(rng.standard_normal(n_fft)))[:250])
    assert np.asarray(layer(noise_db[np.newaxis, np.newaxis].astype(np.float32))).max() < 0.6


def test_combs_ignore_loudness_at_any_distance_of_bins():
    for n_bins, bin_hz in ((250, 11_025 / 1024), (481, 50.0)):
        made = combs(n_bins, 48, bin_hz)
        np.testing.assert_allclose(made.sum(axis=0), 0.0, atol=1e-6)
        np.testing.assert_allclose(np.maximum(made, 0.0).sum(axis=0).max(), 0.1, rtol=0.05)


def test_what_does_not_fit_together_is_told():
    with pytest.raises(TrainingError, match="found 'minmax'"):
        Preset(0, (8,), normalisation="minmax")
    with pytest.raises(TrainingError, match="output softmax cannot be learnt with loss level"):
        Preset(0, (8,), output="softmax", loss="level")
    with pytest.raises(TrainingError, match="thesis-multi"):
        build("thesis", np.zeros(3, np.float32), np.ones(3, np.float32))


def test_layers_run_on_tensorflow_s_numpy(statistics, levels, monkeypatch):
    """The operations of Keras 2.14, which has none of its own."""
    from tensorflow import shape
    from tensorflow.experimental import numpy as operations

    import training.networks

    for kind in ("running", "pitch", "levels-clip", "thesis"):
        keras.utils.set_random_seed(1)
        wanted = answers(build(KINDS[kind], *statistics), levels)
        with monkeypatch.context() as patch:
            patch.setattr(training.networks, "ops", operations)
            patch.setattr(training.networks, "shape_of", shape)
            keras.utils.set_random_seed(1)
            found = answers(build(KINDS[kind], *statistics), levels)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)


def test_the_page_on_networks_has_every_preset():
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text("utf-8")
    assert not [name for name in PRESETS if f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fullband", PRESETS["fullband"]), ("classic", replace(PRESETS["classic"], settle=True))],
)
def test_a_setting_trains_the_network_that_is_shipped(name, kind):
    """Classic's gains were taught to settle after all else."""
    weights, _ = weights_in(models.FOLDER / f"{name}.onnx")
    assert preset_of(weights) == kind
