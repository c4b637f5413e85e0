"""A session that can be steered: other devices and models while it runs, and a picture of it.

Two threads: the one that runs the service opens and closes devices, the control's answers
requests and never waits for a device. Whatever dies is opened anew, whatever cannot be opened
is tried again; the service ends only when it is told to. Not here: the sound
(``engine.live``), what counts as dead (``watch``), the socket (``engine.control``), who asks
(``steering``, the window).
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

import models
from app.audience import Audience
from app.columns import ROWS, byte, rows_of
from app.excerpts import REQUESTS, Excerpts
from app.fullness import Fullness
from app.idle import Idleness, Rest
from app.inquiry import Inquiry
from app.second_ear import SecondEar
from app.spare_model import Figures, SpareModel
from app.speakers import SpeakerSide, SpeakerWishes, speaker_output
from app.watch import TICK_S, Patience, Watch
from engine import devices
from engine.control import Answer, Request
from engine.denoiser import Frame, Knobs
from engine.effort import Efforts
from engine.errors import DeviceError, ModelError
from engine.listeners import Listeners
from engine.live import LiveSession, Pause, Status
from engine.names import MICROPHONE_NAME
from engine.network import find
from engine.sound_server import SoundServer, Usage, VirtualMicrophone
from engine.spec import ModelSpec
from engine.trial import open_network

# Pictures wait for whoever asks, half a second of them at the fastest model's 100 a second.
_FRAMES = 50
_REPORT_S = 1.0
# Asking the sound server which devices there are costs two milliseconds of processor time.
_CENSUS_S = 0.9
# A connection for each question costs tens of milliseconds where the machine is busy.
_DEVICES_S = 0.3
# Who asked for a picture so lately still looks.
_LOOKS_S = 1.0
# On a machine as full as this a call that comes to an idle session on PipeWire waits for seconds,
# as long as its server waits for a processor.
_FULL = 0.85
# While nobody listens there is little to see to; who comes is told at once.
_IDLE_TICK_S = 0.3
# The service's thread waits for nothing but the sound server.
_STUCK_S = 3.0

# A model that was refused is told of this long: what runs goes on, and nothing is tried again.
_REFUSAL_S = 10.0

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, int]
"""Of a device: its name, and a number that is another when it is plugged in again."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants opened. Names are as the user gave them."""

    model: str
    provider: str = "auto"
    source: str | None = None
    """None: the system's default."""
    output: str | None = None
    """None: the virtual microphone."""
    monitor: bool = False
    keep_model: bool = False
    """Never clean with a cheaper model, however busy the machine is."""
    idle: bool | None = None
    """Close the microphone while nobody listens, where the system tells who does. None: on
    PipeWire, which takes seconds to open it on a full machine, not while the machine is full."""


class Service:
    """One steerable session, and beside it one for what others send.

    Parameters
    ----------
    wishes, knobs, speakers : to begin with
    """

    def __init__(self, wishes: Wishes, knobs: Knobs, speakers: SpeakerWishes | None = None) -> None:
        self._wishes = wishes
        self._knobs = knobs
        self._wake = threading.Event()
        self._stopping = False
        self._session: LiveSession | None = None
        self._sound, self._outlet = contextlib.ExitStack(), contextlib.ExitStack()
        self._out: _Out | None = None
        self._status: Status | None = None
        self._problem: str | None = None
        self._refusal, self._refused_s = "", float("-inf")  # why a model was refused, and when
        self._opened: Wishes | None = None
        self._source: Key | None = None  # that was opened, while it is there
        self._was_real = False  # it, and no monitor of an output
        self._monitor: Key | None = None
        self._census, self._routes = devices.Census(), devices.Routes()
        self._audience, self._second_ear = Audience(), SecondEar()
        self._watch, self._patience = Watch(), Patience()
        self._lost_s: float | None = None  # since when the sound is away; None: it is there
        self._tries = self._recoveries = 0
        self._usage: Usage | None = None  # when all was well
        self._ticked_s: float | None = None
        self._told_s = self._counted_s = 0.0
        self._about: dict[str, str] = {}
        self._devices_there: list[dict[str, object]] | None = None
        self._devices_s = 0.0
        self._inquiry = Inquiry()
        self._frames: deque[Frame] = deque(maxlen=_FRAMES)
        self._excerpts = Excerpts()
        self._pictured_s = float("-inf")  # when the newest picture was asked for
        self._listeners = Listeners(self._wake.set)
        self._idleness = Idleness()
        self._rest: Rest | None = None  # while nobody listens
        self._fullness = Fullness()
        self._wary = False  # of a full machine, on which nobody must wait for the microphone
        self._silence: Pause | None = None  # that is played meanwhile
        self._rows: tuple[ModelSpec, np.ndarray] | None = None
        self._network = open_network(wishes.model, models.FOLDER, wishes.provider, background=True)
        self._model = wishes.model
        self._wanted = self._network.spec.name
        self._picked = False  # a model, since it was looked at last
        efforts = Efforts()
        self._spare = SpareModel(
            wishes.model,
            _shipped(),
            lambda name: efforts.of(find(name, models.FOLDER)),
        )
        self.speakers = SpeakerSide(
            speakers or SpeakerWishes(),
            knobs.limit_db,
            lambda: self._model,
            wishes.provider,
        )

    # Asked by the control's thread

    def answer(self, request: Request) -> Answer:
        """Do what is asked.

        ``{"do": "status"}``; ``{"do": "toggle"}``; ``{"do": "devices"}``; ``{"do": "models"}``;
        ``{"do": "quit"}``; ``{"do": "set"}`` with any of ``on``, ``muted``, ``monitor``,
        ``speakers`` (true or false), ``limit_db`` (0…100), ``input``, ``output``,
        ``speakers_output``, ``speakers_model`` (names or null), ``model`` (name); and those of
        ``Excerpts``.

        Returns
        -------
        of most: ``on``, ``muted``, ``limit_db``, ``monitor``, ``input``, ``output``, ``model``
        (that runs), ``model_wanted``, ``overload`` (``model`` or ``machine``: why they differ, or
        null), ``provider``, ``idle`` (whether the microphone is closed because nobody listens),
        ``problem`` (what could not be had, or null), ``recoveries`` (how
        often the sound was lost and had back), ``speakers`` (an object, see
        ``SpeakerSide.told``) and the figures of ``Status``

        Raises
        ------
        ValueError : no such request, a value out of range, or no such device or model
        """
        wanted = dict(request)
        do = wanted.pop("do", None)
        if do in REQUESTS:
            return self._excerpt(do, wanted)
        if do not in ("status", "toggle", "set", "devices", "models", "quit") or (
            wanted and do != "set"
        ):
            raise ValueError("ask for status, toggle, set, devices, models or quit")
        if do == "devices":
            return {"devices": self._devices()}
        if do == "models":
            return {"models": _shipped()}
        if do == "quit":
            self.stop()
        elif do == "toggle":
            self._turn(replace(self._knobs, bypass=not self._knobs.bypass))
        elif do == "set":
            self._set(wanted)
        return self._told()

    def _excerpt(self, do: str, wanted: dict[str, Any]) -> Answer:
        answer = self._excerpts.answer(do, wanted, self._session, self._rest is not None)
        if do == "record":
            if self._session is not None:  # opened in this moment, perhaps
                self._session.excerpt = self._excerpts.wanted
            self._wake.set()
        return answer

    def _devices(self) -> list[dict[str, object]]:
        """Those there are; who asks again at once is told the same."""
        now = time.monotonic()
        if self._devices_there is None or now > self._devices_s + _DEVICES_S:
            try:
                found = self._inquiry.ask(devices.devices)
            except DeviceError as error:
                if self._devices_there is None:
                    raise ValueError(str(error)) from error
            else:
                self._devices_there = [device.as_dict() for device in found]
            self._devices_s = time.monotonic()
        return self._devices_there

    def _set(self, wanted: dict[str, Any]) -> None:
        knobs, wishes, speakers = self._knobs, self._wishes, self.speakers.wishes
        picked = False
        for name, value in wanted.items():
            if name in ("on", "muted", "monitor", "speakers"):
                if not isinstance(value, bool):
                    raise ValueError(f"{name} should be true or false, got {value!r}")
                if name == "on":
                    knobs = replace(knobs, bypass=not value)
                elif name == "muted":
                    knobs = replace(knobs, muted=value)
                elif name == "speakers":
                    speakers = replace(speakers, on=value)
                else:
                    wishes = replace(wishes, monitor=value)
            elif name == "limit_db":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(f"limit_db should be a number, got {value!r}")
                knobs = replace(knobs, limit_db=float(value))
            elif name in ("input", "output"):
                if not isinstance(value, str | None):
                    raise ValueError(f"{name} should be a name or null, got {value!r}")
                if value is not None or name == "input":
                    _asked(self._inquiry.ask, devices.find, name, value)
                field = "source" if name == "input" else "output"
                wishes = replace(wishes, **{field: value})
            elif name in ("speakers_output", "speakers_model"):
                if not isinstance(value, str | None):
                    raise ValueError(f"{name} should be a name or null, got {value!r}")
                if name == "speakers_model":
                    if value is not None:
                        _asked(find, value, models.FOLDER)
                    speakers = replace(speakers, model=value)
                else:
                    if value is not None:
                        _asked(self._inquiry.ask, speaker_output, value)
                    speakers = replace(speakers, output=value)
            elif name == "model":
                if not isinstance(value, str):
                    raise ValueError(f"model should be a name, got {value!r}")
                _asked(find, value, models.FOLDER)
                wishes = replace(wishes, model=value)
                picked = True
            else:
                raise ValueError(f"there is no {name} to set")
        self._turn(knobs)
        if wishes != self._wishes or picked:
            self._wishes, self._picked = wishes, self._picked or picked
            self._wake.set()
        if speakers != self.speakers.wishes:
            self.speakers.want(speakers)

    def _turn(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self.speakers.limit(knobs.limit_db)
        if self._session is not None:
            self._session.knobs = knobs

    def _told(self) -> Answer:
        figures: dict[str, Any] = asdict(self._status) if self._status else {}
        return {
            "on": not self._knobs.bypass,
            "muted": self._knobs.muted,
            "limit_db": self._knobs.limit_db,
            "monitor": self._wishes.monitor,
            **self._about,
            "overload": self._spare.overload,
            "provider": self._network.provider,  # another may have taken over
            "provider_note": self._network.note,
            **figures,
            "idle": self._rest is not None,
            "problem": self._problem_now(),
            "recoveries": self._recoveries,
            "speakers": self.speakers.told(),
        }

    def _problem_now(self) -> str | None:
        ticked_s = self._ticked_s
        if ticked_s is not None and time.monotonic() - ticked_s > _STUCK_S:
            return "the sound server does not answer"
        if self._problem is None and time.monotonic() < self._refused_s + _REFUSAL_S:
            return self._refusal
        return self._problem

    def picture(self) -> Answer:
        """Columns since the last call, for those who watch.

        Returns
        -------
        ``model``; ``top_hz`` of the uppermost row; ``column_s``; ``rows``; ``columns``, their
        number; ``levels``, base64 of (columns, 2, rows) bytes, noisy and clean, from ``FLOOR_DB``
        to ``CEILING_DB``; ``gain``, base64 of (rows,) bytes, the newest, 255 for 1
        """
        self._pictured_s = time.monotonic()
        if self._rest is not None:
            self._wake.set()
        frames = [self._frames.popleft() for _ in range(len(self._frames))]
        spec = self._network.spec
        frames = [frame for frame in frames if len(frame.noisy_db) == spec.n_spectrum]
        if self._rows is None or self._rows[0] is not spec:
            self._rows = (spec, rows_of(spec))
        starts = self._rows[1]
        levels, gain = np.zeros((len(frames), 2, ROWS), np.uint8), np.zeros(ROWS, np.uint8)
        for column, frame in zip(levels, frames, strict=True):
            noisy = np.maximum.reduceat(frame.noisy_db, starts)
            clean_db = frame.noisy_db + 20.0 * np.log10(np.maximum(frame.gain, 1e-6))
            column[0] = byte(noisy)
            column[1] = byte(np.maximum.reduceat(clean_db, starts))
        if frames:
            gain[:] = np.round(255.0 * np.maximum.reduceat(frames[-1].gain, starts))
        return {
            "model": spec.name,
            "top_hz": spec.sample_rate / 2,
            "column_s": spec.hop_s,
            "rows": ROWS,
            "columns": len(frames),
            "levels": base64.b64encode(levels.tobytes()).decode(),
            "gain": base64.b64encode(gain.tobytes()).decode(),
        }

    # The service's own thread

    def run(
        self, started: Callable[[dict[str, str]], None], report: Callable[[Status], None]
    ) -> None:
        """Run until ``stop``; the devices wished for at first must be there.

        Parameters
        ----------
        started : told the first devices and the model
        report : told how it does, once a second

        Raises
        ------
        DeviceError, ModelError : it cannot begin; later ones are told and tried again
        """
        self._ticked_s = time.monotonic()
        try:
            self._open()
            started(self._about)
            self._listen()
            self.speakers.start()
            while not self._stopping:
                self._ticked_s = time.monotonic()
                try:
                    self._tick(report)
                except BrokenPipeError:  # whoever read the reports has gone, and so do we
                    raise
                except Exception as error:  # whatever it is, the call goes on
                    log.exception("something unforeseen")
                    self._lose(f"{type(error).__name__}: {error}")
        finally:
            self._ticked_s = None
            self._listeners.stop()
            self.speakers.stop()
            self._sound.close()
            self._end_silence()
            self._outlet.close()
            self._census.close()
            self._routes.close()

    @property
    def ticked_s(self) -> float | None:
        """When its thread last came by [s]; None: it does not run."""
        return self._ticked_s

    @property
    def stopping(self) -> bool:
        """Whether it is to end."""
        return self._stopping

    def stop(self) -> None:
        """End ``run`` soon; from any thread."""
        self._stopping = True
        self._wake.set()

    def _tick(self, report: Callable[[Status], None]) -> None:
        """Let a moment pass, and see to what has happened in it."""
        session = self._session
        if self._rest is not None:
            self._idle(self._rest, report)
        elif session is not None:
            self._wait(session)
            trouble = self._watch.look(session)
            if trouble is None:
                self._look(session, report)
                trouble = self._changed() or self._deaf(session)
            if trouble is not None:
                self._lose(trouble)
        if self._lost_s is not None and self._tries:
            self._pause(self._patience.next_s())
        if self._stopping:
            return
        self._rest_or_wake()
        is_open = self._session is not None or (self._rest is not None and self._lost_s is None)
        if not is_open or self._opened != self._wishes or self._picked:
            self._open_or_say_why()

    def _listen(self) -> None:
        """Find out who listens, where that is of interest and can be known."""
        self._idleness = Idleness()
        if self._wishes.idle is False:
            return
        self._wary = self._wishes.idle is None and self._is_pipewire()
        if devices.has_sound_server():
            self._listeners.start()
        else:
            log.info("who listens is not known here: the microphone stays open")

    def _rest_or_wake(self) -> None:
        """Close the microphone when nobody listens any more; no longer when somebody does."""
        listeners = self._listeners.count
        if self._lost_s is not None:
            if self._rest is None:
                self._idleness.stay()
                return
            listeners = listeners or 0  # nobody can while there is no sound server
        stays = self._is_heard_otherwise() or (self._wary and self._fullness.share() > _FULL)
        rests = self._idleness.look(listeners, stays)
        if rests and self._rest is None:
            log.info("nobody listens: the microphone is closed")
            self._rest = Rest()
            if self._session is not None:
                if self._is_pipewire():
                    self._silence = self._session.pause()
                else:
                    self._session.fall_silent()
            self._sound.close()
        elif self._rest is not None and not rests:
            why = "somebody listens" if listeners or not self._wary else "it may take long later"
            log.info("%s: the microphone is opened", why)
            self._rest = None

    def _is_pipewire(self) -> bool:
        """Whether outputs are opened slowly, so that silence is played to ours while idle."""
        with contextlib.suppress(DeviceError):
            return self._census.is_pipewire()
        return False

    def _end_silence(self) -> None:
        if self._silence is not None:
            self._silence.close()
            self._silence = None

    def _is_heard_otherwise(self) -> bool:
        """Whether somebody listens, or looks, who does not record the virtual microphone."""
        wishes, excerpt = self._wishes, self._excerpts.wanted
        return (
            wishes.monitor
            or wishes.output is not None  # where that ends is not ours to know
            or (excerpt is not None and not excerpt.is_complete)
            or time.monotonic() < self._pictured_s + _LOOKS_S
        )

    def _idle(self, rest: Rest, report: Callable[[Status], None]) -> None:
        """Let a moment pass in which nobody listens; the virtual microphone is to stay."""
        if self._lost_s is None:
            self._pause(_IDLE_TICK_S)
            trouble = self._changed()
            if self._silence is not None and self._silence.ended:
                trouble = trouble or f"{self._about['output']} has gone away"
            if trouble is not None:
                self._lose(trouble)
        now = time.monotonic()
        if self._status is None or now >= self._told_s + _REPORT_S:
            self._told_s = now
            self._status = rest.status()
            report(self._status)

    def _wait(self, session: LiveSession) -> None:
        if self._status is None and not session.wait_until_running(0.0):
            # The first line comes with the first sound: programs wait for it.
            session.wait_until_running(TICK_S)
        else:
            self._pause(TICK_S)

    def _pause(self, at_most_s: float) -> None:
        self._wake.wait(at_most_s)
        self._wake.clear()

    def _look(self, session: LiveSession, report: Callable[[Status], None]) -> None:
        """Tell how it does, once a second and when the first sound comes."""
        if self._watch.hears and self._lost_s is not None:
            self._recover()
        now = time.monotonic()
        first = self._status is None and session.wait_until_running(0.0)
        if first or now >= self._told_s + _REPORT_S:
            self._told_s = now
            self._status = session.status()
            report(self._status)
            self._relieve(session, self._status)

    def _relieve(self, session: LiveSession, status: Status) -> None:
        """Let a cheaper model clean while the machine cannot keep up with the one wished for."""
        if self._wishes.keep_model or status.state != "running":
            return
        spare, now = self._spare, time.monotonic()
        name = spare.look(now, Figures(status.load, status.effort, status.uncleaned_s))
        if name is None:
            return
        why, before = spare.in_words(), self._about["model"]
        try:
            self._use(name)
        except ModelError as error:
            log.warning("%s cannot take over from %s: %s", name, before, error)
            spare.refuse(name)
            return
        spare.run(name, now)
        session.replace(self._network)
        self._name_models()
        log.warning("%s cleans instead of %s: %s", self._about["model"], before, why)

    def _changed(self) -> str | None:
        """Which device has gone; one that has merely become another is wished for anew."""
        now = time.monotonic()
        if now < self._counted_s + _CENSUS_S:
            return None
        self._counted_s = now
        try:
            there = self._census.devices()
            if self._out is not None and not self._out.is_among(there):
                return f"{self._out.shown} has gone away"
            wanted = self._find_source()
        except DeviceError as error:
            return self._without_source(str(error))
        if wanted.key != self._source or self._monitor_wanted() != self._monitor:
            log.info("the input is %s", wanted.name)
            self._opened = None
            return None
        return self._astray()

    def _astray(self) -> str | None:
        """Bring back what a server has moved; why it cannot be."""
        try:
            if not self._routes.keep():
                return f"{self._about['input']} cannot be had back"
            usage = self._census.usage()
            if usage is not None:
                self._usage = usage
                strays = self._audience.look(usage)
                if strays:
                    log.info("%d who listened are taken back", len(strays))
                    self._census.take_back(strays)
        except DeviceError as error:
            return str(error)
        return None

    def _deaf(self, session: LiveSession) -> str | None:
        """Whether the microphone sounds and the session does not hear it."""
        source = self._about["input"]
        if self._second_ear.look(source, session.deaf_s()):
            return f"{source} does not reach us"
        return None

    def _find_source(self) -> devices.Device:
        """The input wished for; raises DeviceError.

        Where the only microphone has gone, a server's default is what a loudspeaker plays, and
        the others would hear themselves.
        """
        found = self._census.find("input", self._wishes.source)
        if self._wishes.source is None and found.virtual and self._was_real:
            there = self._census.devices()
            if all(one.virtual for one in there if one.kind == "input"):
                raise DeviceError("no microphone is connected")
        return found

    def _without_source(self, problem: str) -> str | None:
        """Why the sound cannot go on now that the microphone has gone; None where it can.

        A sound server may have moved us to another microphone. It may as well have moved us to
        what the others say, or to our own sound, which would go round for ever.
        """
        heard = None
        with contextlib.suppress(DeviceError):
            heard = devices.heard()
        if heard is None or heard.endswith(".monitor") or heard.startswith("denoise_app_"):
            return problem
        self._source, self._problem = None, problem
        self._about["input"] = heard
        return None

    def _lose(self, why: str) -> None:
        """The sound is away: close what is left of it, and say so."""
        self._sound.close()
        self._end_silence()
        if self._lost_s is None:
            self._lost_s = time.monotonic()
        if why != self._problem:
            log.warning("no sound: %s", why)
        self._problem = why

    def _recover(self) -> None:
        """The sound is there again: say so."""
        assert self._lost_s is not None
        away_s = time.monotonic() - self._lost_s
        what = "sound" if self._rest is None else "devices"
        log.warning("%s again after %.1f s, at try %d", what, away_s, self._tries)
        self._recoveries += 1
        self._tries = 0
        self._patience.reset()
        self._lost_s = self._problem = None

    def _open_or_say_why(self) -> None:
        if self._lost_s is not None:
            self._tries += 1
        try:
            self._open()
        except ModelError as error:
            # What runs goes on.
            self._refusal, self._refused_s = str(error), time.monotonic()
            self._wishes = replace(self._wishes, model=self._model)
        except DeviceError as error:
            self._lose(str(error))

    def _open(self) -> None:
        """Open what is wished for in place of what is open; raises DeviceError or ModelError.

        The virtual microphone stays while it can: call apps would lose it.
        """
        wishes = self._wishes
        picked, self._picked = self._picked, False
        if wishes.model != self._model or picked:
            self._use(wishes.model)
            self._refused_s = float("-inf")
            self._model, self._wanted = wishes.model, self._network.spec.name
            self._spare.want(wishes.model)
            if self._session is not None and self._opens_nothing(wishes):
                self._session.replace(self._network)
                self._opened = wishes
                self._name_models()
                return
        self._sound.close()
        self._census.close()  # it may have died with its server since it was used last
        if self._out is None or self._out.wished != wishes.output or not self._has(self._out):
            self._end_silence()
            self._outlet.close()
            self._out = None
            place = _output(wishes.output, self._usage)
            names = self._outlet.enter_context(place)
            there = self._census.devices()
            keys = frozenset(one.key for one in there if one.name in names)
            self._out = _Out(wishes.output, names[0], names[-1], keys)
        source = self._find_source()
        if self._rest is None:
            self._session = self._begin(source.name, self._out.name)
            self._session.knobs = self._knobs  # as they may be by now
            self._session.excerpt = self._excerpts.wanted
            self._watch.begin()
            self._spare.rest()
            self._told_s = time.monotonic()
            self._counted_s = self._told_s - _CENSUS_S  # who listened waits to be taken back
        else:
            if self._silence is None and self._is_pipewire():
                with self._routes.learn():
                    self._silence = Pause(self._out.name)
            if self._lost_s is not None:
                self._recover()
        self._opened, self._source, self._status = wishes, source.key, None
        self._was_real = not source.virtual
        if self._lost_s is None:
            self._problem = None
        self._about = {
            "input": source.name,
            "output": self._out.shown,
            "provider": self._network.provider,
        }
        self._name_models()

    def _use(self, name: str) -> None:
        """Have the network of this name; raises ModelError and keeps the one there is."""
        if find(name, models.FOLDER) != self._network.path:
            provider = self._wishes.provider
            self._network = self._meanwhile(
                lambda: open_network(name, models.FOLDER, provider, background=True)
            )

    def _meanwhile(self, do: Callable[[], T]) -> T:
        """What ``do`` gives or raises. It may take long, and is not taken for a hung server.

        A stranger's model is tried first, for a minute and more on a full machine.
        """
        with ThreadPoolExecutor(1, "denoise model") as pool:
            done = pool.submit(do)
            while not wait([done], TICK_S).done:
                if self._ticked_s is not None:
                    self._ticked_s = time.monotonic()
            return done.result()

    def _opens_nothing(self, wishes: Wishes) -> bool:
        """Whether another model is all that is new."""
        return self._opened is not None and replace(self._opened, model=wishes.model) == wishes

    def _name_models(self) -> None:
        self._about = {
            **self._about,
            "model": self._network.spec.name,
            "model_wanted": self._wanted,
        }

    def _begin(self, source: str, output: str) -> LiveSession:
        """Start a session; raises DeviceError. That you cannot hear yourself stops nothing."""
        self._monitor = self._monitor_wanted()
        if self._monitor is not None:
            with contextlib.suppress(DeviceError):
                return self._start(source, [output, self._monitor[0]])
            self._sound.close()
        return self._start(source, [output])

    def _start(self, source: str, outputs: list[str]) -> LiveSession:
        pause = self._silence
        session = LiveSession(
            self._network, source, outputs, self._knobs, self._frames.append, pause=pause
        )
        self._sound.callback(self._forget)
        try:
            with self._routes.learn(more=pause is not None and not pause.ended):
                return self._sound.enter_context(session)
        finally:
            self._end_silence()  # where it was not taken over

    def _monitor_wanted(self) -> Key | None:
        if self._wishes.monitor:
            with contextlib.suppress(DeviceError):
                return self._census.find("output", None).key
        return None

    def _has(self, out: _Out) -> bool:
        """Whether it has outlived what made the sound go away; or DeviceError."""
        return out.is_among(self._census.devices())

    def _forget(self) -> None:
        self._second_ear.rest()
        self._session = self._status = None


@dataclass(frozen=True, slots=True)
class _Out:
    """Where the clean sound goes."""

    wished: str | None
    name: str
    """What we play to."""
    shown: str
    """What users pick."""
    keys: frozenset[Key]
    """Of every device that it is made of."""

    def is_among(self, there: list[devices.Device]) -> bool:
        return self.keys <= {one.key for one in there}


@contextlib.contextmanager
def _output(name: str | None, usage: Usage | None) -> Iterator[tuple[str, ...]]:
    """Names of where the clean sound goes: what we play to, what it is made of, what users pick."""
    if name is not None:
        output = devices.find("output", name)
        yield (output,)
    elif not devices.has_sound_server():
        cable = devices.virtual_cable()
        yield (cable,)
    else:
        with SoundServer() as server:
            microphone: VirtualMicrophone = server.create_virtual_microphone(
                devices.SAMPLE_RATE, usage
            )
            try:
                yield microphone.sink, microphone.source, MICROPHONE_NAME
            finally:
                microphone.remove()


def _shipped() -> list[str]:
    """Names of the models that come with the program."""
    return [path.stem for path in sorted(models.FOLDER.glob("*.onnx"))]


def _asked(ask: Callable[..., T], *of: Any) -> T:
    """The answer of devices or models, where an error is the asker's to be told."""
    try:
        return ask(*of)
    except (DeviceError, ModelError) as error:
        raise ValueError(str(error)) from error
