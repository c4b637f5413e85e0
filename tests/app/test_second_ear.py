"""When a second stream is opened, what it makes of the first, and how often it is in vain."""

from __future__ import annotations

import numpy as np
import pytest

from app.second_ear import SecondEar
from engine.errors import DeviceError


class World:
    """A microphone, the sound of which the session may not get."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.level = 0.0
        self.opened: list[float] = []
        self.listening = None
        self.is_there = True
        self.ear = SecondEar(lambda: self.now_s, self._open, self._close)

    def _open(self, name, callback):
        if not self.is_there:
            raise DeviceError("gone")
        assert self.listening is None, "one at a time"
        self.opened.append(self.now_s)
        self.listening = callback
        return callback

    def _close(self, stream):
        assert stream is self.listening
        self.listening = None

    def tick(self, deaf_s: float) -> bool:
        self.now_s += 0.1
        if self.listening is not None:
            self.listening(np.full((480, 1), self.level, np.float32), 480, None, None)
        return self.ear.look("yeti", deaf_s)

    def deaf_ticks(self, seconds: float) -> list[bool]:
        return [self.tick(1.0) for _ in range(round(10 * seconds))]


@pytest.fixture
def world():
    return World()


def test_who_hears_is_left_alone(world):
    world.level = 0.1
    assert not any(world.tick(0.3) for _ in range(100))
    assert world.opened == []


def test_deafness_is_noticed(world):
    world.level = 1e-6
    assert any(world.deaf_ticks(0.5))
    assert world.listening is None


def test_a_silent_microphone_is_asked_ever_less_often(world):
    assert not any(world.deaf_ticks(600.0))
    assert len(world.opened) < 20
    assert np.diff(world.opened).max() < 62.0
    world.level = 0.1
    assert any(world.deaf_ticks(62.0))


def test_it_stops_when_the_session_hears(world):
    world.deaf_ticks(0.3)
    assert world.listening is not None
    world.tick(0.0)
    assert world.listening is None
    world.deaf_ticks(0.2)
    assert world.listening is not None, "begins anew, at once"


def test_a_microphone_that_cannot_be_opened_is_somebody_elses_business(world):
    world.is_there = False
    assert not any(world.deaf_ticks(10.0))
