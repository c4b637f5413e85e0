"""Who listens to the virtual microphone, known within milliseconds.

A connection of its own to the sound server waits, in a thread of its own, for streams that
begin to record: asking again and again would either cost the processor or come too late. Not
here: what follows from it, and asking the server (``sound_server``).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from engine.errors import DeviceError
from engine.sound_server import SoundServer

# Counted anew even if nothing was told.
_COUNT_S = 1.0
# PipeWire tells of a stream before it knows what that records, and not always when it does: they
# are counted so often for so long after anything was told.
_SOON_S, _NEW_S = 0.05, 0.5
# An end is waited for so long at most.
_WAIT_S = 0.2
# Whatever streams do, the server is asked no more often: it takes two milliseconds of processor.
_REST_S = 0.02
_AGAIN_S = 0.25

log = logging.getLogger(__name__)


class Listeners:
    """Counts them, from ``start`` to ``stop``.

    Parameters
    ----------
    changed : called with no argument whenever ``count`` has changed, in a thread of ours
    connect : to the sound server; raises DeviceError
    """

    def __init__(
        self,
        changed: Callable[[], object],
        connect: Callable[[], SoundServer] = SoundServer,
    ) -> None:
        self.count: int | None = None
        """None: it is not known, since the server does not tell."""
        self._changed, self._connect = changed, connect
        self._complained = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="denoise listeners", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; a server that does not answer is not waited for. Safe to call twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connect() as server:
                    self._look(server)
            except DeviceError as error:
                self._complain(str(error))
            except Exception as error:
                self._complain(f"{type(error).__name__}: {error}")
            self._tell(None)
            self._stopping.wait(_AGAIN_S)

    def _complain(self, why: str) -> None:
        """Once, until it is known again."""
        if not self._complained:
            log.info("who listens is not known: %s", why)
        self._complained = True

    def _look(self, server: SoundServer) -> None:
        server.expect_recorders()
        counted_s = told_s = float("-inf")
        while not self._stopping.is_set():
            new = time.monotonic() < told_s + _NEW_S
            told = server.wait(_SOON_S if new else _WAIT_S)
            if told:
                told_s = time.monotonic()
            if told or new or time.monotonic() > counted_s + _COUNT_S:
                counted_s = time.monotonic()
                self._tell(server.listeners())
                self._complained = False
                self._stopping.wait(_REST_S)

    def _tell(self, count: int | None) -> None:
        if count != self.count:
            self.count = count
            if not self._stopping.is_set():
                with contextlib.suppress(Exception):  # the next change is told none the less
                    self._changed()
