"""What a running session records of itself, on a real sound server."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from app.example import noisy_voice
from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.measure import delay_between, level_dbfs
from tests.app.test_excerpts import fetch

pytestmark = pytest.mark.live


def excerpt(client: ControlClient, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    client.ask(do="record", seconds=seconds)
    deadline = time.monotonic() + 30.0
    while client.ask(do="recorded")["share"] < 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before, after = fetch(client.ask)
    client.ask(do="forget")
    return before / 32767, after / 32767


def test_before_and_after_are_the_same_moments() -> None:
    _, noisy = noisy_voice()
    with PrivateServer("pulseaudio") as server:
        server.add_microphone("desk", "Desk")
        at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        player = server.play(np.tile(noisy, 4), "desk")
        with server.clean("desk.monitor") as session:
            try:
                assert session.stdout is not None
                for line in session.stdout:
                    if '"running"' in line:
                        break
                with ControlClient(at) as client:
                    client.ask(do="set", on=False)
                    time.sleep(1.0)  # the crossfade
                    before, after = excerpt(client, 1.0)
                    np.testing.assert_array_equal(before, after)
                    assert level_dbfs(before) > -60
                    client.ask(do="set", on=True)
                    time.sleep(1.0)
                    before, after = excerpt(client, 3.0)
                    assert len(before) == len(after) == 3 * SAMPLE_RATE
                    assert level_dbfs(after) < level_dbfs(before) - 0.5
                    delay, _ = delay_between(before, after)
                    # Voice or what the model leaves of rain: the same moments.
                    assert abs(delay) < 0.002 * SAMPLE_RATE
            finally:
                session.terminate()
        player.kill()
        player.wait()
