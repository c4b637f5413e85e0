"""The window's side of the socket: order, what is lost and what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.window.link import Link, Told
from tests.gui.conftest import Session


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path)
    link.start()
    yield link
    link.close()


def wait_for(link: Link, wanted: Callable[[Told], bool], timeout_s: float = 5.0) -> Told:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for told in link.events():
            if wanted(told):
                return told
        time.sleep(0.01)
    raise AssertionError("that was never told")


def test_it_finds_a_session_and_loses_it(link: Link, tmp_path: Path, devices: list) -> None:
    assert wait_for(link, lambda told: told.kind == "lost").text
    session = Session(tmp_path)
    assert wait_for(link, lambda told: told.kind == "status").answer["model"] == "classic"
    session.stop()
    wait_for(link, lambda told: told.kind == "lost")
    session.start()
    wait_for(link, lambda told: told.kind == "status")
    session.stop()


def test_a_wish_waits_for_a_session(link: Link, tmp_path: Path, devices: list) -> None:
    link.want(muted=True)
    link.want(limit_db=12.0)
    link.want(limit_db=20.0)
    session = Session(tmp_path)
    told = wait_for(link, lambda told: told.kind == "status")
    assert (told.answer["muted"], told.answer["limit_db"]) == (True, 20.0)
    session.stop()


def test_a_refused_wish_is_told_and_the_rest_goes_on(link: Link, session: Session) -> None:
    link.want(input="nobody's")
    refused = wait_for(link, lambda told: told.kind == "refused")
    assert refused.answer == {"input": "nobody's"}
    assert "nobody's" in refused.text
    link.want(on=False)
    wait_for(link, lambda told: told.kind == "status" and not told.answer["on"])


def test_a_refused_name_takes_no_mute_with_it(link: Link, session: Session) -> None:
    wait_for(link, lambda told: told.kind == "status")
    with link._lock:  # all in one go
        link._wanted.update(input="nobody's", muted=True, model="none such", on=False)
        link._wishes += 1
    link._wake.set()
    wait_for(link, lambda told: told.kind == "status" and not told.answer["on"])
    assert session.service._knobs.muted
    assert session.service._knobs.bypass
    assert session.service._wishes.source is None


def test_a_status_from_before_a_wish_is_left_out(session: Session, tmp_path: Path) -> None:
    link = Link(tmp_path)
    link._events.append(Told("status", {"on": True}, wishes=0))
    link.want(on=False)
    assert link.events() == []
    link._events.append(Told("status", {"on": False}, wishes=1))
    assert link.events()[0].answer == {"on": False}


def test_a_slow_window_misses_pictures_but_not_order(link: Link, session: Session) -> None:
    """Each tone is a little louder than the last: what arrives must rise."""
    service, spec = session.service, session.service._network.spec
    link.watch(True)
    import numpy as np

    from engine.denoiser import Frame

    ones = np.ones(spec.n_spectrum, np.float32)
    for k in range(100):
        service._frames.append(Frame(np.full(spec.n_spectrum, k - 100.0), ones, 0.0))
        time.sleep(0.03)
    time.sleep(0.1)
    seen = [int(column[0, 0]) for one in link.pictures() for column in one.levels]
    assert len(seen) >= 30
    assert seen == sorted(seen)
    assert len(link._pictures) == 0
    assert seen[-1] == round(2.55 * 99)
    assert len(seen) < 100, "no more than two seconds are kept"


def test_nobody_looks(link: Link, session: Session) -> None:
    link.watch(True)
    deadline = time.monotonic() + 5
    while not link.pictures() and time.monotonic() < deadline:
        time.sleep(0.02)
    link.watch(False)
    time.sleep(0.3)
    link.pictures()
    session.play_tone(1000.0, 0.5, 1.0)
    time.sleep(0.3)
    assert link.pictures() == []
    assert not [client for client in session.server._clients if client.watches]
