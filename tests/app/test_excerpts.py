"""An excerpt is recorded, fetched in pieces, and forgotten."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app import excerpts
from app.excerpts import PIECE, Excerpts
from app.service import Service, Wishes
from engine.control import ControlClient, ControlServer
from engine.denoiser import Knobs
from engine.devices import SAMPLE_RATE
from engine.live import LiveSession
from tests.estimators import Steady
from tests.onnx_models import CLASSIC


@pytest.fixture
def session() -> LiveSession:
    """One that nobody starts: the test is its worker."""
    return LiveSession(Steady(CLASSIC), "desk", ["speakers"])


def fetch(ask: Callable[..., dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    at = 0
    while True:
        told = ask(do="recorded", **{"from": at})
        assert told["share"] == 1.0
        assert told["from"] == at
        for side, name in zip(sides, ("before", "after"), strict=True):
            side.append(np.frombuffer(base64.b64decode(told[name]), "<i2"))
        assert len(sides[0][-1]) == len(sides[1][-1]) <= PIECE
        at += len(sides[0][-1])
        if at == told["samples"]:
            return np.concatenate(sides[0]), np.concatenate(sides[1])


def test_it_crosses_the_socket_whole_and_is_forgotten(session, tmp_path, rng) -> None:
    service = Service(Wishes("classic", "cpu"), Knobs())
    service._session = session
    sound = rng.uniform(-1.0, 1.0, SAMPLE_RATE).astype(np.float32)
    with ControlServer(service.answer, at=tmp_path), ControlClient(tmp_path) as client:
        assert client.ask(do="record", seconds=0.9) == {"seconds": 0.9}
        assert session.excerpt is not None
        session.excerpt.add(sound[:10000], 5000, sound[:6000] / 2, 1000)
        assert client.ask(do="recorded") == {"share": pytest.approx(2000 / 43200)}
        session.excerpt.add(sound[10000:], 15000, sound[6000:] / 2, 7000)
        before, after = fetch(client.ask)
        assert len(before) == round(0.9 * SAMPLE_RATE)
        # Half a step of 16 bits.
        np.testing.assert_allclose(before / 32767, sound[: len(before)], atol=0.51 / 32767)
        expected = sound[4000 : 4000 + len(after)] / 2
        np.testing.assert_allclose(after / 32767, expected, atol=0.51 / 32767)
        assert client.ask(do="forget") == {}
        with pytest.raises(Exception, match="nothing has been recorded"):
            client.ask(do="recorded")


def test_it_is_forgotten_by_itself(session, monkeypatch) -> None:
    monkeypatch.setattr(excerpts, "_KEPT_S", 0.05)
    kept = Excerpts()
    kept.answer("record", {"seconds": 0.1}, session)
    timer = kept._timer
    assert isinstance(timer, threading.Timer)
    assert timer.daemon, "it must not hold up the end of the program"
    timer.join(5.0)
    assert kept.wanted is None


@pytest.mark.parametrize(
    ("do", "wanted", "words"),
    [
        ("record", {}, "should be a number"),
        ("record", {"seconds": True}, "should be a number"),
        ("record", {"seconds": "5"}, "should be a number"),
        ("record", {"seconds": 11}, "should be 0.1…10"),
        ("record", {"seconds": float("nan")}, "should be 0.1…10"),
        ("record", {"seconds": 5, "more": 1}, "knows no more"),
        ("recorded", {"from": -1}, "should be a sample's number"),
        ("recorded", {"from": 1.5}, "should be a sample's number"),
        ("recorded", {"to": 1}, "knows no to"),
        ("forget", {"seconds": 5}, "knows no seconds"),
    ],
)
def test_a_wrong_request_changes_nothing(session, do, wanted, words) -> None:
    kept = Excerpts()
    kept.answer("record", {"seconds": 1}, session)
    before = kept.wanted
    with pytest.raises(ValueError, match=words):
        kept.answer(do, wanted, session)
    assert kept.wanted is before
    kept.forget()


def test_nothing_to_record() -> None:
    with pytest.raises(ValueError, match="no sound"):
        Excerpts().answer("record", {"seconds": 1}, None)
