"""Microphone to virtual microphone, for as long as a call lasts.

Three concurrent activities, and what each may do:

- The *capture callback* (PortAudio's thread) copies its block onto a tape and counts.
- The *worker* (ours) cleans what has come, onto a second tape, and may be late.
- The *playback callback* (another of PortAudio's threads) reads the clean tape, a fixed time
  behind the capture. Where the worker has not come that far, it reads the first tape: the
  same sound of the same moment, uncleaned, crossfaded. No callback runs the model, logs, or
  takes a lock. Playback alone may wait for a moment: no longer than what it handed over
  before still plays.

Sample k on the clean tape is sample k that was captured, so the delay is the time its
playback is due minus the time it was captured: PortAudio tells both. Not here: what is shown
of it, and where models and settings come from.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine import devices, varispeed
from engine.denoiser import Denoiser, Frame, Knobs, only_sound
from engine.devices import BLOCK, CAPTURE_BLOCK, SAMPLE_RATE
from engine.drift import SPEED_LIMIT, Drift
from engine.errors import DeviceError
from engine.excerpt import Excerpt
from engine.measure import dbfs
from engine.network import Estimator
from engine.pipeline import Pipeline
from engine.priority import CALLBACKS, NICE, NOT_ASKED, REST_S, WORKER, Priority
from engine.stft import Float
from engine.tape import Tape

_TAPE_S = 4.0
# A stream begins with a backlog of the time before anybody listened (up to 0.6 s on
# PulseAudio, measured): its blocks are older than this, and each younger than the last.
_STALE_S = 0.05
# Sound should be handed to a device this long before the device needs it, so what it
# buffers (30 ms) covers the jitter of callbacks: playback waits for a late worker. Less than
# nothing lies ready here at first; each sound that came too late even so adds to it, and a
# minute in which more was to spare than that takes it off again, after each a longer time.
# What a start has to do beside the sound says nothing of the time after it.
_UNTOUCHED_S = 0.010
_LIKELY = 0.8
# Rather than change to other sound, or to silence, playback waits until this long before: 4 ms
# cost PulseAudio nothing, 3 ms do. Now and then that is a hiccup of the machine; so many within
# so many seconds, not all of one hiccup, are no accident.
_LAST_S = 0.004
# Who is called so soon after he waited was asked meanwhile, two blocks at once if sooner than a
# block lasts; but not earlier than this.
_AT_ONCE_S, _ONE_BLOCK_S, _ASKED_MOST_S = 0.001, 0.009, 0.005
_NARROW, _NARROW_S, _NARROW_APART_S = 3.0, 3.0, 0.1
_MARGIN_S = -0.005
_MARGIN_STEP_S = 0.005
_MARGIN_MAX_S = 0.060
_MARGIN_TAKES_S = _MARGIN_STEP_S / SPEED_LIMIT + 1.0  # until the sound is that much later
_QUIET_S, _QUIET_MAX_S = 60.0, 3600.0
# Always ready beyond what is played, to fade into other sound: long enough not to click.
_FADE = 96
# Clean sound is taken up again when it has been in time for so long: each relapse doubles it, up to
# what leaves a session that was stopped clean within three seconds.
_TRUST_S, _TRUST_MAX_S = 0.1, 2.0
_RELAPSE_S = 10.0
# What one late block takes from that time [blocks]: one in ten is what the wait is for.
_LATE_TAKES = 3
# Playback begins without clean sound when there is none after this.
_PATIENCE_S = 0.5
_START_S, _PLACED_S = 1.5, 2.5
# What is told of the delay counts as right when sound has run for so long.
_WITNESS_S = 2.5
# And never as further than this from what callbacks themselves show: after a stop servers tell
# nonsense for 5 s and more, and were it believed, errors to one side could not be seen any more.
# Callbacks alone wander by 4.5 ms (PulseAudio), and a step of the margin is 5 ms: with this nothing
# is done for the one, and something for the other.
_DOUBT_S = 0.0015
_ORIGIN_MEAN_S = 0.2
# What a device buffers changes seldom; what servers tell of it wanders by 15 ms within seconds
# (PipeWire, with callbacks steady to half a millisecond). So the mean of a longer time counts,
# unless it has been elsewhere for so long.
_LAG_MEAN_S, _LAG_MOST_S = 30.0, 0.1
_LAG_STEP_S, _LAG_MOVED_S = 0.020, 5.0
# It wanders up further than down: for seconds what is told runs on at a slope that was learnt from
# a few moments of a start. So no more than this above its lower tenth counts for what users are
# told: of 13 starts on PipeWire the mean was off by -9 to 19 ms, this by -10 to 2 ms.
_LAG_ABOVE_S = 0.012
# A worker further behind than this would clean what has been played long since.
_BACKLOG_S = 0.25
# Heard again by a model that begins anew, so that it knows the noise when it is listened to.
_WARM_UP_S = 0.1
_SILENT_DEVICE_S = 1.0
# No callback is this late but for one of a process or machine that stood still.
_STOPPED_S = 0.15
# Sound that was late in so many blocks of a time in which none was clean will be so again; one
# late callback, which passes, makes four blocks late at most.
_FALL_BACK_S, _LATE_OFTEN = 0.4, 6
# By more than this it is late for another reason than the step of the callbacks. After a stop
# devices catch up first: they call several times at once, and earlier and earlier.
_FALL_BACK_MOST_S, _SETTLES_S = 0.020, 0.5
# Longer than any delay, and than what servers keep.
_SILENCE_S = 0.4
TOO_SLOW = "the model is too slow for this machine at the moment"
"""A status's fault while the worker is late; any other is the model's own."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a session does. Levels, CPU and gaps are of the time since the status before."""

    state: str
    """``starting``, ``running``, ``stalled`` when a device delivers nothing, or ``idle``: closed
    because nobody listens."""
    input_dbfs: float
    """RMS level captured [dB re full scale]."""
    output_dbfs: float
    """RMS level after cleaning [dB re full scale]."""
    delay_ms: float | None
    """From the microphone's capture to the playback of the same sample; None at first."""
    cpu_percent: float
    """Processor time of this process, in percent of one core."""
    drops: int
    """Events since the start in which sound was lost, repeated or came too late."""
    speech: float
    """Probability of voice in the newest frame."""
    seconds: float
    """Since the start."""
    fault: str | None
    """Why sound goes through uncleaned at the moment, if it does."""
    worker_percent: float = 0.0
    """Processor time of this session's worker alone, in percent of one core."""
    uncleaned_s: float = 0.0
    """Sound that went through as it is, since the start, because the worker was late [s]."""
    target_ms: float | None = None
    """Where the delay is held [ms]; None at first."""
    drift_ppm: float = 0.0
    """How much faster than the capture playback runs at the moment [parts per million]."""
    load: float = 0.0
    """Time that cleaning a second of sound took [s]; from 1 on the worker falls behind."""
    effort: float = 0.0
    """Processor time that it took [s]; less than ``load`` where others had the processor."""
    priority: str = NOT_ASKED.level
    """Of the session's threads: ``real-time``, ``high`` or ``normal``."""
    priority_note: str = NOT_ASKED.note
    """By whom they have it, or why no more."""


class LiveSession:
    """One running path from a microphone to one or more outputs.

    Parameters
    ----------
    network : the model
    source : name of the input device
    outputs : names of the output devices; the first is the one whose delay is told
    knobs : as the user has them
    watch : called with each frame, in the worker; must not block
    clock : has ``monotonic`` and ``sleep``, as the module ``time``
    pause : its output is taken over where it can be

    Raises
    ------
    DeviceError : from ``start``, when a device cannot be opened
    """

    def __init__(
        self,
        network: Estimator,
        source: str,
        outputs: Sequence[str],
        knobs: Knobs | None = None,
        watch: Callable[[Frame], object] | None = None,
        clock: Any = time,
        pause: Pause | None = None,
    ) -> None:
        self._show = _Viewer(watch)
        self._pause = pause
        self._excerpt: weakref.ref[Excerpt] | None = None
        self._clock = clock
        self._source = source
        self._capture = _Capture(clock)
        self._cleaned = Tape(round(_TAPE_S * SAMPLE_RATE))
        self._knobs = knobs or Knobs()
        self._pipeline = Pipeline(Denoiser(network, self._knobs), SAMPLE_RATE, self._show)
        self._next: Pipeline | None = None  # that takes over at the next hop
        behind = _least_behind(self._pipeline)
        self._playbacks = [
            _Playback(name, self._capture, self._cleaned, behind, clock) for name in outputs
        ]
        self._at = self._since = 0  # positions of the next sample to clean, and of the first
        self._block = np.zeros(2 * BLOCK, np.float32)
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name="denoise worker", daemon=True)
        self._priority = Priority()
        self._rested_s = 0.0  # processor time of the worker when it slept last
        self._streams: list[tuple[str, Any]] = []  # of which device
        self._levels = _Levels()
        self._busy = self._asked_busy = np.zeros(2)  # spent cleaning, and sound cleaned so [s]
        self.catch_ups = 0
        self._worker_s = self._asked_worker_s = 0.0

    @property
    def knobs(self) -> Knobs:
        """What the user has turned; may be replaced while sound runs."""
        return self._knobs

    @knobs.setter
    def knobs(self, knobs: Knobs) -> None:
        # In this order: a pipeline that takes over in between looks for them itself.
        self._knobs = knobs
        self._pipeline.knobs = knobs
        for playback in self._playbacks:
            playback.muted = knobs.muted

    @property
    def excerpt(self) -> Excerpt | None:
        """Filled with what comes in and goes out, by the worker; may be replaced at any time.

        Held weakly: who forgets it has forgotten it here too.
        """
        return None if self._excerpt is None else self._excerpt()

    @excerpt.setter
    def excerpt(self, excerpt: Excerpt | None) -> None:
        self._excerpt = None if excerpt is None else weakref.ref(excerpt)

    def replace(self, network: Estimator) -> None:
        """Clean with another model from now on; the sound goes on meanwhile."""
        self._next = Pipeline(Denoiser(network, self.knobs), SAMPLE_RATE, self._show)

    def start(self) -> None:
        """Open the devices and begin; raises DeviceError and leaves nothing open."""
        _hurry()
        self._started_s = self._asked_s = self._clock.monotonic()
        self._asked_cpu_s = time.process_time()
        try:
            # Outputs first: what is captured before they run would only be late.
            for playback in self._playbacks:
                taken = self._pause and self._pause.take(playback.name, playback.callback)
                opened = taken or devices.open_output(playback.name, playback.callback)
                playback.longest_wait_s = devices.longest_wait_s(opened)
                self._streams.append((playback.name, opened))
            self._pause = None
            opened = devices.open_input(self._source, self._capture.callback)
            self._streams.append((self._source, opened))
        except DeviceError:
            self._close_streams()
            raise
        self._worker.start()
        self._priority.start(self._threads, n=len(self._streams) + 1)

    def fall_silent(self) -> None:
        """Play silence for a moment, before ``stop``.

        PipeWire keeps the last 20 ms or so of what was played, and gives it to whoever records
        next, hours later.
        """
        self.knobs = replace(self.knobs, muted=True)
        self._clock.sleep(_SILENCE_S)

    def pause(self) -> Pause:
        """Leave the first output playing silence, beyond ``stop``."""
        return Pause(*self._streams.pop(0))

    def stop(self) -> None:
        """Close the devices and wait for the worker. Safe to call twice."""
        self._stop.set()
        self._priority.stop()
        self._close_streams()
        if self._worker.is_alive():
            self._worker.join(timeout=5.0)

    def __enter__(self) -> LiveSession:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_running(self, timeout_s: float) -> bool:
        """Wait for the first clean sample to be played; False when it did not come in time."""
        deadline_s = time.monotonic() + timeout_s
        while not self._playbacks[0].played and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return self._playbacks[0].played > 0

    def status(self) -> Status:
        """How it goes; called by one thread, about once a second."""
        now, cpu_s = self._clock.monotonic(), time.process_time()
        elapsed_s = max(now - self._asked_s, 1e-6)
        cpu = (cpu_s - self._asked_cpu_s) / elapsed_s
        worker_s = self._worker_s
        spent_s = worker_s - self._asked_worker_s
        self._asked_s, self._asked_cpu_s, self._asked_worker_s = now, cpu_s, worker_s
        self._capture.look_for_gap()
        input_dbfs, output_dbfs = self._levels.read()
        busy = self._busy  # replaced whole by the worker
        (busy_s, sound_s), self._asked_busy = busy - self._asked_busy, busy
        sound_s = max(sound_s, BLOCK / SAMPLE_RATE)
        denoiser, first = self._pipeline.denoiser, self._playbacks[0]
        fault = str(denoiser.fault) if denoiser.fault else None
        if fault is None and first.is_uncleaned:
            fault = TOO_SLOW
        delay_ms = self._delay_ms()
        return Status(
            state=self._state(now),
            input_dbfs=input_dbfs,
            output_dbfs=output_dbfs,
            delay_ms=delay_ms,
            cpu_percent=100.0 * cpu,
            drops=self._capture.gaps + first.stops + first.jumps,
            speech=denoiser.frame.speech,
            seconds=now - self._started_s,
            fault=fault,
            worker_percent=100.0 * spent_s / elapsed_s,
            uncleaned_s=first.uncleaned / SAMPLE_RATE,
            target_ms=None if delay_ms is None else delay_ms - 1000.0 * first.drift.excess_s,
            drift_ppm=1e6 * first.drift.speed,
            load=float(busy_s / sound_s),
            effort=float(spent_s / sound_s),
            priority=self._priority.granted.level,
            priority_note=self._priority.granted.note,
        )

    def _threads(self) -> list[tuple[int, int]]:
        """Number and priority of those that have begun."""
        callers = [self._capture.thread, *(playback.thread for playback in self._playbacks)]
        found = [(thread, CALLBACKS) for thread in callers if thread is not None]
        worker = self._worker.native_id
        return found if worker is None else [*found, (worker, WORKER)]

    def _work(self) -> None:
        """Clean what has come, until told to stop."""
        while not self._stop.is_set():
            if self._capture.wait(self._at + self._pipeline.wanted, timeout_s=0.1):
                self._rested_s = time.thread_time()
            self.clean()

    def clean(self) -> None:
        """Clean all that has come (the worker's call)."""
        heard = self._capture.tape
        coming = self._next
        if coming is not None:
            self._next = None
            self._pipeline, self._cleaned = coming, Tape(self._cleaned.capacity)
            coming.knobs = self._knobs  # as they were turned while it was made
            self._begin_again(round(_BACKLOG_S * SAMPLE_RATE))
        elif heard.written - self._at > round(_BACKLOG_S * SAMPLE_RATE):
            # The machine could not keep up: what is missing was played as it came.
            self._begin_again(round(_WARM_UP_S * SAMPLE_RATE))
            self.catch_ups += 1
        # Only what was there: who never catches up must look at what is new, and be stopped.
        end = heard.written
        while n := min(end - self._at, len(self._block)):
            if self._stop.is_set() or self._next is not None:
                break
            block = self._block[:n]
            if not heard.read(self._at, block):
                break  # overtaken by the capture: we begin again
            before_s = self._clock.monotonic()
            cleaned = self._pipeline.process(block)
            spent_s = self._clock.monotonic() - before_s
            self._busy = np.add(self._busy, (spent_s, n / SAMPLE_RATE))
            self._levels.add(block, cleaned)
            excerpt = self.excerpt
            if excerpt is not None:
                excerpt.add(block, self._at, cleaned, self._cleaned.written)
            self._at += n
            self._cleaned.write(cleaned)
            if self._priority.must_rest and time.thread_time() - self._rested_s > REST_S:
                self._priority.step_back()
            for playback in self._playbacks:
                playback.tell(self._cleaned.written)
        self._worker_s = time.thread_time()
        if coming is not None:
            for playback in self._playbacks:
                playback.coming = self._cleaned, _least_behind(coming)

    def _begin_again(self, n_before: int) -> None:
        """Clean from a moment ago on, as if nothing had been heard before."""
        heard = self._capture.tape
        self._pipeline.reset()
        self._at = self._since = max(heard.begun, heard.written - n_before)
        self._cleaned.leap(self._at)

    def lost(self) -> str | None:
        """Name of a device whose stream has ended by itself: it never calls again; else None."""
        for name, stream in self._streams:
            if not stream.active:
                return name
        return None

    def silent_s(self) -> float:
        """How long the device that called least recently is silent [s]; infinite: ever."""
        called_s = min(self._capture.called_s, *(p.called_s for p in self._playbacks))
        return self._clock.monotonic() - called_s

    def deaf_s(self) -> float:
        """How long the microphone has given nothing but digital silence, after it gave sound [s].

        0 before the first sound, and while nothing is captured.
        """
        called_s, sounded_s = self._capture.called_s, self._capture.sounded_s
        if sounded_s is None or self._clock.monotonic() - called_s > _SILENT_DEVICE_S:
            return 0.0
        return called_s - sounded_s

    def _state(self, now: float) -> str:
        if self._playbacks[0].played and self.silent_s() < _SILENT_DEVICE_S:
            return "running"
        return "starting" if now - self._started_s < 2 * _SILENT_DEVICE_S else "stalled"

    def _delay_ms(self) -> float | None:
        """Time between capture and playback of the same sample [ms]."""
        heard_s, played_s = self._capture.origin.mean_s, self._playbacks[0].origin.mean_s
        if heard_s is None or played_s is None:
            return None
        playback = self._playbacks[0]
        corrected_s = self._capture.lag.told_correction_s + playback.lag.told_correction_s
        return 1000.0 * (played_s - heard_s + corrected_s)

    def _close_streams(self) -> None:
        while self._streams:
            _, stream = self._streams.pop()
            devices.close(stream)


class Pause:
    """An output that plays silence, between a session and the next.

    Opening one takes 70 ms and more on PipeWire, which also suspends devices that nobody plays to,
    and keeps the last 20 ms of what was played for whoever records next.

    Parameters
    ----------
    name : of the device
    stream : that is open already
    """

    def __init__(self, name: str, stream: Any = None) -> None:
        self._name = name
        self._called_s = time.monotonic()
        if stream is None:
            stream = devices.open_output(name, self._be_silent)
        else:
            devices.redirect(stream, self._be_silent)
        self._stream = stream

    @property
    def ended(self) -> bool:
        """Whether the stream has ended by itself."""
        return self._stream is None or not self._stream.active

    def take(self, name: str, callback: devices.Callback) -> Any:
        """The stream, which calls another from now on; None where it is of no use, and closed."""
        silent_s = time.monotonic() - self._called_s
        if name != self._name or self.ended or silent_s > _SILENT_DEVICE_S:
            self.close()
            return None
        stream, self._stream = self._stream, None
        devices.redirect(stream, callback)
        return stream

    def close(self) -> None:
        """Close what nobody has taken. Safe to call twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            devices.close(stream)

    def _be_silent(self, block: Any, _n: int, _times: Any, _flags: Any) -> None:
        self._called_s = time.monotonic()
        block[:] = 0.0


class _Viewer:
    """Hands frames on; a viewer that fails is not asked again, the sound goes on.

    No method of the session: a circle of references would keep its tapes long after its end.
    """

    def __init__(self, watch: Callable[[Frame], object] | None) -> None:
        self._watch = watch

    def __call__(self, frame: Frame) -> None:
        if self._watch is not None:
            try:
                self._watch(frame)
            except Exception:
                self._watch = None


def _least_behind(pipeline: Pipeline) -> int:
    """How far playback must be behind the capture for clean sound to be there [samples].

    A block is asked for at a time, the fade and the filter lie beyond it. Where hops are no
    whole blocks, one is complete up to a block later than another: that is waited for, since
    the device's buffer has the time.
    """
    return round(pipeline.latency_s * SAMPLE_RATE) + BLOCK + _FADE + varispeed.AFTER + 4


def _hurry() -> None:
    """Be served before programs that nobody is listening to, where the system allows it."""
    # A callback that finds the interpreter busy asks for it after this time.
    sys.setswitchinterval(0.001)
    with contextlib.suppress(AttributeError, OSError):  # not this system, not this user
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0), NICE))


class _Capture:
    """The microphone's callback and the tape it fills."""

    def __init__(self, clock: Any) -> None:
        self.tape = Tape(round(_TAPE_S * SAMPLE_RATE))
        self.thread: int | None = None
        self.called_s = float("-inf")
        self.sounded_s: float | None = None
        self.gaps = 0
        self.origin = _Origin(CAPTURE_BLOCK)
        self.lag = _Lag(CAPTURE_BLOCK / SAMPLE_RATE)  # no block comes before its end was heard
        self._clock = clock
        self._arrival = 0.0, 0  # time of the newest block, and the position after it
        self._age_s = float("inf")  # of the newest block; 0 once the backlog is over
        self._wanted = 0
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._newest_origin_s = float("inf")  # of sample 0, by the least delayed block
        self._origin_s: float | None = None

    def callback(self, block: Any, n: int, times: Any, flags: Any) -> None:
        before_s, self.called_s = self.called_s, self._clock.monotonic()
        if self.thread is None:
            self.thread = threading.get_native_id()
        if block.any():
            self.sounded_s = self.called_s
        age_s = times.currentTime - times.inputBufferAdcTime
        if _STALE_S < age_s < self._age_s:
            self._age_s = age_s
            return
        self._age_s = 0.0
        first = self.tape.written
        # What goes through uncleaned, and the level, would carry a driver's NaN on.
        self.tape.write(only_sound(block[:, 0]))
        self._arrival = self.called_s, first + n
        self.origin.add(first, times.inputBufferAdcTime)
        self.lag.add(age_s, _elapsed_s(before_s, self.called_s, n))
        origin_s = times.inputBufferAdcTime - first / SAMPLE_RATE
        self._newest_origin_s = min(self._newest_origin_s, origin_s)
        # One call is enough, so the queue never grows.
        if self.tape.written >= self._wanted and self._wake.empty():
            self._wake.put(None)

    def position(self, now_s: float) -> float:
        """Where the microphone is by now [samples]: between two blocks, time tells."""
        arrived_s, written = self._arrival
        return written + SAMPLE_RATE * min(max(now_s - arrived_s, 0.0), 2 * BLOCK / SAMPLE_RATE)

    def wait(self, position: int, timeout_s: float) -> bool:
        """Sleep until the samples before ``position`` have come: once a hop, not a block.

        False when they are there already.
        """
        self._wanted = position
        if self.tape.written >= position:
            return False
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=timeout_s)
        return True

    def look_for_gap(self) -> None:
        """Count samples the system lost without a word: the clock runs on, the count does not."""
        newest, self._newest_origin_s = self._newest_origin_s, float("inf")
        if newest == float("inf"):
            return
        # Clocks that differ by 500 ppm move this by half a millisecond a second.
        if self._origin_s is not None and abs(newest - self._origin_s) > 0.02:
            self.gaps += 1
        self._origin_s = newest


class _Playback:
    """An output's callback: where on the tapes it is, and what keeps it there."""

    def __init__(
        self, name: str, capture: _Capture, cleaned: Tape, behind: int, clock: Any
    ) -> None:
        self.name = name
        self.behind = behind
        """How far behind the capture it must be at least [samples]."""
        self.coming: tuple[Tape, int] | None = None
        """Clean sound by another model, and how far behind it must be."""
        self.muted = False
        self.thread: int | None = None
        self.called_s = float("-inf")
        self.played = self.uncleaned = 0
        """Samples of sound since the start, and those of them that were not cleaned."""
        self.stops = self.jumps = 0
        self.origin = _Origin(BLOCK)
        self.lag = _Lag()
        self.drift = Drift()
        self._apart = _Origin(BLOCK)  # how far behind the capture it is, by when callbacks come
        self._capture = capture
        self._heard, self._cleaned = capture.tape, cleaned
        self._clock = clock
        self._margin = round(_MARGIN_S * SAMPLE_RATE)
        self._tape: Tape | None = None  # that is played; None is silence
        self._position = 0.0  # of the next sample to play
        self._loud = 1.0  # of sound that was not cleaned: 0 when muted
        self._patience_s = _PATIENCE_S
        self._in_time_s = self._quiet_s = 0.0
        # When clean sound came, and up to where it reached.
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=256)
        # Up to where it was needed, and when, for blocks that were played without it.
        self._missed: deque[tuple[int, float]] = deque(maxlen=100)
        self._short = 0.0  # how many samples too late it came at most, since it is not in time
        self._shorts: list[float] = []  # those of late blocks, since a look
        self._uncleaned_s = 0.0  # since that look
        self._spare_s = float("inf")  # least time to spare before sound is late, of late
        self._narrow = 0.0  # how often there was less than none; forgotten in a few seconds
        self._narrow_s = float("-inf")  # when, the last time that counts
        self._quiet_wanted_s = _QUIET_S
        self._waits = False
        self._came: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._trust_s = _TRUST_S
        self._since_return_s = _RELAPSE_S
        self._told_more_s = 0.0  # than callbacks show of how far behind it is
        self._since_begin_s = 0.0
        self._since_grown_s = self._since_stop_s = float("inf")
        self.longest_wait_s = float("inf")
        """How long the device can do without a block that it asks for, as far as is known [s]."""
        self._asked_s = self._until_s = 0.0  # since when the device waits, until when we may
        self._waited_s = float("-inf")  # when a wait has ended last

    @property
    def is_uncleaned(self) -> bool:
        """Whether sound goes through as it is, the worker being late."""
        return self._tape is self._heard

    def callback(self, block: Any, n: int, times: Any, flags: Any) -> None:
        now_s, before_s = self._clock.monotonic(), self.called_s
        self.called_s = now_s
        if self.thread is None:
            self.thread = threading.get_native_id()
        if now_s - before_s > _STOPPED_S:
            self._since_return_s = _RELAPSE_S  # what comes of it is no relapse
            self._uncleaned_s = -_SETTLES_S
            self._since_stop_s = 0.0
            self.drift.restart(new=True)
        out = block[:, 0]
        out[:] = 0.0
        coming, self.coming = self.coming, None
        if coming is not None:
            self._cleaned, self.behind = coming
            self._missed.clear()
        due = self._capture.position(now_s) - self.behind - self._margin
        ahead_s = times.outputBufferDacTime - times.currentTime
        self.lag.add(ahead_s, _elapsed_s(before_s, now_s, n))
        due_s = now_s + ahead_s + self.lag.correction_s
        self._note_asked(now_s, now_s - before_s)
        self._until_s = min(due_s - _LAST_S, self._asked_s + self.longest_wait_s)
        if self._tape is None and not self._begin(due, n, due_s):
            return
        self.origin.add(self._position, times.outputBufferDacTime)
        self._apart.add(self._position, self._capture.position(now_s) / SAMPLE_RATE)
        jump_s = self.drift.update(self._excess_s(due), n / SAMPLE_RATE)
        if coming is not None and self._jump(round(due - self._position), out, self._cleaned):
            return
        if jump_s and self._jump(self._await(jump_s, n, due_s), out, self._tape):
            return
        if self._falls_back(out):
            return
        if self.is_uncleaned:
            self._look_back(n)
        if self._tape is self._cleaned or self._in_time_s >= self._trust_s:
            self._wait(self._cleaned, n, due_s)
        self._wait(self._heard, n, due_s)
        self._play(out, due_s)

    def _note_asked(self, now_s: float, since_s: float) -> None:
        """Since when the device waits for this block: perhaps while we did for the one before."""
        if now_s - self._waited_s > _AT_ONCE_S:
            self._asked_s = now_s
        elif since_s > _ONE_BLOCK_S:
            self._asked_s += BLOCK / SAMPLE_RATE
        self._asked_s = min(max(self._asked_s, now_s - _ASKED_MOST_S), now_s)

    def _excess_s(self, due: float) -> float:
        """How much further behind than it should be, as far as two witnesses agree.

        PulseAudio calls earlier and earlier while its buffer fills, and PipeWire tells times
        that wander by 25 ms (both measured, with the sound itself steady). Clocks that differ
        show in both: in when the callbacks come, and in what they are told. Means of both: where
        periods are no whole blocks a single callback is off by 5 ms to either side, and only those
        to one side would agree with a clock that is off.
        """
        heard_s, played_s, apart_s = (
            origin.mean_s for origin in (self._capture.origin, self.origin, self._apart)
        )
        if heard_s is None or played_s is None or apart_s is None:
            return (due - self._position) / SAMPLE_RATE
        more_s = played_s - heard_s - apart_s
        if min(self._since_begin_s, self._since_stop_s) < _WITNESS_S:
            self._told_more_s = more_s
            return (due - self._position) / SAMPLE_RATE
        self._told_more_s = min(max(self._told_more_s, more_s - _DOUBT_S), more_s + _DOUBT_S)
        by_arrival_s = apart_s - (self.behind + self._margin) / SAMPLE_RATE
        by_clock_s = by_arrival_s + more_s - self._told_more_s
        if by_arrival_s * by_clock_s <= 0.0:
            return 0.0
        return min(by_arrival_s, by_clock_s, key=abs)

    def _begin(self, due: float, n: int, due_s: float) -> bool:
        """Begin where we would be if we had always played, once there is something to play.

        Clean sound is waited for as it is later on: where callbacks come in bad step with the
        capture's, it would be a moment late each time.
        """
        if due < self._position:
            return False  # heard already, or nothing has come yet
        self._patience_s -= n / SAMPLE_RATE
        before, self._position = self._position, float(round(due))
        if self._nears(n, due_s - _UNTOUCHED_S - self._clock.monotonic()):
            self._wait(self._cleaned, n, due_s)
        if not self._holds(self._cleaned, self._position, n) and (
            self._patience_s > 0.0 or not self._holds(self._heard, self._position, n)
        ):
            self._position = before
            return False
        self._patience_s = _PATIENCE_S
        self._shift(self._position - before)
        self._since_begin_s = 0.0
        self.drift.restart(new=True)
        return True

    def _play(self, out: Float, due_s: float) -> None:
        """The next block, of what is best and there."""
        n, before = len(out), self._tape
        tape = self._choose(n)
        if tape is not self._cleaned:
            in_time_s = min(due_s - _UNTOUCHED_S, self._until_s)
            self._missed.append((self._end(self._position, n), in_time_s))
        if tape is not None:
            out[:] = self._sound(tape, self._position, n)
        if tape is not before:
            # What ends is only sure to be there for the length of the short fade.
            hurried = before is not None and tape is not self._cleaned
            fade = _FADE if hurried else n
            ending = 0.0 if before is None else self._sound(before, self._position, fade)
            weights = _rise(fade)
            out[:fade] = weights * out[:fade] + (1.0 - weights) * ending
            self._change(tape)
        if self._tape is self._heard or before is self._heard:
            out *= np.linspace(self._loud, 0.0 if self.muted else 1.0, n, dtype=np.float32)
        self._loud = 0.0 if self.muted else 1.0
        self._go_on(n if tape is not None else _FADE)

    def _choose(self, n: int) -> Tape | None:
        """Clean sound if it has been in time for a while, else sound as it came, else none."""
        if self._holds(self._cleaned, self._position, n):
            if not self.is_uncleaned:
                self._rest(n)
                return self._cleaned
            if self._in_time_s >= self._trust_s:
                return self._cleaned
        elif not self.is_uncleaned:
            self._in_time_s = self._quiet_s = 0.0
        return self._heard if self._holds(self._heard, self._position, n) else None

    def _look_back(self, n: int) -> None:
        """Whether clean sound would have been in time for blocks that were played without it."""
        arrivals = list(self._arrivals)  # the worker adds to them meanwhile
        while self._missed:
            end, until_s = self._missed[0]
            came_s = next((at_s for at_s, written in arrivals if written >= end), None)
            if came_s is None:
                return
            self._missed.popleft()
            if came_s > until_s:
                late = (came_s - until_s) * SAMPLE_RATE
                self._in_time_s = max(self._in_time_s - _LATE_TAKES * n / SAMPLE_RATE, 0.0)
                self._short = max(self._short, late)
                self._shorts.append(late)
                continue
            if self._short > 0.0 and self._is_curable(self._short):
                self._grow()
            self._short = 0.0
            self._in_time_s += n / SAMPLE_RATE

    def _is_curable(self, short: float) -> bool:
        """Whether sound that was late by so many samples would be in time with more margin.

        What is late at a start or while devices catch up after a stop says nothing of later.
        """
        settled = self._since_begin_s > _START_S and self._since_stop_s > _SETTLES_S
        return settled and short <= _MARGIN_MAX_S * SAMPLE_RATE

    def _falls_back(self, out: Float) -> bool:
        """Take more margin in one crossfade, where sound that is not cleaned hides it.

        Drift control takes seconds for what ``_grow`` adds, and after a stop of the process
        callbacks can come in a step in which a part of the blocks is always late.
        """
        self._uncleaned_s += len(out) / SAMPLE_RATE
        if self._uncleaned_s <= 0.0:
            self._shorts.clear()
            return False
        if self.is_uncleaned and self._uncleaned_s < _FALL_BACK_S:
            return False
        shorts = sorted(self._shorts)
        self._shorts.clear()
        self._uncleaned_s = 0.0
        if not self.is_uncleaned or len(shorts) < _LATE_OFTEN:
            return False
        short = shorts[len(shorts) * 4 // 5]  # an outlier may come too late
        # What was added before and has yet to take effect is a part of it.
        owed = max(-self.drift.excess_s, 0.0) * SAMPLE_RATE
        grown = self._margin + max(math.ceil(short - owed), 0)
        if not 0.0 < short <= _FALL_BACK_MOST_S * SAMPLE_RATE or not self._is_curable(grown):
            return False
        if not self._jump(-math.ceil(short), out, self._heard):
            return False
        self._margin, self._since_grown_s, self._trust_s = grown, 0.0, _TRUST_S
        return True

    def _grow(self) -> None:
        """Sound came too late: leave more time for it, and longer."""
        if self._since_grown_s < _MARGIN_TAKES_S or self.drift.excess_s < -_MARGIN_STEP_S:
            return  # what was added before has still to take effect
        self._since_grown_s = self._narrow = 0.0
        grown = self._margin + round(_MARGIN_STEP_S * SAMPLE_RATE)
        self._margin = min(grown, round(_MARGIN_MAX_S * SAMPLE_RATE))
        self._quiet_wanted_s = min(2.0 * self._quiet_wanted_s, _QUIET_MAX_S)

    def _rest(self, n: int) -> None:
        """A margin that was not needed for long is delay."""
        self._quiet_s += n / SAMPLE_RATE
        self._narrow = max(self._narrow - n / SAMPLE_RATE * _NARROW / _NARROW_S, 0.0)
        if self._narrow > _NARROW - 1.0 and self._is_curable(0.0):
            self._grow()
        if self._quiet_s > self._quiet_wanted_s:
            if self._spare_s > 2.0 * _MARGIN_STEP_S:
                shrunk = self._margin - round(_MARGIN_STEP_S * SAMPLE_RATE)
                self._margin = max(shrunk, round(_MARGIN_S * SAMPLE_RATE))
                self.drift.ease()
            self._quiet_s, self._spare_s = 0.0, float("inf")

    def _change(self, tape: Tape | None) -> None:
        if tape is None:
            self.stops += 1
        elif tape is self._heard:
            relapse = self._since_return_s < _RELAPSE_S
            self._trust_s = min(2.0 * self._trust_s, _TRUST_MAX_S) if relapse else _TRUST_S
        else:
            self._since_return_s = 0.0
            self._missed.clear()
        self._tape = tape

    def _await(self, jump_s: float, n: int, due_s: float) -> int:
        """How many samples to jump, once sound is there as far as it can be waited for.

        Who waits for each block has none of what lies further on when he is called.
        """
        by = round(jump_s * SAMPLE_RATE)
        left_s = self._until_s - self._clock.monotonic()
        if self._tape is self._cleaned and self._nears(n, left_s, by):
            self._wait(self._cleaned, n, due_s, by)
        return by

    def _jump(self, by: int, out: Float, tape: Tape | None) -> bool:
        """Go on elsewhere, crossfaded; False where that is not possible now."""
        n, before = len(out), self._tape
        if tape is None or before is None or not self._holds(tape, self._position + by, n):
            return False
        fade = n if self._holds(before, self._position, n) else _FADE
        ending = self._sound(before, self._position, fade)
        if before is self._heard:
            ending *= self._loud
        self._position += by
        self._missed.clear()
        self._shift(by)
        out[:] = self._sound(tape, self._position, n)
        if tape is self._heard:
            out *= self._loud
        weights = _rise(fade)
        out[:fade] = weights * out[:fade] + (1.0 - weights) * ending
        self._tape = tape
        # A start finds its place after a second or two: nobody calls that a loss.
        self.jumps += self._since_begin_s > _PLACED_S or abs(by) > BLOCK
        self.drift.restart()
        self._go_on(n)
        return True

    def _shift(self, by: float) -> None:
        """Playback goes on so many samples further on."""
        self.origin.shift(by)
        self._apart.shift(by)

    def _go_on(self, n: int) -> None:
        self._position += n * (1.0 + self.drift.speed)
        self._since_return_s += n / SAMPLE_RATE
        self._since_begin_s += n / SAMPLE_RATE
        self._since_grown_s += n / SAMPLE_RATE
        self._since_stop_s += n / SAMPLE_RATE
        if self._tape is not None:
            self.played += n
            self.uncleaned += n if self.is_uncleaned else 0

    def _holds(self, tape: Tape, position: float, n: int) -> bool:
        """Whether ``n`` samples can be played at any speed, and a fade after them."""
        return tape.holds(int(position) - varispeed.BEFORE, self._end(position, n))

    def _end(self, position: float, n: int) -> int:
        """First sample beyond those that ``_holds`` asks for."""
        return int(position + (n + _FADE) * (1.0 + SPEED_LIMIT)) + varispeed.AFTER + 1

    def _nears(self, n: int, wait_s: float, by: int = 0) -> bool:
        """Whether clean sound is there, or would likely be if most of the time left were waited."""
        shift = round(_LIKELY * max(wait_s, 0.0) * SAMPLE_RATE)
        return self._holds(self._cleaned, self._position + by - shift, n)

    def _sound(self, tape: Tape, position: float, n: int) -> Float:
        sound = varispeed.read(tape, position, n, self.drift.speed)
        return np.zeros(n, np.float32) if sound is None else sound

    def _wait(self, tape: Tape, n: int, due_s: float, by: int = 0) -> None:
        """Give who is late the time until the device needs this block: waiting is no loss yet."""
        waited = False
        while not self._holds(tape, self._position + by, n):
            left_s = self._until_s - self._clock.monotonic()
            if left_s <= 0.0:
                return
            waited = self._waits = True
            # Told between the two looks: asks again, so nothing is missed for long.
            self._sleep(min(left_s, 0.005))
            self._waited_s = self._clock.monotonic()
        self._waits = False
        if tape is self._cleaned:
            ready_s = (tape.written - self._position - by - n) / SAMPLE_RATE
            now_s = self._clock.monotonic()
            spare_s = due_s - _UNTOUCHED_S - now_s
            self._spare_s = min(self._spare_s, spare_s + (0.0 if waited else ready_s))
            if waited and spare_s < 0.0 and now_s - self._narrow_s > _NARROW_APART_S:
                self._narrow, self._narrow_s = self._narrow + 1.0, now_s

    def tell(self, written: int) -> None:
        """Clean sound has come, up to there (the worker's call)."""
        self._arrivals.append((self._clock.monotonic(), written))
        if self._waits and self._came.empty():
            self._came.put(None)

    def _sleep(self, at_most_s: float) -> None:
        """Until there is clean sound; a simulated clock knows itself what comes meanwhile."""
        if self._clock is not time:
            self._clock.sleep(at_most_s)
            return
        with contextlib.suppress(queue.Empty):
            self._came.get(timeout=at_most_s)


def _rise(n: int) -> Float:
    """Weights (n,) from 0 to 1 that begin and end level."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)).astype(np.float32)


def _elapsed_s(before_s: float, now_s: float, n: int) -> float:
    """Time since the last callback that counts [s].

    After a stop hundreds come at once, for seconds of sound: that is one moment of what is told.
    """
    return min(now_s - before_s, 2 * n / SAMPLE_RATE)


class _Origin:
    """When sample 0 of a stream passed its device, on PortAudio's clock.

    A running mean of what the callbacks are told: where the server's periods are no whole
    number of blocks, a single one is off by up to a period (10 ms, measured).

    Parameters
    ----------
    block : of a callback [samples]
    """

    def __init__(self, block: int) -> None:
        self._share = block / SAMPLE_RATE / _ORIGIN_MEAN_S
        self.mean_s: float | None = None
        """None before the first callback [s]."""

    def add(self, index: float, time_s: float) -> None:
        origin_s = time_s - index / SAMPLE_RATE
        if self.mean_s is None:
            self.mean_s = origin_s
        self.mean_s += self._share * (origin_s - self.mean_s)

    def shift(self, by: float) -> None:
        """The stream goes on so many samples further on."""
        if abs(by) > _STOPPED_S * SAMPLE_RATE:
            self.mean_s = None  # what callbacks were told before a stop was over is in it
        elif self.mean_s is not None:
            self.mean_s -= by / SAMPLE_RATE


class _Lag:
    """How long a stream's device holds sound, by what each callback is told of it.

    Parameters
    ----------
    least_s : what it cannot be less than [s]
    """

    def __init__(self, least_s: float = 0.0) -> None:
        self.correction_s = 0.0
        """To be added to what callbacks of the last 0.2 s were told in the mean [s]."""
        self.told_correction_s = 0.0
        """The same for what users are told, less what wanders up [s]."""
        self._least_s = least_s
        self._brief_s = self._steady_s = self._elsewhere_s = self._seen_s = 0.0
        self._briefs: deque[float] = deque(maxlen=round(_LAG_MEAN_S / _ORIGIN_MEAN_S))
        self._noted_s = 0.0  # since the newest of them
        self._told_s = 0.0

    def add(self, told_s: float, elapsed_s: float) -> None:
        """Take note of what a callback was told, so long after the one before [s, s]."""
        if self._seen_s == 0.0:
            self._brief_s = self._steady_s = told_s
        self._seen_s = max(self._seen_s + elapsed_s, BLOCK / SAMPLE_RATE)
        # What comes at once after a stop is as old as that, and heard by nobody.
        share = elapsed_s / _ORIGIN_MEAN_S
        self._brief_s += share * min(max(told_s - self._brief_s, -_LAG_MOST_S), _LAG_MOST_S)
        # A machine that stood still is told nonsense for seconds.
        step_s = min(max(told_s - self._steady_s, -_LAG_STEP_S), _LAG_STEP_S)
        self._steady_s += elapsed_s / min(self._seen_s, _LAG_MEAN_S) * step_s
        away = abs(self._brief_s - self._steady_s) > _LAG_STEP_S
        self._elsewhere_s = self._elsewhere_s + elapsed_s if away else 0.0
        if self._elsewhere_s > _LAG_MOVED_S:
            self._steady_s, self._seen_s = self._brief_s, BLOCK / SAMPLE_RATE
            self._briefs.clear()
        self._noted_s += elapsed_s
        if self._noted_s > _ORIGIN_MEAN_S or not self._briefs:
            self._noted_s = 0.0
            self._briefs.append(self._brief_s)
            most_s = sorted(self._briefs)[len(self._briefs) // 10] + _LAG_ABOVE_S
            self._told_s = sum(min(brief_s, most_s) for brief_s in self._briefs) / len(self._briefs)
        self.correction_s = max(self._steady_s, self._least_s) - self._brief_s
        self.told_correction_s = max(self._told_s, self._least_s) - self._brief_s


class _Levels:
    """Sums of squares, added by the worker and read by the status."""

    def __init__(self) -> None:
        self._sums = np.zeros(4)
        self._before = np.zeros(4)

    def add(self, heard: Float, cleaned: Float) -> None:
        energies = (np.dot(heard, heard), len(heard), np.dot(cleaned, cleaned), len(cleaned))
        self._sums = self._sums + np.array(energies, np.float64)

    def read(self) -> tuple[float, float]:
        """Levels in and out since the last call [dBFS]."""
        now = self._sums  # replaced whole by the worker, so this is one moment's value
        heard, n_heard, cleaned, n_cleaned = now - self._before
        self._before = now
        return dbfs(heard / max(n_heard, 1)), dbfs(cleaned / max(n_cleaned, 1))
