"""Recorded, shown, played, forgotten: the page on a real control server and a stand-in card."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.window.comparison import TOP_HZ, Comparison, columns_of, quieter_db
from app.window.main_window import MainWindow
from app.window.player import Player
from app.window.scale import share_of
from engine import devices as sound_devices
from engine.devices import BLOCK, SAMPLE_RATE
from engine.live import LiveSession
from tests.estimators import Steady
from tests.gui.conftest import Session
from tests.onnx_models import CLASSIC

LEFT = Qt.MouseButton.LeftButton


class Card:
    """An output that asks for blocks when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fill: Callable[..., None] | None = None
        self.closed = 0
        monkeypatch.setattr(sound_devices, "open_output", self._open)

    def _open(self, name: str, callback: Callable[..., None]) -> Card:
        assert name == "speakers"
        self.fill = callback
        return self

    def close(self, ignore_errors: bool) -> None:
        self.closed += 1
        self.fill = None

    def play(self, n_blocks: int) -> np.ndarray:
        blocks = []
        for _ in range(n_blocks):
            block = np.full((BLOCK, 1), np.nan, np.float32)
            assert self.fill is not None
            self.fill(block, BLOCK, None, None)
            blocks.append(block[:, 0])
        return np.concatenate(blocks)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, devices: list) -> Card:
    return Card(monkeypatch)


@pytest.fixture
def feed(session: Session) -> Iterator[np.ndarray]:
    """A session that hears noise and passes a third of it on; five and a half seconds of it."""
    live = LiveSession(Steady(CLASSIC), "desk", ["speakers"])
    session.service._session = live
    rng = np.random.default_rng(7)
    noise = rng.uniform(-0.3, 0.3, round(5.5 * SAMPLE_RATE)).astype(np.float32)
    ended = threading.Event()

    def work() -> None:
        at, size = 0, 4800
        while not ended.wait(0.005):
            if live.excerpt is None or at + size > len(noise):
                continue
            heard = noise[at : at + size]
            cleaned_at = max(at - 1000, 0)
            live.excerpt.add(heard, at, noise[cleaned_at : at + size - 1000] / 3, cleaned_at)
            at += size

    thread = threading.Thread(target=work)
    thread.start()
    yield noise
    ended.set()
    thread.join()


def test_it_is_recorded_shown_and_played(
    qtbot: QtBot, window: MainWindow, feed: np.ndarray, card: Card, session: Session
) -> None:
    qtbot.mouseClick(window.compare, LEFT)
    page = window._hear_page
    assert page is not None
    assert not any(play.isEnabled() for play in page.plays)
    qtbot.mouseClick(page.record, LEFT)
    assert not page.record.isEnabled()
    qtbot.waitUntil(lambda: page.player is not None, timeout=20000)
    assert page.said.text() == "Between words the noise is 10 dB lower."
    assert session.service._excerpts.wanted is None, "the session has forgotten it"
    qtbot.mouseClick(page.plays[0], LEFT)
    qtbot.waitUntil(lambda: card.fill is not None)
    whole = 5 * SAMPLE_RATE
    played = card.play(whole // BLOCK // 2)
    step = 1 / 32767
    np.testing.assert_allclose(played[BLOCK:], feed[BLOCK : len(played)], atol=step)
    # The other one goes on at the same moment.
    qtbot.waitUntil(lambda: page.plays[0].text() == "■ &Stop")
    qtbot.mouseClick(page.plays[1], LEFT)
    at = len(played)
    played = card.play(10)
    part = slice(at + BLOCK, at + 10 * BLOCK)
    np.testing.assert_allclose(played[BLOCK:], feed[part] / 3, atol=step)
    # A click in a picture plays from there; the end is the end.
    rect = page.pictures[0].picture_rect()
    there = QPoint(rect.left() + round(0.9 * rect.width()), rect.center().y())
    qtbot.mouseClick(page.pictures[0], LEFT, pos=there)
    at = round(0.9 * whole)
    played = card.play(2)
    assert np.abs(np.correlate(feed[at - 1000 : at + 2000], played[BLOCK:])).argmax() == (
        pytest.approx(1000 + BLOCK, abs=whole / rect.width())
    )
    card.play(whole // BLOCK // 8)
    qtbot.waitUntil(lambda: page.plays[0].text() == "▶ Play &before")
    assert not card.play(1).any()
    # The device is given back when it has been silent for a while.
    qtbot.waitUntil(lambda: card.closed == 1)
    page.close()
    assert page.player is None
    assert page.comparison is None


def test_closing_it_ends_what_plays(
    qtbot: QtBot, window: MainWindow, feed: np.ndarray, card: Card
) -> None:
    window.let_hear()
    page = window._hear_page
    assert page is not None
    qtbot.keyClick(page, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.player is not None, timeout=20000)
    qtbot.keyClick(page.plays[1], Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: card.fill is not None)
    assert card.play(3).any()
    qtbot.keyClick(page.pictures[1], Qt.Key.Key_Right)
    assert page.player is not None
    card.play(1)
    assert page.player.share == pytest.approx(0.1, abs=0.02)
    qtbot.keyClick(page, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: card.closed == 1)
    assert not page.isVisible()


def test_why_nothing_was_recorded(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    window.let_hear()
    page = window._hear_page
    assert page is not None
    qtbot.mouseClick(page.record, LEFT)  # no devices are open here
    qtbot.waitUntil(lambda: "no sound at the moment" in page.said.text())
    assert page.record.isEnabled()


def test_a_wish_for_another_begins_from_where_the_first_is(card: Card, qapp: QApplication) -> None:
    ramp = np.arange(1, 10 * BLOCK + 1, dtype=np.float32)
    player = Player((ramp, -ramp))
    assert player.plays is None
    player.play(0)
    assert player._thread is not None
    player._thread.join()
    np.testing.assert_array_equal(card.play(3)[BLOCK:], ramp[BLOCK : 3 * BLOCK])
    player.play(1)
    np.testing.assert_array_equal(card.play(2)[BLOCK:], -ramp[4 * BLOCK : 5 * BLOCK])
    player.stop()
    assert player.plays is None
    faded = card.play(2)
    assert (np.diff(np.abs(faded[: BLOCK // 2])) < 0).any()
    assert not faded[BLOCK:].any()
    player.play(0)
    np.testing.assert_array_equal(card.play(2)[BLOCK:], ramp[BLOCK : 2 * BLOCK])
    card.play(20)
    assert player.plays is None
    assert player.problem == ""


def test_a_device_that_is_not_there_is_told(devices: list, qapp: QApplication) -> None:
    devices[:] = [one for one in devices if one.kind == "input"]
    player = Player((np.zeros(10, np.float32), np.zeros(10, np.float32)))
    player.play(0)
    assert player._thread is not None
    player._thread.join()
    assert "output" in player.problem
    assert player.plays is None


def test_a_tone_is_where_it_belongs_in_a_picture() -> None:
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * 3000.0 * time_s).astype(np.float32)
    levels = columns_of(sound, SAMPLE_RATE)
    assert len(levels) == pytest.approx(200, abs=5)
    row = levels[100].argmax()
    assert row / len(levels[0]) == pytest.approx(share_of(3000.0, TOP_HZ), abs=0.01)


def test_the_quiet_moments_are_between_words(rng: np.random.Generator) -> None:
    before = (rng.standard_normal(SAMPLE_RATE) * 0.1).astype(np.float32)
    before[: SAMPLE_RATE // 3] *= 0.1
    after = before.copy()
    after[: SAMPLE_RATE // 3] *= 0.05
    assert quieter_db(before, after, SAMPLE_RATE) == pytest.approx(26.0, abs=0.1)
    # Lost sound is no quiet moment.
    after[SAMPLE_RATE // 2 :] = before[SAMPLE_RATE // 2 :] = 0.0
    assert quieter_db(before, after, SAMPLE_RATE) == pytest.approx(26.0, abs=0.1)
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert quieter_db(silence, silence, SAMPLE_RATE) == 0.0
    assert quieter_db(before, silence, SAMPLE_RATE) > 45.0


def test_who_is_gone_is_told(tmp_path) -> None:
    comparison = Comparison(1.0, tmp_path)
    comparison._thread.join(5.0)
    assert comparison.is_over
    assert "not running" in comparison.problem
