"""Speech and noise in, what a microphone would have heard and what it should have out.

Everything is drawn from the random generator handed in, so a seed gives the same
sound again. Not here: how noises, rooms and calls sound (``noises``, ``rooms``,
``degradations``), files (``recordings``), spectra and batches (``batches``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from engine.errors import TrainingError
from engine.stft import Float
from training.degradations import band_limited, coded, telephone, with_lost_packets
from training.noises import SYNTHETIC, coloured, events, resonances, rumble, steady, swelling
from training.recordings import Collection, Recording
from training.rooms import decaying_room, early_part, reverberation_s
from training.signals import (
    at_level,
    at_peak,
    convolved,
    fast_length,
    faster,
    filtered,
    frequencies_hz,
    rms_db,
    shelf,
)

# Frames whose level is this far under the active level count as pauses (ITU-T P.56).
PAUSE_DB = 15.9
LEVEL_FRAME_S = 0.02

# An excerpt so much quieter than its recording [dB] is a pause with the hiss of its
# microphone. Brought to the level of a voice, 3 of 100 excerpts of real recordings told
# the network that white noise is speech.
PAUSE_UNDER_DB = 15.0
_LEVEL_PIECES, _LEVEL_PIECE_S = 10, 2.0

FADE_S = 0.01


class Mixture(NamedTuple):
    """What the network hears, and what it should let through."""

    noisy: Float
    """(n_samples,) in [-1, 1]."""
    clean: Float
    """(n_samples,) the speech in ``noisy``, at its level, with early reflections only."""
    snr_db: float
    """Active speech level over noise RMS, before any call [dB]; ±inf without noise or speech."""


_ANY_DB = (-200.0, 200.0)

# Of what is no share. Gains of 0 and lengths under the shortest mute cannot be drawn.
_LIMITS = {
    **dict.fromkeys(("snr_db", "level_db", "rumble_db"), _ANY_DB),
    "longest_room_s": (0.0, math.inf),
    "speed": (0.1, 10.0),
    "equaliser_db": (1e-6, 200.0),
    "longest_mute_s": (0.02, 1e6),
    "voice_s": (1e-3, math.inf),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How wide the sound of the world is. Shares are probabilities of a clip."""

    snr_db: tuple[float, float, float] = (-10.0, 0.0, 30.0)
    """Lowest, most frequent and highest, triangular [dB]."""
    level_db: tuple[float, float] = (-45.0, -5.0)
    """Active speech level [dB re full scale]; less where peaks would exceed full scale."""
    clean: float = 0.3
    """Share with no noise at all, or one 30 to 50 dB down."""
    rumble: float = 0.5
    """Share of those whose voice has a rumble of its own, which stays. A network that had
    met it only as noise cut it out of clean recordings, which cost up to 7 dB."""
    rumble_db: tuple[float, float] = (-35.0, -8.0)
    """Its RMS level over the voice's [dB]."""
    noise_only: float = 0.05
    """Share without speech."""
    room: float = 0.3
    """Share heard in a room."""
    simulated_room: float = 0.75
    """Share of those rooms that is simulated."""
    longest_room_s: float = 0.8
    """Measured rooms with a longer reverberation time are left out [s]."""
    synthetic: float = 0.2
    """Share of noises that are hums, motors, clicks, tones, wind: made of nothing."""
    babble: float = 0.08
    """Share of noises that are several voices at once."""
    speed: tuple[float, float] = (0.88, 1.14)
    """Speech is played this much faster; noise over the square of it."""
    equaliser_db: float = 8.0
    """Largest boost or cut of a shelf [dB]."""
    no_lows: float = 0.1
    """Share of voices and noises that lost their lows to a small microphone."""
    resonant: float = 0.2
    """Share of noises that sound through something with resonances."""
    swelling: float = 0.15
    """Share of recorded noises whose level moves by some dB."""
    reversed: float = 0.3
    """Share of recorded noises, of those as steady as rain, that run backwards."""
    events: float = 0.1
    """Share of recorded noises of which only short pieces are heard, with quiet between."""
    noise_room: float = 0.1
    """Share of recorded noises that are heard in a simulated room."""
    clipped: float = 0.04
    """Share whose peaks are cut off."""
    band_limited: float = 0.1
    """Share without highs from 3.4…12 kHz on, below the model's own end; nor has its target."""
    telephone: float = 0.03
    """Share through G.711."""
    coded: float = 0.015
    """Share through a lossy codec (Opus, MP3, SBC, G.722, AMR): dear, twice a mixture's time."""
    lost_packets: float = 0.05
    """Share with gaps of 10…60 ms; so has its target."""
    muted: float = 0.4
    """Share with a stretch of digital silence, mostly at the start. Without it silence is
    heard in clean clips alone, and a network takes it for a promise that no noise will
    come: after a muted microphone it let rain through for 15 s."""
    longest_mute_s: float = 2.0
    """[s]"""
    voice_s: float = 600.0
    """No voice is drawn more often than if this much of it were there [s]."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = _LIMITS.get(name, (0.0, 1.0))
            numbers = list(value) if isinstance(value, tuple) else [value]
            if not all(low <= number <= high for number in numbers):  # False for NaN
                raise TrainingError(
                    f"mixing.{name} should be within {low:g}…{high:g}, found "
                    f"{numbers if isinstance(value, tuple) else value}"
                )
            if numbers != sorted(numbers) or (name == "snr_db" and numbers[0] == numbers[-1]):
                raise TrainingError(f"mixing.{name} should rise, found {numbers}")


def active_level_db(signal: Float, sample_rate: int) -> float:
    """RMS level over the parts that are not pauses.

    Frames of 20 ms less than 15.9 dB under the result count, found by iteration: ITU-T
    P.56 method B with frames in place of its envelope.

    Parameters
    ----------
    signal : (n_samples,)

    Returns
    -------
    [dB re an RMS of 1]; -inf for silence
    """
    size = max(1, round(LEVEL_FRAME_S * sample_rate))
    whole = signal[: max(1, len(signal) // size) * size].astype(np.float64)
    power = np.mean(np.square(whole.reshape(-1, min(size, len(whole)))), axis=1)
    active = power[power > 0.0]
    while len(active):
        kept = active[active > active.mean() * 10.0 ** (-PAUSE_DB / 10.0)]
        if len(kept) == len(active):
            return 10.0 * math.log10(active.mean())
        active = kept
    return -math.inf


def mix(speech: Float, noise: Float, snr_db: float, sample_rate: int) -> Float:
    """Add noise to speech at a signal-to-noise ratio.

    Parameters
    ----------
    speech, noise : (n_samples,) of the same length
    snr_db : active level of the speech over the RMS of the noise over the whole clip [dB]

    Returns
    -------
    (n_samples,) float32

    Raises
    ------
    ValueError : lengths differ, or one of the two is silent: an SNR would not exist
    """
    if speech.shape != noise.shape:
        raise ValueError(f"speech and noise differ in length: {speech.shape}, {noise.shape}")
    speech_db, noise_db = active_level_db(speech, sample_rate), rms_db(noise)
    if not (math.isfinite(speech_db) and math.isfinite(noise_db)):
        raise ValueError("speech or noise is silent")
    gain = 10.0 ** ((speech_db - noise_db - snr_db) / 20.0)
    return (speech + np.float32(gain) * noise).astype(np.float32)


class Mixer:
    """Draws mixtures from collections of speech, noise and rooms.

    Parameters
    ----------
    speech, noise : at one sample rate
    rooms : measured impulse responses at the same rate, or None for simulated rooms only
    simulated : impulse responses as ``rooms.bank`` gives them; without any, simulated rooms
        are decaying noise

    Raises
    ------
    ValueError : the rates differ
    """

    def __init__(
        self,
        speech: Collection,
        noise: Collection,
        rooms: Collection | None = None,
        recipe: Recipe | None = None,
        simulated: Sequence[Float] = (),
    ) -> None:
        self.sample_rate = speech.sample_rate
        self.recipe = recipe or Recipe()
        for other in (noise, rooms):
            if other is not None and other.sample_rate != self.sample_rate:
                raise ValueError(f"rates differ: {self.sample_rate} and {other.sample_rate} Hz")
        self._speech = speech.recordings
        self._chance = speech_chance(speech, self.recipe.voice_s)
        self._noise = noise.recordings
        self._levels_db: dict[int, float] = {}
        responses = [_as_float(r.samples[:]) for r in rooms.recordings] if rooms else []
        longest = self.recipe.longest_room_s
        self._rooms = [r for r in responses if reverberation_s(r, self.sample_rate) <= longest]
        self._simulated = simulated
        self.on_draw: Callable[[str, str], None] | None = None
        """Told the names of a speech and a noise recording that come together in a clip,
        once for each such pair. Synthetic noise and babble have no recording to name."""

    def draw(self, rng: np.random.Generator, n_samples: int) -> Mixture:
        """Draw one clip of ``n_samples``."""
        mixture = self._in_call(rng, self._draw(rng, n_samples))
        if rng.random() >= self.recipe.muted:
            return mixture
        start = 0 if rng.random() < 0.7 else int(rng.integers(n_samples))
        end = start + int(rng.uniform(0.02, self.recipe.longest_mute_s) * self.sample_rate)
        noisy, clean = mixture.noisy.copy(), mixture.clean.copy()
        noisy[start:end] = clean[start:end] = 0.0
        return Mixture(noisy, clean, mixture.snr_db)

    def _in_call(self, rng: np.random.Generator, mixture: Mixture) -> Mixture:
        """The mixture after a line, a codec, a radio link; as it is mostly."""
        heard, wanted = mixture.noisy, mixture.clean
        for share, happens in (
            (self.recipe.band_limited, band_limited),
            (self.recipe.telephone, telephone),
            (self.recipe.coded, coded),
            (self.recipe.lost_packets, with_lost_packets),
        ):
            if rng.random() < share:
                heard, wanted = happens(rng, heard, wanted, self.sample_rate)
        if heard is mixture.noisy:
            return mixture
        # Filters overshoot: what filled the scale would now exceed it.
        gain = np.float32(min(1.0, 0.99 / max(1e-9, float(np.abs(heard).max()))))
        return Mixture(gain * heard, gain * wanted, mixture.snr_db)

    def _draw(self, rng: np.random.Generator, n_samples: int) -> Mixture:
        recipe, rate = self.recipe, self.sample_rate
        kind = rng.random()
        voices: list[str] = []
        noises: list[str] = []
        noise = self._noises(rng, n_samples, noises)
        if kind < recipe.noise_only:
            heard = at_peak(at_level(noise, rng.uniform(-65.0, -20.0)))
            return Mixture(heard, np.zeros(n_samples, np.float32), -math.inf)
        speech = self.speech(rng, n_samples, voices)
        clean, reverberant = self._in_room(rng, speech)
        if active_level_db(speech, rate) < -2.0 * PAUSE_UNDER_DB:  # nothing but a pause
            heard = at_peak(at_level(noise, rng.uniform(-65.0, -20.0)))
            return Mixture(heard, np.zeros(n_samples, np.float32), -math.inf)
        speech_db = active_level_db(clean, rate)
        snr_db = rng.triangular(*recipe.snr_db)
        if kind < recipe.noise_only + recipe.clean:
            snr_db = math.inf if rng.random() < 0.5 else rng.uniform(30.0, 50.0)
            if rng.random() < recipe.rumble:
                level_db = speech_db + rng.uniform(*recipe.rumble_db)
                own = at_level(rumble(rng, n_samples, rate), level_db)
                clean, reverberant = clean + own, reverberant + own
        noisy = reverberant
        if math.isfinite(snr_db):
            # The ratio is to the clean target: late reflections are no speech to keep.
            noisy = reverberant + (mix(clean, noise, snr_db, rate) - clean)
            if self.on_draw is not None:
                for pair in product(dict.fromkeys(voices), dict.fromkeys(noises)):
                    self.on_draw(*pair)
        level_db = rng.uniform(*recipe.level_db)
        gain = min(10.0 ** ((level_db - speech_db) / 20.0), 0.99 / float(np.abs(noisy).max()))
        noisy, clean = np.float32(gain) * noisy, np.float32(gain) * clean
        if rng.random() < recipe.clipped:
            ceiling = np.float32(rng.uniform(0.3, 0.9) * np.abs(noisy).max())
            noisy = np.clip(noisy, -ceiling, ceiling)
        return Mixture(noisy, clean, snr_db)

    def speech(
        self, rng: np.random.Generator, n_samples: int, heard: list[str] | None = None
    ) -> Float:
        """Utterances of one or more voices with pauses between them, at about one level.

        The names of their recordings are added to ``heard``.
        """
        rate, made = self.sample_rate, np.zeros(n_samples, np.float32)
        position = int(rng.uniform(0.0, 1.0) * rate)
        while position < n_samples:
            k = int(np.searchsorted(self._chance, rng.random()))
            recording = self._speech[k]
            if heard is not None:
                heard.append(recording.name)
            part = _excerpt(rng, recording, int(rng.uniform(1.5, 8.0) * rate))
            part = faster(part, rng.uniform(*self.recipe.speed) if rng.random() < 0.5 else 1.0)
            level_db = active_level_db(part, rate)
            level_db = max(level_db, self._level_db(k) - PAUSE_UNDER_DB)
            if math.isfinite(level_db):
                part = part * np.float32(10.0 ** ((rng.normal(0.0, 2.0) - level_db) / 20.0))
                # Cut within a word, it would begin and end with a click that is wanted.
                fade = min(len(part) // 2, int(FADE_S * rate))
                ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
                part[:fade] *= ramp
                part[len(part) - fade :] *= ramp[::-1]
            room = min(len(part), n_samples - position)
            made[position : position + room] = part[:room]
            position += room + int(rng.exponential(0.3) * rate)
        return self._equalised(rng, made)

    def _level_db(self, k: int) -> float:
        """Active level of speech recording ``k``, from pieces all over it [dB]."""
        if k not in self._levels_db:
            samples, size = self._speech[k].samples, int(_LEVEL_PIECE_S * self.sample_rate)
            starts = range(0, len(samples), max(size, len(samples) // _LEVEL_PIECES))
            pieces = np.concatenate([samples[start : start + size] for start in starts])
            self._levels_db[k] = active_level_db(_as_float(pieces), self.sample_rate)
        return self._levels_db[k]

    def _noises(self, rng: np.random.Generator, n_samples: int, heard: list[str]) -> Float:
        """The sum of one to three noises, at an RMS of 1; never silent."""
        count = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        total = np.zeros(n_samples, np.float32)
        for _ in range(count):
            bells = int(rng.integers(1, 4)) if rng.random() < self.recipe.resonant else 0
            noise = self._equalised(rng, self._one_noise(rng, n_samples, heard), bells)
            if rng.random() < 0.15:  # it begins or ends within the clip
                edge = int(rng.uniform(0.0, 0.8) * n_samples)
                part = slice(None, edge) if rng.random() < 0.7 else slice(n_samples - edge, None)
                noise[part] *= np.float32(rng.choice([0.0, 0.1]))
            if rms_db(noise) > -120.0:
                total += at_level(noise, rng.uniform(-10.0, 0.0))
        if not total.any():
            total = coloured(rng, n_samples, self.sample_rate)
        return at_level(total, 0.0)

    def _one_noise(self, rng: np.random.Generator, n_samples: int, heard: list[str]) -> Float:
        kind = rng.random()
        if kind < self.recipe.synthetic:
            make = SYNTHETIC[int(rng.integers(len(SYNTHETIC)))]
            return make(rng, n_samples, self.sample_rate)
        if kind < self.recipe.synthetic + self.recipe.babble:
            voices = (self.speech(rng, n_samples) for _ in range(int(rng.integers(4, 9))))
            return np.sum(list(voices), axis=0)
        recording = self._noise[int(rng.integers(len(self._noise)))]
        heard.append(recording.name)
        low, high = self.recipe.speed
        speed = rng.uniform(low**2, high**2) if rng.random() < 0.5 else 1.0
        made = np.zeros(n_samples, np.float32)
        position = 0
        while position < n_samples:
            part = _excerpt(rng, recording, int((n_samples - position) * speed) + 1)
            part = faster(part, speed)
            room = min(len(part), n_samples - position)
            made[position : position + room] = part[:room]
            # Events come again after a while; what lasts goes on.
            event = len(recording.samples) < 2 * self.sample_rate
            position += room + (int(rng.exponential(0.5) * self.sample_rate) if event else 0)
        return self._widened(rng, made)

    def _widened(self, rng: np.random.Generator, noise: Float) -> Float:
        """Another noise of the same kind: few recordings must stand for many."""
        recipe, rate = self.recipe, self.sample_rate
        if rng.random() < recipe.reversed and steady(noise, rate):
            noise = noise[::-1]
        if rng.random() < recipe.events:
            noise = events(rng, noise, rate)
        elif rng.random() < recipe.swelling:
            noise = swelling(rng, noise, rate)
        if rng.random() < recipe.noise_room:
            noise = convolved(noise, self._simulated_room(rng))[0]
        return noise

    def _in_room(self, rng: np.random.Generator, speech: Float) -> tuple[Float, Float]:
        """Speech with early reflections, and with all of them."""
        if rng.random() >= self.recipe.room:
            return speech, speech
        if not self._rooms or rng.random() < self.recipe.simulated_room:
            response = self._simulated_room(rng)
        else:
            response = self._rooms[int(rng.integers(len(self._rooms)))]
        early, whole = convolved(speech, early_part(response, self.sample_rate), response)
        return early, whole

    def _simulated_room(self, rng: np.random.Generator) -> Float:
        if not self._simulated:
            return decaying_room(rng, self.sample_rate)
        return self._simulated[int(rng.integers(len(self._simulated)))]

    def _equalised(self, rng: np.random.Generator, signal: Float, bells: int = 0) -> Float:
        """Shelves at random corners, some resonances, and now and then no lows."""
        most = self.recipe.equaliser_db
        low_hz, high_hz = rng.uniform(80.0, 500.0), rng.uniform(1000.0, 3000.0)
        low_db, high_db = rng.triangular(-most, 0.0, most, 2)
        n_fft = fast_length(len(signal))
        hz = frequencies_hz(n_fft, self.sample_rate)
        response = shelf(low_hz / np.maximum(hz, 1.0), low_db) * shelf(hz / high_hz, high_db)
        if bells:
            response *= resonances(rng, hz, bells, self.sample_rate)
        if rng.random() < self.recipe.no_lows:
            ratio = (hz / np.float32(rng.uniform(100.0, 350.0))) ** 4
            response *= np.sqrt(ratio / (1.0 + ratio))  # Butterworth, second order
        return filtered(signal, response, n_fft)


def speech_chance(speech: Collection, voice_s: float) -> np.ndarray:
    """Cumulated chance of each recording: by length, but no voice above ``voice_s``."""
    lengths = np.array([len(r.samples) for r in speech.recordings], np.float64)
    voices, index = np.unique([r.source for r in speech.recordings], return_inverse=True)
    of_voice = np.bincount(index, lengths, len(voices))
    most = voice_s * speech.sample_rate
    weights = lengths * np.minimum(1.0, most / of_voice)[index]
    chance = np.cumsum(weights / weights.sum())
    chance[-1] = 1.0  # rounding must not leave a gap above the last one
    return chance


def _excerpt(rng: np.random.Generator, recording: Recording, n_samples: int) -> Float:
    """Up to ``n_samples`` of a recording from a random place."""
    start = int(rng.integers(0, max(1, len(recording.samples) - n_samples + 1)))
    return _as_float(recording.samples[start : start + n_samples])


def _as_float(samples: np.ndarray) -> Float:
    return samples.astype(np.float32) / np.float32(32768.0)
