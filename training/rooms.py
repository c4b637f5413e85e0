"""Rooms that a voice is heard in: impulse responses, simulated or cut from measured ones.

Simulation takes far longer than mixing, so a bank of rooms is made once and kept. Not
here: which rooms are drawn (``mixing``), reading measured ones (``recordings``).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from acquisition.workers import end_with_parent
from engine.stft import Float
from training.files import replacing

log = logging.getLogger("training")

EARLY_S = 0.05
"""Reflections up to here support a voice; later ones are what a room adds (ISO 3382: C50)."""

# A bank made by other rules must not be taken for this one's.
_RULES = 1

# Image sources give the early reflections exactly; rays the many late ones. 0.1 s of
# processor time a room, against 0.04 s and a decay cut off early with order 30 alone.
_IMAGE_ORDER = 6
_RAYS = 4000

# What comes before the direct sound is half of the simulation's interpolation filter.
_BEFORE_S = 0.001


def of_side(sample_rate: int, cache: Path, n_rooms: int, side: int) -> list[Float]:
    """The ``bank`` of one side of a split: 0 is learnt from, the others need a tenth of it.

    Each side has a seed of its own, so that no room of one is on another.
    """
    n = n_rooms if side == 0 else -(-n_rooms // 10)
    return bank(sample_rate, cache, n, seed=side) if n else []


def bank(
    sample_rate: int, cache: Path, n_rooms: int = 200, seed: int = 0, workers: int = 0
) -> list[Float]:
    """Simulate rooms, or take those that an earlier call kept.

    Parameters
    ----------
    sample_rate : of the responses [Hz]
    cache : folder; one file of responses is written there
    n_rooms, seed : room k of a seed is the same, however many are made
    workers : processes that simulate; 0 means one per core

    Returns
    -------
    ``n_rooms`` of (n_samples,) float32, the direct sound 1 ms after the start and 1. Where
    pyroomacoustics is not installed they follow Polack's model, and are not kept.
    """
    if importlib.util.find_spec("pyroomacoustics") is None:
        log.warning("pyroomacoustics is not installed: rooms are decaying noise instead")
        return decaying_rooms(sample_rate, n_rooms, seed)
    path = cache / f"rooms-{sample_rate}-{n_rooms}-{seed}-{_RULES}.npz"
    try:
        # Opened here: of a file that is cut off, numpy would leave the handle open.
        with path.open("rb") as kept_file, np.load(kept_file) as kept:
            return [kept[f"arr_{k}"] for k in range(n_rooms)]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        log.info("simulating %d rooms", n_rooms)
    workers = min(workers or os.cpu_count() or 1, n_rooms)
    # Fresh processes: a fork of one in which TensorFlow runs may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        made = list(pool.map(partial(shoebox, sample_rate, seed), range(n_rooms), chunksize=8))
    cache.mkdir(parents=True, exist_ok=True)
    with replacing(path, shared=True) as part, part.open("wb") as file:
        np.savez(file, *made)
    return made


def shoebox(sample_rate: int, seed: int, k: int) -> Float:
    """Room ``k`` of a seed: a box of drawn size, walls, and places of speaker and microphone.

    2.2 × 2 × 2.2 m to 9 × 7 × 3.5 m, reverberation time about 0.12…0.8 s (Sabine), less
    of it in the highs; speaker 0.15…3 m from the microphone, nearer mostly. Image sources
    and, for what is late, rays (pyroomacoustics; Scheibler et al. 2018).

    Returns
    -------
    (n_samples,) float32, direct sound at 1 ms and 1, up to where −60 dB of the energy is left
    """
    import pyroomacoustics as pra

    rng = np.random.default_rng([seed, k])
    size_m = rng.uniform([2.2, 2.0, 2.2], [9.0, 7.0, 3.5])
    volume, surface = size_m.prod(), 2.0 * (size_m.prod() / size_m).sum()
    sabine = 0.161 * volume / (surface * rng.uniform(0.12, 0.8))
    bands_hz = np.array([125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0])
    tilt = (bands_hz / 500.0) ** rng.uniform(0.0, 0.35)
    absorption = {
        "coeffs": np.clip(sabine * tilt, 0.03, 0.9).tolist(),
        "center_freqs": bands_hz.tolist(),
    }
    scattering = rng.uniform(0.05, 0.3)
    pra.random.seed(int(rng.integers(2**31)))  # of the rays, per process
    room = pra.ShoeBox(
        size_m,
        fs=sample_rate,
        materials=pra.Material(absorption, scattering),
        max_order=_IMAGE_ORDER,
        ray_tracing=True,
        air_absorption=True,
    )
    room.set_ray_tracing(n_rays=_RAYS, receiver_radius=0.5, time_thres=1.2)
    microphone = rng.uniform([0.3, 0.3, 0.6], size_m - [0.3, 0.3, 0.6])
    direction = rng.standard_normal(3) * [1.0, 1.0, 0.3]
    distance_m = 0.15 * 20.0 ** (rng.random() ** 1.5)
    voice = microphone + distance_m * direction / np.linalg.norm(direction)
    voice = np.clip(voice, [0.2, 0.2, 0.3], size_m - [0.2, 0.2, 0.3])
    if np.linalg.norm(voice - microphone) < 0.1:  # pushed into it by a wall
        voice = size_m / 2.0
    room.add_source(voice)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], np.float64)
    delay_s = np.linalg.norm(voice - microphone) / room.c
    direct = round(delay_s * sample_rate) + pra.constants.get("frac_delay_length") // 2
    return _trimmed(response, direct, sample_rate)


def _trimmed(response: np.ndarray, direct: int, sample_rate: int) -> Float:
    """From just before the direct sound to where nothing is left, the direct sound at 1."""
    near = slice(max(0, direct - 2), direct + 3)
    peak = near.start + int(np.argmax(np.abs(response[near])))
    heard = response[max(0, peak - int(_BEFORE_S * sample_rate)) :] / response[peak]
    energy = np.cumsum(np.square(heard[::-1]))[::-1]
    end = int(np.argmax(energy < 1e-6 * energy[0])) or len(heard)
    return heard[:end].astype(np.float32)


def decaying_room(rng: np.random.Generator, sample_rate: int) -> Float:
    """A direct sound and exponentially decaying noise (Polack 1988): quick, without shape.

    Reverberation time 0.1…0.7 s, direct to reverberant energy −2…15 dB.
    """
    time_s = rng.uniform(0.1, 0.7)
    n_samples = int(time_s * sample_rate)
    t = np.arange(n_samples) / sample_rate
    tail = rng.standard_normal(n_samples) * 10.0 ** (-3.0 * t / time_s)
    tail[: int(rng.uniform(0.001, 0.008) * sample_rate) + 1] = 0.0
    tail *= 10.0 ** (-rng.uniform(-2.0, 15.0) / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail.astype(np.float32)


def decaying_rooms(sample_rate: int, n_rooms: int, seed: int) -> list[Float]:
    """Some of them; room k of a seed is the same, however many are made."""
    return [decaying_room(np.random.default_rng([seed, k]), sample_rate) for k in range(n_rooms)]


def reverberation_s(response: Float, sample_rate: int) -> float:
    """T20 of an impulse response: three times its decay from −5 to −25 dB [s].

    By backward integration (Schroeder 1965).
    """
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    level_db = 10.0 * np.log10(np.maximum(energy / energy[0], 1e-12))
    return 3.0 * float(np.argmax(level_db < -25.0) - np.argmax(level_db < -5.0)) / sample_rate


def early_part(response: Float, sample_rate: int) -> Float:
    """A response up to ``EARLY_S`` after its direct sound, faded out over the last fifth."""
    end = int(np.argmax(np.abs(response))) + int(EARLY_S * sample_rate)
    early = response[:end].copy()
    fade = min(len(early), int(EARLY_S * sample_rate) // 5)
    early[len(early) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return early
