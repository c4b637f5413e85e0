"""Who records the virtual microphone, and has it back when a server gave them another.

A sound server moves recorders to the real microphone when the virtual one has to be made
anew, and PipeWire's session manager also when a real one is plugged in again. They would
stay there, and the call would hear the noise. Not here: asking the server (``devices``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.sound_server import Usage

# A server that has just lost a microphone may move its recorders once more.
_UNREST_S = 5.0
# Who is moved away later than that, and within this time, was moved by the user, unless a
# microphone has come or gone since.
_INSIST_S = 60.0


class Audience:
    """Remembers who listens."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._server: int | None = None
        self._microphones: tuple[int | None, frozenset[int]] = None, frozenset()
        self._known: frozenset[int] = frozenset()
        self._left: frozenset[int] = frozenset()  # as the user wanted
        self._taken_back_s: dict[int, float] = {}

    def look(self, usage: Usage) -> list[int]:
        """Numbers of the streams to be taken back; call it about once a second."""
        if usage.server != self._server:  # its streams are others, whatever their numbers
            self._server, self._taken_back_s = usage.server, {}
            self._known = self._left = frozenset()
        if usage.microphone is None:
            return []
        known = self._known | usage.listeners | (usage.asking - self._left)
        known &= usage.recorders
        strays = known - usage.listeners
        now_s = self._clock()
        if (usage.microphone, usage.others) != self._microphones:
            self._microphones, self._taken_back_s = (usage.microphone, usage.others), {}
        ages_s = {one: now_s - self._taken_back_s.get(one, float("-inf")) for one in strays}
        strays = frozenset(
            one for one, age_s in ages_s.items() if not _UNREST_S < age_s < _INSIST_S
        )
        self._left = (self._left | (known - usage.listeners - strays)) - usage.listeners
        self._known = usage.listeners | strays
        again = {one for one in strays if ages_s[one] <= _UNREST_S}  # or it would never end
        self._taken_back_s |= dict.fromkeys(strays - again, now_s)
        return sorted(strays)
