"""The log of a session: what was lost and had back, in a file that does not grow.

Warnings are shown as well, on stderr. A disk that is full, or a terminal that has gone,
loses lines and nothing else. Not here: what is worth a line.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

from app.places import state_folder

_BYTES, _OLDER = 500_000, 2
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def path() -> Path:
    """Where a session's log lies."""
    return state_folder() / "session.log"


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep a log for as long as the block runs."""
    # Else a line that cannot be written would be told on stderr, each time and at length.
    logging.raiseExceptions = False
    root = logging.getLogger()
    level, root.level = root.level, logging.INFO
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [shown]
    with contextlib.suppress(OSError):  # no place for it: the sound matters more
        path().parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                path(), maxBytes=_BYTES, backupCount=_OLDER, encoding="utf-8", delay=True
            )
        )
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT, "%Y-%m-%d %H:%M:%S"))
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):  # what it had not yet written
                handler.close()
        root.setLevel(level)
