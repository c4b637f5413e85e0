"""The streaming laws of the denoiser, on both settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from engine.denoiser import MAX_LIMIT_DB, Denoiser, Frame, Knobs
from engine.errors import ModelError
from engine.network import Estimate, Estimator, Network, State
from engine.spec import ModelSpec
from engine.stft import Float, heard, istft, stft, to_db
from tests.estimators import Broken, Failing, Filtering, Lagging, Steady
from tests.onnx_models import write_identity

BAD = [np.nan, np.inf, -np.inf, 1e30, -3e38, 1e4]
"""What a broken driver hands over; 1e30 squared is beyond float32."""


def noise(rng: np.random.Generator, spec: ModelSpec, n_hops: int = 30) -> Float:
    return rng.uniform(-0.5, 0.5, n_hops * spec.hop).astype(np.float32)


def run(denoiser: Denoiser, signal: Float) -> Float:
    hops = signal.reshape(-1, denoiser.spec.hop)
    return np.concatenate([denoiser.process(hop) for hop in hops])


def watched(denoiser: Denoiser, signal: Float) -> tuple[Float, list[Frame]]:
    made, frames = [], []
    for hop in signal.reshape(-1, denoiser.spec.hop):
        made.append(denoiser.process(hop))
        frames.append(denoiser.frame)
    return np.concatenate(made), frames


def assert_delayed(made: Float, signal: Float, delay: int, atol: float = 1e-6) -> None:
    """1e-6: the law; float32 rounding makes up 3e-7 of it."""
    np.testing.assert_allclose(made[:delay], 0.0, atol=atol)
    np.testing.assert_allclose(made[delay:], signal[: len(signal) - delay], atol=atol)


def assert_same_frames(some: Sequence[Frame], others: Sequence[Frame]) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one.noisy_db, other.noisy_db)
        np.testing.assert_array_equal(one.gain, other.gain)
        assert one.speech == other.speech


# Delay, silence, streaming


def test_gain_1_is_a_pure_delay_of_the_declared_latency(
    tmp_path: Path, spec: ModelSpec, rng: np.random.Generator
) -> None:
    spec = replace(spec, n_bins=spec.n_spectrum)
    signal = noise(rng, spec)
    network = Network(write_identity(tmp_path / "all bins.onnx", spec), provider="cpu")
    denoiser = Denoiser(network)
    assert denoiser.latency == spec.n_fft - spec.hop
    assert_delayed(run(denoiser, signal), signal, denoiser.latency)


def test_what_lies_within_the_networks_bins_is_delayed_as_well(
    identity: Network, spec: ModelSpec
) -> None:
    """classic has 250 of 513 bins: up to 2.69 kHz."""
    n = 30 * spec.hop
    tone = np.sin(2 * np.pi * 1000 / spec.sample_rate * np.arange(n)) * np.hanning(n)
    made = run(Denoiser(identity), tone.astype(np.float32))
    # 1 kHz is 157 bins below bin 250 on classic, where a Hann window lets through −120 dB.
    assert_delayed(made, tone.astype(np.float32), spec.latency, atol=2e-6)


@pytest.mark.parametrize("lookahead", [1, 2, 7])
def test_look_ahead_adds_whole_hops_to_the_pure_delay(
    spec: ModelSpec, lookahead: int, rng: np.random.Generator
) -> None:
    spec = replace(spec, lookahead=lookahead, n_bins=spec.n_spectrum)
    denoiser = Denoiser(Steady(spec))
    assert denoiser.latency == spec.n_fft - spec.hop + lookahead * spec.hop
    signal = noise(rng, spec)
    assert_delayed(run(denoiser, signal), signal, denoiser.latency)


def test_a_lagging_answer_meets_the_frame_it_is_about(spec: ModelSpec) -> None:
    """A burst is silenced by a gain that comes three frames late, and nothing beside it is."""
    spec = replace(spec, lookahead=3, n_bins=spec.n_spectrum)
    n_hops, burst = 24, slice(10 * spec.hop, 11 * spec.hop)
    time = np.arange(n_hops * spec.hop)
    quiet = (1e-3 * np.sin(2 * np.pi * 0.05 * time)).astype(np.float32)
    signal = quiet.copy()
    signal[burst] += 0.5
    made, frames = watched(Denoiser(Lagging(spec, loud_db=-40.0)), signal)
    made = made[spec.latency :]
    # Frames 10 and 11 hold the burst (n_fft is two hops): with frame 9 before and 12 after,
    # only hops 9 … 11 are touched, and hop 10, covered by frames 10 and 11 alone, is silent.
    np.testing.assert_allclose(made[burst], 0.0, atol=1e-6)
    np.testing.assert_allclose(made[: 9 * spec.hop], quiet[: 9 * spec.hop], atol=1e-6)
    after = slice(12 * spec.hop, len(made))
    np.testing.assert_allclose(made[after], quiet[after], atol=1e-6)
    # A viewer sees the gain beside the frame it was applied to.
    assert [frame.gain.max() == 0.0 for frame in frames].count(True) == 2
    for frame in frames:
        assert (frame.gain.max() == 0.0) == (frame.noisy_db.max() >= -40.0)


# Filters over time


def filtering(spec: ModelSpec, taps: list[complex], gain: float = 1.0) -> Filtering:
    """The same few taps for each of all bins."""
    spec = replace(spec, n_bins=spec.n_spectrum, filter_bins=spec.n_spectrum, filter_taps=len(taps))
    column = np.array(taps)[:, np.newaxis]
    return Filtering(spec, np.broadcast_to(column, (len(taps), spec.n_spectrum)), gain)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_filter_of_the_newest_frame_alone_is_a_pure_delay(
    spec: ModelSpec, lookahead: int, rng: np.random.Generator
) -> None:
    network = filtering(replace(spec, lookahead=lookahead), [1.0, 0.0, 0.0])
    signal = noise(rng, spec)
    assert_delayed(run(Denoiser(network), signal), signal, network.spec.latency)


@pytest.mark.parametrize("k", [1, 2])
def test_a_filter_of_an_older_frame_brings_back_what_it_was(
    spec: ModelSpec, k: int, rng: np.random.Generator
) -> None:
    """Spectra k frames old are the sound k hops later: the past is kept frame by frame."""
    taps = [0.0, 0.0, 0.0]
    taps[k] = 0.5
    network = filtering(spec, [complex(tap) for tap in taps])
    signal = noise(rng, spec)
    made, frames = watched(Denoiser(network), signal)
    assert_delayed(made, 0.5 * signal, spec.latency + k * spec.hop)
    # What is seen as its gain is what it did to each bin, as far as that is in 0…1.
    assert all(0.0 <= frame.gain.min() <= frame.gain.max() <= 1.0 for frame in frames)
    assert frames[-1].gain.std() > 0.1


def test_a_filter_keeps_to_the_limit_and_bypass(spec: ModelSpec, rng: np.random.Generator) -> None:
    signal = noise(rng, spec)
    silent = filtering(spec, [0.0, 0.0], gain=0.0)
    tenth = run(Denoiser(silent, Knobs(limit_db=20.0)), signal)
    assert_delayed(tenth, np.float32(0.1) * signal, spec.latency)
    turned = filtering(spec, [1j, 0.0])  # turns every phase by a right angle
    for knobs in (Knobs(bypass=True), Knobs(limit_db=0.0)):
        assert_delayed(run(Denoiser(turned, knobs), signal), signal, spec.latency)
    # It turns nothing down, so that no limit changes it.
    with_limit, without = (
        run(Denoiser(turned, knobs), signal) for knobs in (Knobs(limit_db=6.0), Knobs())
    )
    np.testing.assert_array_equal(with_limit, without)
    assert np.abs(without[spec.latency :] - signal[: -spec.latency]).max() > 0.1


def test_a_filter_goes_on_after_a_failure(spec: ModelSpec, rng: np.random.Generator) -> None:
    """The frame that failed goes through, and is part of the past of the next."""
    network = filtering(spec, [0.0, 1.0])
    signal = noise(rng, spec)
    whole = run(Denoiser(network), signal).reshape(-1, spec.hop)
    failing = run(Denoiser(Failing(network, at={10})), signal).reshape(-1, spec.hop)
    reach = spec.n_fft // spec.hop
    same = [k for k in range(len(whole)) if not 10 <= k < 10 + reach]
    np.testing.assert_array_equal(failing[same], whole[same])
    assert not np.array_equal(failing[10], whole[10])


# Phases


def test_a_network_is_told_how_phases_move_from_hop_to_hop(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    """After a failure too: the frame before is the one that was heard, cleaned or not."""
    told: list[Float] = []

    class Listener(Steady):
        def __call__(self, noisy_db: Float, state: State) -> Estimate:
            told.append(noisy_db[0])
            return super().__call__(noisy_db, state)

    network = Listener(replace(spec, n_bins=100, above="hold", phase_bins=50))
    signal = noise(rng, spec, 30)
    spectra = stft(signal, spec)
    whole = heard(to_db(spectra, spec), spectra, network.spec)
    denoiser = Denoiser(network)
    run(denoiser, signal)
    np.testing.assert_array_equal(np.array(told), whole)
    told.clear()
    denoiser.reset()
    run(denoiser, signal)
    np.testing.assert_array_equal(np.array(told), whole)
    told.clear()
    run(Denoiser(Failing(network, at={7})), signal)
    np.testing.assert_array_equal(np.array(told), np.delete(whole, 7, axis=0))


def test_silence_in_gives_silence_out(lstm: Network, spec: ModelSpec) -> None:
    for network in (lstm, Steady(spec, 1.0), Steady(spec, 0.3)):
        assert not run(Denoiser(network), np.zeros(20 * spec.hop, np.float32)).any()


def test_the_stream_is_the_whole_transform_times_the_gains_of_the_whole_sequence(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    """The same signal path written once more, on whole arrays."""
    signal = noise(rng, spec, 60)
    spectra = stft(signal, spec)
    estimate = lstm(to_db(spectra, spec)[:, : spec.n_bins], lstm.initial_state())
    gain = np.zeros((len(spectra), spec.n_spectrum), np.float32)
    gain[:, : spec.n_bins] = estimate.gain
    made, frames = watched(Denoiser(lstm), signal)
    # ONNX Runtime sums a sequence in another order than single frames: 1e-6 of gain, grown a
    # little by the recurrence.
    np.testing.assert_allclose(np.array([f.gain for f in frames]), gain, atol=1e-5)
    np.testing.assert_allclose(made, istft(spectra * gain, spec), atol=1e-5)
    np.testing.assert_allclose([f.speech for f in frames], estimate.speech, atol=1e-5)
    np.testing.assert_array_equal([f.noisy_db for f in frames], to_db(spectra, spec))


def test_two_denoisers_of_one_network_do_not_hear_each_other(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    """Stereo: each channel has its own state."""
    left, right = noise(rng, spec), noise(rng, spec)
    together = Denoiser(lstm), Denoiser(lstm)
    hops = zip(left.reshape(-1, spec.hop), right.reshape(-1, spec.hop), strict=True)
    made = [(together[0].process(one), together[1].process(other)) for one, other in hops]
    np.testing.assert_array_equal(
        np.concatenate([one for one, _ in made]), run(Denoiser(lstm), left)
    )
    np.testing.assert_array_equal(
        np.concatenate([other for _, other in made]), run(Denoiser(lstm), right)
    )


# Forgetting


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("before", ["noise", "NaN", "fault", "loud"])
def test_reset_equals_new(
    lstm: Network, spec: ModelSpec, lookahead: int, before: str, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)

    def fresh(at: Sequence[int] = ()) -> Denoiser:
        network = Failing(lstm, at)
        network.spec = replace(spec, lookahead=lookahead)
        return Denoiser(network)

    heard = noise(rng, spec, 9)
    if before == "NaN":
        heard[::3] = np.nan
    elif before == "loud":
        heard *= np.float32(1e3)
    used = fresh(at=[8] if before == "fault" else [])
    run(used, heard)
    assert (used.fault is not None) == (before == "fault")
    used.reset()
    new = fresh()
    assert used.fault is None
    assert_same_frames([used.frame], [new.frame])
    made, frames = watched(used, signal)
    wanted, wanted_frames = watched(new, signal)
    np.testing.assert_array_equal(made, wanted)
    assert_same_frames(frames, wanted_frames)


def test_reset_keeps_the_knobs(lstm: Network) -> None:
    denoiser = Denoiser(lstm, Knobs(limit_db=12.0))
    denoiser.reset()
    assert denoiser.knobs == Knobs(limit_db=12.0)


# Bad samples


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["one", "hop", "all"])
def test_bad_samples_are_silence_to_the_output_and_to_the_state(
    lstm: Network, spec: ModelSpec, bad: float, where: str, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    mask = np.zeros(len(signal), bool)
    mask[{"one": slice(5 * spec.hop + 7, 5 * spec.hop + 8),
          "hop": slice(5 * spec.hop, 6 * spec.hop),
          "all": slice(0, 12 * spec.hop)}[where]] = True  # fmt: skip
    made, frames = watched(Denoiser(lstm), np.where(mask, np.float32(bad), signal))
    wanted, wanted_frames = watched(Denoiser(lstm), np.where(mask, np.float32(0), signal))
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, wanted)
    assert_same_frames(frames, wanted_frames)


def test_sound_far_too_loud_stays_finite_and_is_still_sound(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    """A driver that hands over int16 as float is wrong, but not absurd."""
    spec = replace(spec, n_bins=spec.n_spectrum)
    signal = noise(rng, spec) * np.float32(1.9e4)
    made = run(Denoiser(Steady(spec)), signal)
    assert_delayed(made, signal, spec.latency, atol=1e4 * 1e-6)


@pytest.mark.parametrize("kind", ["short", "long", "2-D", "float64", "int16", "list"])
def test_a_hop_of_another_shape_or_type_is_refused_and_forgotten(
    lstm: Network, spec: ModelSpec, kind: str, rng: np.random.Generator
) -> None:
    hop = noise(rng, spec, 1)
    wrong = {
        "short": hop[1:],
        "long": np.append(hop, hop[:1]),
        "2-D": hop[:, np.newaxis],
        "float64": hop.astype(np.float64),
        "int16": hop.astype(np.int16),
        "list": hop[np.newaxis],
    }[kind]
    signal = noise(rng, spec)
    denoiser = Denoiser(lstm)
    with pytest.raises(ValueError, match=rf"hop should be \({spec.hop},\) float32, got"):
        denoiser.process(wrong)
    np.testing.assert_array_equal(run(denoiser, signal), run(Denoiser(lstm), signal))


def test_the_hop_and_the_published_frames_are_not_changed(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    denoiser = Denoiser(lstm)
    buffer = np.empty(spec.hop, np.float32)
    made, frames, copies = [], [], []
    for hop in signal.reshape(-1, spec.hop):
        buffer[:] = hop
        made.append(denoiser.process(buffer))
        np.testing.assert_array_equal(buffer, hop)
        buffer[:] = np.nan
        frames.append(denoiser.frame)
        copies.append(Frame(denoiser.frame.noisy_db.copy(), denoiser.frame.gain.copy(), 0.0))
        copies[-1] = copies[-1]._replace(speech=denoiser.frame.speech)
    assert_same_frames(frames, copies)
    np.testing.assert_array_equal(np.concatenate(made), run(Denoiser(lstm), signal))


# Faults


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_failing_network_lets_the_delayed_sound_through_until_it_recovers(
    spec: ModelSpec, lookahead: int, rng: np.random.Generator
) -> None:
    spec = replace(spec, lookahead=lookahead)
    failing = range(4, 11)
    denoiser = Denoiser(Failing(Steady(spec, 0.0), failing))
    signal = noise(rng, spec)
    hops = signal.reshape(-1, spec.hop)
    for k, hop in enumerate(hops):
        made = denoiser.process(hop)
        assert made.shape == (spec.hop,)
        if k in failing:
            assert isinstance(denoiser.fault, ModelError)
            assert f"call {k} failed" in str(denoiser.fault)
            np.testing.assert_array_equal(denoiser.frame.gain, 1.0)
        else:
            assert denoiser.fault is None
            np.testing.assert_array_equal(denoiser.frame.gain, 0.0)
        # A hop is made of the last two frames; at the edges one of them is still silent.
        if k in failing and k - 1 in failing:
            source = k - spec.latency // spec.hop
            wanted = hops[source] if source >= 0 else np.zeros(spec.hop, np.float32)
            np.testing.assert_allclose(made, wanted, atol=1e-6)
        elif k not in failing and k - 1 not in failing:
            np.testing.assert_array_equal(made, 0.0)


@pytest.mark.parametrize("kind", [Failing, Broken])
def test_neither_errors_nor_nan_click(spec: ModelSpec, kind: type[Failing]) -> None:
    """A tone that is turned down, then not, then again: no bend that the tone has not itself."""
    network = kind(Steady(replace(spec, n_bins=spec.n_spectrum), 0.25), range(20, 30))
    denoiser = Denoiser(network)
    step = 2.0 * np.pi * 440.0 / spec.sample_rate
    tone = (0.5 * np.sin(step * np.arange(60 * spec.hop))).astype(np.float32)
    heard, faults = [], []
    for hop in tone.reshape(-1, spec.hop):
        heard.append(denoiser.process(hop))
        faults.append(denoiser.fault is not None)
    assert faults == [20 <= k < 30 for k in range(60)]
    sound = np.concatenate(heard)[4 * spec.hop :]
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0.49  # it did go through
    # A step of three quarters of the tone would be a hundred times this.
    assert np.abs(np.diff(sound, 2)).max() < 1.1 * 0.5 * step**2


def test_a_network_that_keeps_failing_is_asked_less_and_less(spec: ModelSpec) -> None:
    network = Failing(Steady(spec), range(1000))
    denoiser = Denoiser(network)
    hop, n_hops = np.zeros(spec.hop, np.float32), round(60.0 / spec.hop_s)
    for _ in range(n_hops):
        denoiser.process(hop)
        assert denoiser.fault is not None
    assert network.calls < 35
    network._at = []  # it has recovered
    for _ in range(round(31.0 / spec.hop_s)):
        denoiser.process(hop)
    assert denoiser.fault is None
    calls = network.calls
    for _ in range(100):
        denoiser.process(hop)
    assert network.calls == calls + 100


def test_after_a_fault_the_network_begins_anew(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    _, frames = watched(Denoiser(Failing(lstm, [10])), signal)
    state = lstm.initial_state()
    for frame in frames[11:]:
        gain, speech, state, _ = lstm(frame.noisy_db[np.newaxis, : spec.n_bins], state)
        np.testing.assert_array_equal(frame.gain[: spec.n_bins], gain[0])
        assert frame.speech == speech[0]


def test_a_network_that_never_works_is_a_delay(spec: ModelSpec, rng: np.random.Generator) -> None:
    signal = noise(rng, spec)
    denoiser = Denoiser(Failing(Steady(spec, 0.0), range(1000)))
    assert_delayed(run(denoiser, signal), signal, denoiser.latency)
    assert denoiser.fault is not None


# Knobs


@pytest.mark.parametrize("limit_db", [0.0, 0.5, 6.0, 20.0, 60.0, 99.9])
def test_no_bin_is_turned_down_further_than_the_limit(
    lstm: Network, spec: ModelSpec, limit_db: float, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    _, free = watched(Denoiser(lstm), signal)
    _, bounded = watched(Denoiser(lstm, Knobs(limit_db)), signal)
    floor = np.float32(10 ** (-limit_db / 20))
    assert min(frame.gain.min() for frame in free) < floor or limit_db > 90
    for frame, unbounded in zip(bounded, free, strict=True):
        np.testing.assert_array_equal(frame.gain, np.maximum(unbounded.gain, floor))


@pytest.mark.parametrize("limit_db", [1.0, 12.0, 40.0])
def test_a_silencing_network_behind_a_limit_is_an_attenuator(
    spec: ModelSpec, limit_db: float, rng: np.random.Generator
) -> None:
    """Heard, not only seen: the whole band, above n_bins too, goes down by the limit exactly."""
    signal = noise(rng, spec)
    made = run(Denoiser(Steady(spec, 0.0), Knobs(limit_db)), signal)
    assert_delayed(made, signal * np.float32(10 ** (-limit_db / 20)), spec.latency)


def test_the_highest_limit_is_none(spec: ModelSpec, rng: np.random.Generator) -> None:
    made = run(Denoiser(Steady(spec, 0.0), Knobs(MAX_LIMIT_DB)), noise(rng, spec))
    assert not made.any()


def test_limit_0_and_bypass_are_the_same_pure_delay(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    limited = run(Denoiser(lstm, Knobs(limit_db=0.0)), signal)
    np.testing.assert_array_equal(limited, run(Denoiser(lstm, Knobs(bypass=True)), signal))
    assert_delayed(limited, signal, spec.latency)


def test_the_network_goes_on_listening_through_a_bypass(
    lstm: Network, spec: ModelSpec, rng: np.random.Generator
) -> None:
    signal = noise(rng, spec)
    denoiser = Denoiser(lstm)
    _, wanted = watched(Denoiser(lstm), signal)
    for k, hop in enumerate(signal.reshape(-1, spec.hop)):
        denoiser.knobs = Knobs(bypass=5 <= k < 15)
        denoiser.process(hop)
        if k >= 15:
            assert_same_frames([denoiser.frame], [wanted[k]])


def test_bins_above_the_networks_are_silent_or_held(rng: np.random.Generator) -> None:
    spec = ModelSpec("above", "1", sample_rate=16000, n_fft=512, hop=256, n_bins=100)
    gain = np.linspace(0, 1, 100, dtype=np.float32)
    time = np.arange(40 * spec.hop)
    high = (0.5 * np.sin(2 * np.pi * 200 / 512 * time)).astype(np.float32)  # bin 200
    silent = run(Denoiser(Steady(spec, gain)), high)
    held = run(Denoiser(Steady(replace(spec, above="hold"), gain)), high)
    inner = slice(4 * spec.hop, None)  # the tone's onset has all frequencies
    np.testing.assert_allclose(silent[inner], 0.0, atol=1e-6)
    top = gain[-12:].mean()  # an eighth of 100 bins
    delayed = np.concatenate([np.zeros(spec.latency, np.float32), high])
    np.testing.assert_allclose(held[inner], top * delayed[: len(held)][inner], atol=1e-6)


@pytest.mark.parametrize("out", [1.0001, 1.5, -0.0001, -3.0])
def test_a_gain_out_of_range_is_brought_back_into_it(
    spec: ModelSpec, out: float, rng: np.random.Generator
) -> None:
    _, frames = watched(Denoiser(Steady(spec, out)), noise(rng, spec, 3))
    for frame in frames:
        assert frame.gain.min() >= 0.0
        assert frame.gain.max() <= 1.0


@pytest.mark.parametrize("limit_db", [-0.1, 100.1, float("nan"), float("inf"), -1e9])
def test_a_limit_out_of_range_is_refused(limit_db: float) -> None:
    with pytest.raises(ValueError, match=r"limit should be within 0…100 dB, got"):
        Knobs(limit_db=limit_db)


def test_knobs_are_replaced_not_turned() -> None:
    with pytest.raises(FrozenInstanceError):
        Knobs().bypass = True  # type: ignore[misc]


def test_a_denoiser_takes_any_estimator(spec: ModelSpec) -> None:
    network: Estimator = Steady(spec)
    assert Denoiser(network).spec == spec
