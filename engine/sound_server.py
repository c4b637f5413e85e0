"""PulseAudio, or PipeWire speaking its protocol: devices and the virtual microphone.

pulsectl's room. Not here: sound itself, which goes through ``devices``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pulsectl

from engine.errors import DeviceError

MICROPHONE_NAME = "Denoised Microphone"
"""What call apps show."""

_SINK = "denoise_app_sink"
_SOURCE = "denoise_app_microphone"
# Marks a module as ours and says which process answers for it.
_OWNER = "denoise_app.owner"
# What pulsectl raises when a server refuses, goes away meanwhile, or had gone before; the last
# two are no PulseError.
_FAILURES = (
    pulsectl.PulseError,
    pulsectl.PulseDisconnected,
    pulsectl._pulsectl.LibPulse.CallError,
)


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


class SoundServer:
    """A connection to the user's sound server.

    Raises
    ------
    DeviceError : no server answers
    """

    def __init__(self) -> None:
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

    def heard_by(self, process: int) -> str | None:
        """Name of the source that a process records, by its number; None: none."""
        with _server_errors("asking what is recorded"):
            names = {source.index: source.name for source in self._pulse.source_list()}
            for stream in self._pulse.source_output_list():
                if stream.proplist.get("application.process.id") == str(process):
                    return str(names.get(stream.source)) if stream.source in names else None
        return None

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
        self, sample_rate: int, default_before: str | None = None
    ) -> VirtualMicrophone:
        """Make a microphone that call apps can pick, after clearing what a crash left.

        Parameters
        ----------
        default_before : the user's default source before ours was lost, to be the default
            again where it would now be another because of us; None: what it is now

        Raises
        ------
        DeviceError : another running instance has it, or the server refused
        """
        with _server_errors("creating the virtual microphone"):
            self.remove_leftovers()
            self._remove_our_own()
            owner = self._living_owner()
            if owner is not None:
                raise DeviceError(
                    f"denoise-app already runs (process {owner}); stop it, or steer it instead"
                )
            return VirtualMicrophone(self._pulse, sample_rate, default_before)

    def remove_leftovers(self) -> int:
        """Unload what instances that no longer live have left behind; returns how many modules."""
        removed = 0
        with _server_errors("removing leftovers"):
            # The source hangs on the sink: the newest module goes first.
            for module in reversed(self._pulse.module_list()):
                owner = _owner(module.argument)
                if owner is not None and not _lives(owner):
                    with contextlib.suppress(pulsectl.PulseOperationFailed):
                        self._pulse.module_unload(module.index)
                        removed += 1
        return removed

    def _remove_our_own(self) -> None:
        """Unload what is left of our last microphone: half of it, or all after a cut connection."""
        for module in reversed(self._pulse.module_list()):
            words = (module.argument or "").split()
            is_microphone = f"sink_name={_SINK}" in words or f"source_name={_SOURCE}" in words
            if is_microphone and _owner(module.argument) == _identity(os.getpid()):
                with contextlib.suppress(pulsectl.PulseOperationFailed):
                    self._pulse.module_unload(module.index)

    def _living_owner(self) -> int | None:
        for module in self._pulse.module_list():
            owner = _owner(module.argument)
            if owner is not None:
                return int(owner.split(":")[0])
        return None


class VirtualMicrophone:
    """A null sink that takes our sound and a source that gives it to call apps.

    The sink's monitor could serve as well, but many call apps hide monitors.
    """

    source = _SOURCE
    """Name of the source that call apps record."""
    sink = _SINK
    """Name of the sink that we play to."""

    def __init__(
        self, pulse: pulsectl.Pulse, sample_rate: int, default_before: str | None = None
    ) -> None:
        self._pulse = pulse
        self._modules: list[int] = []
        before = pulse.server_info()
        default_source = default_before or before.default_source_name
        # The lowest priority, so that PipeWire's session manager never prefers it to a real one.
        owner = f'{_OWNER}="{_identity(os.getpid())}" priority.session="1"'
        # PulseAudio and PipeWire agree on this quoting only.
        sink_properties = f"'device.description=\"denoise-app (internal)\" {owner}'"
        source_properties = f"'device.description=\"{MICROPHONE_NAME}\" {owner}'"
        try:
            self._load_sink(
                f"sink_name={_SINK} rate={sample_rate} channels=1 sink_properties={sink_properties}"
            )
            self._load(
                "module-remap-source",
                f"source_name={_SOURCE} master={_SINK}.monitor channels=1 "
                f"source_properties={source_properties}",
            )
        except _FAILURES as error:
            self.remove()
            raise DeviceError(
                f"the sound server refused to create the virtual microphone: {error}"
            ) from error
        self._keep_defaults(before.default_sink_name, default_source)

    def remove(self) -> None:
        """Take it away again; harmless when the server has gone."""
        for module in reversed(self._modules):
            with contextlib.suppress(*_FAILURES):
                self._pulse.module_unload(module)
        self._modules.clear()

    def _load_sink(self, arguments: str) -> None:
        try:
            # Without this an idle null sink has played 2 s of silence in advance, and the
            # first sound waits for it (1.9 s measured on PulseAudio 16, 0.03 s with it).
            self._load("module-null-sink", f"{arguments} norewinds=1")
        except pulsectl.PulseOperationFailed:
            self._load("module-null-sink", arguments)  # PulseAudio before it knew the word

    def _load(self, module: str, arguments: str) -> None:
        self._modules.append(self._pulse.module_load(module, arguments))

    def _keep_defaults(self, sink: str, source: str) -> None:
        """Some servers make a new device the default; that is the user's choice alone."""
        after = self._pulse.server_info()
        if after.default_sink_name == _SINK:
            self._restore(self._pulse.sink_list(), sink)
        is_ours = after.default_source_name in (_SOURCE, f"{_SINK}.monitor")
        if is_ours != (source == _SOURCE):
            self._restore(self._pulse.source_list(), source)

    def _restore(self, devices: list[pulsectl.PulseObject], name: str) -> None:
        for device in devices:
            if device.name == name:
                with contextlib.suppress(*_FAILURES):  # the call matters more
                    self._pulse.default_set(device)


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
    fitting = exact or part
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
        ours=device.name.startswith("denoise_app_"),
    )


def _identity(pid: int) -> str:
    """Process and the second of its start: a number alone would be reused one day."""
    return f"{pid}:{int(psutil.Process(pid).create_time())}"


def _owner(argument: str | None) -> str | None:
    """Whose module this is, if it is one of ours."""
    _, found, rest = (argument or "").partition(f'{_OWNER}="')
    return rest.partition('"')[0] if found else None


def _lives(owner: str) -> bool:
    with contextlib.suppress(psutil.Error, ValueError):
        return _identity(int(owner.split(":")[0])) == owner
    return False


@contextlib.contextmanager
def _server_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise DeviceError(f"the sound server failed while {doing}: {error}") from error
