"""The log of a session or a window: what went wrong, in a file that does not grow.

Warnings are shown as well, on stderr. A disk that is full, or a terminal that has gone,
loses lines and nothing else. Not here: what is worth a line.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from app.places import state_folder

_BYTES, _OLDER = 500_000, 2
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


SESSION, WINDOW = "session", "window"
"""Whose logs there are."""


def path(of: str = SESSION) -> Path:
    """Where a log lies."""
    return state_folder() / f"{of}.log"


@contextlib.contextmanager
def kept(of: str = SESSION) -> Iterator[None]:
    """Keep a log for as long as the block runs; what nobody catches is in it too."""
    # Else a line that cannot be written would be told on stderr, each time and at length.
    logging.raiseExceptions = False
    root = logging.getLogger()
    level, root.level = root.level, logging.INFO
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [shown]
    with contextlib.suppress(OSError):  # no place for it: the sound matters more
        path(of).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                path(of), maxBytes=_BYTES, backupCount=_OLDER, encoding="utf-8", delay=True
            )
        )
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT, "%Y-%m-%d %H:%M:%S"))
        root.addHandler(handler)
    hooks = sys.excepthook, threading.excepthook
    sys.excepthook, threading.excepthook = _uncaught, _uncaught_in_thread
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = hooks
        for handler in handlers:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):  # what it had not yet written
                handler.close()
        root.setLevel(level)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, Exception):
        logging.getLogger(__name__).critical("not caught", exc_info=(kind, error, trace))
    else:
        sys.__excepthook__(kind, error, trace)


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:  # None: the interpreter ends
        _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
