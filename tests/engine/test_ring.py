"""Samples cross from one thread to another in order: none lost, none twice, all counted."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ring import Ring
from engine.stft import Float


def ramp(start: int, n: int) -> Float:
    """Sample k has value k: a lost or repeated one shows. Exact in float32 up to 2²⁴."""
    return np.arange(start, start + n, dtype=np.float32)


def take(ring: Ring, n: int) -> Float:
    into = np.full(n, np.nan, np.float32)
    return into[: ring.read(into)]


def test_a_ramp_comes_out_whole_across_many_turns() -> None:
    ring = Ring(100)
    out = []
    for k in range(0, 7000, 70):
        assert ring.write(ramp(k, 70)) == 70
        assert ring.fill == 70
        out.append(take(ring, 70))
    np.testing.assert_array_equal(np.concatenate(out), ramp(0, 7000))
    assert (ring.written, ring.taken, ring.lost, ring.fill) == (7000, 7000, 0, 0)


@given(
    capacity=st.integers(1, 40),
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "read", "skip"]), st.integers(0, 60)), max_size=60
    ),
)
def test_any_sequence_of_calls_behaves_as_a_bounded_queue(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    ring = Ring(capacity)
    queue: list[float] = []  # what a list would do
    made = lost = 0
    for verb, n in steps:
        if verb == "write":
            fits = min(n, capacity - len(queue))
            assert ring.write(ramp(made, n)) == fits
            queue += range(made, made + fits)
            made, lost = made + n, lost + n - fits
        elif verb == "read":
            np.testing.assert_array_equal(take(ring, n), queue[:n])
            queue = queue[n:]
        else:
            assert ring.skip(n) == min(n, len(queue))
            queue = queue[n:]
        assert (ring.fill, ring.lost) == (len(queue), lost)
        assert ring.written - ring.taken == ring.fill


def test_what_does_not_fit_is_counted_and_what_was_there_stays() -> None:
    ring = Ring(10)
    assert ring.write(ramp(0, 8)) == 8
    assert ring.write(ramp(8, 8)) == 2
    assert ring.write(ramp(16, 3)) == 0
    assert ring.lost == 6 + 3
    np.testing.assert_array_equal(take(ring, 10), ramp(0, 10))
    assert ring.write(ramp(19, 1)) == 1  # there is room again


def test_an_underflow_says_how_many_came_and_leaves_the_rest_alone() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 3))
    into = np.full(5, -1.0, np.float32)
    assert ring.read(into) == 3
    np.testing.assert_array_equal(into, [0, 1, 2, -1, -1])
    assert ring.read(into) == 0
    np.testing.assert_array_equal(into, [0, 1, 2, -1, -1])


def test_a_block_longer_than_the_ring_fills_it() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 3))
    ring.skip(3)
    assert ring.write(ramp(0, 9)) == 4
    np.testing.assert_array_equal(take(ring, 9), ramp(0, 4))


def test_nothing_can_be_un_skipped() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 4))
    ring.skip(2)
    assert ring.skip(-2) == 0
    np.testing.assert_array_equal(take(ring, 4), ramp(2, 2))


def test_the_block_is_copied() -> None:
    """PortAudio's buffer is gone when the callback returns."""
    ring = Ring(8)
    block = ramp(0, 4)
    ring.write(block)
    block[:] = np.nan
    out = take(ring, 4)
    ring.write(ramp(90, 8))
    np.testing.assert_array_equal(out, ramp(0, 4))


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_without_room_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity should be positive, got {capacity}"):
        Ring(capacity)


@pytest.mark.parametrize("capacity", [257, 4096])
def test_two_threads_hand_a_ramp_over_whole(capacity: int) -> None:
    """A second of blocks of random sizes; each side waits only when there is nothing to do."""
    ring = Ring(capacity)
    stop = threading.Event()
    refused = []
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # change threads between almost any two steps, not every 5 ms

    def write() -> None:
        rng = np.random.default_rng(1)
        made = 0
        while not stop.is_set():
            n = int(rng.integers(0, 600))
            # Modulo 2²⁰ every number is exact in float32.
            accepted = ring.write((np.arange(made, made + n) % 2**20).astype(np.float32))
            made += accepted
            if accepted < n:
                refused.append(n - accepted)
                time.sleep(0)

    rng = np.random.default_rng(2)
    taken = 0
    broken = None
    writer = threading.Thread(target=write)
    writer.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end and broken is None:
            got = take(ring, int(rng.integers(1, 600)))
            wanted = np.arange(taken, taken + len(got)) % 2**20
            if not np.array_equal(got, wanted):
                broken = (taken, got[:5], wanted[:5])
            taken += len(got)
            if len(got) == 0:
                time.sleep(0)
    finally:
        stop.set()
        writer.join(10.0)
        sys.setswitchinterval(usual_s)
    assert broken is None, f"at sample {broken[0]}: {broken[1]} for {broken[2]}"
    assert taken > 4 * capacity  # it did go round
    assert ring.lost == sum(refused)
    assert ring.taken == taken
    np.testing.assert_array_equal(take(ring, capacity), np.arange(taken, ring.written) % 2**20)
