"""The comparison of what was said with what was heard, itself."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.live.continuity import Second, Witness, seconds_of, speech_like


def n_intact(seconds: list[Second]) -> int:
    return sum(second.intact for second in seconds)


@pytest.mark.parametrize("ppm", [0, -1000, 1000])
def test_a_lost_or_repeated_block_is_seen_at_any_speed(ppm: int, rng: np.random.Generator) -> None:
    said = speech_like(rng, seconds=4.0, top_hz=8000)
    said[60_000:64_000] = 0.0  # as before the first word, and after the last
    times = np.arange(len(said)) * (1.0 + 1e-6 * ppm)
    fine = np.fft.irfft(np.concatenate([np.fft.rfft(said), np.zeros(7 * len(said) // 2)]) * 8)
    heard = np.interp(times, np.arange(len(fine)) / 8, fine).astype(np.float32)
    assert [s.intact for s in seconds_of(said, heard, steered=True)] == [True] * 3
    assert (n_intact(seconds_of(said, heard)) == 3) == (ppm == 0)
    for at in (70_000, 96_010):
        lost = np.concatenate([heard[:at], heard[at + 480 :]])
        assert n_intact(seconds_of(said, lost, steered=True)) < 3
        repeated = np.concatenate([heard[:at], heard[at - 480 :]])
        assert n_intact(seconds_of(said, repeated, steered=True)) < 3


def test_a_second_is_found_where_it_was_heard(rng: np.random.Generator) -> None:
    said = speech_like(rng, seconds=4.0, top_hz=8000)
    heard = np.concatenate([np.zeros(3000, np.float32), said])
    assert [second.delay for second in seconds_of(said, heard)] == [3000] * 3


def test_the_witness_tells_when_the_machine_was_taken_away() -> None:
    with Witness() as witness:
        time.sleep(0.1)
    witness.waits = [(10.0, 0.03)]
    assert witness.waited(9.0, 9.98)
    assert witness.waited(9.99, 12.0)
    assert not witness.waited(9.0, 9.96)
    assert not witness.waited(10.1, 12.0)
