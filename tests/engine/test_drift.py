"""Two clocks, hours of them: the delay stays, nothing runs dry, and a tone stays a tone."""

from __future__ import annotations

import numpy as np
import pytest

from engine.devices import SAMPLE_RATE
from engine.drift import SPEED_LIMIT, Drift
from engine.live import LiveSession
from engine.spec import ModelSpec
from tests.engine import two_clocks
from tests.engine.two_clocks import OUTPUT_S, TwoClocks, artefacts_db, largest_bend
from tests.estimators import Slow, Steady
from tests.onnx_models import CLASSIC, FULLBAND

BLOCK_S = 0.01


def hold(drift: Drift, clocks: float, seconds: float, excess_s: float = 0.0) -> list[float]:
    """Errors over time [s] when the clocks differ by a share of ``clocks`` and jumps are made."""
    errors = []
    for _ in range(round(seconds / BLOCK_S)):
        jump_s = drift.update(excess_s, BLOCK_S)
        if jump_s:
            excess_s -= jump_s
            drift.restart()
        excess_s += BLOCK_S * (clocks - drift.speed)
        errors.append(excess_s)
    return errors


@pytest.mark.parametrize("ppm", [-1000, -50, -10, 20, 500])
def test_any_drift_is_learnt_and_held(ppm: float) -> None:
    drift = Drift()
    errors = hold(drift, 1e-6 * ppm, max(300.0, 0.01 / abs(1e-6 * ppm)))
    assert max(map(abs, errors)) < 0.010
    assert abs(errors[-1]) < 1e-4
    assert drift.speed == pytest.approx(1e-6 * ppm, abs=1e-6)


def test_equal_clocks_are_left_alone() -> None:
    drift = Drift()
    hold(drift, 0.0, 2.0)  # a start is put right to the millisecond
    assert hold(drift, 0.0, 60.0, excess_s=0.002)[-1] == 0.002
    assert drift.speed == 0.0
    assert drift.excess_s == pytest.approx(0.002)


def test_a_drift_that_ends_lets_the_control_rest() -> None:
    drift = Drift()
    hold(drift, 2e-4, 120.0)
    assert drift.speed > 1e-4
    hold(drift, 0.0, 300.0)
    assert drift.speed == 0.0


@pytest.mark.parametrize("excess_s", [5.0, 0.3, 0.03, -0.03, -0.3])
def test_what_a_stall_left_is_jumped_over_within_a_second(excess_s: float) -> None:
    drift = Drift()
    hold(drift, 0.0, 10.0)
    assert abs(hold(drift, 0.0, 1.0, excess_s)[-1]) < 0.001


def test_what_a_stall_left_is_not_learnt_as_drift() -> None:
    drift = Drift()
    hold(drift, 5e-5, 300.0)
    # Callbacks that come at once after a stop, before the jump is made.
    for _ in range(40):
        drift.update(1.7, BLOCK_S)
    drift.restart()
    drift.update(0.0, BLOCK_S)
    assert drift.speed == pytest.approx(5e-5, abs=1e-5)


def test_a_quantum_of_silence_is_jumped_over_at_once() -> None:
    """PipeWire plays 512 samples of it in place of sound that came too late."""
    drift = Drift()
    hold(drift, 0.0, 10.0)
    assert abs(hold(drift, 0.0, 0.5, excess_s=512 / SAMPLE_RATE - 0.003)[-1]) < 0.001


def test_a_place_that_has_moved_is_gone_to_by_speed() -> None:
    drift = Drift()
    hold(drift, 0.0, 10.0)
    drift.ease()
    errors = hold(drift, 0.0, 15.0, excess_s=0.0075)
    assert np.abs(np.diff(errors)).max() < 1.01 * SPEED_LIMIT * BLOCK_S
    assert abs(errors[-1]) < 0.001


def test_what_a_stall_left_is_made_good_and_not_learnt_as_drift() -> None:
    drift = Drift()
    hold(drift, 0.0, 10.0)
    learnt, errors = [], hold(drift, 0.0, 4.0, excess_s=0.0058)
    for _ in range(400):
        errors += hold(drift, 0.0, 0.1, errors[-1])
        learnt.append(abs(drift._learnt))
    assert max(learnt) < 1.5e-4
    assert min(errors) > -0.001
    assert abs(errors[-1]) < 0.0002


def test_one_late_callback_changes_nothing() -> None:
    drift = Drift()
    hold(drift, 0.0, 10.0)
    for _ in range(3):
        assert drift.update(0.2, BLOCK_S) == 0.0
    assert hold(drift, 0.0, 10.0)[-1] == 0.0


def test_a_start_asks_for_its_place_until_it_has_it() -> None:
    drift = Drift()
    jumps_s = [drift.update(0.002, BLOCK_S) for _ in range(110)]
    assert not any(jumps_s[:95])
    # What is to be played there has not always come yet.
    assert jumps_s[-5:] == pytest.approx([0.002] * 5)
    drift.restart()
    assert not any(drift.update(0.002, BLOCK_S) for _ in range(200))


def test_a_start_that_was_far_off_is_looked_at_once_more() -> None:
    drift = Drift()
    assert drift.update(0.008, BLOCK_S) == 0.0
    assert any(drift.update(0.008, BLOCK_S) for _ in range(110))
    drift.restart()
    assert any(drift.update(-0.002, BLOCK_S) for _ in range(110))
    drift.restart()
    assert not any(drift.update(-0.004, BLOCK_S) for _ in range(200))


def test_the_pitch_is_never_changed_audibly() -> None:
    drift = Drift()
    hold(drift, 0.1, 30.0)
    assert abs(drift.speed) <= SPEED_LIMIT


# The session itself, with both clocks simulated


@pytest.mark.parametrize(
    ("spec", "ppm"),
    [(FULLBAND, -500.0), (FULLBAND, 500.0), (CLASSIC, -200.0), (CLASSIC, 200.0)],
    ids=lambda of: of.name if isinstance(of, ModelSpec) else f"{of:+.0f}",
)
def test_minutes_of_drift_leave_delay_and_tone(spec: ModelSpec, ppm: float) -> None:
    """The table of docs/reliability.md has the eight hours."""
    world = TwoClocks(Steady(spec), ppm)
    world.run(1.0)
    playback = world.session._playbacks[0]
    stops = playback.stops
    world.run(59.0)
    off_ms = np.array(world.delays_ms) - np.array(world.targets_ms)
    assert np.abs(off_ms).max() < 10.0
    assert (playback.stops, world.device_underruns) == (stops, 0)
    # Callbacks come up to 20 ms late here: the margin has to learn that.
    assert playback.uncleaned < 0.5 * SAMPLE_RATE
    while playback._since_grown_s < 30.0:  # led by each change of the margin
        world.run(1.0)
    # Still on its way.
    assert 0.5 < playback.drift.speed / (1e-6 * ppm) < 1.5
    assert world.heard is not None
    assert artefacts_db(np.concatenate(world.heard)[-4 * SAMPLE_RATE :]) < -70.0
    status = world.session.status()
    assert status.drops == 0
    assert status.delay_ms is not None
    # The simulated input and output know their own lateness to the sample.
    assert status.delay_ms == pytest.approx(world.delays_ms[-1], abs=1.0)


def halved() -> Steady:
    """What is clean is half as loud: what passes uncleaned shows."""
    return Steady(FULLBAND, gain=0.5)


def heard(world: TwoClocks, last_s: float) -> np.ndarray:
    assert world.heard is not None
    return np.concatenate(world.heard)[-round(last_s * SAMPLE_RATE) :]


@pytest.mark.parametrize("phase_ms", range(0, 10, 2))
def test_it_begins_with_clean_sound_in_whatever_step_callbacks_come(phase_ms: int) -> None:
    """Steady callbacks: what is not there at one is not there at any other."""
    world = TwoClocks(halved(), 0.0, jitter_s=1e-5)
    world._first_slot_s = phase_ms / 1000.0 + OUTPUT_S
    world.run(0.3)
    assert world.session.status().uncleaned_s == 0.0
    sound = heard(world, 0.3)
    assert int(np.argmax(np.abs(sound) > 0.1)) < 0.08 * SAMPLE_RATE
    assert 0.24 < np.abs(sound).max() < 0.26


def test_a_stopped_worker_costs_neither_delay_nor_continuity() -> None:
    world = TwoClocks(halved(), 0.0)
    world.run(10.0)
    world.worker_free_s = world.monotonic() + 5.0
    world.run(4.0)
    assert world.session.status().fault is not None
    assert np.abs(heard(world, 1.0)).max() > 0.49  # as it came
    world.run(2.0)
    status = world.session.status()
    assert status.fault is None
    assert status.drops == 0
    assert 4.5 < status.uncleaned_s < 5.5
    assert np.abs(heard(world, 0.5)).max() < 0.26
    off_ms = np.array(world.delays_ms) - np.array(world.targets_ms)
    assert np.abs(off_ms).max() < 10.0
    assert largest_bend(heard(world, 15.0)) < 1.1


def test_sound_that_is_late_every_time_gets_its_margin_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a stop of the process, where callbacks come in another step than before."""
    monkeypatch.setattr(two_clocks, "OUTPUT_S", 0.004)  # so that no time is left to wait
    world = TwoClocks(halved(), 0.0, jitter_s=1e-5)
    world.run(10.0)
    playback = world.session._playbacks[0]
    assert playback.uncleaned == 0
    for _ in range(2):
        world._first_slot_s -= 0.003
        world.run(0.01)
    world.run(2.0)
    assert 0.3 * SAMPLE_RATE < playback.uncleaned < SAMPLE_RATE
    world.run(3.0)
    assert np.abs(heard(world, 3.0)).max() < 0.26
    assert abs(world.delays_ms[-1] - world.targets_ms[-1]) < 10.0
    assert largest_bend(heard(world, 14.0)) < 1.1


def least_spare_s(world: TwoClocks) -> float:
    """Time to spare when the tightest block of the last second was handed over [s]."""
    playback = world.session._playbacks[0]
    playback._spare_s = float("inf")
    world.run(1.0)
    return playback._spare_s


@pytest.mark.parametrize("spec", [FULLBAND, CLASSIC], ids=lambda spec: spec.name)
def test_a_hiccup_of_the_machine_is_not_heard(spec: ModelSpec) -> None:
    """A little later than sound should be handed over, not later than it can be."""
    world = TwoClocks(Steady(spec, gain=0.5), 0.0, jitter_s=1e-5)
    world.run(10.0)
    playback = world.session._playbacks[0]
    margin, late_s = playback._margin, least_spare_s(world) + 0.003
    assert late_s > 0.0
    for _ in range(5):
        world.worker_cost_s += late_s
        world.run(1.0 if spec is CLASSIC else 0.015)
        world.worker_cost_s -= late_s
        world.run(5.0)
    if spec is FULLBAND:
        assert playback._margin == margin
    assert playback.uncleaned == 0
    assert largest_bend(heard(world, 30.0)) < 1.1


@pytest.mark.parametrize("spec", [FULLBAND, CLASSIC], ids=lambda spec: spec.name)
@pytest.mark.parametrize("step_ms", range(1, 16, 2))
def test_in_whatever_step_callbacks_come_from_now_on_it_is_clean(
    spec: ModelSpec, step_ms: int
) -> None:
    """A device that has fallen behind stays there: on PulseAudio by 3.5 ms, once a minute."""
    world = TwoClocks(Steady(spec, gain=0.5), 0.0, jitter_s=1e-5)
    world.run(5.0)
    world._first_slot_s -= 0.001 * step_ms
    world.run(5.0)
    playback = world.session._playbacks[0]
    uncleaned = playback.uncleaned
    assert uncleaned < SAMPLE_RATE
    world.run(5.0)
    assert playback.uncleaned == uncleaned
    # Not more margin than was lacking, and a step of its own.
    assert playback._margin / SAMPLE_RATE < -0.005 + 0.001 * step_ms + 0.006
    assert largest_bend(heard(world, 14.0)) < 1.1


def test_sound_that_no_margin_makes_good_stays_at_its_delay() -> None:
    world = TwoClocks(halved(), 0.0, jitter_s=1e-5)
    world.run(10.0)
    before_ms = world.delays_ms[-1]
    world.worker_cost_s = 0.200
    world.run(5.0)
    assert world.session.status().fault is not None
    assert abs(world.delays_ms[-1] - before_ms) < 1.0


@pytest.mark.parametrize("seed", [1, 3, 6])
def test_a_machine_that_stood_still_is_back_at_its_delay(seed: int) -> None:
    world = TwoClocks(halved(), 0.0, seed)
    world.run(10.0)
    still_s = 5.0 + 0.003 * seed  # ends at another moment between two callbacks
    world.machine_free_s = world.monotonic() + still_s
    world.run(still_s)
    world.delays_ms.clear()
    world.targets_ms.clear()
    for _ in range(10):
        world.run(0.5)
        told_ms = world.session.status().delay_ms
        assert told_ms == pytest.approx(world.delays_ms[-1], abs=12.0)
    off_ms = np.array(world.delays_ms) - np.array(world.targets_ms)
    assert np.abs(off_ms[-100:]).max() < 6.0
    # Of 5 s that nobody could play, less than a tenth is played late. Too early is found out by
    # two looks of a second each.
    assert (off_ms > 10.0).sum() < 50
    assert (off_ms < -10.0).sum() < 250
    assert abs(world.session._playbacks[0].drift.speed) < 1e-5
    status = world.session.status()
    assert status.fault is None
    # What the device lacked while nothing ran is silence; ours is continuous around it.
    assert largest_bend(heard(world, 5.0)) < 1.1


def like_pipewire(seed: int) -> TwoClocks:
    """Calls in its quanta; tells that nothing is buffered for 4.5 s after a stop, and wanders."""
    world = TwoClocks(halved(), 0.0, seed, jitter_s=1e-4)
    world.quantum_s = 512 / SAMPLE_RATE

    def told_more_s(now_s: float) -> float:
        if 15.0 < now_s < 19.5:
            return -OUTPUT_S
        return 0.006 * float(np.sin(2.0 * np.pi * now_s / 11.0 + seed))

    world.told_more_s = told_more_s
    return world


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_nonsense_that_a_server_tells_after_a_stop_does_not_blind(seed: int) -> None:
    """Else playback goes too fast until it runs dry, or never makes good what a stall left."""
    world = like_pipewire(seed)
    playback = world.session._playbacks[0]
    playback._margin, playback._quiet_wanted_s = 240, float("inf")  # enough, and left alone
    world.run(10.0)
    world.machine_free_s = world.monotonic() + 5.0
    world.run(15.0)
    # Called half a quantum later than when a block is free, in the mean.
    rest_ms = -1000.0 * world.quantum_s / 2.0

    def off_ms(last_s: float) -> np.ndarray:
        off = np.array(world.delays_ms) - np.array(world.targets_ms)
        return off[-round(last_s / BLOCK_S) :] - rest_ms

    assert np.abs(off_ms(5.0)).max() < 3.0
    world._first_slot_s += world.quantum_s  # starved once: silence in place of sound
    world.run(10.0)
    assert np.abs(off_ms(2.0)).max() < 5.0
    world.run(50.0)
    assert np.abs(off_ms(50.0)).max() < 5.0
    assert abs(playback.drift.speed) < 1e-4
    assert largest_bend(heard(world, 60.0)) < 1.1


@pytest.mark.parametrize(
    ("since_waited_s", "since_called_s", "since_asked_s"),
    [
        (0.0030, 0.0130, 0.0000),  # called when the device had room
        (0.0001, 0.0113, 0.0013),  # it had room before the wait was over
        (0.0001, 0.0033, 0.0033),  # for two blocks at once, before the last wait began
    ],
)
def test_who_is_called_after_a_wait_was_asked_before(
    since_waited_s: float, since_called_s: float, since_asked_s: float
) -> None:
    """Else one wait upon the other would be longer than the device can do without."""
    playback = TwoClocks(halved(), 0.0).session._playbacks[0]
    playback._waited_s = 1.0 - since_waited_s
    playback._asked_s = 1.0 - since_called_s  # when called last
    playback._note_asked(1.0, since_called_s)
    assert 1.0 - playback._asked_s == pytest.approx(since_asked_s, abs=1e-9)


@pytest.mark.parametrize(("longest_wait_s", "holes"), [(float("inf"), True), (0.019, False)])
def test_playback_waits_no_longer_than_the_device_can(longest_wait_s: float, holes: bool) -> None:
    """PipeWire tells of more than it buffers: who waits for as long as that is heard as a hole."""
    world = like_pipewire(1)
    world.told_more_s = lambda _now_s: 0.010
    playback, late_s = world.session._playbacks[0], []
    callback = playback.callback

    def timed(*args: object) -> None:
        callback(*args)  # type: ignore[arg-type]
        late_s.append(world.monotonic() - world._slot())

    playback.callback = timed  # type: ignore[method-assign,assignment]
    world.run(5.0)
    playback.longest_wait_s = longest_wait_s
    for _ in range(10):
        world.worker_free_s = world.monotonic() + 0.05
        world.run(1.0)
    assert playback.uncleaned > 0
    assert (max(late_s) > 0.0) is holes


def test_a_jump_waits_for_the_sound_that_it_needs() -> None:
    """As each block does: what lies further on is there milliseconds after it is asked for."""
    world = TwoClocks(halved(), 0.0, jitter_s=1e-5)
    world.run(5.0)
    world._first_slot_s += 0.006
    world.session._playbacks[0].drift.restart(new=True)  # as after a stop
    world.run(2.0)
    assert abs(world.delays_ms[-1] - world.targets_ms[-1]) < 2.0
    assert largest_bend(heard(world, 6.0)) < 1.1


def test_stops_one_after_the_other_are_no_relapses() -> None:
    """Else the fifth would cost two seconds of sound that is not cleaned."""
    world = TwoClocks(halved(), 0.0)
    world.run(10.0)
    for _ in range(5):
        world.machine_free_s = world.monotonic() + 1.0
        world.run(3.0)
    before_s = world.session.status().uncleaned_s
    world.machine_free_s = world.monotonic() + 1.0
    world.run(3.0)
    assert world.session.status().uncleaned_s - before_s < 1.0


def test_an_overloaded_worker_does_not_flap() -> None:
    """Twice as slow as it may be, for half a minute: few changes, and steady once it can."""
    network = Slow(halved(), lambda seconds: world.spend(seconds))
    world = TwoClocks(network, 0.0)
    world.run(10.0)
    changes = count_changes(world.session)
    network.cost_s = 0.02
    world.run(30.0)
    assert world.session.status().fault is not None
    # Each return is trusted half as soon as the one before.
    assert len(changes) < 25
    network.cost_s = 0.0
    world.run(10.0)
    assert world.session.status().fault is None
    assert np.abs(heard(world, 1.0)).max() < 0.26
    assert largest_bend(heard(world, 45.0)) < 1.1


def count_changes(session: LiveSession) -> list[object]:
    changes: list[object] = []
    playback = session._playbacks[0]
    change = playback._change

    def counted(tape: object) -> None:
        changes.append(tape)
        change(tape)  # type: ignore[arg-type]

    playback._change = counted  # type: ignore[method-assign,assignment]
    return changes


def test_another_model_takes_over_while_the_sound_goes_on() -> None:
    world = TwoClocks(Steady(FULLBAND, gain=0.5), 0.0)
    world.run(10.0)
    fast_ms = world.delays_ms[-1]
    world.session.replace(Steady(CLASSIC, gain=0.25))
    world.run(5.0)
    assert world.delays_ms[-1] > fast_ms + 50.0
    assert abs(world.delays_ms[-1] - world.targets_ms[-1]) < 10.0
    assert np.abs(heard(world, 1.0)).max() == pytest.approx(0.125, abs=0.005)
    world.session.replace(Steady(FULLBAND, gain=0.5))
    world.run(5.0)
    assert abs(world.delays_ms[-1] - fast_ms) < 10.0
    assert np.abs(heard(world, 1.0)).max() == pytest.approx(0.25, abs=0.005)
    assert largest_bend(heard(world, 20.0)) < 1.1
    assert world.session._playbacks[0].stops == 0


def test_a_lighter_model_takes_over_from_one_that_is_too_slow() -> None:
    """While sound goes through uncleaned, by the worker that is behind; and back again."""
    network = Slow(halved(), lambda seconds: world.spend(seconds))
    world = TwoClocks(network, 0.0)
    world.run(10.0)
    world.session.status()
    network.cost_s = 0.02
    world.run(5.0)
    status = world.session.status()
    assert status.fault is not None
    assert status.load > 1.5, "of a second of sound, not of the time that there was"
    world.session.replace(Steady(CLASSIC, gain=0.25))
    world.run(5.0)
    status = world.session.status()
    assert status.fault is None
    assert np.abs(heard(world, 3.0)).max() == pytest.approx(0.125, abs=0.005)
    assert abs(world.delays_ms[-1] - world.targets_ms[-1]) < 10.0
    network.cost_s = 0.0
    world.session.replace(network)
    world.run(5.0)
    assert np.abs(heard(world, 3.0)).max() == pytest.approx(0.25, abs=0.005)
    assert abs(world.delays_ms[-1] - world.targets_ms[-1]) < 10.0
    # A step of the tone's own height would be 58 times as much as this allows.
    assert largest_bend(heard(world, 25.0)) < 1.1
    assert world.session._playbacks[0].stops == 0


def test_muted_is_silent_even_when_the_worker_stands_still() -> None:
    world = TwoClocks(halved(), 0.0)
    world.run(5.0)
    world.worker_free_s = world.monotonic() + 5.0
    world.run(2.0)
    assert np.abs(heard(world, 1.0)).max() > 0.49
    knobs = type(world.session.knobs)(muted=True)
    world.session.knobs = knobs
    world.run(1.0)
    assert not heard(world, 0.9).any()
    assert largest_bend(heard(world, 4.0)) < 1.1


def test_the_same_seed_is_the_same_run() -> None:
    runs = []
    for _ in range(2):
        world = TwoClocks(Steady(FULLBAND), 100.0, seed=7)
        world.run(3.0)
        runs.append(heard(world, 3.0))
    np.testing.assert_array_equal(*runs)
