"""A report on how the program is, for whoever is asked for help; nothing private is in it.

No user's name, no home folder, no host's name, no hardware address: what is not ours to tell is
replaced, in lines of the log as well. Not here: where it goes (the clipboard).
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import re
import socket
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6 import __version__ as pyside
from PySide6.QtCore import qVersion
from PySide6.QtGui import QGuiApplication

from app import log
from app.window.settings import Settings
from engine.errors import DeviceError
from engine.sound_server import SoundServer

_RUNTIMES = ("onnxruntime", "onnxruntime-rocm", "onnxruntime-migraphx")
_FIGURES = (
    *("state", "seconds", "model", "provider", "limit_db", "on", "muted", "monitor"),
    *("delay_ms", "cpu_percent", "drops", "problem", "fault"),
)
_MOST_ERRORS = 20
_LONGEST_LINE = 400
_READ_BYTES = 1 << 20
_PATIENCE_S = 2.0
_ERROR = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) ")
_HOMES = re.compile(r"(?:/home|/Users|[A-Za-z]:\\Users)[/\\][^/\\\s:'\"]+")
# Names that sound servers make of a device's make, serial number and address.
_DEVICES = re.compile(r"\b((?:alsa|bluez)_(?:input|output|card))\.[\w.:+-]+")
_HARDWARE = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}[:_-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f])")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the window knows of the session and the desktop."""

    told: dict[str, Any]
    """The newest status, or nothing."""
    devices: list[dict[str, Any]]
    settings: Settings
    engine_starts: int
    engine_words: str
    """What the last engine that ended complained about."""
    tray: bool
    shortcut: str
    """How far the global shortcut is."""


def report(seen: Seen) -> str:
    """Everything that helps to help, some forty lines of it."""
    settings = seen.settings
    lines = [
        f"denoise-app {_version('denoise-app')}",
        f"Python {platform.python_version()}, PySide6 {pyside}, Qt {qVersion()}",
        "ONNX Runtime " + (", ".join(_runtimes()) or "none"),
        f"{_system()}, kernel {platform.release()}, {platform.machine()}, {os.cpu_count()} cores",
        f"Desktop {os.environ.get('XDG_CURRENT_DESKTOP', 'unknown')}, "
        f"session {os.environ.get('XDG_SESSION_TYPE', 'unknown')}, "
        f"Qt platform {QGuiApplication.platformName()}, tray {'yes' if seen.tray else 'no'}",
        f"Sound server {_sound_server()}",
        f"Global shortcut: {seen.shortcut}",
        f"Settings: {len(settings.profiles)} profiles, theme {settings.theme}, "
        f"language {settings.language}, start {settings.start_on}/{settings.start_muted}, "
        f"hidden {settings.start_minimised}, tray {settings.close_to_tray}",
        f"Engine: started {seen.engine_starts} times from this window",
    ]
    if seen.engine_words:
        lines.append(f"  last words: {seen.engine_words}")
    lines += [f"  {name}: {seen.told[name]}" for name in _FIGURES if name in seen.told]
    if "speakers" in seen.told:
        lines.append(f"  speakers: {seen.told['speakers'].get('state')}")
    if not seen.told:
        lines.append("  no session answers")
    lines.append("Devices:")
    for device in seen.devices:
        marks = [name for name in ("default", "virtual") if device.get(name)]
        marks_told = f" ({', '.join(marks)})" if marks else ""
        lines.append(f"  {device['kind']}: {device['description']}{marks_told}")
    for of in (log.WINDOW, log.SESSION):
        errors = last_errors(of)
        lines.append(f"Last errors of the {of}:" + ("" if errors else " none"))
        lines += [f"  {line}" for line in errors]
    return "\n".join(without_names(line) for line in lines) + "\n"


def last_errors(of: str) -> list[str]:
    """Lines of a log that are warnings or worse, the newest last, with their last cause."""
    found: deque[str] = deque(maxlen=_MOST_ERRORS)
    path = log.path(of)
    for each in (Path(f"{path}.1"), path):
        open_trace = False
        for line in _last_lines(each):
            line = line.rstrip()[:_LONGEST_LINE]
            if _ERROR.match(line):
                found.append(line)
                open_trace = True
            elif line[:4].isdecimal():
                open_trace = False
            elif open_trace and line[:1].isalpha() and not line.startswith("Traceback"):
                found.append(f"    {line}")  # the last line of a traceback says what it was
    return list(found)


def _last_lines(path: Path) -> list[str]:
    """Of a file, whatever it is and however large."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _READ_BYTES, 0))
        return file.read(_READ_BYTES).decode(errors="replace").splitlines()
    return []


def without_names(words: str) -> str:
    """Words without what tells who and where somebody is."""
    words = _DEVICES.sub(r"\1.(device)", words)
    words = _HARDWARE.sub("(address)", words)
    for home in {str(Path.home()), os.path.realpath(Path.home())} - {"/", ""}:
        words = words.replace(home, "~")
    words = _HOMES.sub("~", words)
    for name, instead in _names():
        words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, words, flags=re.IGNORECASE)
    return words


def _names() -> list[tuple[str, str]]:
    """What the user and the host are called, the longest first."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(Exception):
        user = getpass.getuser()
        found.append((user, "(user)"))
        if sys.platform != "win32":
            import pwd

            full = pwd.getpwnam(user).pw_gecos.split(",")[0]
            found += [(part, "(user)") for part in (full, *full.split()) if len(part) > 2]
    for host in {socket.gethostname(), platform.node()}:
        found += [(host, "(host)"), (host.split(".")[0], "(host)")]
    named = {name.casefold(): (name, instead) for name, instead in found if len(name) > 1}
    return sorted(named.values(), key=lambda one: -len(one[0]))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _runtimes() -> list[str]:
    found = []
    for name in _RUNTIMES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{importlib.metadata.version(name)} ({name})")
    return found


def _system() -> str:
    with contextlib.suppress(OSError, KeyError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()


def _sound_server() -> str:
    """Its name; one that hangs must not hang the window."""
    found: list[str] = []

    def ask() -> None:
        try:
            with SoundServer() as server:
                found.append(server.name)
        except DeviceError as error:
            found.append(str(error))
        except Exception as error:  # a report is for when something is wrong
            found.append(f"cannot be asked: {error!r}")

    thread = threading.Thread(target=ask, name="denoise diagnostics", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return found[0] if found else "does not answer"
