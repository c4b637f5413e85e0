"""Two clocks that differ, and a playback that stays as far behind the capture as it should.

A microphone and an output each count samples by a quartz of their own; ±100 ppm are usual,
and after an hour that is a third of a second. So playback reads a little faster or slower,
by a proportional-integral control as in Adriaensen, "Controlling adaptive resampling"
(Linux Audio Conference 2012); a large error, which only a stall leaves, is jumped over.
Not here: how sound is read at another speed (``varispeed``), who reads it (``live``).
"""

from __future__ import annotations

from collections import deque

SPEED_LIMIT = 0.002
"""Most that playback is faster or slower: 3.5 cent, which nobody hears."""

# Callbacks come milliseconds early or late, by patterns that repeat within a second.
_SMOOTHING_S = 2.0
# A loop of two equal poles: a sudden drift of 500 ppm moves it by 1.8 ms at most.
_POLE_HZ = 0.1
_PROPORTIONAL = 2.0 * _POLE_HZ
_INTEGRAL = _POLE_HZ**2
# What is further off than clocks move it was left by a stall, and mended for as long as it lasts:
# so much of it counts as theirs.
_THEIRS_S = 0.001
# Within this nothing is done, and sound stays bit for bit what it was: too little behind takes from
# what late sound is waited for. Too much was let be up to 5 ms, and with a step of the margin and a
# quantum of PipeWire's it then stood 11 ms above what it had been.
_REST_S = 0.003
# Clocks that differ by less than can be told: the control rests again.
_ALIKE = 4e-6
_SETTLED_S = 0.0005
_REST_AFTER_S = 30.0
# An error that has stayed beyond these for so many callbacks was no jitter: who starves PipeWire
# is later by a quantum from then on, 10.7 ms, and what is played has a hole already. Where only the
# place to be has moved there is none, and it is gone to by speed.
_EARLY_S, _LATE_S = -0.010, 0.006
_EASES_S = 10.0
_WATCHED = 25
# By then a start has settled, and its mean is known better than by the one callback it began at.
_START_S, _JUMP_OF_A_START_S, _FAR_OF_A_START_S = 1.0, 0.001, 0.003
# So much is no jitter of anything: a machine that stood still.
_FAR_S, _WATCHED_FAR = 0.1, 5


class Drift:
    """Decides how fast to play.

    ``speed`` is what to play with: 0.001 is a thousandth faster than it was captured.
    ``excess_s`` is the smoothed error: how much further behind playback is than it should be.
    """

    def __init__(self) -> None:
        self.speed = 0.0
        self._learnt = 0.0  # what the clocks differ by
        self._engaged = False
        self._starts = True
        self._eases_s = 0.0
        self.excess_s = 0.0
        self.restart(new=True)

    def restart(self, new: bool = False) -> None:
        """Forget the error, not the clocks: playback begins anew, or jumped.

        ``new``: at a place found in a hurry, which is put right a second later.
        """
        # Who begins too early waits for sound in each callback, which moves them all: a start
        # that was far off is looked at once more.
        self._starts = new or (self._starts and abs(self.excess_s) > _FAR_OF_A_START_S)
        self.excess_s = 0.0
        self._seen_s = self._quiet_s = 0.0
        self._far = 0
        self._recent: deque[float] = deque(maxlen=_WATCHED)

    def ease(self) -> None:
        """The place to be has moved a little ahead."""
        self._eases_s = _EASES_S

    def update(self, excess_s: float, elapsed_s: float) -> float:
        """Take note of one measurement.

        Parameters
        ----------
        excess_s : how much further behind than it should be, this time [s]
        elapsed_s : since the one before [s]

        Returns
        -------
        how far to jump ahead now [s], 0 nearly always; after a jump comes a ``restart``
        """
        self._seen_s += elapsed_s
        self._eases_s = max(self._eases_s - elapsed_s, 0.0)
        share = max(elapsed_s / _SMOOTHING_S, elapsed_s / self._seen_s)
        self.excess_s += share * (excess_s - self.excess_s)
        self._recent.append(excess_s)
        self._far = self._far + 1 if abs(excess_s) > _FAR_S else 0
        jump_s = self._jump()
        self._steer(elapsed_s)
        return jump_s

    def _jump(self) -> float:
        recent = self._recent
        if self._far > _WATCHED_FAR:
            return recent[-1]
        if len(recent) < _WATCHED:
            return 0.0
        mean_s = sum(recent) / len(recent)
        late_s = -_EARLY_S if self._eases_s else _LATE_S
        if min(recent) > late_s or max(recent) < _EARLY_S:
            return mean_s
        if self._starts and self._seen_s > _START_S:
            if abs(mean_s) > _JUMP_OF_A_START_S:
                return mean_s  # and again, where the sound is not there yet: a restart ends it
            self._starts = False
        return 0.0

    def _steer(self, elapsed_s: float) -> None:
        error_s = self.excess_s
        if not self._engaged:
            self._engaged = self._seen_s > _SMOOTHING_S and abs(error_s) > _REST_S
        if not self._engaged:
            self.speed = 0.0
            return
        speed = self._learnt + _PROPORTIONAL * error_s
        self.speed = min(max(speed, -SPEED_LIMIT), SPEED_LIMIT)
        # While all is done that can be, an error says nothing of the clocks: what a stall left
        # would be learnt as their difference, and take minutes to be forgotten.
        if self.speed == speed:
            theirs_s = min(max(error_s, -_THEIRS_S), _THEIRS_S)
            learnt = self._learnt + _INTEGRAL * theirs_s * elapsed_s
            self._learnt = min(max(learnt, -SPEED_LIMIT), SPEED_LIMIT)
        calm = abs(error_s) < _SETTLED_S and abs(self._learnt) < _ALIKE
        self._quiet_s = self._quiet_s + elapsed_s if calm else 0.0
        if self._quiet_s > _REST_AFTER_S:
            self._engaged, self._learnt, self.speed, self._quiet_s = False, 0.0, 0.0, 0.0
