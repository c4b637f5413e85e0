"""The real window on a real screen and sound server looks as the documents show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.window import language
from tests.live.window_pictures import MOST_BYTES, SHOTS, Shot, stage, take

pytestmark = pytest.mark.live
pytest.importorskip("PySide6")
Image = pytest.importorskip("PIL.Image")

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def test_a_voice_is_seen_and_heard(tmp_path: Path) -> None:
    shot = Shot("dark", "es", 200, ("window", "hear"))
    with stage() as environment:
        take(environment, shot, tmp_path)
    window = np.asarray(Image.open(shot.path(tmp_path, "window")).convert("L"), np.float32)
    height, width = window.shape
    assert width >= 1700
    left, right = round(0.45 * width), round(0.75 * width)
    before = window[round(0.25 * height) : round(0.5 * height), left:right]
    after = window[round(0.63 * height) : round(0.9 * height), left:right]
    # Rain is everywhere before and gone after; the voice is in both.
    assert np.median(before) > np.median(after) + 20
    assert after.max() > 120
    assert before.max() > 120
    assert shot.path(tmp_path, "hear").stat().st_size < MOST_BYTES


@pytest.mark.parametrize(
    ("shot", "kind"), [(shot, kind) for shot in SHOTS for kind in shot.kept], ids=str
)
def test_the_documents_have_their_pictures(shot: Shot, kind: str) -> None:
    path = shot.path(PICTURES, kind)
    assert path.exists(), "python -m tests.live.window_pictures docs/pictures"
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as picture:
        assert picture.width >= 3.5 * shot.percent


def test_every_language_and_look_is_pictured() -> None:
    assert {shot.language for shot in SHOTS} == set(language.LANGUAGES)
    assert {shot.theme for shot in SHOTS} == {"light", "dark", "contrast"}
