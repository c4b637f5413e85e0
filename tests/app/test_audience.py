"""Listeners that a server took away, and those that the user did."""

from __future__ import annotations

import pytest

from app.audience import Audience
from engine.sound_server import Usage


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.server, self.microphone = 1, 7
        self.asking: frozenset[int] = frozenset()
        self.others = frozenset({8})
        self.audience = Audience(lambda: self.now_s)

    def look(self, ours: set[int], others: set[int] = frozenset(), after_s: float = 1.0):
        self.now_s += after_s
        recorders = frozenset(ours) | frozenset(others)
        return self.audience.look(
            Usage(
                self.server,
                "mic",
                self.microphone,
                frozenset(ours),
                recorders,
                self.asking,
                self.others,
            )
        )


@pytest.fixture
def world() -> World:
    return World()


def test_who_was_moved_is_taken_back(world):
    assert world.look({3, 4}, {5}) == []
    assert world.look({4}, {3, 5}) == [3]
    assert world.look({3, 4}, {5}) == []


def test_who_has_ended_is_forgotten(world):
    world.look({3})
    assert world.look(set()) == []
    assert world.look(set(), {3}) == [], "a new stream of an old number"


def test_who_never_listened_is_left_alone(world):
    assert world.look({3}, {5}) == []
    assert world.look({3}, {5, 6}) == []


def test_a_second_move_is_the_users(world):
    world.look({3})
    assert world.look(set(), {3}) == [3]
    assert world.look({3}, after_s=10.0) == []
    assert world.look(set(), {3}) == []
    assert world.look(set(), {3}, after_s=3600.0) == []


def test_who_is_moved_when_a_microphone_comes_or_goes_was_not_moved_by_the_user(world):
    world.look({3})
    assert world.look(set(), {3}) == [3]
    assert world.look({3}, after_s=10.0) == []
    world.others = frozenset()
    assert world.look({3}) == []
    assert world.look(set(), {3}) == [3]
    world.others = frozenset({9})
    assert world.look(set(), {3}, after_s=10.0) == [3]
    assert world.look({3}, after_s=10.0) == []
    assert world.look(set(), {3}) == [], "nothing has come since"


def test_a_server_that_moves_them_at_once_is_not_the_user(world):
    world.look({3})
    assert world.look(set(), {3}) == [3]
    assert world.look(set(), {3}) == [3]
    assert world.look({3}) == []
    assert world.look(set(), {3}) == [3]


def test_nobody_is_fought_with_for_long(world):
    world.look({3})
    taken = [world.look(set(), {3}) for _ in range(60)]
    assert taken[:5] == [[3]] * 5
    assert taken[10:] == [[]] * 50


def test_an_hour_later_it_is_the_servers_again(world):
    world.look({3})
    assert world.look(set(), {3}) == [3]
    world.look({3}, after_s=3600.0)
    assert world.look(set(), {3}) == [3]


def test_another_server_has_other_streams(world):
    world.look({3})
    world.server = 2
    assert world.look(set(), {3}) == []


def test_a_new_microphone_has_them_all_back(world):
    world.look({3})
    assert world.look(set(), {3}) == [3]
    assert world.look({3}) == []
    world.microphone = None
    assert world.look(set(), {3}) == []
    world.microphone = 8
    assert world.look(set(), {3}) == [3]


def test_who_asked_for_us_and_got_another_is_had(world):
    world.asking = frozenset({3})
    assert world.look(set(), {3, 5}) == [3]
    assert world.look({3}, {5}, after_s=10.0) == []
    assert world.look(set(), {3, 5}) == [], "the user moved it"
    assert world.look(set(), {3, 5}, after_s=3600.0) == []
