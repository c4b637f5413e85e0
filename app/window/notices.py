"""What a user should hear of devices that come and go, while the window may be hidden.

Knows no Qt widgets. Not here: how it is shown (``tray``).
"""

from __future__ import annotations

from typing import Any

from app.window import text
from engine.names import MICROPHONE_NAME


class DeviceNotices:
    """Compares what a session tells with what it told before."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] | None = None
        self._doubted: dict[tuple[str, str], str] = {}
        self._problem: str | None = None

    def hear_status(self, told: dict[str, Any]) -> str:
        """A line on what happened to the session's own devices, or nothing."""
        problem = told.get("problem") or None
        before, self._problem = self._problem, problem
        if problem and not before:
            return text.tr("Lost: {0}").format(problem)
        if before and not problem:
            return text.tr("Found again: {0}").format(self._description(told.get("input", "")))
        return ""

    def hear_devices(self, devices: list[dict[str, Any]]) -> str:
        """A line on devices that came or went, or nothing.

        One that is missing once may be back at the next look: sound servers are restarted, and
        headsets change their profile.
        """
        there = {
            (device["kind"], device["name"]): device["description"]
            for device in devices
            if not device["virtual"] and device["description"] != MICROPHONE_NAME
        }
        if self._known is None:
            self._known = there
            return ""
        missing = {key: words for key, words in self._known.items() if key not in there}
        gone = {key: words for key, words in missing.items() if key in self._doubted}
        new = {key: words for key, words in there.items() if key not in self._known}
        self._doubted = {key: words for key, words in missing.items() if key not in gone}
        self._known = {**there, **self._doubted}
        lines = []
        if new:
            names = ", ".join(dict.fromkeys(new.values()))
            lines.append(text.tr("New device: {0}").format(names))
        if gone:
            names = ", ".join(dict.fromkeys(gone.values()))
            lines.append(text.tr("Device gone: {0}").format(names))
        return "\n".join(lines)

    def _description(self, name: str) -> str:
        for (_, known), words in (self._known or {}).items():
            if known == name:
                return words
        return name
