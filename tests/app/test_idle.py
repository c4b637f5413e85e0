"""When a session rests, and when it must not."""

from __future__ import annotations

import pytest

from app.idle import Idleness


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.idleness = Idleness(lambda: self.now_s)

    def pass_(self, seconds: float, listeners: int | None, others: bool = False) -> bool:
        """Look ten times a second; returns what is said last."""
        for _ in range(round(10 * seconds)):
            self.now_s += 0.1
            rests = self.idleness.look(listeners, others)
        return rests


@pytest.fixture
def passing():
    return Time()


def test_it_rests_after_five_seconds_without_listeners(passing):
    assert not passing.pass_(4.9, 0)
    assert passing.pass_(0.3, 0)
    assert passing.pass_(3600.0, 0)


def test_who_comes_wakes_it_at_once_and_five_seconds_begin_anew(passing):
    assert passing.pass_(10.0, 0)
    assert not passing.pass_(0.1, 1)
    assert not passing.pass_(4.9, 0)
    assert passing.pass_(0.3, 0)


def test_who_comes_and_goes_all_the_time_never_lets_it_rest(passing):
    rests = {passing.pass_(0.5, n % 2) for n in range(100)}
    assert rests == {False}


def test_it_does_not_rest_while_somebody_listens_otherwise(passing):
    assert not passing.pass_(60.0, 0, others=True)
    assert passing.pass_(10.0, 0)
    assert not passing.pass_(0.1, 0, others=True)


def test_it_never_rests_where_it_is_not_known_who_listens(passing):
    assert not passing.pass_(60.0, None)


def test_a_connection_that_breaks_for_a_moment_wakes_nobody(passing):
    assert passing.pass_(10.0, 0)
    assert passing.pass_(2.8, None)
    assert passing.pass_(1.0, 0)
    assert not passing.pass_(3.2, None), "not known for too long"


def test_sound_that_is_away_begins_the_time_anew(passing):
    passing.pass_(4.0, 0)
    passing.idleness.stay()
    assert not passing.pass_(4.9, 0)
    assert passing.pass_(0.3, 0)
