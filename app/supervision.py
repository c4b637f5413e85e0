"""Sees to it that a session neither hangs for ever nor outlives the wish to end it.

It runs in a thread of its own, since who waits in PortAudio or libpulse hears no signal, and
both wait without end for a sound server that lives and does not answer. Such a connection is
cut: whoever waits is then told that the server has gone, as it is told when it has. A session
that does not end even so is left behind with the process. Not here: what runs
(``service``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from app.inquiry import Inquiry
from engine.sound_server import hang_up

LOOK_S = 0.25
"""How often is looked."""
# Opening a Bluetooth headset takes two seconds, loading a model on a busy machine more.
_STUCK_S = 10.0
# An end takes less than one second where everything answers.
_ENDING_S, _AGAIN_S, _LEFT_S = 3.0, 1.0, 6.0
# What a hung server could not be asked to remove is removed when it answers again.
_SWEEP = """
import os, signal, time
from engine.sound_server import SoundServer
signal.alarm(600)
while os.getppid() == {parent}:
    time.sleep(0.05)
with SoundServer() as server:
    server.remove_leftovers()
"""

log = logging.getLogger(__name__)


class Supervised(Protocol):
    """What a service tells."""

    @property
    def ticked_s(self) -> float | None:
        """When its thread last came by [s]."""

    @property
    def stopping(self) -> bool:
        """Whether it is to end."""


def supervise(
    service: Supervised, run: Callable[[], object], free: Callable[[], object] = lambda: None
) -> None:
    """Run a service; returns when it has ended, raises what it raises.

    Parameters
    ----------
    run : runs it until it is told to stop
    free : gives back what others would miss, where the process has to end without the service
    """
    raised: list[BaseException] = []

    def runs() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=runs, name="denoise session", daemon=True)
    thread.start()
    cut = _see_to_it(service, thread)
    if cut and service.stopping:
        _sweep_later()
    if thread.is_alive():
        log.critical("the session does not end: left behind")
        with contextlib.suppress(Exception):  # for a moment, whatever comes of it
            Inquiry(answer_s=1.0).ask(free)
        logging.shutdown()
        os._exit(1)
    if raised:
        raise raised.pop()


def _see_to_it(service: Supervised, thread: threading.Thread) -> bool:
    """Wait for its end, for as long as is right; returns whether it had to be cut off."""
    seen_s, still_s, ending_s, cut_at_s = service.ticked_s, 0.0, 0.0, _ENDING_S
    looked_s = time.monotonic()
    cut = False
    while thread.is_alive() and ending_s < _LEFT_S:
        thread.join(LOOK_S)
        # Time in which nobody looked does not count: this process may have been stopped.
        passed_s = min(time.monotonic() - looked_s, 2.0 * LOOK_S)
        looked_s = time.monotonic()
        if service.stopping:
            ending_s += passed_s
            if ending_s >= cut_at_s and thread.is_alive():
                cut_at_s += _AGAIN_S
                cut = _cut("the session does not end") or cut
            continue
        still_s = still_s + passed_s if service.ticked_s == seen_s else 0.0
        seen_s = service.ticked_s
        if still_s >= _STUCK_S:
            still_s = _STUCK_S - _AGAIN_S  # who asks at one place after the other
            _cut("the sound server does not answer")
    return cut


def _cut(why: str) -> bool:
    n = hang_up()
    log.warning("%s: %d connections cut", why, n)
    return n > 0


def _sweep_later() -> None:
    """Have what is left in the server removed as soon as it answers, by a process of its own."""
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-c", _SWEEP.format(parent=os.getpid())],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
