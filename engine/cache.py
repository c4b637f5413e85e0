"""What was found out once and need not be again: small JSON files in the user's cache folder.

A cache that cannot be read or written is an empty one: nothing fails because of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

_LARGEST = 64 * 1024


def folder() -> Path:
    """Where this user's programs keep what they can do without; need not exist."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen and Path(chosen).is_absolute():  # the specification ignores others
        return Path(chosen) / "denoise-app"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or tempfile.gettempdir()) / "denoise-app"
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"denoise-app-cache-{os.getuid()}"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "denoise-app"
    return home / ".cache" / "denoise-app"


def recall(kind: str, key: str) -> dict[str, Any] | None:
    """What was kept under a key, if it is there and whole.

    Parameters
    ----------
    kind : names a folder
    key : letters, digits, dots and dashes
    """
    try:
        with _path(kind, key).open("rb") as file:
            text = file.read(_LARGEST + 1)
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


def keep(kind: str, key: str, value: dict[str, Any]) -> bool:
    """Keep an object under a key, whole or not at all; returns whether that was possible."""
    path = _path(kind, key)
    part = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        part = Path(name)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump({**value, "key": key}, file)
        part.replace(path)
    except OSError:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
        return False
    return True


def _path(kind: str, key: str) -> Path:
    return folder() / kind / f"{key}.json"
