"""A tone read faster is a higher tone and nothing else; at its own speed it is the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from engine import varispeed
from engine.devices import SAMPLE_RATE
from engine.stft import Float
from engine.tape import Tape


def tone(positions: Float, hz: float) -> Float:
    return 0.5 * np.sin(2.0 * np.pi * hz / SAMPLE_RATE * positions)


def taped(hz: float) -> Tape:
    tape = Tape(2 * SAMPLE_RATE)
    tape.write(tone(np.arange(2 * SAMPLE_RATE), hz).astype(np.float32))
    return tape


@pytest.mark.parametrize("speed", [-2e-3, -5e-5, 0.0, 2e-4, 5e-4, 2e-3])
@pytest.mark.parametrize("hz", [50.0, 997.0, 6000.0, 15000.0, 20000.0])
def test_a_tone_is_read_between_its_samples(hz: float, speed: float) -> None:
    tape, position = taped(hz), 1000.3
    errors, wanted = [], []
    for _ in range(150):
        read = varispeed.read(tape, position, 480, speed)
        assert read is not None
        true = tone(position + (1.0 + speed) * np.arange(480), hz)
        errors.append(read - true)
        wanted.append(true)
        position += 480 * (1.0 + speed)
    power = np.mean(np.square(errors)) / np.mean(np.square(wanted))
    # The filter was made for 80 dB, its polynomials for more; 70 dB is what is promised.
    assert 10.0 * np.log10(power) < -74.0


def test_at_its_own_speed_nothing_changes(rng: np.random.Generator) -> None:
    tape, sound = Tape(1000), rng.standard_normal(1000).astype(np.float32)
    tape.write(sound)
    read = varispeed.read(tape, 100.0, 480)
    assert read is not None
    np.testing.assert_array_equal(read, sound[100:580])


def test_a_constant_stays_that_constant() -> None:
    tape = Tape(1000)
    tape.write(np.full(1000, 0.5, np.float32))
    read = varispeed.read(tape, 100.77, 480, 1e-3)
    assert read is not None
    np.testing.assert_allclose(read, 0.5, atol=1e-6)  # float32


def test_what_the_tape_does_not_hold_is_not_made_up() -> None:
    tape = Tape(1000)
    tape.write(np.zeros(600, np.float32))
    assert varispeed.read(tape, 121.0, 480) is None
    assert varispeed.read(tape, 120.0, 480) is not None
    # Between samples, the filter wants some before and after.
    assert varispeed.read(tape, 601 - 480 - varispeed.AFTER + 0.5, 480) is None
    assert varispeed.read(tape, 601 - 480 - varispeed.AFTER - 0.5, 480) is not None
    assert varispeed.read(tape, varispeed.BEFORE - 0.5, 10) is None
    assert varispeed.read(tape, varispeed.BEFORE + 0.5, 10) is not None
