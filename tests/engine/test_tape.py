"""Samples are found by their position, by any number of readers, as long as they are here."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.stft import Float
from engine.tape import Tape


def ramp(start: int, n: int) -> Float:
    """Sample k has value k: a lost or repeated one shows. Exact in float32 up to 2²⁴."""
    return np.arange(start, start + n, dtype=np.float32)


@given(
    capacity=st.integers(1, 40),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 60)),
            st.tuples(st.just("leap"), st.integers(0, 300)),
            st.tuples(st.just("read"), st.integers(0, 300)),
        ),
        max_size=60,
    ),
)
@example(capacity=3, steps=[("write", 4), ("leap", 3), ("read", 0)])
def test_any_sequence_of_calls_finds_what_was_written_there(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    tape = Tape(capacity)
    there: dict[int, float] = {}  # what a dictionary would know
    written = 0
    value = 0.0
    for verb, n in steps:
        if verb == "write":
            block = value + np.arange(n, dtype=np.float32)
            value += n
            tape.write(block)
            there.update(zip(range(written, written + n), block.tolist(), strict=True))
            written += n
        elif verb == "leap":
            tape.leap(n)
            written = n
        else:
            into = np.full(3, np.nan, np.float32)
            if tape.read(n, into):
                # It may hold less than a dictionary, never something else.
                assert [there.get(n + k) for k in range(3)] == into.tolist()
            newest = range(max(tape.begun, written - capacity), written - 2)
            assert tape.holds(n, n + 3) or n not in newest
        assert tape.written == written


def test_a_ramp_is_read_whole_across_many_turns() -> None:
    tape = Tape(100)
    for k in range(0, 7000, 70):
        tape.write(ramp(k, 70))
        into = np.empty(90 if k else 70, np.float32)
        assert tape.read(k + 70 - len(into), into)
        np.testing.assert_array_equal(into, ramp(k + 70 - len(into), len(into)))


def test_what_has_gone_or_not_come_is_told() -> None:
    tape = Tape(10)
    tape.write(ramp(0, 25))
    into = np.empty(4, np.float32)
    assert not tape.read(14, into)  # overwritten
    assert tape.read(15, into)
    assert tape.read(21, into)
    assert not tape.read(22, into)  # not yet
    assert not tape.read(15, np.empty(11, np.float32))  # never


def test_the_stretch_before_a_leap_stays_readable() -> None:
    tape = Tape(100)
    tape.write(ramp(0, 30))
    tape.leap(50)
    tape.write(ramp(50, 10))
    into = np.empty(5, np.float32)
    assert tape.read(25, into)
    np.testing.assert_array_equal(into, ramp(25, 5))
    assert not tape.read(28, into)
    assert not tape.read(48, into)
    assert tape.read(50, into)
    assert tape.begun == 50


def test_a_leap_back_writes_anew() -> None:
    tape = Tape(100)
    tape.write(ramp(0, 30))
    tape.leap(20)
    tape.write(ramp(1020, 10))
    into = np.empty(10, np.float32)
    assert tape.read(20, into)
    np.testing.assert_array_equal(into, ramp(1020, 10))
    assert tape.read(10, into)
    np.testing.assert_array_equal(into, ramp(10, 10))


def test_the_block_is_copied() -> None:
    """PortAudio's buffer is gone when the callback returns."""
    tape, block = Tape(8), ramp(0, 4)
    tape.write(block)
    block[:] = np.nan
    into = np.empty(4, np.float32)
    assert tape.read(0, into)
    np.testing.assert_array_equal(into, ramp(0, 4))


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_tape_without_room_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity should be positive, got {capacity}"):
        Tape(capacity)


@pytest.mark.parametrize("capacity", [1200, 4096])
def test_readers_see_what_was_written_or_nothing(capacity: int) -> None:
    """A second of blocks of random sizes, read at random places, often just being overwritten."""
    tape, stop = Tape(capacity), threading.Event()
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # change threads between almost any two steps, not every 5 ms

    def write() -> None:
        rng = np.random.default_rng(1)
        while not stop.is_set():
            n = int(rng.integers(0, 600))
            # Modulo 2²⁰ every number is exact in float32.
            tape.write((np.arange(tape.written, tape.written + n) % 2**20).astype(np.float32))

    rng = np.random.default_rng(2)
    found = 0
    broken = None
    writer = threading.Thread(target=write)
    writer.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end and broken is None:
            into = np.empty(int(rng.integers(1, 600)), np.float32)
            position = max(0, tape.written - int(rng.integers(0, capacity)) - len(into) // 2)
            if tape.read(position, into):
                wanted = np.arange(position, position + len(into)) % 2**20
                found += 1
                if not np.array_equal(into, wanted):
                    broken = (position, into[:5], wanted[:5])
    finally:
        stop.set()
        writer.join(10.0)
        sys.setswitchinterval(usual_s)
    assert broken is None, f"at sample {broken[0]}: {broken[1]} for {broken[2]}"
    assert found > 10
