"""Threads of sound that are served before other work, where the system allows it.

Real-time (SCHED_RR) at a low priority: from the kernel where the user may have it
(RLIMIT_RTPRIO), else from rtkit. Nothing of the system is changed, and no other program's
threads.

A real-time thread that never rests would stop everything else on its processor. So the
worker gives it up by itself when it has not rested for ``REST_S``; the kernel tells (SIGXCPU)
when any thread has not for a little longer, and a thread that does nothing else takes it from
all. The kernel ends a process that goes on all the same, which rtkit insists on. Not here: the
sound (``live``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.rtkit import Rtkit, RtkitError, talk

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

REALTIME, HIGH, NORMAL = "real-time", "high", "normal"

# Below PipeWire's 20, so that its graph comes first.
CALLBACKS = 10
"""Of PortAudio's threads, which do little and often."""
WORKER = 4
"""Of who runs the model: PulseAudio (5) is not to wait for that."""

REST_S = 0.06
"""A worker that works for longer than this without a rest cannot keep up."""
# Of the processor's time without a rest: told of, then, where rtkit insists, ended.
_TOLD_US, _ENDED_US = 100_000, 200_000
NICE = -11  # what PulseAudio gives itself
_KNOWN_S = 3.0  # a device calls for the first time by then
_POLL_S = 0.02
# Whoever could not keep up may try again, after longer each time.
_AGAIN_S, _AGAIN_MAX_S = 30.0, 600.0
_LOOK_S = 0.2
_CARRIER = "threaded-ml"

Threads = Callable[[], list[tuple[int, int]]]
_guard: _Guard | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """What the threads of a session have."""

    level: str
    """``real-time``, ``high`` or ``normal``."""
    note: str
    """By whom, or why no more."""

    def in_words(self) -> str:
        """A sentence without its end.

        >>> Granted("real-time", "by rtkit").in_words()
        'threads run with real-time priority (by rtkit)'
        """
        return f"threads run with {self.level} priority ({self.note})"


NOT_ASKED = Granted(NORMAL, "not asked for")


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Sessions inside may raise their threads; only a program's main thread can promise that.

    ``DENOISE_APP_REALTIME=0`` in the environment forbids it.
    """
    global _guard
    asked = os.environ.get("DENOISE_APP_REALTIME", "1") != "0"
    main = threading.current_thread() is threading.main_thread()
    if not (asked and main and hasattr(signal, "SIGXCPU") and hasattr(os, "SCHED_RR")):
        yield
        return
    with _Guard() as _guard:
        try:
            yield
        finally:
            _guard = None


def tried() -> Granted:
    """What a session's threads would have here, tried with one that does nothing."""
    done = threading.Event()
    idle = threading.Thread(target=done.wait, daemon=True)
    idle.start()
    assert idle.native_id is not None
    try:
        with allowed():
            return _raise([(idle.native_id, WORKER)]) if _guard is not None else NOT_ASKED
    finally:
        done.set()


class Priority:
    """Of the threads of one session."""

    def __init__(self) -> None:
        self.granted = NOT_ASKED
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._ended = False
        self._mine: list[int] = []
        self._asker = 0  # who opens and closes devices
        self.must_rest = False
        """Whether the kernel counts how long the worker runs without a rest."""

    def start(self, threads: Threads, n: int) -> None:
        """Ask, in a thread of its own: a bus may take its time.

        Parameters
        ----------
        threads : number and priority of each that has begun
        n : how many there will be
        """
        guard = _guard
        if guard is not None:
            self._asker = threading.get_native_id()
            self._thread = threading.Thread(
                target=self._run, args=(guard, threads, n), name="denoise priority", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """The threads end. Safe to call twice."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def give_up(self) -> None:
        """Have all be served like others for a while (the guard's call)."""
        _lower(self._mine)
        self.must_rest = False
        self.granted = Granted(NORMAL, "one ran for too long without a rest")
        self._wake.set()

    def step_back(self) -> None:
        """Be served like others for a while, the devices' threads not (the worker's call)."""
        _lower([threading.get_native_id()])
        self.must_rest = False
        self.granted = Granted(self.granted.level, "but for the model, which takes too long")
        self._wake.set()

    def _run(self, guard: _Guard, begun: Threads, n: int) -> None:
        again_s = _AGAIN_S
        try:
            if not self._all_begin(begun, n):
                return
            while True:
                self._wake.clear()
                if self._ended:  # said before the wake, which nobody repeats
                    return
                threads = [*begun(), *_carriers()]
                self._mine = [thread for thread, _ in threads]
                guard.sessions.add(self)
                granted = _raise(threads, self._asker)
                if self._wake.is_set():  # one was found running for too long meanwhile
                    self.give_up()
                else:
                    self.granted, self.must_rest = granted, granted.level == REALTIME
                    log.info("%s", granted.in_words())
                    if not self.must_rest:
                        return
                self._wake.wait()
                self._wake.clear()
                if self._ended:
                    return
                log.warning("%s", self.granted.in_words())
                self._wake.wait(again_s)
                while not self._ended and not self._rest():
                    self._wake.wait(_AGAIN_S)
                again_s = min(2.0 * again_s, _AGAIN_MAX_S)
        except Exception:  # what cannot be had costs nobody the sound
            log.exception("no higher priority")
            self.granted = Granted(NORMAL, "asking for it failed; the log says why")
        finally:
            guard.sessions.discard(self)

    def _rest(self) -> bool:
        """Whether each of the threads rests now and then."""
        before = [_rests(thread) for thread in self._mine]
        self._wake.wait(_LOOK_S)
        now = [_rests(thread) for thread in self._mine]
        return all(one > n for n, one in zip(before, now, strict=True) if one)

    def _all_begin(self, begun: Threads, n: int) -> bool:
        """Wait until they have; False when none does."""
        for _ in range(round(_KNOWN_S / _POLL_S)):
            if self._ended:
                return False
            if len(begun()) >= n:
                return True
            self._wake.wait(_POLL_S)
        return bool(begun())


def _carriers() -> list[tuple[int, int]]:
    """Threads of the sound server's library: they bring what the callbacks wait for."""
    found = []
    with contextlib.suppress(OSError):  # a thread may end meanwhile
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().strip() == _CARRIER:
                found.append((int(task.name), CALLBACKS))
    return found


def _raise(threads: list[tuple[int, int]], asker: int | None = None) -> Granted:
    """Have threads in real time, or as near to it as can be had."""
    _limit()
    try:
        for thread, priority in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                _schedule(thread, os.SCHED_RR, priority)
        return Granted(REALTIME, "by the kernel")
    except PermissionError:
        pass  # most users
    except OSError as error:
        return Granted(NORMAL, f"the kernel refused: {error.strerror}")
    try:
        with talk() as rtkit:
            return _raise_by(rtkit, threads, asker)
    except RtkitError as error:
        return Granted(NORMAL, f"the kernel does not allow it, and rtkit: {error}")


def _raise_by(rtkit: Rtkit, threads: list[tuple[int, int]], asker: int | None) -> Granted:
    _limit(rtkit.most_us)
    if asker is not None:
        # It holds the interpreter now and then, and has to get on as well.
        with contextlib.suppress(RtkitError):
            rtkit.make_high(asker, NICE)
    try:
        for thread, priority in threads:
            rtkit.make_realtime(thread, priority)
        return Granted(REALTIME, "by rtkit")
    except RtkitError as error:
        refusal = error
    _lower([thread for thread, _ in threads])
    for thread, _ in threads:
        rtkit.make_high(thread, NICE)
    return Granted(HIGH, f"by rtkit, which refused more: {refusal}")


def _schedule(thread: int, policy: int, priority: int = 0) -> None:
    # Whatever a thread starts is not to have what it has.
    os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _lower(threads: list[int]) -> None:
    """Back to what others have; a number may be another program's by now."""
    for thread in threads:
        with contextlib.suppress(OSError):
            if Path(f"/proc/self/task/{thread}").exists():
                _schedule(thread, os.SCHED_OTHER)


def _rests(thread: int) -> int:
    """How often a thread of this process has rested; 0: it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/self/task/{thread}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return 0


def _limit(most_us: int | None = None) -> None:
    """Have the kernel watch how long a real-time thread runs without a rest.

    Parameters
    ----------
    most_us : after this it ends the process [µs]; None: as it was
    """
    _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    if most_us is not None:
        most_us = min(most_us, _ENDED_US)
        hard = most_us if hard == resource.RLIM_INFINITY else min(hard, most_us)
    # Each time that the kernel has told of it, it has moved the lower bound up by a second.
    soft = _TOLD_US if hard == resource.RLIM_INFINITY else min(_TOLD_US, hard // 2)
    resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


class _Guard:
    """Takes real time from all when the kernel tells that one of them never rests.

    Python runs a handler of its own in the main thread alone, which may wait for the sound
    server: the kernel's word comes over a pipe instead, written by the signal itself.
    """

    def __init__(self) -> None:
        self.sessions: set[Priority] = set()

    def __enter__(self) -> _Guard:
        self._listens, self._tells = os.pipe()
        os.set_blocking(self._tells, False)
        self._handler = signal.signal(signal.SIGXCPU, lambda *_: None)
        self._fd = signal.set_wakeup_fd(self._tells, warn_on_full_buffer=False)
        self._soft, _ = resource.getrlimit(resource.RLIMIT_RTTIME)
        self._thread = threading.Thread(target=self._watch, name="denoise guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd)
        os.close(self._tells)  # ends the thread
        self._thread.join(timeout=5.0)
        os.close(self._listens)
        soft, hard = self._soft, resource.getrlimit(resource.RLIMIT_RTTIME)[1]
        if hard != resource.RLIM_INFINITY:  # what was lowered stays so
            soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))
        signal.signal(signal.SIGXCPU, self._handler)

    def _watch(self) -> None:
        # Above those it is to stop, where that can be had; it sleeps until then.
        with contextlib.suppress(OSError):
            _schedule(threading.get_native_id(), os.SCHED_RR, CALLBACKS + 1)
        while told := os.read(self._listens, 64):
            if signal.SIGXCPU in told:
                for session in list(self.sessions):
                    session.give_up()
                _limit()
