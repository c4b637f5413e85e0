"""An excerpt of the running session for who wants to hear the difference.

It lies in this process's memory until it has been fetched, at most a minute, and crosses the
control socket in pieces. Nothing is written to a disk. Not here: the sound (``engine.excerpt``),
the socket (``engine.control``).
"""

from __future__ import annotations

import base64
import threading
from typing import Any

import numpy as np

from engine.control import Answer
from engine.devices import SAMPLE_RATE
from engine.excerpt import Excerpt
from engine.live import LiveSession
from engine.stft import Float

REQUESTS = ("record", "recorded", "forget")
LONGEST_S = 10.0
PIECE = 8192
"""Samples in an answer: two sides of 16 bits make 44 kB of base64."""

_KEPT_S = 60.0


class Excerpts:
    """Holds one at a time; asked by the control's thread."""

    def __init__(self) -> None:
        self.wanted: Excerpt | None = None
        """To be filled by whichever session runs."""
        self._timer: threading.Timer | None = None

    def answer(
        self, do: str, wanted: dict[str, Any], session: LiveSession | None, comes: bool = False
    ) -> Answer:
        """Do one of ``REQUESTS``; ``comes``: a session begins as soon as one is wanted.

        ``record`` with ``seconds`` (up to ``LONGEST_S``) begins one in place of any other;
        ``recorded`` with ``from``, a sample, tells ``share`` (0…1), and when that is 1
        ``sample_rate``, ``samples`` in all, and ``before`` and ``after``, base64 of little-endian
        int16, ``PIECE`` samples from there on; ``forget`` drops it.

        Raises
        ------
        ValueError : there is no sound, nothing was recorded, or a value is out of range
        """
        known = {"record": "seconds", "recorded": "from"}.get(do)
        value = wanted.pop(known, None) if known else None
        if wanted:
            raise ValueError(f"{do} knows no {', '.join(map(str, wanted))}")
        if do == "record":
            self._record(value, session, comes)
            return {"seconds": value}
        if do == "forget":
            self.forget()
            return {}
        if self.wanted is None:
            raise ValueError("nothing has been recorded")
        return self._piece(self.wanted, 0 if value is None else value)

    def forget(self) -> None:
        """Drop what there is."""
        self.wanted = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _record(self, seconds: Any, session: LiveSession | None, comes: bool) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError(f"seconds should be a number, got {seconds!r}")
        if not 0.1 <= seconds <= LONGEST_S:
            raise ValueError(f"seconds should be 0.1…{LONGEST_S:g}, got {seconds!r}")
        if session is None and not comes:
            raise ValueError("there is no sound at the moment")
        self.forget()
        self.wanted = Excerpt(round(seconds * SAMPLE_RATE))
        if session is not None:
            session.excerpt = self.wanted
        self._timer = threading.Timer(seconds + _KEPT_S, self.forget)
        self._timer.daemon = True
        self._timer.start()

    @staticmethod
    def _piece(excerpt: Excerpt, start: Any) -> Answer:
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise ValueError(f"from should be a sample's number, got {start!r}")
        n = len(excerpt.heard)
        if not excerpt.is_complete:
            return {"share": excerpt.n_done / n}
        part = slice(start, start + PIECE)
        return {
            "share": 1.0,
            "sample_rate": SAMPLE_RATE,
            "samples": n,
            "from": start,
            "before": _packed(excerpt.heard[part]),
            "after": _packed(excerpt.cleaned[part]),
        }


def _packed(sound: Float) -> str:
    as_int = np.round(32767.0 * np.clip(sound, -1.0, 1.0)).astype("<i2")
    return base64.b64encode(as_int.tobytes()).decode()
