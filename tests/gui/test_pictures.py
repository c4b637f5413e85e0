"""What is drawn lies where it belongs, whatever the ring's cut and the window's size."""

from __future__ import annotations

import doctest
from types import ModuleType

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from app.columns import ROWS, rows_of
from app.window import colours, engine_process, meters, scale
from app.window.meters import SILENT_DBFS, LevelMeter, level_of
from app.window.spectrogram import SECONDS, Spectrogram
from tests.onnx_models import CLASSIC, FULLBAND

TOP_HZ, COLUMN_S = 5512.5, 512 / 11025
DARKEST = int(colours.level_colours()[0])


@pytest.fixture
def picture(qtbot: QtBot) -> Spectrogram:
    picture = Spectrogram("test")
    qtbot.addWidget(picture)
    picture.resize(640, 240)
    picture.show()
    return picture


def columns_with(hz: float, n: int) -> np.ndarray:
    columns = np.zeros((n, ROWS), np.uint8)
    row = int(scale.share_of(hz, TOP_HZ) * ROWS)
    columns[:, row - 1 : row + 2] = 255
    return columns


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 256, (n, ROWS), dtype=np.uint8)


@pytest.mark.parametrize("spec", [CLASSIC, FULLBAND], ids=["classic", "fullband"])
def test_the_axis_is_that_of_the_service(spec) -> None:
    top = spec.sample_rate / 2
    bin_hz = spec.sample_rate / spec.n_fft
    for row, start in enumerate(rows_of(spec)):
        shown = scale.hz_at(row / ROWS, top)
        assert start * bin_hz <= shown + 1e-6 < (start + 1) * bin_hz + 1e-3


def test_ticks_leave_room() -> None:
    for top in (5512.5, 8000.0, 24000.0):
        places = [share for share, _ in scale.ticks(top, 0.08)]
        assert len(places) >= 4
        assert (np.diff(places) >= 0.08).all()
        assert max(places) <= 1


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_at_its_height_and_its_time(picture: Spectrogram, hz: float) -> None:
    picture.add(columns_with(1.3 * hz, 30), TOP_HZ, COLUMN_S)
    picture.add(columns_with(hz, 10), TOP_HZ, COLUMN_S)
    picture.add(np.zeros((20, ROWS), np.uint8), TOP_HZ, COLUMN_S)
    bright = picture.colour_at(25 * COLUMN_S, hz)
    assert bright.lightness() > 180
    assert picture.colour_at(25 * COLUMN_S, 1.3 * hz).rgb() == DARKEST
    assert picture.colour_at(10 * COLUMN_S, hz).rgb() == DARKEST
    assert picture.colour_at(35 * COLUMN_S, hz).rgb() == DARKEST
    assert picture.colour_at(35 * COLUMN_S, 1.3 * hz).lightness() > 180


def shown(picture: Spectrogram) -> np.ndarray:
    """Its pixels as one sees them, the oldest left."""
    return np.roll(picture._pixels, -picture._cut, axis=1)


def test_streamed_equals_whole(
    qtbot: QtBot, picture: Spectrogram, rng: np.random.Generator
) -> None:
    columns = noise(rng, 500)
    at = 0
    while at < len(columns):
        n = int(rng.integers(0, 7))
        picture.add(columns[at : at + n], TOP_HZ, COLUMN_S)
        at += n
    whole = Spectrogram("whole")
    qtbot.addWidget(whole)
    whole.resize(picture.size())
    whole.show()
    whole.add(columns, TOP_HZ, COLUMN_S)
    n_columns = shown(whole).shape[1] // whole._stretch * whole._stretch
    assert n_columns > 600 - 10
    np.testing.assert_array_equal(shown(picture)[:, -n_columns:], shown(whole)[:, -n_columns:])
    # Another size is drawn from what has been heard.
    picture.resize(500, 300)
    whole.resize(500, 300)
    np.testing.assert_array_equal(shown(picture), shown(whole))
    assert len(np.unique(shown(picture))) > 100


def test_it_shows_about_so_many_seconds(picture: Spectrogram) -> None:
    for column_s in (COLUMN_S, 0.01):
        picture.add(np.zeros((1, ROWS), np.uint8), TOP_HZ, column_s)
        assert picture.seconds == pytest.approx(SECONDS, rel=0.3)


def test_a_pause_holds_the_picture(picture: Spectrogram, rng: np.random.Generator) -> None:
    picture.add(noise(rng, 50), TOP_HZ, COLUMN_S)
    before = shown(picture).copy()
    picture.set_paused(True)
    picture.add(noise(rng, 50), TOP_HZ, COLUMN_S)
    np.testing.assert_array_equal(shown(picture), before)
    picture.set_paused(False)
    picture.add(noise(rng, 50), TOP_HZ, COLUMN_S)
    assert (shown(picture) != before).any()


def test_another_model_begins_anew(picture: Spectrogram, rng: np.random.Generator) -> None:
    picture.add(noise(rng, 50), TOP_HZ, COLUMN_S)
    picture.add(np.zeros((1, ROWS), np.uint8), 24000.0, 0.01)
    assert (shown(picture) == DARKEST).all()


def test_painting_shows_the_ring(picture: Spectrogram, rng: np.random.Generator) -> None:
    """What reaches the screen is the ring with its cut taken out."""
    picture.add(noise(rng, 333), TOP_HZ, COLUMN_S)
    image = picture.grab().toImage()
    rect = picture.picture_rect()
    expected = shown(picture)
    for x, y in rng.integers(0, [rect.width(), rect.height()], (50, 2)):
        drawn = image.pixelColor(rect.left() + int(x), rect.top() + int(y)).rgb()
        assert drawn == expected[y, x]


def test_brightness_rises_with_the_level() -> None:
    lut = colours.level_colours()
    light = 0.3 * (lut >> 16 & 255) + 0.59 * (lut >> 8 & 255) + 0.11 * (lut & 255)
    assert (np.diff(light) > -0.6).all()
    assert light[-1] - light[0] > 200


def test_levels_of_columns(rng: np.random.Generator) -> None:
    from engine.stft import Analysis, to_db

    analysis = Analysis(CLASSIC)
    time_s = np.arange(8 * CLASSIC.hop) / CLASSIC.sample_rate
    for rms_dbfs in (-10.0, -40.0):
        sound = np.sqrt(2) * 10 ** (rms_dbfs / 20) * np.sin(2 * np.pi * 440 * time_s)
        for hop in sound.astype(np.float32).reshape(8, -1):
            spectrum = analysis(hop)
        level_db = np.maximum.reduceat(to_db(spectrum, CLASSIC), rows_of(CLASSIC))
        column = np.round(255 * np.clip(1 + level_db / 100, 0, 1)).astype(np.uint8)
        assert level_of(column) == pytest.approx(rms_dbfs, abs=2.5)
    assert level_of(np.zeros(ROWS, np.uint8)) == SILENT_DBFS


def test_a_peak_is_held_and_then_falls(qtbot: QtBot) -> None:
    meter = LevelMeter("test")
    qtbot.addWidget(meter)
    meter.set_level(-10.0, 100.0)
    for tick in range(40):
        meter.set_level(-50.0, 100.0 + tick / 30)
    assert meter.peak_dbfs == -10.0
    assert -50.0 <= meter.level_dbfs < -35.0
    for tick in range(40, 150):
        meter.set_level(-50.0, 100.0 + tick / 30)
    assert meter.peak_dbfs == meter.level_dbfs == -50.0


@pytest.mark.parametrize("module", [scale, meters, engine_process])
def test_examples_are_true(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
