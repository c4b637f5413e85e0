"""A call that begins in the very moment in which its microphone is made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pulsectl
import pytest

from app.private_server import PrivateServer, Recorder
from engine.sound_server import SoundServer
from tests.live.test_recovery import recorded_by

pytestmark = pytest.mark.live

MICROPHONE = "denoise_app_microphone"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateServer]:
    """With a microphone that PulseAudio thinks less of than of ours."""
    with PrivateServer("pulseaudio") as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        started.add_microphone("room", "Room")
        yield started


@pytest.mark.parametrize("asked_for", [MICROPHONE, "room.monitor"])
def test_who_asked_for_it_keeps_it(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch, asked_for: str
) -> None:
    """It becomes the default when it is made; a call begins before the old one is set again."""
    calls: list[Recorder] = []
    set_default = pulsectl.Pulse.default_set

    def after_a_call_has_begun(pulse: pulsectl.Pulse, device: Any) -> None:
        calls.append(begun(server, asked_for))
        set_default(pulse, device)

    monkeypatch.setattr(pulsectl.Pulse, "default_set", after_a_call_has_begun)
    before = begun(server, "room.monitor")
    try:
        with SoundServer() as ours:
            ours.create_virtual_microphone(48_000)
            assert server.control("get-default-source").strip() == "speakers.monitor"
            assert recorded_by(server, "parec") == ["room.monitor", asked_for]
    finally:
        for call in (before, *calls):
            call.stop()


def begun(server: PrivateServer, source: str) -> Recorder:
    """A recording of which the server knows."""
    n = len(recorded_by(server, "parec"))
    call = server.record(source)
    deadline = time.monotonic() + 10.0
    while len(recorded_by(server, "parec")) == n:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return call
