"""Which model cleans when the machine cannot keep up with the one that is wished for.

Decides by figures, once a second: over budget for three seconds, and a cheaper model takes
over; calm for long enough that the wished one would have room again, and it comes back. Knows
neither devices nor networks. Not here: the change itself (``service``), and that sound goes
through uncleaned until then (``engine.live``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# How long too much is too much. What a callback or a stop of the process costs is shorter.
_SECONDS = 3
_FULL = 0.7
# Sound that was late in each of the seconds, a tenth of the time in all: the worker does not get
# the processor, however little it wants of it.
_LATE_S, _LATE_SUM_S = 0.02, 0.3
# A model has begun to run by then, and heard what it must.
_SETTLING_S = 2.0
# Nobody has looked for a while (the process was stopped, the devices were opened anew): what
# was counted meanwhile is nobody's fault.
_GAP_S = 2.5
# What takes over should be worth the change, and have room.
_CHEAPER, _ROOM = 0.8, 0.5
# The way back: each return that fails within five minutes doubles the wait for the next.
CALM_S, LONGEST_S, RELAPSE_S = 30.0, 480.0, 300.0
# What models cost is asked for at the first sign, or when a session runs for so long: it should
# be known when it matters.
_ASKING_S = 10.0
# A model paced at real time takes two to three times of what it takes without a pause: by each
# hop others have had the caches (measured). Holds until it has run live.
_PACED = 2.0

MODEL, MACHINE = "model", "machine"
"""What there was too much of: work for the processor, or others who want it."""


class Figures(NamedTuple):
    """How a session did since the look before."""

    load: float
    """Time that cleaning a second of sound took [s]."""
    effort: float
    """Processor time that it took [s]."""
    uncleaned_s: float
    """Sound that went through as it is, since the session began [s]."""


class _Second(NamedTuple):
    load: float
    effort: float
    late_s: float


class SpareModel:
    """The model that should run, and why it is not the one that is wished for.

    Parameters
    ----------
    wanted : the model wished for
    others : what may stand in for it, from the program's own
    effort : of a model, measured without a pause [s for a second of sound]; None: not known yet
    """

    def __init__(
        self, wanted: str, others: Iterable[str], effort: Callable[[str], float | None]
    ) -> None:
        self._others = tuple(others)
        self._effort = effort
        self.want(wanted)

    def want(self, wanted: str) -> None:
        """Another model is wished for, or the same again: it is to run, whatever was before."""
        self.wanted = self.running = wanted
        self.overload: str | None = None
        """MODEL or MACHINE while another than the wished model runs."""
        self._refused: set[str] = set()
        self._seen: dict[str, float] = {}  # least effort of each while it ran live
        self._calm_s = CALM_S
        self._returned_s = float("-inf")
        self._why, self._rises = MACHINE, False  # of what was proposed last
        self.rest()

    def rest(self) -> None:
        """Count anew: the session has begun just now."""
        self._seconds: deque[_Second] = deque(maxlen=_SECONDS)
        self._looked_s: float | None = None
        self._since_s: float | None = None
        self._calm_since_s: float | None = None
        self._before = Figures(0.0, 0.0, 0.0)

    def refuse(self, name: str) -> None:
        """It cannot be opened: not this one."""
        self._refused.add(name)

    def run(self, name: str, now_s: float) -> None:
        """It runs from now on, as ``look`` has proposed."""
        if self._rises:
            self._returned_s = now_s
        elif now_s - self._returned_s < RELAPSE_S:
            self._calm_s = min(2.0 * self._calm_s, LONGEST_S)
            self._returned_s = float("-inf")
        elif self.running == self.wanted:
            self._calm_s = CALM_S
        self.running = name
        self.overload = self._why if name != self.wanted else None
        self.rest()

    def look(self, now_s: float, figures: Figures) -> str | None:
        """Which model should run instead of the one that does; None: it may stay.

        To be called about once a second.
        """
        before, self._before = self._before, figures
        looked_s, self._looked_s = self._looked_s, now_s
        if looked_s is None or now_s - looked_s > _GAP_S:
            self._since_s, self._calm_since_s = now_s, None
            self._seconds.clear()
            return None
        if self._since_s is None or now_s - self._since_s < _SETTLING_S:
            return None
        late_s = max(figures.uncleaned_s - before.uncleaned_s, 0.0)
        self._seconds.append(_Second(figures.load, figures.effort, late_s))
        if figures.load > _FULL or late_s > _LATE_S or now_s - self._since_s > _ASKING_S:
            for name in (self.running, *self._others):
                self._effort(name)
        if len(self._seconds) < _SECONDS:
            return None
        if figures.effort > 0.0:
            mean = sum(one.effort for one in self._seconds) / _SECONDS
            self._seen[self.running] = min(self._seen.get(self.running, mean), mean)
        self._rises = not self._is_over()
        if not self._rises:
            self._calm_since_s = None
            return self._cheaper()
        return self._better(now_s, figures) if self.running != self.wanted else None

    def in_words(self) -> str:
        """The figures of the last seconds, for the log."""
        if not self._seconds:
            return "nothing counted"
        load, effort, late_s = (
            sum(one) / len(self._seconds) for one in zip(*self._seconds, strict=True)
        )
        return (
            f"a second of sound takes {1000 * load:.0f} ms, {1000 * effort:.0f} ms of the "
            f"processor; {100 * late_s:.0f} % was late"
        )

    def _is_over(self) -> bool:
        load = sum(min(one.load, 1.0) for one in self._seconds) / _SECONDS
        late = [one.late_s for one in self._seconds]
        often = min(late) > _LATE_S and sum(late) > _LATE_SUM_S
        return load > _FULL or often

    def _cheaper(self) -> str | None:
        """The best of those that cost less, as far as that can be told."""
        now = self._effort(self.running)
        costs = {name: self._effort(name) for name in self._others if name not in self._refused}
        if now is None:
            return None
        cheaper = {
            name: cost for name, cost in costs.items() if cost is not None and cost < _CHEAPER * now
        }
        if not cheaper:
            return None
        if self.running == self.wanted:
            heavy = sum(one.effort for one in self._seconds) / _SECONDS > _ROOM
            self._why = MODEL if heavy else MACHINE
        fitting = [name for name in cheaper if self._expected(name) < _ROOM]
        # The same model with weights of 8 bits sounds most like it.
        kin = [name for name in fitting if name.startswith(f"{self.running}-")]
        if kin or fitting:
            return max(kin or fitting, key=lambda name: cheaper[name])
        return min(cheaper, key=lambda name: cheaper[name])

    def _better(self, now_s: float, figures: Figures) -> str | None:
        """The model to go back to, after a calm time in which it would have had room."""
        now = self._effort(self.running)
        dearer = [
            name
            for name in self._others
            if name not in self._refused and now is not None and (self._effort(name) or 0.0) > now
        ]
        dearer.sort(key=lambda name: -(self._effort(name) or 0.0))
        found = next(
            (name for name in (self.wanted, *dearer) if self._expected(name) < _ROOM), None
        )
        if self._seconds[-1].late_s > _LATE_S or figures.load > _ROOM or found is None:
            self._calm_since_s = None
            return None
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        return found if now_s - self._calm_since_s >= self._calm_s else None

    def _expected(self, name: str) -> float:
        """How long a second of sound would take with it at the moment [s]; infinite: who knows."""
        effort = self._seen.get(name)
        if effort is None:
            measured = self._effort(name)
            if measured is None:
                return float("inf")
            effort = _PACED * measured
        load = sum(one.load for one in self._seconds) / _SECONDS
        spent = sum(one.effort for one in self._seconds) / _SECONDS
        return effort * max(load / spent, 1.0) if spent > 0.0 else effort


def in_words(told: dict[str, Any]) -> str:
    """What a session's status says of it, in a line; nothing where the wished model runs.

    >>> in_words({"model": "classic", "model_wanted": "fullband", "overload": "machine"})
    'classic cleans in place of fullband: the machine is too busy at the moment'
    >>> in_words({"model": "classic", "model_wanted": "classic", "overload": None})
    ''
    """
    why = {
        MODEL: "it is too much for this machine at the moment",
        MACHINE: "the machine is too busy at the moment",
    }.get(told.get("overload") or "")
    return f"{told['model']} cleans in place of {told['model_wanted']}: {why}" if why else ""
