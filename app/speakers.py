"""What others send, cleaned on its way to the ears.

Call apps play to speakers of ours; an engine of its own cleans what they play and plays it
to a real output. A thread of its own opens and closes devices and tries again whatever
cannot be had: the microphone's side never hears of it, nor this one of the microphone's.
Not here: the sound (``engine.live``), who asks (``service``).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import models
from app.watch import TICK_S, Patience, Watch
from engine import devices
from engine.control import Answer
from engine.denoiser import Knobs
from engine.errors import DeviceError, ModelError
from engine.live import LiveSession, Status
from engine.names import SPEAKERS_NAME
from engine.network import Network, find
from engine.sound_server import Guest, SoundServer, VirtualSpeakers
from engine.trial import open_network

log = logging.getLogger(__name__)

_REPORT_S = 1.0
_CENSUS_S = 0.9
# What plays to our speakers while we do too goes round and round.
_ROUTES_S = 0.3


@dataclass(frozen=True, slots=True)
class SpeakerWishes:
    """What the user wants of it. Names are as the user gave them."""

    on: bool = False
    output: str | None = None
    """Where clean sound is played; None: the system's default."""
    model: str | None = None
    """None: the microphone's."""


class SpeakerSide:
    """The second session of a service; nothing is open while it is off.

    Parameters
    ----------
    wishes, limit_db : to begin with
    model : name of the microphone's model, asked again and again
    provider : what runs the model
    """

    def __init__(
        self, wishes: SpeakerWishes, limit_db: float, model: Callable[[], str], provider: str
    ) -> None:
        self.wishes = wishes
        self._limit_db = limit_db
        self._model, self._provider = model, provider
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._speakers: VirtualSpeakers | None = None
        self._place, self._sound = contextlib.ExitStack(), contextlib.ExitStack()
        self._guests: list[Guest] = []  # who played to our speakers, to be had back
        self._network: Network | None = None
        self._session: LiveSession | None = None
        self._status: Status | None = None
        self._opened: tuple[SpeakerWishes, str] | None = None
        self._output: devices.Device | None = None  # that we play to, while it is there
        self._census = devices.Census()
        self._here: tuple[str, int] | None = None  # our speakers, in the census
        self._default: str | None = None  # the user's output, when all was well
        self._watch, self._patience = Watch(), Patience()
        self._lost = False
        self._problem: str | None = None
        self._routes = devices.Routes()
        self._told_s = self._counted_s = self._kept_s = 0.0

    # Asked by any thread

    def want(self, wishes: SpeakerWishes) -> None:
        """Have this instead, soon."""
        self.wishes = wishes
        self._wake.set()

    def limit(self, limit_db: float) -> None:
        """Turn no frequency down by more than this [dB], at once."""
        self._limit_db = limit_db
        session = self._session
        if session is not None:
            session.knobs = Knobs(limit_db=limit_db)

    def told(self) -> Answer:
        """How it does.

        Returns
        -------
        ``on``; ``state``: ``off``, ``starting``, ``running``, ``stalled``, ``waiting`` to try
        again or ``stopping``; ``output``, ``model``; ``delay_ms``; ``cpu_percent`` of a core, of
        its worker; ``drops``; ``fault`` (why sound goes through uncleaned); ``problem`` (what
        could not be had). What is not known is null.
        """
        wishes, status, problem = self.wishes, self._status, self._problem
        network, output = self._network, self._output
        told: Answer = {
            "on": wishes.on,
            "state": "waiting" if problem else "starting",
            "output": output.name if output is not None and wishes.on else wishes.output,
            "model": network.spec.name if network is not None and wishes.on else None,
            "delay_ms": None,
            "cpu_percent": None,
            "drops": None,
            "fault": None,
            "problem": problem,
        }
        if not wishes.on:
            told["state"] = "off" if self._speakers is None else "stopping"
        elif status is not None:
            told |= {
                "state": status.state,
                "delay_ms": status.delay_ms,
                "cpu_percent": status.worker_percent,
                "drops": status.drops,
                "fault": status.fault,
            }
        return told

    # The service's thread

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="denoise speakers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it and give back what it has of the sound server. Safe to call twice."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    # Its own thread

    def _run(self) -> None:
        self._clear_leftovers()
        try:
            while not self._stopping:
                try:
                    self._tick()
                except Exception as error:  # whatever it is, the microphone's side goes on
                    log.exception("the speaker side failed")
                    self._lose(f"{type(error).__name__}: {error}")
                    self._pause(self._patience.next_s())
        finally:
            self._close()
            self._census.close()
            self._routes.close()

    def _tick(self) -> None:
        """Let a moment pass, and see to what is wished for and what has happened in it."""
        if not self.wishes.on:
            self._close()
            self._pause(_REPORT_S)
            return
        session = self._session
        if session is not None:
            self._pause(TICK_S)
            trouble = self._watch.look(session) or self._look(session)
            if trouble is not None:
                self._lose(trouble)
        if self._session is None or self._opened != (self.wishes, self._model()):
            try:
                self._open()
            except ModelError as error:
                if self._session is not None:  # what runs goes on
                    self._opened, self._problem = (self.wishes, self._model()), str(error)
                    return
                self._fail(error)
            except DeviceError as error:
                self._fail(error)

    def _pause(self, at_most_s: float) -> None:
        if not self._stopping:
            self._wake.wait(at_most_s)
        self._wake.clear()

    def _look(self, session: LiveSession) -> str | None:
        """Tell how it does; returns why the sound cannot go on as it is."""
        now = time.monotonic()
        if self._watch.hears and self._lost:
            self._lost, self._problem = False, None
            self._patience.reset()
        if now >= self._told_s + _REPORT_S:
            self._told_s, self._status = now, session.status()
        if now < self._kept_s + _ROUTES_S:
            return None
        self._kept_s = now
        try:
            if not self._routes.keep():
                return f"{SPEAKERS_NAME}: moved away from them"
            if now < self._counted_s + _CENSUS_S:
                return None
            self._counted_s = now
            there = self._census.devices()
        except DeviceError as error:
            return str(error)
        if self._here not in [one.key for one in there]:
            # A server may have moved us to a microphone by now: that must not be played.
            return f"{SPEAKERS_NAME}: gone away"
        self._default = _default_output(there)
        try:
            wanted = self._wanted_output(there)
        except DeviceError as error:
            # A server may have moved what we play to another output: back when it can be.
            self._output, self._problem = None, str(error)
            return None
        if self._output is None or wanted.key != self._output.key:
            self._opened = None
        return None

    def _open(self) -> None:
        """Open what is wished for in place of what is open.

        Our speakers stay while they can: call apps would lose them.
        """
        wishes, model = self.wishes, self._model()
        wanted = wishes.model or model
        if self._network is None or self._network.path != find(wanted, models.FOLDER):
            self._network = open_network(wanted, models.FOLDER, self._provider, background=True)
        self._sound.close()
        there = self._census.devices()
        if self._speakers is None or self._here not in [one.key for one in there]:
            self._leave_place()
            place = _speakers(self._guests, self._default)
            self._speakers = self._place.enter_context(place)
            there = self._census.devices()
            here = [one.key for one in there if one.name == self._speakers.sink]
            self._here = here[0] if here else None
        output = self._wanted_output(there)
        knobs = Knobs(limit_db=self._limit_db)
        session = LiveSession(self._network, self._speakers.source, [output.name], knobs)
        self._sound.callback(self._forget)
        with self._routes.learn():
            self._sound.enter_context(session)
        self._watch.begin()
        self._speakers.welcome(self._guests)
        self._guests = []
        self._session, self._opened, self._output = session, (wishes, model), output
        self._told_s = self._counted_s = time.monotonic()
        if not self._lost:
            self._problem = None
        session.knobs = Knobs(limit_db=self._limit_db)  # as it may be by now

    def _wanted_output(self, there: list[devices.Device]) -> devices.Device:
        """Where to play to; raises DeviceError."""
        now = self._output
        default = _default_output(there)
        # Whoever makes our speakers the default still hears with the same ears.
        if self.wishes.output is None and default == VirtualSpeakers.sink and now is not None:
            there_still = [one for one in there if one.key == now.key]
            if there_still:
                return there_still[0]
        return self._census.find("output", self.wishes.output)

    def _lose(self, why: str) -> None:
        """The sound is away: close what is left of it, and say so."""
        self._sound.close()
        if why != self._problem:
            log.warning("what others send is not heard: %s", why)
        self._lost, self._problem = True, why

    def _fail(self, error: Exception) -> None:
        """It cannot be had now: let the call be heard as it is until it can."""
        self._lose(str(error))
        self._hand_over()
        self._pause(self._patience.next_s())

    def _hand_over(self) -> None:
        if self._speakers is not None:
            self._guests += self._speakers.hand_over()

    def _close(self) -> None:
        self._hand_over()
        self._sound.close()
        self._leave_place()
        self._lost, self._opened, self._problem, self._default = False, None, None, None
        self._patience.reset()

    def _leave_place(self) -> None:
        self._place.close()
        self._speakers = None

    def _forget(self) -> None:
        self._session = self._status = None

    def _clear_leftovers(self) -> None:
        if devices.has_sound_server() and not self.wishes.on:
            with contextlib.suppress(DeviceError), SoundServer() as server:
                server.remove_leftovers(VirtualSpeakers.sink)


def speaker_output(name: str) -> str:
    """Name of the output meant, that somebody can hear; raises DeviceError."""
    found = devices.find("output", name)
    if found.startswith("denoise_app_"):
        raise DeviceError(f"{found} is no loudspeaker: name what you hear with")
    return found


def _default_output(there: list[devices.Device]) -> str | None:
    """Name of the system's default output, if there is one."""
    return next((one.name for one in there if one.kind == "output" and one.default), None)


def in_words(told: Answer) -> str:
    """What ``SpeakerSide.told`` says, for a line.

    >>> in_words({"state": "running", "delay_ms": 61.2, "drops": 0, "problem": None, "fault": None})
    'running, delay 61 ms, drops 0'
    >>> in_words({"state": "waiting", "delay_ms": None, "problem": "no output", "fault": None})
    'waiting, trying again: no output'
    """
    words = [str(told["state"])]
    if told["delay_ms"] is not None:
        words.append(f"delay {told['delay_ms']:.0f} ms, drops {told['drops']}")
    if told["fault"]:
        words.append(f"uncleaned: {told['fault']}")
    if told["problem"]:
        words.append(f"trying again: {told['problem']}")
    return ", ".join(words)


@contextlib.contextmanager
def _speakers(guests: list[Guest], default: str | None) -> Iterator[VirtualSpeakers]:
    if not devices.has_sound_server():
        raise DeviceError("cleaning what others send needs PulseAudio or PipeWire")
    with SoundServer() as server:
        speakers = server.create_virtual_speakers(devices.SAMPLE_RATE, guests, default)
        try:
            yield speakers
        finally:
            speakers.remove()
