"""Sound devices: which there are, and streams of blocks from and to them.

sounddevice's room. On Linux the sound server's names are used and its ALSA plug-in
carries the sound; elsewhere PortAudio's own devices are. Not here: what is done with
the blocks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import DeviceError
from engine.sound_server import SoundServer

try:
    import sounddevice as sd
except OSError as error:  # the package is there, the library it wraps is not
    raise DeviceError("PortAudio is missing: install it (Debian: libportaudio2)") from error

SAMPLE_RATE = 48_000
"""What sound servers and cards run at [Hz]; the server converts where one does not."""

BLOCK = 480
"""Samples a callback gets: 10 ms. At 5 ms the ALSA plug-in lost samples, measured."""

_LATENCY_S = 0.02

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

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return asdict(self)


def has_sound_server() -> bool:
    """Whether names and routes are a PulseAudio-like server's business here."""
    return sys.platform.startswith("linux")


def devices() -> list[Device]:
    """Every input, then every output; raises DeviceError when the system has no sound."""
    if has_sound_server():
        with SoundServer() as server:
            return [
                Device(d.name, d.description, d.kind, d.default, d.monitor or d.ours)
                for d in server.devices()
            ]
    return [*_portaudio_devices("input"), *_portaudio_devices("output")]


def find(kind: str, name: str | None) -> str:
    """Name of the device meant; None is the system's default. Raises DeviceError."""
    if has_sound_server():
        with SoundServer() as server:
            return server.find(kind, name).name
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
    return (exact or fitting)[0].name


def heard() -> str | None:
    """The input that this process records, where a sound server may have moved it; else None."""
    if not has_sound_server():
        return None
    with SoundServer() as server:
        return server.heard_by(os.getpid())


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
    return _open(sd.InputStream, "PULSE_SOURCE", name, callback)


def open_output(name: str, callback: Callback) -> sd.OutputStream:
    """Open a stream that asks for (n, 1) blocks at SAMPLE_RATE; raises DeviceError."""
    return _open(sd.OutputStream, "PULSE_SINK", name, callback)


def _open(kind: type, variable: str, name: str, callback: Callback) -> Any:
    served = has_sound_server()
    try:
        with _routed(variable, name) if served else contextlib.nullcontext():
            stream = kind(
                device="pulse" if served else name,
                samplerate=SAMPLE_RATE,
                blocksize=BLOCK,
                channels=1,
                dtype="float32",
                latency=_LATENCY_S,
                callback=callback,
            )
            stream.start()
    except (sd.PortAudioError, ValueError) as error:
        problem = " ".join(str(error).split())
        if served and "pulse" in problem:
            problem += "; ALSA's pulse plug-in is missing (Debian: libasound2-plugins)"
        raise DeviceError(f"{name} cannot be opened: {problem}") from error
    return stream


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
