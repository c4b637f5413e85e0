"""The file of the settings: read with distrust, written whole or not at all.

A file that cannot be understood is put aside, never overwritten; one of a newer version is
copied first and keeps what this one does not know. Knows no Qt. Not here: what settings there
are (``settings``).
"""

from __future__ import annotations

import configparser
import contextlib
import filecmp
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.places import settings_folder
from app.window.settings import VERSION, WRITER, Settings, as_dict, from_dict

log = logging.getLogger(__name__)

FILE = "settings.json"
_LARGEST = 1 << 20
# Of what was put aside, the newest so many are kept.
_MOST_ASIDE = 5
# A slider that is dragged is one change.
_CALM_S = 0.5


class SettingsFile:
    """Settings as they are now, and the file they outlive the program in.

    Parameters
    ----------
    at : its folder (default: the user's)
    """

    def __init__(self, at: Path | None = None) -> None:
        self._at = at or settings_folder()
        self.problems: list[str] = []
        """What the user should be told once, in words for the log; see ``damaged``."""
        self.damaged: Path | None = None
        """Where a file that made no sense was put, or None."""
        self._blocked = False
        self.now = self._read()
        # What was mended is not what is written.
        self._written = self.now if self.damaged is None else None
        self._due_s: float | None = None if self.damaged is None else time.monotonic()

    @property
    def path(self) -> Path:
        """Of the file, whether it is there or not."""
        return self._at / FILE

    def change(self, **values: Any) -> None:
        """Set fields of the settings."""
        self.take(replace(self.now, **values))

    def take(self, settings: Settings) -> None:
        """Have these from now on; ``save`` or ``save_when_calm`` writes them."""
        if settings != self.now:
            self.now = settings
            self._due_s = time.monotonic() + _CALM_S

    def save_when_calm(self) -> None:
        """Write what has changed, once nothing has for half a second."""
        if self._due_s is not None and time.monotonic() >= self._due_s:
            self.save()

    def save(self) -> bool:
        """Write what has changed; False, and a line in the log, when that cannot be done."""
        self._due_s = None
        if self.now == self._written:
            return True
        if self._blocked:
            return False
        try:
            self._write()
        except OSError as error:
            log.warning("settings are not saved: %s", error.strerror)
            return False
        self._written = self.now
        return True

    def _write(self) -> None:
        """Under another name first: whoever reads finds the old file or the new one."""
        self._at.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = json.dumps(as_dict(self.now), indent=2)
        descriptor, part = tempfile.mkstemp(dir=self._at, prefix=FILE, suffix=".part")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(told + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _read(self) -> Settings:
        try:
            with self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return from_dict(migrated(_from_before(self._at)))[0]
        except OSError as error:
            return self._give_up(error.strerror or "cannot be read")
        try:
            if len(data) > _LARGEST:
                raise ValueError("is too large")
            told = json.loads(data.decode("utf-8"))
            if not isinstance(told, dict):
                raise ValueError("is no object")
            found = told.get("version", 0)
            if isinstance(found, bool) or not isinstance(found, int) or found < 0:
                raise ValueError("has no version")
            if found > VERSION and told.get(WRITER) != VERSION:
                self._copy(f"version-{found}")
            settings, wrong = from_dict(migrated(told))
        except (ValueError, RecursionError) as error:
            return self._give_up(" ".join(str(error).split())[:200])
        if wrong and found <= VERSION:
            self.damaged = self._copy("damaged")
            self.problems += wrong
        return settings

    def _give_up(self, why: str) -> Settings:
        """Put the file aside and begin anew."""
        self.problems.append(f"{self.path.name} {why}")
        self.damaged = self._aside("damaged")
        try:
            os.replace(self.path, self.damaged)
        except OSError as error:
            # It stays where it is, whatever is changed.
            self.problems.append(f"it cannot be put aside: {error.strerror}")
            self.damaged, self._blocked = None, True
        return Settings()

    def _copy(self, kind: str) -> Path | None:
        """Put a copy aside, unless there is one from an earlier start."""
        with contextlib.suppress(OSError):
            for before in self._at.glob(f"settings.{kind}-*.json"):
                if filecmp.cmp(before, self.path, shallow=False):
                    return before
        aside = self._aside(kind)
        try:
            shutil.copyfile(self.path, aside)
        except OSError as error:
            self.problems.append(f"no copy of {self.path.name}: {error.strerror}")
            self._blocked = True
            return None
        return aside

    def _aside(self, kind: str) -> Path:
        """A free name; the oldest of too many goes."""
        taken = sorted(self._at.glob(f"settings.{kind}-*.json"), key=_number)
        for old in taken[: max(len(taken) - _MOST_ASIDE + 1, 0)]:
            with contextlib.suppress(OSError):
                old.unlink()
        return self._at / f"settings.{kind}-{_number(taken[-1]) + 1 if taken else 1}.json"


def _number(path: Path) -> int:
    last = path.stem.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def migrated(told: dict[str, Any]) -> dict[str, Any]:
    """What some version has written, as this one writes it; a newer one's is left as it is."""
    told = dict(told)
    version = int(told.get("version", 0))
    while version < VERSION:
        told = _STEPS[version](told)
        version += 1
        told["version"] = version
    return told


def _first(told: dict[str, Any]) -> dict[str, Any]:
    """0 → 1: only whether the help page had been shown was remembered, as ``help/seen``."""
    seen = told.pop("help/seen", None)
    if isinstance(seen, bool):
        told.setdefault("help_seen", seen)
    return told


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {0: _first}
"""From each older version to the next."""


def _from_before(at: Path) -> dict[str, Any]:
    """What the window remembered before there was this file, of version 0."""
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, configparser.Error, ValueError):
        parser.read(at / "window.ini", encoding="utf-8")
        return {"version": 0, "help/seen": parser.getboolean("help", "seen", fallback=False)}
    return {"version": 0}
