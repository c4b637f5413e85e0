from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from training import rooms
from training.rooms import EARLY_S, bank, decaying_room, early_part, reverberation_s, shoebox

RATE = 8_000


def decaying(rng, time_s):
    t = np.arange(int(1.5 * time_s * RATE)) / RATE
    return rng.standard_normal(len(t)) * 10 ** (-3 * t / time_s)


@pytest.mark.parametrize("time_s", [0.3, 3.0])
def test_reverberation_time_is_that_of_the_decay(rng, time_s):
    # One draw of noise moves the time of its decay by some per cent.
    assert reverberation_s(decaying(rng, time_s), RATE) == pytest.approx(time_s, rel=0.15)


def test_early_part_ends_after_50_ms(rng):
    response = decaying_room(rng, RATE)
    early = early_part(response, RATE)
    assert len(early) <= int(EARLY_S * RATE) + 1
    np.testing.assert_array_equal(early[:300], response[:300])
    assert early[-1] == 0.0


def test_a_room_is_a_direct_sound_that_decays():
    for k in range(4):
        response = shoebox(RATE, 0, k)
        direct = int(0.001 * RATE)
        assert response.dtype == np.float32
        assert response[direct] == 1.0
        assert np.abs(response).max() == 1.0
        # The interpolation filter is all that there is before the direct sound.
        assert np.abs(response[: direct // 2]).max() < 0.3
        assert 0.0 < reverberation_s(response, RATE) < 1.0
        tenth = len(response) // 10
        assert np.sum(response[-tenth:] ** 2) < 1e-4 * np.sum(response[: 2 * tenth] ** 2)


def test_larger_absorption_would_be_heard():
    """Rooms differ: the seed reaches size and walls."""
    times = [reverberation_s(shoebox(RATE, 3, k), RATE) for k in range(6)]
    assert max(times) - min(times) > 0.1


def test_a_bank_is_simulated_once_and_the_same_again(tmp_path, monkeypatch):
    made = bank(RATE, tmp_path, n_rooms=3, workers=2)
    np.testing.assert_array_equal(made[2], shoebox(RATE, 0, 2))  # here, not in a worker
    monkeypatch.setattr(rooms, "shoebox", None)
    again = bank(RATE, tmp_path, n_rooms=3)
    assert [r.tolist() for r in again] == [r.tolist() for r in made]
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written is left


def test_a_bank_cut_off_is_made_anew(tmp_path):
    made = bank(RATE, tmp_path, n_rooms=1, workers=1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(bank(RATE, tmp_path, n_rooms=1, workers=1)[0], made[0])


def test_two_that_fill_one_bank_are_not_in_each_other_s_way(tmp_path, monkeypatch):
    others, savez = [], np.savez

    def saved(*given):
        monkeypatch.setattr(np, "savez", savez)
        others.append(bank(RATE, tmp_path, n_rooms=1, workers=1))  # by another process
        savez(*given)

    monkeypatch.setattr(np, "savez", saved)
    made = bank(RATE, tmp_path, n_rooms=1, workers=1)
    for found in (others[0], bank(RATE, tmp_path, n_rooms=1, workers=1)):
        np.testing.assert_array_equal(found[0], made[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_without_the_simulator_rooms_decay_still(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = bank(RATE, tmp_path, n_rooms=5)
    assert "not installed" in caplog.text
    assert len(made) == 5
    assert all(r[0] == 1.0 for r in made)
    assert not list(tmp_path.iterdir())
