"""The live path with a card that the test turns by hand: nothing lost, delay told and held."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import devices
from engine.denoiser import Knobs
from engine.devices import BLOCK, SAMPLE_RATE
from engine.errors import DeviceError
from engine.excerpt import Excerpt
from engine.live import LiveSession, Status
from engine.network import Estimator, State
from engine.spec import ModelSpec
from engine.stft import Float
from tests.estimators import Failing, Steady
from tests.onnx_models import FULLBAND

CAPTURE_S, PLAYBACK_S = 0.010, 0.030


class Card:
    """Both streams of a sound card whose clock goes on only when told."""

    def __init__(self) -> None:
        self.capture: Callable[..., None]
        self.playback: Callable[..., None]
        self.closed = 0
        self.now_s = 100.0
        self.told_more_s = 0.0  # of what the output buffers, than there is
        self._waited_s = 0.0  # by the playback, which is late by that

    def open_input(self, name: str, callback: Any) -> Card:
        self.capture = callback
        return self

    def open_output(self, name: str, callback: Any) -> Card:
        self.playback = callback
        return self

    def redirect(self, stream: Card, callback: Any) -> None:
        assert stream is self
        self.playback = callback

    active = True

    def close(self, ignore_errors: bool = True) -> None:
        self.closed += 1

    def hear(self, block: Float, age_s: float = CAPTURE_S) -> None:
        heard_s = self.now_s - self._waited_s - age_s
        times = SimpleNamespace(currentTime=self.now_s, inputBufferAdcTime=heard_s)
        self.capture(block[:, np.newaxis], len(block), times, None)

    def play(self) -> Float:
        out = np.full((BLOCK, 1), np.nan, np.float32)
        due_s = self.now_s - self._waited_s + PLAYBACK_S + self.told_more_s
        times = SimpleNamespace(currentTime=self.now_s, outputBufferDacTime=due_s)
        self.playback(out, BLOCK, times, None)
        return out[:, 0]

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """The worker is a real thread, and needs real time."""
        time.sleep(seconds)
        self.now_s += seconds
        self._waited_s += seconds

    def pass_time(self) -> None:
        block_s = BLOCK / SAMPLE_RATE
        made_up_s = min(self._waited_s, block_s)
        self._waited_s -= made_up_s
        self.now_s += block_s - made_up_s


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setattr(devices, "open_input", card.open_input)
    monkeypatch.setattr(devices, "open_output", card.open_output)
    monkeypatch.setattr(devices, "redirect", card.redirect)
    return card


@pytest.fixture
def session(card: Card, spec: ModelSpec) -> Iterator[LiveSession]:
    whole = replace(spec, n_bins=spec.n_spectrum)
    with LiveSession(Steady(whole), "microphone", ["speaker"], clock=card) as session:
        yield session


def run(card: Card, session: LiveSession, sound: Float) -> Float:
    """Turn the card for as long as ``sound``, giving the worker time after every block."""
    played = []
    for block in sound.reshape(-1, BLOCK):
        card.pass_time()
        card.hear(block)
        settle(session)
        played.append(card.play())
    return np.concatenate(played)


def settle(session: LiveSession) -> None:
    """Wait until the worker has cleaned every hop that is complete, and handed it on."""
    pipeline, heard = session._pipeline, session._capture.tape
    deadline = time.monotonic() + 5
    while (
        heard.written - session._at >= max(pipeline.wanted, 1)
        or pipeline.n_in != session._at - session._since
        or session._cleaned.written != session._since + pipeline.n_out
    ):
        assert time.monotonic() < deadline, "the worker does not work"
        time.sleep(0.0005)


def ramp(n_blocks: int) -> Float:
    """Sample k has value k / 2^20: every sample is unlike every other."""
    return (np.arange(n_blocks * BLOCK) / 2**20).astype(np.float32)


def test_every_sample_comes_out_once_and_in_order(card: Card, session: LiveSession) -> None:
    sound = ramp(300)
    played = run(card, session, sound)
    begin = int(np.argmax(played > 0.05))  # past the fade-in and the filter's edge
    shift = begin - round(float(played[begin]) * 2**20)
    # The ramp resampled twice is a ramp within the filters' ripple of 1e-4.
    assert np.abs(played[begin:] - sound[begin - shift : len(sound) - shift]).max() < 3e-4
    assert session.status().drops == 0


def test_the_delay_told_is_the_delay(card: Card, session: LiveSession) -> None:
    sound = ramp(200)
    played = run(card, session, sound)
    told = session.status().delay_ms
    at = len(played) - BLOCK
    shift = at - round(float(played[at]) * 2**20)
    actual_ms = 1000 * (shift / SAMPLE_RATE + CAPTURE_S + PLAYBACK_S)
    assert told == pytest.approx(actual_ms, abs=0.5)  # the ramp's resampling error is 10 samples


def test_the_delay_told_does_not_wander_with_what_is_told_of_the_device(
    card: Card, session: LiveSession
) -> None:
    sound = ramp(1000)
    run(card, session, sound[: 200 * BLOCK])
    off_ms = []
    for start in range(200, 1000, 20):  # as PipeWire: 8 ms up and down in 4 s, the sound steady
        card.told_more_s = 0.008 * np.sin(2 * np.pi * start / 400)
        played = run(card, session, sound[start * BLOCK : (start + 20) * BLOCK])
        told_ms = session.status().delay_ms
        assert told_ms is not None
        at = (start + 20) * BLOCK - 1
        shift = at - round(float(played[-1]) * 2**20)
        off_ms.append(told_ms - 1000 * (shift / SAMPLE_RATE + CAPTURE_S + PLAYBACK_S))
    assert np.ptp(off_ms) < 4.0


def test_the_delay_told_hardly_follows_what_runs_on_for_seconds(
    card: Card, session: LiveSession
) -> None:
    """As PipeWire after a start, of a busy machine: up by 8 ms a second, and back."""
    sound = ramp(1000)
    off_ms = []
    for start in range(0, 1000, 20):
        card.told_more_s = 0.008 * (5.0 - abs(5.0 - start / 100))
        played = run(card, session, sound[start * BLOCK : (start + 20) * BLOCK])
        told_ms = session.status().delay_ms
        at = (start + 20) * BLOCK - 1
        shift = at - round(float(played[-1]) * 2**20)
        if told_ms is not None and start > 100:
            off_ms.append(told_ms - 1000 * (shift / SAMPLE_RATE + CAPTURE_S + PLAYBACK_S))
    assert -1.0 < min(off_ms) < max(off_ms) < 14.0  # 23 by the mean


def test_a_device_that_buffers_more_from_now_on_is_told_of(
    card: Card, session: LiveSession
) -> None:
    run(card, session, ramp(200))
    card.told_more_s = 0.060
    played = run(card, session, ramp(600))
    shift = len(played) - 1 - round(float(played[-1]) * 2**20)
    actual_ms = 1000 * (shift / SAMPLE_RATE + CAPTURE_S + PLAYBACK_S)
    assert session.status().delay_ms == pytest.approx(actual_ms + 60.0, abs=2.0)


def test_nothing_is_heard_before_it_was_captured(card: Card, session: LiveSession) -> None:
    told_ms = []
    for age_s in (0.005, 0.001):  # the second cannot be: a block is 5 ms long
        for block in ramp(100).reshape(-1, BLOCK):
            card.pass_time()
            card.hear(block, age_s)
            settle(session)
            card.play()
        told_ms.append(session.status().delay_ms)
    assert told_ms[1] == pytest.approx(told_ms[0], abs=2.0)


def test_delay_is_near_the_least_possible(card: Card, session: LiveSession) -> None:
    run(card, session, ramp(200))
    told = session.status().delay_ms
    assert told is not None
    least_ms = 1000 * (session._pipeline.latency_s + CAPTURE_S + PLAYBACK_S)
    # The margin of 15 ms, and up to two blocks of the card between arrival and pick-up.
    assert least_ms - 10 < told < least_ms + 15 + 20


def test_a_stalled_microphone_is_silence_then_sound_again(card: Card, session: LiveSession) -> None:
    run(card, session, ramp(100))
    for _ in range(50):
        card.pass_time()
        silent = card.play()
    assert not silent.any()
    assert session.status().drops >= 1
    assert run(card, session, ramp(100))[-BLOCK:].any()


def test_what_piles_up_is_taken_out(card: Card, session: LiveSession) -> None:
    run(card, session, ramp(150))
    usual = session.status().delay_ms
    assert usual is not None
    for block in ramp(12).reshape(-1, BLOCK):  # the output stops for 120 ms
        card.pass_time()
        card.hear(block)
        settle(session)
    run(card, session, ramp(250))
    after = session.status().delay_ms
    assert after is not None
    assert after < usual + 25  # the excess that is left alone is 15 ms, and one block


def test_a_worker_left_behind_catches_up(card: Card, session: LiveSession) -> None:
    run(card, session, ramp(100))
    usual = session.status().delay_ms
    assert usual is not None
    for block in ramp(100).reshape(-1, BLOCK):  # a second in no time: the worker was stopped
        card.pass_time()
        card.hear(block)
    settle(session)
    run(card, session, ramp(300))
    status = session.status()
    assert status.delay_ms is not None
    assert status.delay_ms < usual + 60
    assert status.drops >= 1


def test_a_backlog_at_the_start_is_not_delay(card: Card, session: LiveSession) -> None:
    for k in range(40):  # 400 ms from before anybody listened, all at once
        card.hear(np.ones(BLOCK, np.float32), age_s=0.4 - 0.01 * k)
    run(card, session, ramp(100))
    told = session.status().delay_ms
    assert told is not None
    least_ms = 1000 * (session._pipeline.latency_s + CAPTURE_S + PLAYBACK_S)
    # Blocks younger than 50 ms are kept.
    assert told < least_ms + 15 + 20 + 50


def test_a_microphone_that_is_always_late_is_heard(card: Card, session: LiveSession) -> None:
    for block in ramp(100).reshape(-1, BLOCK):  # Bluetooth: 150 ms, every time
        card.pass_time()
        card.hear(block, age_s=0.15)
        settle(session)
        played = card.play()
    assert played.any()


def test_lost_input_is_counted_though_nobody_says_so(card: Card, session: LiveSession) -> None:
    run(card, session, ramp(100))
    assert session.status().drops == 0
    card.now_s += 0.05  # the driver lost 50 ms
    run(card, session, ramp(100))
    assert session.status().drops == 1
    run(card, session, ramp(100))
    assert session.status().drops == 1


def test_levels_are_of_the_time_since_the_last_status(card: Card, session: LiveSession) -> None:
    loud = np.full(100 * BLOCK, 0.5, np.float32)
    run(card, session, loud)
    assert session.status().input_dbfs == pytest.approx(-6.02, abs=0.01)
    silence = np.zeros(100 * BLOCK, np.float32)
    run(card, session, silence)
    session.status()  # the rest of a hop was still loud
    run(card, session, silence)
    assert session.status().input_dbfs == -120.0


def test_a_number_that_is_none_is_neither_heard_nor_measured(
    card: Card, session: LiveSession
) -> None:
    sound = np.full(200 * BLOCK, 0.5, np.float32)
    sound[50 * BLOCK + 7 : 50 * BLOCK + 9] = np.nan, np.inf  # a driver's fault
    run(card, session, sound[: 100 * BLOCK])
    assert session.status().input_dbfs == pytest.approx(-6.02, abs=0.01)
    run(card, session, sound[100 * BLOCK :])
    assert session.status().input_dbfs == pytest.approx(-6.02, abs=0.01)
    # While the worker is late, sound goes through as it came.
    session._stop.set()
    session._worker.join(5.0)
    for block in sound.reshape(-1, BLOCK):
        card.pass_time()
        card.hear(block)
        assert np.isfinite(card.play()).all()
    assert session.status().uncleaned_s > 0.1


def test_a_knob_turned_while_another_model_is_made_is_turned(spec: ModelSpec) -> None:
    session = LiveSession(Steady(spec), "microphone", ["speaker"])
    before = session._pipeline

    class Slow(Steady):
        def initial_state(self) -> State:
            if session._pipeline is before:
                session.knobs = Knobs(muted=True)
            return ()

    session.replace(Slow(spec))
    session.clean()
    assert session._pipeline.knobs.muted
    assert session._pipeline._open == 0.0, "it begins muted, without a fade"


def test_an_excerpt_that_is_forgotten_is_gone(card: Card, session: LiveSession) -> None:
    excerpt = Excerpt(SAMPLE_RATE)
    session.excerpt = excerpt
    run(card, session, ramp(50))
    assert excerpt.n_done > 0
    forgotten = weakref.ref(excerpt)
    del excerpt
    run(card, session, ramp(5))  # the worker is done with it
    assert forgotten() is session.excerpt is None


def test_a_failing_network_is_told_and_heard_through(card: Card) -> None:
    network: Estimator = Failing(Steady(FULLBAND, gain=0.0), at=range(50, 10_000))
    with LiveSession(network, "microphone", ["speaker"], clock=card) as session:
        played = run(card, session, np.full(120 * BLOCK, 0.25, np.float32))
        status = session.status()
    assert status.fault is not None
    assert "failed" in status.fault
    assert not played[20 * BLOCK : 40 * BLOCK].any()
    # Uncleaned, but not lost: the gain is 1 within the transform's rounding.
    assert played[-BLOCK:] == pytest.approx(np.full(BLOCK, 0.25), abs=1e-5)


def test_a_failing_viewer_does_not_stop_the_sound(card: Card) -> None:
    def watch(_: object) -> None:
        raise RuntimeError("no window")

    with LiveSession(
        Steady(FULLBAND), "microphone", ["speaker"], watch=watch, clock=card
    ) as session:
        played = run(card, session, np.full(60 * BLOCK, 0.25, np.float32))
        assert session.status().fault is None
    assert played[-BLOCK:] == pytest.approx(np.full(BLOCK, 0.25), abs=1e-5)


def test_states(card: Card, session: LiveSession) -> None:
    status: Status = session.status()
    assert status.state == "starting"
    assert status.delay_ms is None
    assert not session.wait_until_running(0.02)
    run(card, session, ramp(100))
    assert session.wait_until_running(0.0)
    assert session.status().state == "running"
    card.now_s += 10
    assert session.status().state == "stalled"


def test_a_device_that_cannot_be_opened_leaves_nothing_open(
    card: Card, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, callback: Any) -> Card:
        raise DeviceError(f"{name} cannot be opened: busy")

    monkeypatch.setattr(devices, "open_input", refuse)
    session = LiveSession(Steady(spec), "microphone", ["speaker"], clock=card)
    with pytest.raises(DeviceError, match="microphone cannot be opened"):
        session.start()
    assert card.closed == 1
    session.stop()


def test_an_output_plays_silence_until_another_session_takes_it(
    card: Card, session: LiveSession, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = np.full(100 * BLOCK, 0.5, np.float32)
    assert run(card, session, sound).any()
    pause = session.pause()
    session.stop()
    assert card.closed == 1, "the microphone alone"
    assert not card.play().any()
    assert not pause.ended
    network = Steady(replace(spec, n_bins=spec.n_spectrum))
    monkeypatch.setattr(devices, "open_output", None)  # none is opened
    with LiveSession(network, "microphone", ["speaker"], clock=card, pause=pause) as another:
        assert run(card, another, sound).any()
        pause.close()
        assert card.closed == 1, "it is the session's now"
    assert card.closed == 3


@pytest.mark.parametrize("of_no_use", ["ended", "silent", "elsewhere"])
def test_an_output_of_no_use_is_opened_anew(
    card: Card, session: LiveSession, spec: ModelSpec, of_no_use: str
) -> None:
    pause = session.pause()
    session.stop()
    if of_no_use == "ended":
        card.active = False
    elif of_no_use == "silent":
        pause._called_s -= 2.0
    name = "another" if of_no_use == "elsewhere" else "speaker"
    closed, opened = card.closed, card.playback
    with LiveSession(
        Steady(replace(spec, n_bins=spec.n_spectrum)), "microphone", [name], clock=card, pause=pause
    ):
        assert card.closed == closed + 1, "before another is opened"
        assert card.playback != opened
        assert pause.ended
