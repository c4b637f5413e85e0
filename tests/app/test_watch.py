"""What counts as dead, with clocks that the test turns."""

from __future__ import annotations

import pytest

from app.watch import TICK_S, Watch


class World:
    """A session and the two clocks."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 5000.0
        self.called_s = self.now_s
        self.gone: str | None = None
        self.watch = Watch(lambda: self.now_s, lambda: self.slept_s)

    def lost(self) -> str | None:
        return self.gone

    def silent_s(self) -> float:
        return self.now_s - self.called_s

    def tick(self, calls: bool = True, seconds: float = TICK_S) -> str | None:
        self.now_s += seconds
        if calls:
            self.called_s = self.now_s
        return self.watch.look(self)

    def ticks_until_noticed(self, at_most: int = 100) -> int:
        for n in range(1, at_most):
            if self.tick(calls=False):
                return n
        return at_most


@pytest.fixture
def world() -> World:
    world = World()
    world.tick()
    return world


def test_what_calls_is_well(world):
    assert all(world.tick() is None for _ in range(100))
    assert world.watch.hears


def test_silence_is_noticed_within_a_second(world):
    n = world.ticks_until_noticed()
    # Not sooner than a device of large blocks or a busy machine may be silent.
    assert 0.6 < n * TICK_S <= 1.0
    assert not world.watch.hears


def test_a_new_device_is_given_time_to_begin(world):
    world.watch.begin()
    world.called_s = float("-inf")
    assert 1.5 < world.ticks_until_noticed() * TICK_S <= 2.5
    world.tick()
    assert world.watch.hears
    assert world.ticks_until_noticed() * TICK_S <= 1.0


def test_a_stream_that_ended_is_noticed_at_once(world):
    world.gone = "yeti"
    assert world.tick() == "yeti has gone away"


def test_a_process_that_was_stopped_has_heard_no_silence(world):
    for stopped_s in (0.2, 1.0, 5.0, 3600.0):
        assert world.tick(calls=False, seconds=stopped_s) is None
        assert world.tick() is None
        assert world.watch.hears


def test_silence_after_a_stop_is_noticed(world):
    assert world.tick(calls=False, seconds=60.0) is None
    assert world.ticks_until_noticed() * TICK_S <= 1.0


@pytest.mark.parametrize("change_s", [10.0, 3600.0, -30.0])
def test_a_machine_that_slept_is_noticed_once(world, change_s):
    world.slept_s += change_s
    assert world.tick() == "the machine has slept"
    assert world.tick() is None


def test_a_clock_that_is_trimmed_is_no_sleep(world):
    for _ in range(50):
        world.slept_s += 0.005
        assert world.tick() is None


def test_the_machines_own_clocks_serve():
    watch = Watch()
    assert watch.look(World()) is None
