"""Whose modules in a sound server are whose; the server itself is in ``tests/live``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine import sound_server

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has such servers"
)


def test_who_has_ended_lives_no_more() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        owner = sound_server._identity(process.pid)
        assert sound_server._lives(owner)
        process.kill()
    assert not sound_server._lives(owner)
    assert not sound_server._lives("nobody")


def test_a_clock_that_is_set_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of a process's start is reckoned from the clock, by psutil too."""
    owner = sound_server._identity(os.getpid())
    was_s = sound_server.psutil.boot_time()
    monkeypatch.setattr("psutil.boot_time", lambda: was_s + 3600.0)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: was_s + 3600.0)
    assert sound_server._lives(owner)
