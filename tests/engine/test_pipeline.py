"""Blocks at any rate: sample k out belongs to sample k in, however the blocks fall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.denoiser import Denoiser, Frame, Knobs
from engine.network import Estimator, Network
from engine.pipeline import Pipeline
from engine.spec import ModelSpec
from engine.stft import Float
from tests.estimators import Failing, Steady
from tests.onnx_models import CLASSIC, FULLBAND

DEVICE_RATES = [8000, 11025, 16000, 44100, 48000]
BLOCKS = [1, 17, 128, 509, 4096]
ROUNDING = 2e-6
"""Two filters sum up to 276 float32 products each, in whatever order the CPU likes."""
RIPPLE = 4e-4
"""Twice what one change of rate may do to a tone (see test_resample)."""


def noise(rng: np.random.Generator, n: int) -> Float:
    return rng.uniform(-0.5, 0.5, n).astype(np.float32)


def whole_band(spec: ModelSpec) -> ModelSpec:
    """The setting for a network that steers every bin: gain 1 changes nothing then."""
    return replace(spec, n_bins=spec.n_spectrum)


def run(pipeline: Pipeline, signal: Float, block: int | None = None) -> Float:
    """Everything in, everything out."""
    step = block or max(1, len(signal))
    parts = [pipeline.process(signal[k : k + step]) for k in range(0, len(signal), step)]
    return np.concatenate([*parts, pipeline.flush()])


def tone(frequency_hz: float, rate: int, n: int) -> Float:
    """Fades in and out, so that its ends hold no other frequencies."""
    sine = np.sin(2 * np.pi * frequency_hz / rate * np.arange(n) + 0.4)
    return (0.5 * sine * np.hanning(n)).astype(np.float32)


# Streamed equals whole, and as long


@pytest.mark.parametrize("rate", DEVICE_RATES)
@pytest.mark.parametrize("block", BLOCKS)
def test_streamed_equals_whole(
    lstm: Network, rate: int, block: int, rng: np.random.Generator
) -> None:
    n = rate // 8 if block == 1 else rate // 2
    signal = noise(rng, n)
    whole = run(Pipeline(Denoiser(lstm), rate), signal)
    made = run(Pipeline(Denoiser(lstm), rate), signal, block)
    assert made.dtype == np.float32
    assert len(made) == len(signal)
    # The network sees spectra that differ by rounding; a bin at the noise floor may turn that
    # into a gain of its own, of next to nothing: hence more than ROUNDING.
    np.testing.assert_allclose(made, whole, atol=1e-5)


@pytest.mark.parametrize("spec", [CLASSIC, FULLBAND], ids=lambda spec: spec.name)
def test_at_the_models_rate_streamed_equals_whole_to_the_bit(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec.sample_rate // 2)
    whole = run(Pipeline(Denoiser(lstm), spec.sample_rate), signal)
    for block in BLOCKS:
        made = run(Pipeline(Denoiser(lstm), spec.sample_rate), signal, block)
        np.testing.assert_array_equal(made, whole)


@settings(max_examples=40, deadline=None)
@given(
    setting=st.sampled_from([CLASSIC, FULLBAND]),
    rate=st.sampled_from(DEVICE_RATES),
    blocks=st.lists(st.integers(0, 3000), max_size=10),
)
def test_any_blocks_come_out_as_long_as_they_went_in(
    setting: ModelSpec, rate: int, blocks: list[int]
) -> None:
    signal = np.random.default_rng(len(blocks)).uniform(-0.5, 0.5, sum(blocks)).astype(np.float32)
    pipeline = Pipeline(Denoiser(Steady(setting, 0.5)), rate)
    parts = []
    for block in np.split(signal, np.cumsum(blocks)[:-1]) if blocks else []:
        parts.append(pipeline.process(block))
        assert pipeline.n_out == sum(map(len, parts)) <= pipeline.n_in
    made = np.concatenate([*parts, pipeline.flush()])
    assert len(made) == len(signal)
    whole = run(Pipeline(Denoiser(Steady(setting, 0.5)), rate), signal)
    np.testing.assert_allclose(made, whole, atol=ROUNDING)


@pytest.mark.parametrize("rate", [*DEVICE_RATES, 7919, 96000])
@pytest.mark.parametrize("lookahead", [0, 3])
def test_total_out_is_total_in(spec: ModelSpec, rate: int, lookahead: int) -> None:
    denoiser = Denoiser(Steady(replace(spec, lookahead=lookahead)))
    pipeline = Pipeline(denoiser, rate)
    hop = pipeline.burst
    for n in (0, 1, 2, 3, hop - 1, hop, hop + 1, 2 * hop, 2 * hop + 1, 5003):
        assert len(run(pipeline, np.ones(n, np.float32))) == n
        assert len(run(pipeline, np.ones(n, np.float32), block=211)) == n


# Where a sample comes out


@pytest.mark.parametrize("rate", DEVICE_RATES)
@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_tone_comes_out_where_it_went_in(spec: ModelSpec, rate: int, lookahead: int) -> None:
    """A shift by a tenth of a sample at 48 kHz would change 1.5 kHz by 0.01."""
    pipeline = Pipeline(Denoiser(Steady(whole_band(replace(spec, lookahead=lookahead)))), rate)
    for frequency_hz in (100.0, 1500.0, 0.8 * min(rate, spec.sample_rate) / 2):
        signal = tone(frequency_hz, rate, rate // 2)
        made = run(pipeline, signal, 509)
        np.testing.assert_allclose(made, signal, atol=RIPPLE)


def test_at_the_models_rate_gain_1_gives_back_the_input(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, 10 * spec.hop + 77)
    for lookahead in (0, 5):
        setting = whole_band(replace(spec, lookahead=lookahead))
        made = run(Pipeline(Denoiser(Steady(setting)), spec.sample_rate), signal, 128)
        np.testing.assert_allclose(made, signal, atol=1e-6)  # the law of the pure delay


@pytest.mark.parametrize("rate", DEVICE_RATES)
@pytest.mark.parametrize("lookahead", [0, 2])
def test_no_sample_is_withheld_longer_than_declared(
    spec: ModelSpec, rate: int, lookahead: int
) -> None:
    pipeline = Pipeline(Denoiser(Steady(replace(spec, lookahead=lookahead))), rate)
    worst, n = 0, int(rate * (0.1 + 2.1 * pipeline.latency_s))
    for _ in range(n):
        pipeline.process(np.zeros(1, np.float32))
        worst = max(worst, pipeline.n_in - pipeline.n_out)
    # The sample that just came in has waited for nothing yet.
    assert (worst - 1) / rate <= pipeline.latency_s
    # Nor is the delay overstated, by more than a sample of each rate.
    assert (worst + 1) / rate > pipeline.latency_s - 2 / spec.sample_rate - 1 / rate


def test_silence_in_gives_silence_out(lstm: Network) -> None:
    for rate in DEVICE_RATES:
        assert not run(Pipeline(Denoiser(lstm), rate), np.zeros(rate // 4, np.float32), 480).any()


# Forgetting


@pytest.mark.parametrize("rate", [11025, 44100, 48000])
@pytest.mark.parametrize("before", ["noise", "NaN", "fault", "flush", "fade"])
def test_reset_equals_new(lstm: Network, rate: int, before: str, rng: np.random.Generator) -> None:
    signal = noise(rng, rate // 4)
    network: Estimator = Failing(lstm, [1, 2]) if before == "fault" else lstm
    used = Pipeline(Denoiser(network), rate)
    heard = noise(rng, rate // 5 + 13)
    if before == "NaN":
        heard[::7] = np.nan
    used.process(heard)
    if before == "fade":
        used.knobs = Knobs(bypass=True)
        used.process(heard[: rate // 100])
        used.knobs = Knobs()
    if before == "flush":
        used.flush()
    else:
        used.reset()
    assert (used.n_in, used.n_out) == (0, 0)
    made, wanted = run(used, signal, 480), run(Pipeline(Denoiser(lstm), rate), signal, 480)
    np.testing.assert_array_equal(made, wanted)


def test_a_new_pipeline_honours_the_denoisers_knobs(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec.sample_rate // 4)
    pipeline = Pipeline(Denoiser(Steady(spec, 0.0), Knobs(bypass=True)), spec.sample_rate)
    np.testing.assert_array_equal(run(pipeline, signal, 128), signal)


# Bad samples


@pytest.mark.parametrize("rate", [11025, 44100, 48000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38, 1e5])
@pytest.mark.parametrize("bypass", [False, True])
def test_bad_samples_are_silence(
    lstm: Network, rate: int, bad: float, bypass: bool, rng: np.random.Generator
) -> None:
    signal = noise(rng, rate // 3)
    mask = np.zeros(len(signal), bool)
    mask[1000] = mask[2000:2600] = mask[-3:] = True
    knobs = Knobs(bypass=bypass)
    made = run(Pipeline(Denoiser(lstm, knobs), rate), np.where(mask, np.float32(bad), signal), 480)
    wanted = run(Pipeline(Denoiser(lstm, knobs), rate), np.where(mask, np.float32(0), signal), 480)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, wanted)


def test_bad_samples_in_a_crossfade_are_silence(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec.sample_rate // 2)
    signal[::50] = np.nan
    pipeline = Pipeline(Denoiser(lstm), spec.sample_rate)
    for k, block in enumerate(np.array_split(signal, 50)):
        pipeline.knobs = Knobs(bypass=k % 2 == 0)
        assert np.isfinite(pipeline.process(block)).all()


# Faults


@pytest.mark.parametrize("rate", [11025, 48000])
def test_a_failing_network_lets_the_sound_through_in_its_place(spec: ModelSpec, rate: int) -> None:
    signal = tone(1000.0, rate, rate)
    denoiser = Denoiser(Failing(Steady(whole_band(spec), 0.0), range(10_000)))
    made = run(Pipeline(denoiser, rate), signal, 480)
    np.testing.assert_allclose(made, signal, atol=RIPPLE)


def test_the_sound_goes_on_through_single_faults(lstm: Network, rng: np.random.Generator) -> None:
    pipeline = Pipeline(Denoiser(Failing(lstm, range(3, 100, 7))), 48000)
    made = run(pipeline, noise(rng, 24_000), 480)
    assert len(made) == 24_000
    assert np.isfinite(made).all()


# Bypass


@pytest.mark.parametrize("rate", DEVICE_RATES)
@pytest.mark.parametrize("knobs", [Knobs(bypass=True), Knobs(limit_db=0.0)])
def test_bypass_and_limit_0_give_back_the_input_to_the_bit(
    lstm: Network, rate: int, knobs: Knobs, rng: np.random.Generator
) -> None:
    signal = noise(rng, rate // 3)
    made = run(Pipeline(Denoiser(lstm, knobs), rate), signal, 480)
    np.testing.assert_array_equal(made, signal)


@pytest.mark.parametrize("rate", [11025, 44100, 48000])
@pytest.mark.parametrize("block", [17, 480])
def test_bypass_fades_in_aligned_and_then_is_the_input_and_fades_out_again(
    spec: ModelSpec, rate: int, block: int
) -> None:
    """Behind a network that silences everything, so that all that is heard is the bypass."""
    time_s = np.arange(2 * rate) / rate
    signal = 0.3 * np.sin(2 * np.pi * 440.0 * time_s) + 0.2 * np.sin(2 * np.pi * 1234.5 * time_s)
    signal = signal.astype(np.float32)
    pipeline = Pipeline(Denoiser(Steady(spec, 0.0)), rate)
    made: list[Float] = []
    turned = {}
    for start in range(0, len(signal), block):
        if start // block == (len(signal) // 3) // block:
            pipeline.knobs = Knobs(bypass=True)
            turned["on"] = pipeline.n_out
        if start // block == (2 * len(signal) // 3) // block:
            pipeline.knobs = Knobs()
            turned["off"] = pipeline.n_out
        made.append(pipeline.process(signal[start : start + block]))
    heard = np.concatenate([*made, pipeline.flush()])
    fade = round(0.02 * rate) + 1
    on, off = turned["on"], turned["off"]
    np.testing.assert_allclose(heard[:on], 0.0, atol=ROUNDING)
    np.testing.assert_array_equal(heard[on + fade : off], signal[on + fade : off])
    # The denoiser had let the sound through as well: it ends a window later.
    end = off + fade + round((spec.n_fft + spec.hop) / spec.sample_rate * rate)
    end += round(0.01 * rate)  # both resampling filters
    np.testing.assert_allclose(heard[end:], 0.0, atol=ROUNDING)
    # In between it is the same sound at another gain: no other sample is mixed in.
    loud = np.abs(signal[on : on + fade]) > 0.05
    share = heard[on : on + fade][loud] / signal[on : on + fade][loud]
    assert share.min() > -RIPPLE / 0.05
    assert share.max() < 1 + RIPPLE / 0.05
    assert heard[on + fade - 1] == signal[on + fade - 1]


@pytest.mark.parametrize("bypass", [False, True])
def test_muted_nothing_comes_out_after_a_fade(spec: ModelSpec, bypass: bool) -> None:
    rate = 48_000
    signal = tone(300.0, rate, rate)
    pipeline = Pipeline(Denoiser(Steady(whole_band(spec), 1.0)), rate)
    blocks = np.array_split(signal, 100)
    heard = [pipeline.process(block) for block in blocks[:50]]
    pipeline.knobs = Knobs(bypass=bypass, muted=True)
    muted = np.concatenate([pipeline.process(block) for block in blocks[50:]])
    # Two fades at once, of bypass and of muting, each of 20 ms.
    assert np.abs(muted[rate // 50 :]).max() == 0.0
    steps = np.abs(np.diff(np.concatenate([*heard, muted])))
    assert steps.max() < 1.1 * np.abs(np.diff(signal)).max() + RIPPLE
    silent = Pipeline(Denoiser(Steady(spec, 1.0), Knobs(muted=True)), rate)
    assert np.abs(run(silent, signal, 480)).max() == 0.0


@pytest.mark.parametrize("rate", [11025, 48000])
@pytest.mark.parametrize("every", [3, 10, 50])
def test_toggling_never_clicks(spec: ModelSpec, rate: int, every: int) -> None:
    """A constant shows every step; the denoiser silences it, the bypass does not."""
    level = 0.5
    signal = np.full(3 * rate, level, np.float32)
    pipeline = Pipeline(Denoiser(Steady(spec, 0.0)), rate)
    made = []
    for k, start in enumerate(range(0, len(signal), 128)):
        pipeline.knobs = Knobs(bypass=k // every % 2 == 1)
        made.append(pipeline.process(signal[start : start + 128]))
    heard = np.concatenate(made)[round(0.1 * rate) :]
    # The fade rises by level / (20 ms) per sample, and the windows of two frames, while the
    # denoiser lets through what it silenced before, by at most 2·level / hop (π/2 of a Hann
    # or sine slope, and rounded up); a jump would be half the level.
    steepest = level * (1 / (0.02 * rate) + 2 * spec.sample_rate / spec.hop / rate)
    assert np.abs(np.diff(heard)).max() <= steepest + 1e-6
    assert heard.max() <= level + 1e-3  # and nothing is added up
    assert heard.min() >= -1e-3
    assert heard.max() > 0.5 * level or every == 3  # it was heard, and
    assert heard.min() < 0.5 * level  # it was silenced


@pytest.mark.parametrize("rate", [11025, 48000])
def test_a_change_of_limit_does_not_click(spec: ModelSpec, rate: int) -> None:
    level = 0.5
    signal = np.full(2 * rate, level, np.float32)
    pipeline = Pipeline(Denoiser(Steady(spec, 0.0)), rate)
    made = []
    for k, start in enumerate(range(0, len(signal), 128)):
        pipeline.knobs = Knobs(limit_db=[100.0, 6.0, 0.0][k // 40 % 3])
        made.append(pipeline.process(signal[start : start + 128]))
    heard = np.concatenate(made)[round(0.1 * rate) :]
    steepest = level * (1 / (0.02 * rate) + 2 * spec.sample_rate / spec.hop / rate)
    assert np.abs(np.diff(heard)).max() <= steepest + 1e-6


def test_the_limit_reaches_the_denoiser_at_the_next_hop(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    frames: list[Frame] = []
    pipeline = Pipeline(Denoiser(Steady(spec, 0.0)), spec.sample_rate, watch=frames.append)
    pipeline.process(noise(rng, spec.hop))
    pipeline.knobs = Knobs(limit_db=20.0)
    assert pipeline.knobs == Knobs(limit_db=20.0)
    pipeline.process(noise(rng, spec.hop))
    assert frames[0].gain.max() == 0.0
    np.testing.assert_array_equal(frames[1].gain, np.float32(0.1))


# Watching, and what the caller keeps


def test_every_hop_is_watched_once_and_in_order(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, 20 * spec.hop)
    seen: list[Frame] = []
    pipeline = Pipeline(Denoiser(lstm), spec.sample_rate, watch=seen.append)
    for start in range(0, len(signal), 300):
        pipeline.process(signal[start : start + 300])
    assert len(seen) == 20
    denoiser = Denoiser(lstm)
    for frame, hop in zip(seen, signal.reshape(-1, spec.hop), strict=True):
        denoiser.process(hop)
        np.testing.assert_array_equal(frame.gain, denoiser.frame.gain)


@pytest.mark.parametrize("knobs", [Knobs(), Knobs(bypass=True)])
def test_the_callers_block_is_neither_kept_nor_changed(
    lstm: Network, spec: ModelSpec, knobs: Knobs, rng: np.random.Generator
) -> None:
    signal = noise(rng, 40 * 256)
    for rate in (spec.sample_rate, 44100):
        pipeline = Pipeline(Denoiser(lstm, knobs), rate)
        buffer = np.empty(256, np.float32)
        made = []
        for block in signal.reshape(-1, 256):
            buffer[:] = block
            got = pipeline.process(buffer)
            np.testing.assert_array_equal(buffer, block)
            made.append(got.copy())
            got[:] = buffer[:] = np.nan
        made.append(pipeline.flush())
        wanted = run(Pipeline(Denoiser(lstm, knobs), rate), signal, 256)
        np.testing.assert_array_equal(np.concatenate(made), wanted)


def test_memory_does_not_grow_with_the_stream(spec: ModelSpec) -> None:
    """What is withheld is bounded by the latency, also after a minute."""
    pipeline = Pipeline(Denoiser(Steady(spec)), 44100)
    block = np.zeros(44100, np.float32)
    for _ in range(60):
        pipeline.process(block)
        assert pipeline.n_in - pipeline.n_out <= pipeline.latency_s * 44100 + 1
        kept = (pipeline._dry, pipeline._hops, pipeline._to_model._heard)
        assert sum(part.size for part in kept) < 44100 // 2
        # A slice of a large array would keep the whole of it alive.
        assert all(part.base is None or part.base.size < 2 * 44100 for part in kept)
