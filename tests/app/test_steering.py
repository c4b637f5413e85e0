"""What a running session answers, and what the command makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from app.cli import main
from app.steering import Steering
from engine.control import ControlServer
from engine.denoiser import Knobs
from engine.live import Status

ABOUT = {"input": "yeti", "output": "Denoised", "model": "classic", "provider": "cpu"}
STATUS = Status("running", -30.0, -40.0, 144.4, 7.25, 2, 0.9, 12.0, None)


@dataclass
class Session:
    """All of a session that steering touches."""

    knobs: Knobs


@pytest.fixture
def steering():
    steering = Steering(ABOUT)
    steering.session = Session(Knobs(limit_db=20.0))  # type: ignore[assignment]
    steering.status = STATUS
    return steering


def test_requests_turn_the_knobs(steering):
    told = steering.answer({"do": "status"})
    assert (told["on"], told["limit_db"], told["delay_ms"]) == (True, 20.0, 144.4)
    assert steering.answer({"do": "toggle"})["on"] is False
    assert steering.session.knobs == Knobs(limit_db=20.0, bypass=True)
    told = steering.answer({"do": "set", "on": True, "limit_db": 6})
    assert steering.session.knobs == Knobs(limit_db=6.0)
    assert told["limit_db"] == 6.0


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"do": "explode"},
        {"do": ["status"]},
        {"do": "status", "more": 1},
        {"do": "toggle", "on": True},
        {"do": "set", "on": 1},
        {"do": "set", "on": "false"},
        {"do": "set", "limit_db": "20"},
        {"do": "set", "limit_db": True},
        {"do": "set", "limit_db": -1},
        {"do": "set", "limit_db": 1e9},
        {"do": "set", "limit_db": float("nan")},
        {"do": "set", "gain": 3},
    ],
)
def test_a_wrong_request_turns_nothing(steering, request_):
    before = steering.session.knobs
    with pytest.raises(ValueError, match=r"ask for status|should be"):
        steering.answer(request_)
    assert steering.session.knobs == before


def test_before_the_devices_are_open_it_says_so():
    with pytest.raises(ValueError, match="just starting"):
        Steering(ABOUT).answer({"do": "status"})


def test_commands_reach_the_session(steering, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ControlServer(steering.answer):
        assert main(["status"]) == 0
        assert capsys.readouterr().out == (
            "on, turning nothing down by more than 20 dB (classic on cpu)\n"
            "running for 12 s: yeti to Denoised, delay 144 ms, CPU 7.2 %, drops 2\n"
        )
        assert main(["off"]) == 0
        assert capsys.readouterr().out.startswith("off: your voice goes through as it is")
        assert main(["toggle", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["on"] is True
        assert told["drops"] == 2
        assert main(["on", "--limit", "12"]) == 0
        assert steering.session.knobs == Knobs(limit_db=12.0)
    capsys.readouterr()
    assert main(["status"]) == 1
    assert capsys.readouterr().err == (
        "denoise-app: denoise-app is not running: start denoise-app --device\n"
    )
