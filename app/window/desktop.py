"""What the desktop is told of the program: its entry in the menu, its start at log-in, its icon.

Files of the XDG standards in the user's own folders; that they are there is the setting. Not
here: other systems, which have no such files.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from app.places import base
from app.window.engine_process import MAIN
from app.window.icons import Sound, pixmap

ENTRY = "denoise-app.desktop"
_ICON_SIZE = 256


def is_supported() -> bool:
    """Whether this system's desktops read such files."""
    return sys.platform.startswith("linux")


def autostarts() -> bool:
    """Whether the desktop starts the program at log-in."""
    try:
        lines = _autostart().read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    # Desktops switch an entry off by a line in it instead of removing it.
    off = {"Hidden=true", "X-GNOME-Autostart-enabled=false"}
    return not any(line.replace(" ", "") in off for line in lines)


def set_autostart(wanted: bool) -> None:
    """Have it started at log-in, or not; raises OSError."""
    if wanted:
        _write(_autostart(), _entry("--minimised"))
    else:
        _autostart().unlink(missing_ok=True)


def is_in_menu() -> bool:
    """Whether the desktop's menu has the program."""
    return _menu().exists()


def set_in_menu(wanted: bool) -> None:
    """Put it into the desktop's menu, with its icon, or take it out; raises OSError."""
    if wanted:
        _write(_menu(), _entry())
        picture = _icon()
        picture.parent.mkdir(parents=True, exist_ok=True)
        pixmap(Sound.ON, _ICON_SIZE).save(str(picture))
    else:
        _menu().unlink(missing_ok=True)
        _icon().unlink(missing_ok=True)


def command(*options: str) -> list[str]:
    """What starts the window."""
    return [sys.executable, str(MAIN), *options]


def quoted(words: list[str]) -> str:
    r"""A command as desktop entries write it.

    >>> print(quoted(["/a b/python", "100%", 'say "$x"', "--go"]))
    "/a b/python" "100%%" "say \\"\\$x\\"" "--go"
    """
    found = []
    for word in words:
        for sign in ("\\", '"', "`", "$"):
            word = word.replace(sign, f"\\{sign}")
        # Once more, as in every string of such a file.
        found.append('"{}"'.format(word.replace("\\", "\\\\").replace("%", "%%")))
    return " ".join(found)


def _entry(*options: str) -> str:
    return "\n".join(
        (
            "[Desktop Entry]",
            "Type=Application",
            "Version=1.5",
            "Name=denoise-app",
            "GenericName=Noise suppression",
            "GenericName[es]=Supresión de ruido",
            "Comment=Takes the noise out of your microphone while you call",
            "Comment[es]=Quita el ruido de tu micrófono mientras llamas",
            f"Exec={quoted(command(*options))}",
            "Icon=denoise-app",
            "Terminal=false",
            "Categories=AudioVideo;Audio;",
            "Keywords=microphone;noise;call;",
            "StartupWMClass=denoise-app",
            "",
        )
    )


def _write(path: Path, told: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(told, "utf-8")
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _autostart() -> Path:
    return base("XDG_CONFIG_HOME", ".config", "APPDATA", ".config") / "autostart" / ENTRY


def _data() -> Path:
    return base("XDG_DATA_HOME", ".local/share", "APPDATA", ".local/share")


def _menu() -> Path:
    return _data() / "applications" / ENTRY


def _icon() -> Path:
    size = f"{_ICON_SIZE}x{_ICON_SIZE}"
    return _data() / "icons" / "hicolor" / size / "apps" / "denoise-app.png"
