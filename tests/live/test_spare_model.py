"""A model that is too much for any machine, on a real sound server: another takes over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.measure import level_dbfs
from tests.live.test_end_to_end import Session
from tests.onnx_models import FULLBAND, write_heavy

pytestmark = pytest.mark.live

LIMIT_DB = 12
TOP_DBFS = -12.0


def ask(server: PrivateServer, **request: Any) -> dict[str, Any]:
    with ControlClient(Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app") as client:
        return client.ask(**request)


def until(
    server: PrivateServer, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while not wanted(told := ask(server, do="status")):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    return told


def stands_in(told: dict[str, Any]) -> bool:
    return bool(told["overload"]) and told["model"] != told["model_wanted"]


def is_clean(told: dict[str, Any]) -> bool:
    return told.get("state") == "running" and told["fault"] is None and told["load"] < 0.7


def test_a_lighter_model_takes_over_while_the_sound_goes_on(tmp_path: Path) -> None:
    spec = replace(FULLBAND, name="heavy")
    heavy = write_heavy(tmp_path / "heavy.onnx", spec, products=300)  # three times too much
    with PrivateServer("pulseaudio") as server:
        server.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        server.add_microphone("room", "Room")
        time_s = np.arange(90 * SAMPLE_RATE) / SAMPLE_RATE
        tone = (10 ** (TOP_DBFS / 20) * np.sqrt(2) * np.sin(2 * np.pi * 440 * time_s)).astype("<f4")
        player = server.play(tone, "room")
        options = ("--model", str(heavy), "--limit", str(LIMIT_DB))
        with Session(server, "room.monitor", *options) as session:
            session.wait_for("running")
            call = server.record("denoise_app_microphone")
            told = until(server, lambda told: stands_in(told) and is_clean(told))
            assert told["model_wanted"] == "heavy"
            assert told["model"] in ("classic", "fullband")
            assert told["overload"] == "model"
            assert told["recoveries"] == 0
            time.sleep(1.0)  # clean sound of the one that stands in
            heard = call.stop()
            # What the user picks is tried at once, whatever was before.
            ask(server, do="set", model=str(heavy))
            until(server, lambda told: told["model"] == "heavy" and told["overload"] is None)
            until(server, stands_in)
            ask(server, do="set", model="classic")
            told = until(server, lambda told: told["model_wanted"] == "classic" and is_clean(told))
            assert (told["model"], told["overload"]) == ("classic", None)
            assert told["recoveries"] == 0, "no device was closed for all that"
            assert session.stop() == 0
        player.kill()
        player.wait()
        log = Path(server.environment["XDG_STATE_HOME"], "denoise-app", "session.log").read_text()
    assert " WARNING app.service: " in log
    assert " cleans instead of " in log
    # No bin is turned down by more than the limit, so what is quieter than that is a hole. Of
    # an idle machine there are none; who shares it loses some to a model that takes a core.
    levels = np.array([level_dbfs(window) for window in windows(heard)])
    first = int(np.argmax(levels > TOP_DBFS - LIMIT_DB - 1.0))
    audible = levels[first:] > TOP_DBFS - LIMIT_DB - 2.0
    print(f"{100 * audible.mean():.1f} % of {len(audible) / 50:.0f} s were heard")
    assert audible.mean() > 0.75


def windows(sound: np.ndarray) -> np.ndarray:
    n = SAMPLE_RATE // 50
    return sound[: len(sound) // n * n].reshape(-1, n)
