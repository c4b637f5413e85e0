"""The engine's process: started where none runs, found again, ended with its window.

It is detached: a window that is killed leaves it running, and the next window takes it up.
Which session a window started is kept in a file beside the socket, so that one that somebody
started by hand is never ended. Not here: talking to it (``link``).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

import models
from engine.control import folder

MAIN = Path(__file__).parents[2] / "main.py"

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
# A session that answered for this long was a good one: the next failure is a new one.
_PROVEN_S = 10.0
_QUIT_S = 3.0
_PREFIX = "denoise-app: "
_LOG_BYTES = 500_000


class State(Enum):
    """How far the engine is."""

    RUNS = auto()
    STARTING = auto()
    SILENT = auto()
    """It runs and answered before, and does not now."""
    WAITING = auto()
    """It ended; the next try has yet to come."""


class EngineProcess:
    """Keeps an engine running for as long as ``look`` is called.

    Parameters
    ----------
    at : folder of the socket (default: the user's)
    command : what starts it, before the options
    """

    def __init__(
        self, at: Path | None = None, command: tuple[str, ...] = (sys.executable, str(MAIN))
    ) -> None:
        self._at = at or folder()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._wait_s = 0.0
        self._next_s = 0.0
        self._since_s: float | None = None
        self._answered = False
        self.failures = 0
        """So many in a row have ended without having answered."""
        self.choice = 0
        """Which of the options the newest was started with."""
        self.starts = 0
        """So many have been started from here."""
        self.words = ""
        """What the last one that ended complained about."""

    def look(self, answers: bool, *options: tuple[str, ...]) -> State:
        """See how it is; start one when none answers and its time has come.

        Parameters
        ----------
        answers : whether a session answers, whoever started it
        options : of a new one, then of each that follows where one ended without having
            answered; the last ones stay
        """
        self._shorten_log()
        now_s = time.monotonic()
        if answers:
            self._since_s = self._since_s or now_s
            self._answered = True
            self.failures = 0
            if now_s - self._since_s > _PROVEN_S:
                self._wait_s = 0.0
            return State.RUNS
        self._since_s = None
        if self._process is not None:
            if self._process.poll() is None:
                return State.SILENT if self._answered else State.STARTING
            self._process = None
            self.failures += not self._answered
            self.words = self._last_words()
            self._next_s = now_s + self._wait_s
            self._wait_s = min(max(2.0 * self._wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        if now_s < self._next_s:
            return State.WAITING
        self.choice = min(self.failures, len(options) - 1)
        self._start(options[self.choice])
        return State.STARTING

    @property
    def is_ours(self) -> bool:
        """Whether the session that runs was started by a window."""
        if sys.platform == "win32":  # where the lock does not tell who holds it
            return self._process is not None and self._process.poll() is None
        try:
            return self._note.read_text() == (self._at / "lock").read_text().strip() != ""
        except (OSError, ValueError):
            return False

    def end(self, ask: Callable[[], None]) -> None:
        """End it if a window started it: ``ask`` it to, and see that it does."""
        ours = self.is_ours
        if ours:
            ask()
        if self._process is None or self._process.poll() is not None:
            return
        if self._answered and not ours:
            return
        try:
            # One that is still starting cannot be asked.
            self._process.wait(_QUIT_S if ours else 0.0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_QUIT_S)

    @property
    def _note(self) -> Path:
        return self._at / "window-started"

    @property
    def _log(self) -> Path:
        return self._at / "engine.log"

    def _last_words(self) -> str:
        """The one line of an error; what sound libraries write beside it is not for users."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        ours = [line for line in lines if line.startswith(_PREFIX)]
        return ours[-1].removeprefix(_PREFIX)[:300] if ours else ""

    def _shorten_log(self) -> None:
        """Sound libraries write to it at each opening, and it lies in memory on most systems."""
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _LOG_BYTES:
                kept = self._log.read_bytes()[-_LOG_BYTES // 2 :]
                # Whoever writes appends: what comes in this moment is lost, no more.
                self._log.write_bytes(kept[kept.find(b"\n") + 1 :])

    def _start(self, options: tuple[str, ...]) -> None:
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._note.write_text(str(self._process.pid))
        self._answered = False
        self.starts += 1


def options_for(wished: dict[str, Any]) -> tuple[str, ...]:
    """Command line of an engine for these wishes, named as in the control's requests.

    >>> options_for({"input": "yeti", "model": "classic", "limit_db": 20.0})
    ('--device=yeti', '--model=classic', '--limit=20', '--json')
    """
    found = [f"--device={wished['input']}" if wished.get("input") else "--device="]
    if wished.get("output"):
        found.append(f"--output={wished['output']}")
    if wished.get("monitor"):
        found.append("--monitor")
    if wished.get("speakers"):
        found.append("--speakers")
    found.append(f"--model={wished.get('model') or models.DEFAULT}")
    found.append(f"--limit={wished.get('limit_db', 100.0):g}")
    return (*found, "--json")


def start_options(wished: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Command lines to try in turn: a device that is not there must not cost the sound.

    As wished for, then with the system's devices, then with the program's own model too.
    """
    without = {**wished, "input": None, "output": None}
    tries = (wished, without, {**without, "model": None})
    return tuple(dict.fromkeys(options_for(one) for one in tries))
