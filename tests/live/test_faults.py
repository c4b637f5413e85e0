"""A few of the faults of ``tests/long/faults.py``, which injects hundreds."""

from __future__ import annotations

import pytest

from tests.long.faults import run

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("server", "seed"), [("pulseaudio", 1), ("pipewire", 2)])
def test_sound_comes_back_whatever_happens(server: str, seed: int) -> None:
    outcome = run(server, n_faults=5, seed=seed, say=print)
    assert outcome.n == 5
    assert outcome.complaints == []
