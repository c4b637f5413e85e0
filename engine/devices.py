"""Sound devices: which there are, and streams of blocks from and to them.

sounddevice's room. On Linux the sound server's names are used and its ALSA plug-in
carries the sound; elsewhere PortAudio's own devices are. Not here: what is done with
the blocks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from engine.errors import DeviceError
from engine.sound_server import (
    ServerDevice,
    SoundServer,
    Stream,
    Usage,
    answered_within,
    choose,
)

# PortAudio looks for devices when it is loaded, and waits for a server that does not answer.
_LOOKS_S = 5.0

try:
    with answered_within(_LOOKS_S):
        import sounddevice as sd
except OSError as error:  # the package is there, the library it wraps is not
    raise DeviceError("PortAudio is missing: install it (Debian: libportaudio2)") from error

SAMPLE_RATE = 48_000
"""What sound servers and cards run at [Hz]; the server converts where one does not."""

BLOCK = 480
"""Samples that playback is asked for at a time: 10 ms. With 5 ms the ALSA plug-in lost some."""

CAPTURE_BLOCK = 240
"""Samples that a capture hands over at a time: 5 ms, none of them lost in 25 s beside a hog."""

# Asked for less than four blocks, PulseAudio sends what was captured in pieces of one block: it
# comes 7 ms sooner than in pieces of two.
_LATENCY_S = {"input": 0.015, "output": 0.02}

# A block held longer than this after it was asked for is missed. What PipeWire buffers lasts for
# two quanta of 512 or four of 256, though it tells of 30 ms: each 25th block held for 20 ms broke
# nothing, for 22 ms it put in a quantum of silence 17 times of 19. On PulseAudio 26 ms and 28 ms.
_LONGEST_WAIT_S = {"PipeWire": 0.019, "PulseAudio": 0.026}

# A server that answers nobody is hung up on after 10 s, which ends this wait as well.
_START_S = 15.0

# PortAudio keeps its streams in one list, the environment one choice of device: one thread
# at a time may open or close. Callbacks never wait for it.
_ONE_AT_A_TIME = threading.Lock()

T = TypeVar("T")
Callback = Callable[[Any, int, Any, Any], None]
"""PortAudio's: (buffer (n, channels) float32, n, times, flags)."""

_CABLES = {
    "win32": ("CABLE Input", "VB-CABLE (vb-audio.com/Cable)"),
    "darwin": ("BlackHole", "BlackHole (existential.audio/blackhole)"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """Somewhere sound comes from or goes to."""

    name: str
    description: str
    kind: str
    """``input`` or ``output``."""
    default: bool
    virtual: bool
    """Our own, or the monitor of an output."""
    number: int = 0
    """The server's, new each time something of this name is plugged in."""

    @property
    def key(self) -> tuple[str, int]:
        """Alike for as long as it is the same device."""
        return self.name, self.number

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        told = asdict(self)
        del told["number"]
        return told


def has_sound_server() -> bool:
    """Whether names and routes are a PulseAudio-like server's business here."""
    return sys.platform.startswith("linux")


def devices() -> list[Device]:
    """Every input, then every output; raises DeviceError when the system has no sound."""
    with Census() as census:
        return census.devices()


def find(kind: str, name: str | None) -> str:
    """Name of the device meant; None is the system's default. Raises DeviceError."""
    with Census() as census:
        return census.find(kind, name).name


class Census:
    """Which devices there are, asked time and again over one connection.

    It breaks with the sound server; the next question then begins a new one.
    """

    def __init__(self) -> None:
        self._server: SoundServer | None = None

    def devices(self) -> list[Device]:
        """Every input, then every output; raises DeviceError when the system has no sound."""
        if not has_sound_server():
            return [*_portaudio_devices("input"), *_portaudio_devices("output")]
        return [_as_device(found) for found in self._ask(SoundServer.devices)]

    def find(self, kind: str, name: str | None) -> Device:
        """The device meant; None is the system's default. Raises DeviceError."""
        if has_sound_server():
            return _as_device(choose(self._ask(SoundServer.devices), kind, name))
        candidates = _portaudio_devices(kind)
        fitting = [
            device
            for device in candidates
            if (device.default if name is None else name.lower() in device.name.lower())
        ]
        exact = [device for device in fitting if device.name == name]
        if len(exact or fitting) != 1:
            known = ", ".join(device.name for device in candidates) or "none"
            raise DeviceError(f"no single {kind} device fits {name!r}; give one of these: {known}")
        return (exact or fitting)[0]

    def has(self, kind: str, name: str) -> bool:
        """Whether a sound server has an ``input`` or ``output`` of this name; or DeviceError."""
        return self._ask(lambda server: server.has(kind, name))

    def usage(self) -> Usage | None:
        """How the virtual microphone is used; None where no server makes one. Or DeviceError."""
        if not has_sound_server():
            return None
        return self._ask(SoundServer.usage)

    def is_pipewire(self) -> bool:
        """Whether the sound server is PipeWire; or DeviceError."""
        return has_sound_server() and "PipeWire" in self._ask(lambda server: server.name)

    def take_back(self, listeners: list[int]) -> None:
        """Have these streams record the virtual microphone; raises DeviceError."""
        self._ask(lambda server: server.take_back(listeners))

    def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Census:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: Callable[[SoundServer], T]) -> T:
        if self._server is None:
            self._server = SoundServer()
        try:
            return what(self._server)
        except DeviceError:
            self.close()
            raise


class Routes:
    """Keeps streams of ours at the devices that they were opened on.

    A server moves whatever plays to the default, or records it, when the user makes something
    else the default: also what was opened there by name.
    """

    def __init__(self) -> None:
        self._server: SoundServer | None = None
        self._wanted: dict[Stream, int] = {}

    @contextlib.contextmanager
    def learn(self, more: bool = False) -> Iterator[None]:
        """Streams that are opened inside stay where they are; raises DeviceError.

        ``more``: so do those of before.
        """
        known = self._wanted if more else {}
        self.close()  # a connection may have died with its server since it was used last
        before = self._now()
        yield
        now = self._now().items()
        self._wanted = {
            key: known.get(key, at) for key, at in now if key in known or key not in before
        }

    def keep(self) -> bool:
        """Put back what was moved; False when a device that we record has gone from under us."""
        for stream, device in self._now().items():
            if self._wanted.get(stream, device) == device:
                continue
            assert self._server is not None
            try:
                self._server.route(stream, self._wanted[stream])
            except DeviceError:
                if stream[0] == "input":
                    return False
                del self._wanted[stream]  # its device has gone: be heard where it is now
        return True

    def close(self) -> None:
        """Hang up."""
        self._wanted = {}
        if self._server is not None:
            self._server.close()
            self._server = None

    def _now(self) -> dict[Stream, int]:
        if not has_sound_server():
            return {}
        if self._server is None:
            self._server = SoundServer()
        try:
            return self._server.routes(os.getpid())
        except DeviceError:
            self.close()
            raise


def _as_device(found: ServerDevice) -> Device:
    virtual = found.monitor or found.ours
    return Device(found.name, found.description, found.kind, found.default, virtual, found.number)


def heard() -> str | None:
    """The input that this process records, where a sound server may have moved it; else None."""
    if not has_sound_server():
        return None
    with SoundServer() as server:
        return server.heard_by(os.getpid())


def portaudio() -> tuple[str, list[str]]:
    """PortAudio's version, and the names of the devices that it knows; raises DeviceError."""
    try:
        return sd.get_portaudio_version()[1], [str(found["name"]) for found in sd.query_devices()]
    except sd.PortAudioError as error:
        raise DeviceError(f"the sound system does not answer: {error}") from error


def virtual_cable() -> str:
    """The cable driver that makes a virtual microphone where no sound server can.

    Raises DeviceError that says what to install.
    """
    wanted, product = _CABLES.get(sys.platform, ("", "a virtual audio cable"))
    for device in _portaudio_devices("output"):
        if wanted and wanted.lower() in device.name.lower():
            return device.name
    raise DeviceError(f"no virtual microphone: install {product}, restart, and try again")


def open_input(name: str, callback: Callback) -> sd.InputStream:
    """Open a stream that hands over (n, 1) blocks at SAMPLE_RATE; raises DeviceError."""
    return _open("input", name, callback)


def open_output(name: str, callback: Callback) -> sd.OutputStream:
    """Open a stream that asks for (n, 1) blocks at SAMPLE_RATE; raises DeviceError."""
    return _open("output", name, callback)


def close(stream: Any) -> None:
    """Close a stream of ``open_input`` or ``open_output``, whatever has become of its device."""
    with _ONE_AT_A_TIME:
        stream.close(ignore_errors=True)
        called = _opened.pop(stream, None)
        if called is not None:
            called.callback = _nothing


def redirect(stream: Any, callback: Callback) -> None:
    """Have an open stream call somebody else, from its next block on."""
    _opened[stream].callback = callback


def longest_wait_s(stream: Any) -> float:
    """How long after it was called who fills a block of this output may take [s].

    Infinite where it is not known: what the callback is told of its time has to do.
    """
    called = _opened.get(stream)
    return float("inf") if called is None else called.longest_wait_s


class _Called:
    """Stands between a stream and whom it calls.

    A stream of sounddevice is a circle of references and stays for minutes after it was closed;
    whoever is called, with megabytes of sound, must not stay with it.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.longest_wait_s = float("inf")

    def __call__(self, block: Any, n: int, times: Any, flags: Any) -> None:
        self.callback(block, n, times, flags)


def _nothing(*_: Any) -> None:
    """A closed stream calls nobody."""


def _open(kind: str, name: str, callback: Callback) -> Any:
    with _ONE_AT_A_TIME:
        _look_for(kind, name)
        try:
            return _begin(kind, name, callback)
        except (sd.PortAudioError, ValueError) as error:
            if not _renew():
                raise _refused(name, error) from error
        try:
            return _begin(kind, name, callback)
        except (sd.PortAudioError, ValueError) as error:
            raise _refused(name, error) from error


def _look_for(kind: str, name: str) -> None:
    """Raise DeviceError where a server has no such device.

    PortAudio would find out in a thread of the stream, which ends with a lock in its hand: now
    and then whoever began the stream waits for it for good.
    """
    if not has_sound_server():
        return
    with contextlib.suppress(DeviceError):
        if _census.has(kind, name):
            return
    _census.close()  # it may have been of a server that was
    try:
        there = _census.has(kind, name)
    except DeviceError as error:
        raise _refused(name, error) from error
    if not there:
        raise _refused(name, DeviceError(f"the sound server has no such {kind} device"))


def _refused(name: str, problem: Exception) -> DeviceError:
    told = " ".join(str(problem).split())
    if has_sound_server() and "pulse" in told:
        told += "; ALSA's pulse plug-in is missing (Debian: libasound2-plugins)"
    return DeviceError(f"{name} cannot be opened: {told}")


def _begin(kind: str, name: str, callback: Callback) -> Any:
    served, called = has_sound_server(), _Called(callback)
    make, variable, block = _STREAMS[kind]
    try:
        with _routed(variable, name) if served else contextlib.nullcontext():
            stream = make(
                device="pulse" if served else name,
                samplerate=SAMPLE_RATE,
                blocksize=block,
                channels=1,
                dtype="float32",
                latency=_LATENCY_S[kind],
                callback=called,
            )
            _opened[stream] = called
            if served and kind == "output":
                called.longest_wait_s = _server_waits_s()
            try:
                _start(stream)
            except sd.PortAudioError:
                stream.close(ignore_errors=True)
                raise
    except BaseException:
        called.callback = _nothing
        raise
    return stream


def _server_waits_s() -> float:
    with contextlib.suppress(DeviceError):
        return _LONGEST_WAIT_S["PipeWire" if _census.is_pipewire() else "PulseAudio"]
    return min(_LONGEST_WAIT_S.values())


def _start(stream: Any) -> None:
    """Start a stream; DeviceError, and leave it alone for good, where that never comes back.

    A device that goes in this very moment does that, see ``_look_for``. PortAudio could not be
    ended any more, and it is not: the stream stays among those that are not closed.
    """
    failed: list[BaseException] = []
    done = threading.Event()

    def starts() -> None:
        try:
            stream.start()
        except BaseException as error:
            failed.append(error)
        done.set()

    threading.Thread(target=starts, name="denoise start", daemon=True).start()
    if not done.wait(_START_S):
        _stuck.append(stream)
        raise DeviceError("a stream to the sound server does not start; it is left behind")
    if failed:
        raise failed[0]


_STREAMS = {
    "input": (sd.InputStream, "PULSE_SOURCE", CAPTURE_BLOCK),
    "output": (sd.OutputStream, "PULSE_SINK", BLOCK),
}
_stuck: list[Any] = []
# Kept: a connection takes 25 ms on a busy machine, of the 200 in which an idle session wakes.
_census = Census()
_opened: weakref.WeakKeyDictionary[Any, _Called] = weakref.WeakKeyDictionary()


def _renew() -> bool:
    """Let PortAudio look at the system's devices anew, unless a stream of ours would end with it.

    It looks once, when it starts: with the sound server away it finds no ``pulse``, and does
    not find it later either.
    """
    if any(not stream.closed for stream in _opened):
        return False
    with answered_within(_LOOKS_S):
        sd._terminate()
        sd._initialize()
    return True


@contextlib.contextmanager
def _routed(variable: str, name: str) -> Iterator[None]:
    """The ALSA plug-in asks the environment which of the server's devices is meant."""
    before = os.environ.get(variable)
    os.environ[variable] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _portaudio_devices(kind: str) -> list[Device]:
    try:
        default = sd.default.device[0 if kind == "input" else 1]
        return [
            Device(found["name"], found["name"], kind, found["index"] == default, False)
            for found in sd.query_devices()
            if found[f"max_{kind}_channels"] > 0
        ]
    except sd.PortAudioError as error:
        raise DeviceError(f"the sound system does not answer: {error}") from error
