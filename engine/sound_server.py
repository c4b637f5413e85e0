"""PulseAudio, or PipeWire speaking its protocol: devices, ours among them.

Ours are a microphone that call apps record and speakers that they play to. pulsectl's room.
Not here: sound itself, which goes through ``devices``.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pulsectl

from engine.errors import DeviceError
from engine.names import MICROPHONE_NAME, SPEAKERS_NAME

_OURS = "denoise_app_"
_SINK = f"{_OURS}sink"
_SOURCE = f"{_OURS}microphone"
_SPEAKERS = f"{_OURS}speakers"
_CHECK_ROOM = f"{_OURS}check_room"
_CHECK_SINK = f"{_OURS}check_sink"
_CHECK_SOURCE = f"{_OURS}check_microphone"
# Marks a module as ours and says which process answers for it.
_OWNER = "denoise_app.owner"
_READY_S = 3.0
_TCP_PORT = 4713
# Whose client no stream has that a module of the server made.
_NOBODY = 0xFFFFFFFF
_AGAIN_S = 0.5
# What pulsectl raises when a server refuses, goes away meanwhile, or had gone before; the last
# two are no PulseError.
_FAILURES = (
    pulsectl.PulseError,
    pulsectl.PulseDisconnected,
    pulsectl._pulsectl.LibPulse.CallError,
)


Stream = tuple[str, int]
"""``input`` or ``output``, and the server's number of it."""
Guest = tuple[int, str]
"""A stream that plays to our speakers: its number, which may be given anew, and whose it is."""


@dataclass(frozen=True, slots=True)
class ServerDevice:
    """One source or sink of the sound server."""

    number: int
    """The server's own, new each time the device is plugged in."""
    name: str
    """The server's own, stable between sessions."""
    description: str
    """What people read."""
    kind: str
    """``input`` or ``output``."""
    sample_rate: int
    """[Hz]"""
    channels: int
    default: bool
    monitor: bool
    """The sound of an output, offered as an input."""
    ours: bool
    """Made by this program: never a sensible input."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How the virtual microphone is used, to be used so again."""

    server: int
    """Tells one life of a server from the next."""
    default_source: str
    """The user's choice, ours or another."""
    microphone: int | None
    """Its number, another each time it is made; None: there is none."""
    listeners: frozenset[int]
    """Numbers of the streams that record it."""
    recorders: frozenset[int]
    """Numbers of all streams that record something."""
    asking: frozenset[int] = frozenset()
    """Numbers of those that asked for it by name, where the server tells: PipeWire does."""
    others: frozenset[int] = frozenset()
    """Numbers of everything else that can be recorded."""


class SoundServer:
    """A connection to the user's sound server.

    Raises
    ------
    DeviceError : no server answers
    """

    def __init__(self) -> None:
        self._news = False
        self._pulse = pulsectl.Pulse("denoise-app", connect=False, threading_lock=True)
        try:
            # Its time limit would be waited for in full even when the server answers at once.
            self._pulse.connect()
        except _FAILURES as error:
            self._pulse.close()
            raise DeviceError(
                "no sound server answers: start PulseAudio or PipeWire (with pipewire-pulse) "
                "in this session, then try again"
            ) from error

    def close(self) -> None:
        """Disconnect; what was created stays. Harmless when the server has gone."""
        with contextlib.suppress(*_FAILURES):
            self._pulse.close()

    def __enter__(self) -> SoundServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Name and version of the server."""
        with _server_errors("asking for the server's name"):
            info = self._pulse.server_info()
        return f"{info.server_name} {info.server_version}"

    def devices(self) -> list[ServerDevice]:
        """Every source, then every sink."""
        with _server_errors("listing devices"):
            info = self._pulse.server_info()
            found = [
                _describe(source, "input", info.default_source_name)
                for source in self._pulse.source_list()
            ]
            found += [
                _describe(sink, "output", info.default_sink_name)
                for sink in self._pulse.sink_list()
            ]
        return found

    def has(self, kind: str, name: str) -> bool:
        """Whether there is an ``input`` or ``output`` of exactly this name."""
        ask = self._pulse.get_source_by_name if kind == "input" else self._pulse.get_sink_by_name
        with _server_errors("looking for a device"):
            try:
                return ask(name) is not None
            except pulsectl.PulseIndexError:
                return False

    def heard_by(self, process: int) -> str | None:
        """Name of the source of others that a process records, by its number; None: none."""
        with _server_errors("asking what is recorded"):
            names = {source.index: source.name for source in self._pulse.source_list()}
            for stream in self._pulse.source_output_list():
                heard = names.get(stream.source, "")
                if stream.proplist.get("application.process.id") != str(process):
                    continue
                if heard and not heard.startswith(_OURS):  # what others send is no microphone
                    return str(heard)
        return None

    def routes(self, process: int) -> dict[Stream, int]:
        """Number of the device that each stream of a process plays to or records."""
        with _server_errors("asking where sound goes"):
            played, recorded = self._pulse.sink_input_list(), self._pulse.source_output_list()
        found = {("output", stream.index): (stream, stream.sink) for stream in played}
        found |= {("input", stream.index): (stream, stream.source) for stream in recorded}
        return {
            key: int(device)
            for key, (stream, device) in found.items()
            if stream.proplist.get("application.process.id") == str(process)
        }

    def route(self, stream: Stream, device: int) -> None:
        """Have a stream play to, or record, another device; raises DeviceError."""
        kind, number = stream
        with _server_errors("moving a stream"):
            if kind == "input":
                self._pulse.source_output_move(number, device)
            else:
                self._pulse.sink_input_move(number, device)

    def usage(self) -> Usage:
        """How the virtual microphone is used at the moment."""
        with _server_errors("asking who listens"):
            info = self._pulse.server_info()
            sources = self._pulse.source_list()
            streams = self._pulse.source_output_list()
        ours = [one.index for one in sources if one.name == _SOURCE]
        return Usage(
            server=info.cookie,
            default_source=info.default_source_name,
            microphone=ours[0] if ours else None,
            listeners=frozenset(one.index for one in streams if one.source in ours),
            recorders=frozenset(one.index for one in streams),
            asking=frozenset(
                one.index for one in streams if one.proplist.get("target.object") == _SOURCE
            ),
            others=frozenset(one.index for one in sources).difference(ours),
        )

    def listeners(self) -> int:
        """How many streams of other programs record the virtual microphone, and are not paused."""
        with _server_errors("asking who listens"):
            sources = self._pulse.source_list()
            # Those who record the sink's monitor hear the same.
            ours = [one.index for one in sources if one.name in (_SOURCE, f"{_SINK}.monitor")]
            streams = self._pulse.source_output_list()
        return sum(
            one.source in ours and not one.corked and one.client != _NOBODY and not _is_own(one)
            for one in streams
        )

    def expect_recorders(self) -> None:
        """Have ``wait`` end whenever a stream that records begins, changes or ends."""
        self._news = True
        with _server_errors("asking to be told of streams"):
            self._pulse.event_callback_set(self._hear_news)
            self._pulse.event_mask_set("source_output")

    def wait(self, at_most_s: float) -> bool:
        """Wait for what is expected; returns whether it has come since the last call.

        Raises
        ------
        DeviceError : the server has gone
        """
        if not self._news:
            with _server_errors("waiting for streams"):
                self._pulse.event_listen(at_most_s)
        news, self._news = self._news, False
        return news

    def _hear_news(self, _event: object) -> None:
        self._news = True
        raise pulsectl.PulseLoopStop

    def take_back(self, listeners: Iterable[int]) -> None:
        """Have these streams record the virtual microphone, as far as they live."""
        with _server_errors("taking listeners back"):
            for microphone in self._pulse.source_list():
                if microphone.name == _SOURCE:
                    for stream in listeners:
                        with contextlib.suppress(pulsectl.PulseOperationFailed):
                            self._pulse.source_output_move(stream, microphone.index)

    def find(self, kind: str, name: str | None) -> ServerDevice:
        """The device meant by a name, a description or a part of either.

        Parameters
        ----------
        kind : ``input`` or ``output``
        name : None is the system's default; if that is our own virtual microphone (people
            make it their default), the first real microphone

        Raises
        ------
        DeviceError : none or several fit
        """
        return choose(self.devices(), kind, name)

    def create_virtual_microphone(
        self, sample_rate: int, before: Usage | None = None
    ) -> VirtualMicrophone:
        """Make a microphone that call apps can pick, after clearing what a crash left.

        Parameters
        ----------
        sample_rate : [Hz]
        before : how the last one was used: this one is the default if that was

        Raises
        ------
        DeviceError : another running instance has it, or the server refused
        """
        with _server_errors("creating the virtual microphone"):
            self._wait_until_ready()
            self.remove_leftovers(_SOURCE, _SINK)
            self._remove_our_own(_SOURCE, _SINK)
            self._refuse_second(_SINK)
            default = before.default_source if before is not None else None
            return VirtualMicrophone(self._pulse, sample_rate, default)

    def _wait_until_ready(self) -> None:
        """Let PipeWire's session manager begin: what comes before it may stay unlinked for good."""
        until_s = time.monotonic() + _READY_S
        while self._pulse.server_info().default_sink_name.startswith("@"):  # none is known yet
            if time.monotonic() > until_s:
                return  # a machine without any output
            time.sleep(0.05)

    def create_virtual_speakers(
        self, sample_rate: int, guests: Sequence[Guest] = (), default_before: str | None = None
    ) -> VirtualSpeakers:
        """Make speakers that call apps can pick; who played to those that a crash left plays on.

        Parameters
        ----------
        sample_rate : [Hz]
        guests : who played to the last ones, as ``hand_over`` told; they play here again
        default_before : as of ``create_virtual_microphone``, the default sink

        Raises
        ------
        DeviceError : another running instance has them, or the server refused
        """
        with _server_errors("creating the virtual speakers"):
            default = default_before or self._pulse.server_info().default_sink_name
            guests = [*guests, *_streams_to(self._pulse, _SPEAKERS)]
            self.remove_leftovers(_SPEAKERS)
            self._remove_our_own(_SPEAKERS)
            self._refuse_second(_SPEAKERS)
            speakers = VirtualSpeakers(self._pulse, sample_rate, default)
            _move(self._pulse, guests, _SPEAKERS)
            return speakers

    @contextlib.contextmanager
    def check_devices(self, sample_rate: int) -> Iterator[tuple[VirtualRoom, VirtualMicrophone]]:
        """Devices to try the program with, beside those of a running session; gone afterwards.

        Raises
        ------
        DeviceError : the server refused
        """
        with _server_errors("making devices for a check"):
            self.remove_leftovers(_CHECK_SOURCE, _CHECK_SINK, _CHECK_ROOM)
            room = VirtualRoom(self._pulse, sample_rate)
            try:
                microphone = CheckMicrophone(self._pulse, sample_rate)
            except DeviceError:
                room.remove()
                raise
        try:
            yield room, microphone
        finally:
            microphone.remove()
            room.remove()

    def leftovers(self) -> int:
        """How many modules instances that no longer live have left behind."""
        with _server_errors("looking for leftovers"):
            owners = [_owner(module.argument) for module in self._pulse.module_list()]
        return sum(owner is not None and not _lives(owner) for owner in owners)

    def volume(self, source: str) -> float:
        """Of an input, 1 as delivered, 0 when it is muted."""
        with _server_errors("asking for a volume"):
            for found in self._pulse.source_list():
                if found.name == source:
                    return 0.0 if found.mute else float(found.volume.value_flat)
        raise DeviceError(f"{source} is not there any more")

    def remove_leftovers(self, *names: str) -> int:
        """Unload what instances that no longer live have left behind.

        Parameters
        ----------
        names : of the devices to clear; none: all

        Returns
        -------
        how many modules
        """
        with _server_errors("removing leftovers"):
            return self._unload(names, lambda owner: not _lives(owner))

    def _remove_our_own(self, *names: str) -> None:
        """Unload what is left of our last device: half of it, or all after a cut connection."""
        self._unload(names, lambda owner: owner == _identity(os.getpid()))

    def _unload(self, names: Sequence[str], of: Callable[[str], bool]) -> int:
        removed = 0
        # The source hangs on the sink: the newest module goes first.
        for module in reversed(self._pulse.module_list()):
            owner, name = _owner(module.argument), _device_of(module.argument)
            if owner is None or not of(owner) or (names and name not in names):
                continue
            if name == _SPEAKERS:
                _hand_over(self._pulse)
            with contextlib.suppress(pulsectl.PulseOperationFailed):
                self._pulse.module_unload(module.index)
                removed += 1
        return removed

    def _refuse_second(self, sink: str) -> None:
        for module in self._pulse.module_list():
            owner = _owner(module.argument)
            if owner is not None and _device_of(module.argument) == sink:
                raise DeviceError(
                    f"denoise-app already runs (process {owner.split(':')[0]}); stop it, or "
                    "steer it instead"
                )


class _VirtualDevice:
    """Modules of ours in the server, and defaults that stay the user's."""

    sink: str
    source: str

    def __init__(
        self, pulse: pulsectl.Pulse, sample_rate: int, default_before: str | None = None
    ) -> None:
        self._pulse = pulse
        self._modules: list[int] = []
        before = pulse.server_info()
        try:
            self._make(sample_rate)
        except _FAILURES as error:
            self.remove()
            raise DeviceError(f"the sound server refused to create {self.sink}: {error}") from error
        self._keep_defaults(before, default_before)

    def remove(self) -> None:
        """Take it away again; harmless when the server has gone."""
        for module in reversed(self._modules):
            with contextlib.suppress(*_FAILURES):
                self._pulse.module_unload(module)
        self._modules.clear()

    def _make(self, sample_rate: int) -> None:
        raise NotImplementedError

    def _keep_defaults(self, before: pulsectl.PulseServerInfo, chosen: str | None) -> None:
        raise NotImplementedError

    def _load_sink(self, sample_rate: int, description: str) -> None:
        arguments = (
            f"sink_name={self.sink} rate={sample_rate} channels=1 "
            f"sink_properties={_properties(description)}"
        )
        try:
            # Without this an idle null sink has played 2 s of silence in advance, and the
            # first sound waits for it (1.9 s measured on PulseAudio 16, 0.03 s with it).
            self._load("module-null-sink", f"{arguments} norewinds=1")
        except pulsectl.PulseOperationFailed:
            self._load("module-null-sink", arguments)  # PulseAudio before it knew the word

    def _load(self, module: str, arguments: str) -> None:
        self._modules.append(self._pulse.module_load(module, arguments))

    def _keep_sink(self, wanted: str) -> None:
        """Some servers make a new device the default; that is the user's choice alone."""
        is_ours = self._pulse.server_info().default_sink_name == self.sink
        if is_ours != (wanted == self.sink):
            self._restore(self._pulse.sink_list(), wanted)

    def _keep_source(self, wanted: str) -> None:
        now = self._pulse.server_info().default_source_name
        is_ours = now in (self.source, f"{self.sink}.monitor")
        if is_ours != (wanted == self.source):
            self._restore(self._pulse.source_list(), wanted)

    def _restore(self, devices: list[pulsectl.PulseObject], name: str) -> None:
        for device in devices:
            if device.name == name:
                with contextlib.suppress(*_FAILURES):  # the call matters more
                    self._pulse.default_set(device)


class VirtualMicrophone(_VirtualDevice):
    """A null sink that takes our sound and a source that gives it to call apps.

    The sink's monitor could serve as well, but many call apps hide monitors.
    """

    source: str = _SOURCE
    """Name of the source that call apps record."""
    sink: str = _SINK
    """Name of the sink that we play to."""
    description = MICROPHONE_NAME

    def _make(self, sample_rate: int) -> None:
        self._load_sink(sample_rate, "denoise-app (internal)")
        self._load(
            "module-remap-source",
            f"source_name={self.source} master={self.sink}.monitor channels=1 "
            f"source_properties={_properties(self.description)}",
        )

    def _keep_defaults(self, before: pulsectl.PulseServerInfo, chosen: str | None) -> None:
        self._keep_sink(before.default_sink_name)
        with self._keep_listeners():
            self._keep_source(chosen or before.default_source_name)

    @contextlib.contextmanager
    def _keep_listeners(self) -> Iterator[None]:
        """PulseAudio moves even those who asked for a device by name when another is default.

        Calls wait for this microphone, so one may begin in this very moment: who is new and
        records what has just become the default is taken for one of them.
        """
        streams = {one.index: one.source for one in self._pulse.source_output_list()}
        default = self._pulse.server_info().default_source_name
        yield
        numbers = {one.name: one.index for one in self._pulse.source_list()}
        # PipeWire may list what was made a moment ago a moment later: nobody records that yet.
        ours, now = numbers.get(self.source), self._pulse.server_info().default_source_name
        moved_to = numbers.get(now) if now != default else None
        for stream in self._pulse.source_output_list():
            came = stream.index not in streams and stream.source == moved_to
            listened = streams.get(stream.index) == ours
            if ours is not None and (listened or (came and not _is_own(stream))):
                with contextlib.suppress(pulsectl.PulseOperationFailed):
                    self._pulse.source_output_move(stream.index, ours)


class CheckMicrophone(VirtualMicrophone):
    """The same under other names, so that a running session keeps its own."""

    source = _CHECK_SOURCE
    sink = _CHECK_SINK
    description = "denoise-app check"


class VirtualRoom(_VirtualDevice):
    """A null sink: what is played there is what its monitor, taken for a microphone, hears."""

    sink = _CHECK_ROOM
    source = f"{_CHECK_ROOM}.monitor"

    def _make(self, sample_rate: int) -> None:
        self._load_sink(sample_rate, "denoise-app check (room)")

    def _keep_defaults(self, before: pulsectl.PulseServerInfo, chosen: str | None) -> None:
        self._keep_sink(before.default_sink_name)
        self._keep_source(before.default_source_name)


class VirtualSpeakers(_VirtualDevice):
    """A null sink that call apps play to; we clean its monitor."""

    sink = _SPEAKERS
    """Name of the sink that call apps play to."""
    source = f"{_SPEAKERS}.monitor"
    """Name of the source that we record."""

    def _make(self, sample_rate: int) -> None:
        self._load_sink(sample_rate, SPEAKERS_NAME)

    def _keep_defaults(self, before: pulsectl.PulseServerInfo, chosen: str | None) -> None:
        self._keep_sink(chosen or before.default_sink_name)
        self._keep_source(before.default_source_name)

    def hand_over(self) -> list[Guest]:
        """Let who plays here play to a real output; returns who that was."""
        with contextlib.suppress(*_FAILURES):
            return _hand_over(self._pulse)
        return []

    def welcome(self, guests: Sequence[Guest]) -> None:
        """Have those who were handed over back."""
        with contextlib.suppress(*_FAILURES):
            _move(self._pulse, guests, self.sink)


def hang_up() -> int:
    """Cut all connections of this process to its sound server; returns how many there were.

    libpulse and ALSA wait without end for a server that lives and does not answer. After this
    whoever waits is told that the server has gone. Call it from any thread.
    """
    return sum(_cut(int(name)) for name in _open_files())


@contextlib.contextmanager
def answered_within(limit_s: float) -> Iterator[None]:
    """Hang up whenever what is done here waits for the sound server longer than this [s]."""
    done = threading.Event()

    def watches() -> None:
        wait_s = limit_s
        while not done.wait(wait_s):
            hang_up()
            wait_s = _AGAIN_S  # who asks at one place after the other

    threading.Thread(target=watches, name="denoise patience", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _open_files() -> list[str]:
    with contextlib.suppress(OSError):  # no Linux
        return os.listdir("/proc/self/fd")
    return []


def _cut(descriptor: int) -> bool:
    """Cut what is a connection to the sound server and leave all else alone."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if not _is_server(connection.getpeername()):
                return False
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # without a peer, or closed meanwhile
        return False
    return True


def _is_server(peer: object) -> bool:
    """Whether a server of PulseAudio's protocol listens at such an address."""
    if isinstance(peer, str):
        return peer.endswith("/native") or f"unix:{peer}" in os.environ.get("PULSE_SERVER", "")
    return isinstance(peer, tuple) and peer[1:2] == (_TCP_PORT,)


def _properties(description: str) -> str:
    """Of a device of ours, as a module takes them."""
    # PipeWire's session manager makes the device of the highest priority the default where the
    # user has chosen none; one that has none counts as -1.
    owner = f'{_OWNER}="{_identity(os.getpid())}" priority.session="-10"'
    # PulseAudio and PipeWire agree on this quoting only.
    return f"'device.description=\"{description}\" {owner}'"


def _hand_over(pulse: pulsectl.Pulse) -> list[Guest]:
    """Move who plays to our speakers to a real output: a stream whose sink goes may be ended."""
    guests = _streams_to(pulse, _SPEAKERS)
    sinks = [sink.name for sink in pulse.sink_list() if not sink.name.startswith(_OURS)]
    if guests and sinks:
        default = pulse.server_info().default_sink_name
        _move(pulse, guests, default if default in sinks else sinks[0])
    return guests


def _streams_to(pulse: pulsectl.Pulse, sink: str) -> list[Guest]:
    at = [one.index for one in pulse.sink_list() if one.name == sink]
    found = [_guest(stream) for stream in pulse.sink_input_list() if stream.sink in at]
    # What we play ourselves is no guest: had back, it would go round and round.
    return [guest for guest in found if guest[1] != str(os.getpid())]


def _is_own(stream: pulsectl.PulseObject) -> bool:
    return bool(stream.proplist.get("application.process.id") == str(os.getpid()))


def _guest(stream: pulsectl.PulseObject) -> Guest:
    return stream.index, str(stream.proplist.get("application.process.id"))


def _move(pulse: pulsectl.Pulse, guests: Sequence[Guest], sink: str) -> None:
    """Have streams play to another sink; those that have ended are left out."""
    to = next((one.index for one in pulse.sink_list() if one.name == sink), None)
    for stream in pulse.sink_input_list() if guests and to is not None else ():
        if _guest(stream) in guests:
            with contextlib.suppress(pulsectl.PulseOperationFailed):
                pulse.sink_input_move(stream.index, to)


def choose(devices: list[ServerDevice], kind: str, name: str | None) -> ServerDevice:
    """The one that ``SoundServer.find`` finds among these; raises DeviceError."""
    devices = [device for device in devices if device.kind == kind]
    if name is None:
        # A real default first, then any real one, then what remains.
        usable = [device for device in devices if not device.ours]
        usable.sort(key=lambda device: (not device.default, device.monitor))
        if not usable:
            raise DeviceError(f"the sound server has no {kind} device: connect one")
        return usable[0]
    exact = [device for device in devices if name in (device.name, device.description)]
    part = [
        device
        for device in devices
        if name.lower() in f"{device.name}\n{device.description}".lower()
    ]
    fitting = exact or [device for device in part if not device.ours] or part
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(device.name for device in (fitting or devices)) or "none"
    problem = "several devices fit" if fitting else f"no {kind} device fits"
    raise DeviceError(f"{problem} {name!r}; give one of these names: {known}")


def _describe(device: pulsectl.PulseObject, kind: str, default: str) -> ServerDevice:
    return ServerDevice(
        number=device.index,
        name=device.name,
        description=device.description,
        kind=kind,
        sample_rate=device.sample_spec.rate,
        channels=device.sample_spec.channels,
        default=device.name == default,
        monitor=device.name.endswith(".monitor"),
        ours=device.name.startswith(_OURS),
    )


def _identity(pid: int) -> str:
    """Process and the tick of its start: a number alone would be reused one day.

    Ticks are counted since the machine began; the second would move with a clock that is set.
    """
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return f"{pid}:{after_name.split()[19]}"


def _owner(argument: str | None) -> str | None:
    """Whose module this is, if it is one of ours."""
    _, found, rest = (argument or "").partition(f'{_OWNER}="')
    return rest.partition('"')[0] if found else None


def _device_of(argument: str | None) -> str | None:
    """Name of the sink or source that a module makes."""
    found = re.search(r"\b(?:sink|source)_name=(\S+)", argument or "")
    return found[1] if found else None


def _lives(owner: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        pid = int(owner.split(":")[0])
        # Whose parent has not yet asked how it ended does nothing any more.
        return _identity(pid) == owner and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def _server_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise DeviceError(f"the sound server failed while {doing}: {error}") from error
