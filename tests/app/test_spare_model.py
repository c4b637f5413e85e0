"""When a cheaper model takes over and when the wished one is back, in simulated time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from app.spare_model import (
    CALM_S,
    LONGEST_S,
    MACHINE,
    MODEL,
    RELAPSE_S,
    Figures,
    SpareModel,
)

EFFORTS = {"heavy": 1.4, "fullband": 0.04, "classic": 0.018}


class Machine:
    """Runs whichever model it is told to, a second at a time.

    Parameters
    ----------
    room : how much of the processor there is for the model, by the time since the start [s]
    efforts : what each model takes of it
    """

    def __init__(
        self,
        wanted: str,
        room: Callable[[float], float] = lambda now_s: 1.0,
        efforts: dict[str, float] | None = None,
    ) -> None:
        self.efforts = EFFORTS if efforts is None else efforts
        others = [name for name in self.efforts if name != "heavy"]
        self.spare = SpareModel(wanted, others, self.efforts.get)
        self.room = room
        self.now_s = self.uncleaned_s = 0.0
        self.changes: list[tuple[float, str]] = []

    def run(self, seconds: float) -> list[tuple[float, str]]:
        """Go on for so long; returns when which model took over meanwhile."""
        n_before = len(self.changes)
        for _ in range(round(seconds)):
            self.now_s += 1.0
            # As it is paced, a model takes twice of what it takes without a pause.
            effort = 2.0 * self.efforts[self.spare.running]
            load = effort / max(self.room(self.now_s), 1e-3)
            self.uncleaned_s += min(max(load - 0.9, 0.0), 1.0)
            wanted = self.spare.look(self.now_s, Figures(load, effort, self.uncleaned_s))
            if wanted is not None:
                self.spare.run(wanted, self.now_s)
                self.changes.append((self.now_s, wanted))
        return self.changes[n_before:]


def test_a_machine_with_room_runs_what_is_wished_for() -> None:
    machine = Machine("fullband")
    assert machine.run(3600) == []
    assert machine.spare.overload is None


def test_a_model_that_is_too_heavy_gives_way_within_seconds_and_for_good() -> None:
    machine = Machine("heavy")
    ((at_s, name),) = machine.run(7200)
    assert name == "fullband", "the best that fits, not the cheapest"
    assert at_s <= 6.0
    assert machine.spare.overload == MODEL
    assert (machine.spare.wanted, machine.spare.running) == ("heavy", "fullband")


def test_a_busy_machine_gets_the_wished_model_back_when_it_is_calm() -> None:
    machine = Machine("fullband", lambda now_s: 0.05 if 60 <= now_s < 100 else 1.0)
    (at_s, name), (back_s, back) = machine.run(600)
    assert (name, back) == ("classic", "fullband")
    assert 62 <= at_s <= 66
    assert 100 + CALM_S <= back_s <= 100 + CALM_S + 5
    assert machine.spare.overload is None


def test_why_is_told_apart() -> None:
    machine = Machine("fullband", lambda now_s: 0.05)
    machine.run(10)
    assert machine.spare.overload == MACHINE, "it wants 8 % of the processor and does not get it"
    assert "80 ms of the processor" not in machine.spare.in_words()
    machine = Machine("heavy")
    machine.run(5)
    assert machine.spare.overload == MODEL


def test_it_does_not_flap_where_every_return_fails() -> None:
    """The others are busy whenever the wished model runs, and only then."""
    machine = Machine("fullband")
    machine.room = lambda _: 1.0 if machine.spare.running == "classic" else 0.05
    machine.run(4 * 3600)
    returns = [at_s for at_s, name in machine.changes if name == "fullband"]
    waits = [late - early for early, late in pairwise(returns)]
    assert all(late >= early for early, late in pairwise(waits[:6]))
    assert waits[0] >= 2 * CALM_S
    assert waits[-1] == pytest.approx(LONGEST_S, abs=20), "bounded"
    assert len(returns) < 4 * 3600 / LONGEST_S + 8


def test_a_return_that_held_is_not_held_against_the_next() -> None:
    busy = [(60, 80), (60 + 80 + 2 * RELAPSE_S, 80 + 80 + 2 * RELAPSE_S)]
    machine = Machine(
        "fullband", lambda now_s: 0.05 if any(a <= now_s < b for a, b in busy) else 1.0
    )
    machine.run(1500)
    for (_, end_s), (back_s, name) in zip(busy, machine.changes[1::2], strict=True):
        assert name == "fullband"
        assert back_s - end_s < CALM_S + 5


def test_a_model_that_needs_more_than_half_does_not_come_back() -> None:
    """It failed at 0.3 of a busy machine; on the calm one it would take 0.6."""
    machine = Machine("heavy", efforts={**EFFORTS, "heavy": 0.3})
    machine.room = lambda now_s: 0.5 if now_s < 60 else 1.0
    machine.run(3600)
    assert [name for _, name in machine.changes] == ["fullband"]


def test_of_two_steps_down_the_lower_is_left_when_the_middle_has_room() -> None:
    machine = Machine("heavy", lambda now_s: 0.05 if 30 <= now_s < 60 else 1.0)
    machine.run(300)
    assert [name for _, name in machine.changes] == ["fullband", "classic", "fullband"]
    assert machine.spare.overload == MODEL


def test_eight_bits_of_the_same_come_first() -> None:
    efforts = {"heavy": 1.4, "classic": 0.04, "classic-int8": 0.02, "tiny": 0.03}
    machine = Machine("classic", lambda now_s: 0.06, efforts)
    ((_, name),) = machine.run(10)
    assert name == "classic-int8"


def test_nothing_happens_without_anything_cheaper_or_before_it_is_known() -> None:
    machine = Machine("classic", lambda now_s: 0.02)
    assert machine.run(600) == []
    assert machine.spare.overload is None
    machine = Machine("heavy")
    machine.spare._effort = lambda _: None
    assert machine.run(60) == []
    machine.spare._effort = machine.efforts.get
    assert [name for _, name in machine.run(2)] == ["fullband"], "over budget ever since"


def test_what_cannot_be_opened_is_not_proposed_again() -> None:
    machine = Machine("heavy")
    machine.spare.refuse("fullband")
    assert [name for _, name in machine.run(20)] == ["classic"]


def test_a_pick_ends_it_and_begins_anew() -> None:
    machine = Machine("heavy")
    machine.run(10)
    machine.spare.want("heavy")
    assert (machine.spare.running, machine.spare.overload) == ("heavy", None)
    machine.run(10)
    assert machine.spare.running == "fullband"
    machine.spare.want("classic")
    assert machine.run(600) == []
    assert machine.spare.running == "classic"


def test_a_stop_of_the_process_or_a_lone_late_second_changes_nothing() -> None:
    machine = Machine("fullband")
    machine.run(20)
    machine.now_s += 5.0  # nobody looked: stopped
    machine.uncleaned_s += 5.0
    assert machine.run(20) == []
    machine.uncleaned_s += 0.9
    assert machine.run(20) == []
    machine.spare.rest()  # another session, whose count begins at 0
    machine.uncleaned_s = 0.0
    assert machine.run(20) == []


def test_late_sound_counts_though_the_load_is_small() -> None:
    """Preempted for tens of milliseconds, many times a second."""
    machine = Machine("fullband")
    machine.run(20)
    for _ in range(4):
        machine.uncleaned_s += 0.3
        machine.run(1)
    assert [name for _, name in machine.changes] == ["classic"]
    assert machine.spare.overload == MACHINE
