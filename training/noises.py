"""Noises made of nothing, and ways to make many out of one recorded noise.

Each maker takes ``(rng, n_samples, sample_rate)`` and returns (n_samples,) float32 at
any level. Not here: which is drawn how often, and how loud (``mixing``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.stft import Float
from training.rooms import decaying_room
from training.signals import (
    at_level,
    convolved,
    fast_length,
    filtered,
    frequencies_hz,
    low_pass,
    rms_db,
)

_TABLE = 4096
"""Samples of one period. The nearest one is heard: an error 60 dB down, in a noise."""

# Frames of 50 ms of a steady sound vary less than this in level; rain 1, speech 10.
STEADY_DB = 3.0


def tone(
    rng: np.random.Generator, pitch_hz: float | Float, n_samples: int, sample_rate: int
) -> Float:
    """Harmonics that weaken upwards, of a pitch that is fixed or (n_samples,) [Hz]."""
    highest_hz = float(np.max(pitch_hz))
    harmonics = 1.0 + np.arange(max(1, min(40, int(0.45 * sample_rate / highest_hz))))
    spectrum = np.zeros(_TABLE // 2 + 1, np.complex128)
    levels = rng.uniform(0.1, 1.0, len(harmonics)) / harmonics ** rng.uniform(0.3, 1.5)
    turns = np.exp(2j * np.pi * rng.random(len(harmonics)))
    spectrum[1 : len(harmonics) + 1] = levels * turns
    period = np.fft.irfft(spectrum, _TABLE).astype(np.float32) * np.float32(_TABLE / 2)
    step = np.float64(_TABLE / sample_rate) * pitch_hz
    phase = np.arange(n_samples) * step if np.ndim(step) == 0 else np.cumsum(step)
    return period[phase.astype(np.int64) & (_TABLE - 1)]


def hum(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Mains hum or a motor: harmonics that weaken upwards."""
    pitch_hz = float(rng.choice([50.0, 60.0, rng.uniform(40.0, 400.0)]))
    made = tone(rng, pitch_hz, n_samples, sample_rate)
    return made + np.float32(0.02) * rng.standard_normal(n_samples, np.float32)


def coloured(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Noise of a random tilt with a few resonances: hiss, wind, air from a fan."""
    n_fft = fast_length(n_samples)
    hz = np.maximum(frequencies_hz(n_fft, sample_rate), np.float32(20.0))
    shape = hz ** np.float32(-rng.uniform(-0.3, 1.2))
    shape *= resonances(rng, hz, int(rng.integers(0, 4)), sample_rate)
    return filtered(rng.standard_normal(n_samples, np.float32), shape, n_fft)


def fan(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Air that a turning blade chops, with the tone of its motor."""
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    turns = np.float32(2.0 * np.pi * rng.uniform(3.0, 60.0))
    blade = np.float32(1.0) + np.float32(rng.uniform(0.0, 0.6)) * np.sin(turns * t)
    motor = at_level(hum(rng, n_samples, sample_rate), 0.0)
    air = at_level(coloured(rng, n_samples, sample_rate), 0.0)
    return air * blade + np.float32(rng.uniform(0.0, 0.5)) * motor


def vacuum(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """A vacuum cleaner or hair dryer: much air, and a fast motor that its load slows down."""
    drift = drifting(rng, n_samples, sample_rate, rng.uniform(0.2, 1.5))
    pitch_hz = np.float32(rng.uniform(200.0, 900.0)) * (np.float32(1.0) + np.float32(0.03) * drift)
    if rng.random() < 0.2:  # switched on within the clip
        t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
        speed = 1.0 - np.exp(-np.maximum(t - rng.uniform(0.0, t[-1]), 0.0) / rng.uniform(0.1, 0.5))
    else:
        speed = np.ones(n_samples)
    speed = speed.astype(np.float32)
    motor = at_level(tone(rng, pitch_hz * speed, n_samples, sample_rate), rng.uniform(-20.0, 0.0))
    air = at_level(coloured(rng, n_samples, sample_rate), 0.0)
    made = (air + motor) * np.square(speed)
    return made if made.any() else air


def clicks(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Keys, taps and crackle: short decaying bursts at random times."""
    length = int(0.08 * sample_rate)
    made = np.zeros(n_samples + length, np.float32)
    t = np.arange(length) / sample_rate
    for _ in range(1 + rng.poisson(rng.uniform(0.5, 12.0) * n_samples / sample_rate)):
        start = int(rng.integers(n_samples))
        burst = rng.standard_normal(length) * np.exp(-t / rng.uniform(0.001, 0.02))
        ring = np.sin(2.0 * np.pi * rng.uniform(200.0, 0.4 * sample_rate) * t)
        made[start : start + length] += rng.exponential() * burst * (1.0 + rng.random() * ring)
    return made[:n_samples]


def bangs(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Claps, doors and dropped things: a few decaying bursts, dull or bright, in a room."""
    length = int(0.4 * sample_rate)
    made = np.zeros(n_samples + length, np.float32)
    t = np.arange(length, dtype=np.float32) / np.float32(sample_rate)
    decay_s, dullness = rng.uniform(0.003, 0.08), rng.uniform(0.0, 1.5)
    for _ in range(1 + rng.poisson(rng.uniform(0.1, 2.0) * n_samples / sample_rate)):
        start = int(rng.integers(n_samples))
        burst = rng.standard_normal(length, np.float32) * np.exp(-t / np.float32(decay_s))
        hz = np.maximum(frequencies_hz(length - length % 2, sample_rate), np.float32(60.0))
        burst = filtered(burst, hz ** np.float32(-dullness), length - length % 2)
        made[start : start + len(burst)] += at_level(burst, rng.normal(0.0, 4.0))
    return convolved(made[:n_samples], decaying_room(rng, sample_rate))[0]


def beeps(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Ringing, message sounds and alarms: pairs of tones that come and go in a rhythm."""
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    highest_hz = min(3000.0, 0.4 * sample_rate)
    period_s, n_steps = rng.uniform(0.08, 1.0), int(rng.integers(1, 5))
    place = t / np.float32(period_s) + np.float32(n_steps * rng.random())
    step = place.astype(np.int64) % n_steps
    pitches_hz = rng.uniform(300.0, highest_hz, (2, n_steps)).astype(np.float32)
    pitches_hz[1] *= rng.random() < 0.5  # one tone or two
    on = (place % 1.0) < rng.uniform(0.2, 1.0)
    if rng.random() < 0.5:  # a phone rings, and pauses
        on &= (t + rng.uniform(0.0, 4.0)) % rng.uniform(2.0, 5.0) < rng.uniform(0.5, 2.0)
    phase = np.cumsum(pitches_hz[:, step] * np.float32(2.0 * np.pi / sample_rate), axis=1)
    return np.sin(phase).sum(axis=0, dtype=np.float32) * on


def siren(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Sirens and horns: a rich tone that holds its pitch, or wails, or jumps, on and off."""
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    turns = t * np.float32(10.0 ** rng.uniform(-0.7, 0.7)) + np.float32(rng.random())
    octaves = np.float32(rng.choice([0.0, rng.uniform(0.1, 1.0)]))
    wave = np.sin(np.float32(2.0 * np.pi) * turns)
    bend = octaves * (np.sign(wave) if rng.random() < 0.4 else wave)
    highest_hz = min(900.0, 0.2 * sample_rate)
    pitch_hz = np.float32(rng.uniform(250.0, highest_hz)) * np.exp2(bend)
    made = tone(rng, pitch_hz.astype(np.float32), n_samples, sample_rate)
    if rng.random() < 0.5:  # somebody lets go of the horn
        made *= (t + np.float32(rng.uniform(0.0, 3.0))) % rng.uniform(0.5, 4.0) < rng.uniform(
            0.2, 3.0
        )
    return made if made.any() else tone(rng, 400.0, n_samples, sample_rate)


def bells(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Struck metal, glass and china, from a church's bell to cutlery: partials that ring on.

    Their ratios are a bell's (Fletcher & Rossing, "The Physics of Musical Instruments"), more
    or less out of tune; high ones die away first.
    """
    made = np.zeros(n_samples, np.float32)
    ring_s = 10.0 ** rng.uniform(-1.5, 0.5)
    length = min(n_samples, int(7.0 * ring_s * sample_rate) + 1)
    t = np.arange(length, dtype=np.float32) / np.float32(sample_rate)
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.7, 3.0, 4.0, 5.3, 6.7, 8.1])
    ratios *= np.exp2(rng.normal(0.0, rng.uniform(0.0, 0.3), len(ratios)))
    levels = rng.uniform(0.1, 1.0, len(ratios))
    rings = []
    for _ in range(int(rng.integers(1, 5))):
        # The shorter it rings, the smaller it is: 0.15…0.7 kHz for bells, 1…5 kHz for forks.
        pitch_hz = rng.uniform(150.0, 700.0) * (3.0 / ring_s) ** 0.43
        sound = np.zeros(length, np.float32)
        for ratio, level in zip(ratios, levels, strict=True):
            hz = ratio * pitch_hz
            if hz < 0.45 * sample_rate:
                turns = np.float32(2.0 * np.pi * hz) * t + np.float32(2.0 * np.pi * rng.random())
                decay = np.exp(t * np.float32(-(ratio ** rng.uniform(0.2, 1.0)) / ring_s))
                sound += np.float32(level) * np.sin(turns) * decay
        rings.append(sound * np.minimum(t / np.float32(0.001), 1.0))
    gap_s = rng.uniform(0.3, 3.0) * max(0.1, min(1.0, ring_s))
    start = int(min(gap_s, 0.5 * n_samples / sample_rate) * rng.random() * sample_rate)
    while start < n_samples:
        ring = rings[int(rng.integers(len(rings)))][: n_samples - start]
        made[start : start + len(ring)] += np.float32(10.0 ** rng.normal(0.0, 0.2)) * ring
        start += 1 + int(gap_s * rng.uniform(0.6, 1.4) * sample_rate)
    return made


def calls(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Animals, hinges, brakes: short rough sounds with a gliding pitch, some in a row."""
    made = np.zeros(n_samples, np.float32)
    length = max(32, int(rng.uniform(0.08, 0.9) * sample_rate))
    place = np.linspace(0.0, 1.0, length, dtype=np.float32)
    low_hz = 10.0 ** rng.uniform(math.log10(80.0), math.log10(min(1500.0, 0.15 * sample_rate)))
    rough, gap_s = rng.uniform(0.0, 0.6), rng.exponential(0.6)
    glide = rng.uniform(-0.7, 0.7) * place + rng.uniform(-0.5, 0.5) * np.sin(np.pi * place)
    shape = np.sin(np.pi * place ** np.float32(rng.uniform(0.4, 1.5))) ** 2
    n_fft = fast_length(length)
    mouth = resonances(
        rng, frequencies_hz(n_fft, sample_rate), int(rng.integers(1, 4)), sample_rate
    )
    start = int(rng.uniform(0.0, 0.5) * n_samples)
    while start < n_samples:
        pitch_hz = low_hz * np.exp2(glide + rng.normal(0.0, 0.05)).astype(np.float32)
        voiced = at_level(tone(rng, pitch_hz, length, sample_rate), 0.0)
        sound = voiced + np.float32(rough) * rng.standard_normal(length, np.float32)
        sound = filtered(sound * shape, mouth, n_fft)[: n_samples - start]
        made[start : start + len(sound)] = sound
        start += length + int((0.05 + gap_s * rng.uniform(0.7, 1.3)) * sample_rate)
    return made


def music(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Notes of one scale one after another and together, plucked or held."""
    made = np.zeros(n_samples, np.float32)
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) + int(rng.integers(12))
    beat = max(1, int(rng.uniform(0.12, 0.6) * sample_rate))
    decay_s = rng.uniform(0.1, 1.5)
    for start in range(0, n_samples, beat):
        length = min(n_samples - start, int(beat * rng.integers(1, 5)))
        t = np.arange(length, dtype=np.float32) / np.float32(sample_rate)
        # 5 ms up: a sudden start would be a click more than a note.
        shape = np.minimum(t / np.float32(0.005), np.exp(-t / np.float32(decay_s)))
        for _ in range(int(rng.integers(start == 0, 4))):  # the first is no rest
            note = int(rng.choice(scale)) + 12 * int(rng.integers(-2, 2))
            pitch_hz = 261.6 * 2.0 ** (note / 12.0)  # from the C of 65 Hz up
            made[start : start + length] += shape * tone(rng, pitch_hz, length, sample_rate)
    return made


def wind(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """Gusts on a microphone: the lowest frequencies, in bursts of a second or so."""
    n_fft = fast_length(n_samples)
    hz = np.maximum(frequencies_hz(n_fft, sample_rate), np.float32(15.0))
    shape = low_pass(hz / np.float32(rng.uniform(60.0, 400.0)), int(rng.integers(1, 3)))
    rumble = filtered(rng.standard_normal(n_samples, np.float32), shape / np.sqrt(hz), n_fft)
    gusts_db = rng.uniform(4.0, 12.0) * drifting(rng, n_samples, sample_rate, rng.uniform(0.3, 3.0))
    return rumble * _factor(gusts_db)


SYNTHETIC: Sequence[Callable[[np.random.Generator, int, int], Float]] = (
    hum,
    coloured,
    fan,
    vacuum,
    clicks,
    bangs,
    beeps,
    siren,
    bells,
    calls,
    music,
    wind,
)
"""Noises made of nothing: ``(rng, n_samples, sample_rate)`` to (n_samples,) float32."""


def drifting(rng: np.random.Generator, n_samples: int, sample_rate: int, rate_hz: float) -> Float:
    """A smooth random curve of mean 0 and variance about 1: (n_samples,), ``rate_hz`` knots a s."""
    knots = rng.standard_normal(2 + math.ceil(n_samples * rate_hz / sample_rate))
    place = np.arange(n_samples) * (rate_hz / sample_rate)
    k = place.astype(np.int64)
    part = (0.5 - 0.5 * np.cos(np.pi * (place - k))).astype(np.float32)
    knots = knots.astype(np.float32)
    return knots[k] + part * (knots[k + 1] - knots[k])


def rumble(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Float:
    """What a microphone on a table hears under a voice: breath, steps, the building."""
    n_fft = fast_length(n_samples)
    hz = frequencies_hz(n_fft, sample_rate)
    shape = low_pass(hz / np.float32(rng.uniform(30.0, 90.0)), int(rng.integers(1, 5)))
    made = filtered(rng.standard_normal(n_samples, np.float32), shape, n_fft)
    return swelling(rng, made, sample_rate)


def swelling(rng: np.random.Generator, noise: Float, sample_rate: int) -> Float:
    """The noise coming nearer and going away: its level moves by some dB, slowly or quickly."""
    level_db = rng.uniform(2.0, 8.0) * drifting(
        rng, len(noise), sample_rate, 10.0 ** rng.uniform(-0.7, 1.0)
    )
    return noise * _factor(level_db)


def steady(noise: Float, sample_rate: int) -> bool:
    """Whether the level of a sound hardly varies: backwards it is another of its kind."""
    size = sample_rate // 20
    frames = noise[: len(noise) // size * size].reshape(-1, size)
    power = np.mean(np.square(frames), axis=1)
    return len(power) > 1 and bool(np.std(10.0 * np.log10(power + 1e-12)) < STEADY_DB)


def events(rng: np.random.Generator, noise: Float, sample_rate: int) -> Float:
    """Short pieces of a noise at random times and quiet between: handling, a passing car."""
    made = np.zeros(len(noise), np.float32)
    for _ in range(1 + rng.poisson(rng.uniform(0.2, 1.5) * len(noise) / sample_rate)):
        length = min(len(noise), int(10.0 ** rng.uniform(-1.3, 0.0) * sample_rate))
        start, onto = rng.integers(0, len(noise) - length + 1, 2)
        # Rises in a tenth of its length and then decays: e-folds over 1/3 of it.
        place = np.arange(length, dtype=np.float32) / np.float32(length)
        shape = np.minimum(10.0 * place, np.exp(-3.0 * place)) * np.minimum(1.0, 8.0 - 8.0 * place)
        piece = noise[start : start + length] * shape.astype(np.float32)
        if rms_db(piece) > -120.0:
            made[onto : onto + length] += at_level(piece, rng.normal(0.0, 4.0))
    return made


def resonances(
    rng: np.random.Generator, hz: Float, count: int, sample_rate: int
) -> NDArray[np.floating]:
    """Factors, 1 or more, of each frequency under some bells of random place, width, height."""
    shape = np.ones(len(hz), np.float32)
    if not count:
        return shape
    octaves = np.log2(np.maximum(hz, np.float32(20.0)))
    for _ in range(count):
        centre = np.log2(80.0 * (0.4 * sample_rate / 80.0) ** rng.random())
        width = rng.uniform(0.03, 0.4)  # standard deviation of the bell [octaves]
        bell = np.exp(-0.5 * np.square((octaves - np.float32(centre)) / np.float32(width)))
        shape *= np.float32(1.0) + np.float32(rng.uniform(0.5, 6.0)) * bell
    return shape


def _factor(level_db: Float) -> Float:
    return np.exp(level_db * np.float32(math.log(10.0) / 20.0))
