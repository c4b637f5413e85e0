"""Mixtures drawn on a graphics card, all clips of a batch at once, by PyTorch.

A card learns from a batch in less time than two processors need to mix one clip of it. The same
``Recipe`` is drawn from as in ``mixing``, whose words hold here too; lossy codecs are left out,
events keep their place in a noise, and synthetic noises come from a bank that is made once. Not
here: what learns from it (Keras on PyTorch: ``KERAS_BACKEND=torch``), files (``recordings``).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import count
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch

from acquisition.workers import end_with_parent
from engine.spec import ModelSpec
from engine.stft import Float, advance, least_product, synthesis_window, window
from training.batches import FAINT_DB, VOICE_DB, Batch
from training.degradations import BANDS_HZ, NARROWER, orders
from training.mixing import FADE_S, LEVEL_FRAME_S, PAUSE_DB, PAUSE_UNDER_DB, Recipe, speech_chance
from training.noises import STEADY_DB, SYNTHETIC
from training.recordings import Collection, Recording
from training.records import Pair
from training.rooms import early_part, reverberation_s
from training.signals import fast_length

_SENTENCES = 6
"""Utterances of a clip at most; the last is followed by silence."""
_SYNTHETIC, _SYNTHETIC_S = 1500, 6.0
"""Synthetic noises in the bank, and their length [s]."""
_TAPS, _PHASES = 10, 512
"""Of the filter that plays sound at another speed."""
_GAPS, _EVENTS = 8, 6
"""Lost packets and events of a clip at most."""
_ROUNDS = 8
"""Of the search for an active level; most end after three."""


torch.set_float32_matmul_precision("high")
# The command line allows libraries one thread, for the sake of live sound, which is not here.
torch.set_num_threads(len(os.sched_getaffinity(0)))


def device() -> torch.device:
    """The card, or the processors where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_tiles() -> bool:
    """Whether processors multiply matrices of rounded numbers by themselves, ten times as fast."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


class Pool:
    """All samples of some recordings on the device, one after the other.

    ``pool.play(place)`` reads sound at any places, between samples too, so at any speed.
    """

    def __init__(self, recordings: Sequence[Recording], sample_rate: int) -> None:
        self.frame = max(1, round(LEVEL_FRAME_S * sample_rate))
        self.names = [r.name for r in recordings]
        lengths = np.array([len(r.samples) for r in recordings], np.int64)
        # Each begins with a frame of its own, so that levels are of one recording alone.
        room = -(-lengths // self.frame) * self.frame
        starts = np.concatenate([[0], np.cumsum(room)[:-1]])
        whole = torch.zeros(int(room.sum()) + self.frame, dtype=torch.int16)
        for start, recording in zip(starts, recordings, strict=True):
            samples = np.array(recording.samples[:], np.int16)
            whole[start : start + len(samples)] = torch.from_numpy(samples)
        self.samples = whole.to(device())
        self.starts, self.lengths = starts, lengths
        self.power = _frame_power(self.samples, self.frame)
        self.filter = _sinc_table().to(device())
        self.levels_db, self.steady = self._levels(starts // self.frame, room // self.frame)

    def _levels(self, firsts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Active level of each recording [dB], and which of them hardly vary."""
        power = self.power.cpu().numpy()
        levels, steady = [], []
        for first, n in zip(firsts, counts, strict=True):
            frames = torch.from_numpy(power[first : first + n][None])
            levels.append(float(active_level_db(frames)[0]))
            in_db = 10.0 * np.log10(power[first : first + n] + 1e-12)
            steady.append(bool(np.std(in_db) < STEADY_DB))
        return np.array(levels), np.array(steady)

    def play(self, place: torch.Tensor) -> torch.Tensor:
        """Sound at places (…) float64 [samples from the start of the pool]: float32."""
        if place.is_cuda:
            from training import card_kernels

            return card_kernels.play(self.samples, place, self.filter)
        base = place.floor()
        phase = ((place - base) * _PHASES).round().long()
        base = base.long() - (_TAPS // 2 - 1)
        made = torch.zeros(place.shape, device=place.device)
        last = len(self.samples) - 1
        for k in range(_TAPS):
            sample = self.samples[(base + k).clamp_(0, last)]
            made.addcmul_(self.filter[k][phase], sample.float())
        return made.mul_(1.0 / 32768.0)


class Sources(NamedTuple):
    """What the clips of a batch are mixed from."""

    clean: torch.Tensor
    """(n_clips, n_samples): speech with early reflections."""
    reverberant: torch.Tensor
    """The same with all of them."""
    noise: torch.Tensor
    """The same size, at an RMS of 1."""
    silent: torch.Tensor
    """(n_clips,): where there is no speech to speak of."""
    voices: list[set[str]]
    """Recordings of each clip's speech."""
    noises: list[set[str]]
    """Recordings of each clip's noise."""


class Met(NamedTuple):
    """Which recordings were heard together: asked later, since an answer waits for the card."""

    sources: Sources
    turn: int
    has_noise: np.ndarray
    silent: torch.Tensor

    def pairs(self) -> list[Pair]:
        """Names of speech and of noise."""
        both = np.flatnonzero(self.has_noise & ~self.silent.cpu().numpy())
        voices, noises = self.sources.voices, self.sources.noises
        return [(a, b) for k in both for a in voices[k] for b in noises[k - self.turn]]


class CardMixer:
    """Draws batches from collections of speech, noise and rooms: as ``mixing.Mixer`` does.

    Parameters
    ----------
    speech, noise, rooms, recipe, simulated : as there, but none is simulated where none is given
    n_clips, n_samples : size of a batch
    echo : how often voices and noises of a batch are put together, at most
    """

    def __init__(
        self,
        speech: Collection,
        noise: Collection,
        rooms: Collection | None,
        recipe: Recipe,
        simulated: Sequence[Float],
        n_clips: int,
        n_samples: int,
        echo: int = 1,
    ) -> None:
        self.sample_rate, self.recipe, self.echo = speech.sample_rate, recipe, echo
        self.n_clips, self.n_samples = n_clips, n_samples
        self._speech = Pool(speech.recordings, self.sample_rate)
        self._chance = speech_chance(speech, recipe.voice_s)
        self._n_recorded = len(noise.recordings)
        made = synthetic_bank(self.sample_rate) if recipe.synthetic else ()
        self._noise = Pool((*noise.recordings, *made), self.sample_rate)
        measured = (
            [r.samples[:].astype(np.float32) / 32768.0 for r in rooms.recordings] if rooms else []
        )
        short = [
            r for r in measured if reverberation_s(r, self.sample_rate) <= recipe.longest_room_s
        ]
        self._n_simulated = len(simulated)
        longest = max((len(r) for r in (*simulated, *short)), default=1)
        self.n_fft = fast_length(n_samples + longest)
        self.hz = torch.fft.rfftfreq(self.n_fft, 1.0 / self.sample_rate, device=device())
        # The first is no room at all.
        responses = [np.ones(1, np.float32), *simulated, *short]
        self._whole = self._spectra(responses)
        self._early = self._spectra(
            [r if len(r) == 1 else early_part(r, self.sample_rate) for r in responses]
        )
        self.t = torch.arange(n_samples, device=device())

    def _spectra(self, responses: Sequence[Float]) -> torch.Tensor:
        return torch.stack(
            [
                torch.fft.rfft(torch.from_numpy(np.ascontiguousarray(r)).to(device()), self.n_fft)
                for r in responses
            ]
        )

    def draw(self, seed: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, Met]:
        """Noisy and clean clips (n_clips, n_samples), and which recordings met in them."""
        return self.mix(self.sources(seed), seed)

    def sources(self, seed: Sequence[int]) -> Sources:
        """Voices and noises of a batch, which ``mix`` may put together more than once."""
        rng, card = _generators(seed)
        speech, voices = self._sentences(rng)
        noise, noises = self._noises(rng, card, speech)
        spectrum = self._rfft(speech) * self._equaliser(rng, self.n_clips)
        room = self._drawn_rooms(rng, self.n_clips)
        clean = self._irfft(spectrum * self._early[room])
        reverberant = self._irfft(spectrum * self._whole[room])
        # Nothing but a pause counts as no speech at all.
        silent = self.level_db(speech) < -2.0 * PAUSE_UNDER_DB
        return Sources(clean, reverberant, noise, silent, voices, noises)

    def mix(
        self, sources: Sources, seed: Sequence[int], turn: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, Met]:
        """Clips as of ``draw``, each voice with the noise that lies ``turn`` clips before it."""
        rng, card = _generators([*seed, 1 + turn])
        recipe, n = self.recipe, self.n_clips
        clean, reverberant, noise = sources.clean, sources.reverberant, sources.noise.roll(turn, 0)
        kind = rng.random(n)
        speech_db = self.level_db(clean)
        silent = _on(kind < recipe.noise_only) | sources.silent
        is_clean = (kind >= recipe.noise_only) & (kind < recipe.noise_only + recipe.clean)
        nearly = np.where(rng.random(n) < 0.5, np.inf, rng.uniform(30.0, 50.0, n))
        snr_db = np.where(is_clean, nearly, rng.triangular(*recipe.snr_db, n))
        rumbling = np.flatnonzero(is_clean & (rng.random(n) < recipe.rumble))
        if len(rumbling):
            rows = _on(rumbling, torch.int64)
            own_db = speech_db[rows] + _on(rng.uniform(*recipe.rumble_db, len(rumbling)))
            own = self._rumble(rng, card, len(rumbling)) * _factor(own_db)[:, None]
            clean, reverberant = (s.index_add(0, rows, own) for s in (clean, reverberant))
        noisy = reverberant + _factor(speech_db - _on(snr_db))[:, None] * noise
        level_db = _on(rng.uniform(*recipe.level_db, n))
        alone_db = _on(rng.uniform(-65.0, -20.0, n))
        noisy = torch.where(silent[:, None], _factor(alone_db)[:, None] * noise, noisy)
        clean = clean * ~silent[:, None]
        gain = torch.where(silent, torch.ones_like(level_db), _factor(level_db - speech_db))
        gain = torch.minimum(gain, 0.99 / _peak(noisy))[:, None]
        noisy, clean = gain * noisy, gain * clean
        ceiling = _peak(noisy) * _on(
            np.where(rng.random(n) < recipe.clipped, rng.uniform(0.3, 0.9, n), 1.0)
        )
        noisy = torch.maximum(torch.minimum(noisy, ceiling[:, None]), -ceiling[:, None])
        noisy, clean = self._in_call(rng, noisy, clean)
        return noisy, clean, Met(sources, turn, np.isfinite(snr_db), silent)

    def level_db(self, sound: torch.Tensor) -> torch.Tensor:
        """Active level of each clip [dB]: (n,); −inf for silence."""
        return active_level_db(_frame_power(sound, self._speech.frame))

    def _sentences(self, rng: np.random.Generator) -> tuple[torch.Tensor, list[set[str]]]:
        """Utterances with pauses between them, at about one level, before any equaliser."""
        recipe, rate, pool = self.recipe, self.sample_rate, self._speech
        size = self.n_clips, _SENTENCES
        k = np.minimum(np.searchsorted(self._chance, rng.random(size)), len(pool.names) - 1)
        speed = np.where(rng.random(size) < 0.5, rng.uniform(*recipe.speed, size), 1.0)
        heard = np.minimum((rng.uniform(1.5, 8.0, size) * rate).astype(np.int64), pool.lengths[k])
        inside = np.floor(rng.random(size) * np.maximum(1, pool.lengths[k] - heard + 1))
        n = np.floor(heard / speed)
        pause = (rng.exponential(0.3, size) * rate).astype(np.int64)
        first = (rng.uniform(0.0, 1.0, self.n_clips) * rate).astype(np.int64)[:, None]
        place = np.concatenate([first, first + np.cumsum(n + pause, axis=1)[:, :-1]], axis=1)
        start = pool.starts[k] + inside
        used = np.clip(self.n_samples - place, 0, n)
        level_db = self._excerpts_db(start, used * speed)
        floor_db = _on(pool.levels_db[k] - PAUSE_UNDER_DB)
        wanted_db = _on(rng.normal(0.0, 2.0, size))
        level_db = torch.maximum(level_db, floor_db)
        gain = torch.where(
            torch.isfinite(level_db), _factor(wanted_db - level_db), torch.ones_like(level_db)
        )
        now = torch.zeros((self.n_clips, self.n_samples), dtype=torch.int64, device=device())
        places = _on(place, torch.int64)
        for j in range(1, _SENTENCES):
            now += self.t >= places[:, j : j + 1]
        since = self.t - places.gather(1, now)
        length = _on(n, torch.int64).gather(1, now)
        inside_it = (since >= 0) & (since < length)
        at = _on(start, torch.float64).gather(1, now) + since * _on(speed, torch.float64).gather(
            1, now
        )
        fade = max(1, int(FADE_S * rate))
        edge = torch.minimum(since + 1, length - since).clamp_(0, fade).float() / fade
        sound = pool.play(at) * gain.float().gather(1, now) * edge * inside_it
        names = [
            {pool.names[i] for i, u in zip(row, of_row, strict=True) if u > 0}
            for row, of_row in zip(k, used, strict=True)
        ]
        return sound, names

    def _excerpts_db(self, start: np.ndarray, n: np.ndarray) -> torch.Tensor:
        """Active level of excerpts of the pool [dB]."""
        pool = self._speech
        frames = math.ceil(self.n_samples * self.recipe.speed[1] / pool.frame) + 1
        first = _on(start // pool.frame, torch.int64)[..., None]
        index = torch.arange(frames, device=device())
        power = pool.power[(first + index).clamp_(0, len(pool.power) - 1)]
        return active_level_db(power * (index < _on(n / pool.frame)[..., None]))

    def _noises(
        self, rng: np.random.Generator, card: torch.Generator, speech: torch.Tensor
    ) -> tuple[torch.Tensor, list[set[str]]]:
        """One to three noises of each clip together, at an RMS of 1."""
        recipe, rate, pool, n_clips = self.recipe, self.sample_rate, self._noise, self.n_clips
        counts = rng.choice([1, 2, 3], n_clips, p=[0.6, 0.3, 0.1])
        clip = np.repeat(np.arange(n_clips), counts)
        n = len(clip)
        kind = rng.random(n)
        is_made = kind < recipe.synthetic
        is_babble = ~is_made & (kind < recipe.synthetic + recipe.babble)
        recorded = rng.integers(self._n_recorded, size=n)
        n_made = len(pool.names) - self._n_recorded
        made = self._n_recorded + rng.integers(max(1, n_made), size=n)
        k = np.where(is_made & (n_made > 0), made, recorded)
        low, high = recipe.speed
        speed = np.where(rng.random(n) < 0.5, rng.uniform(low**2, high**2, n), 1.0)
        length = pool.lengths[k]
        event = length < 2 * rate
        period = length + np.where(event, (rng.exponential(0.5, n) * rate).astype(np.int64), 0)
        start = rng.random(n) * period
        place = torch.remainder(
            _on(start, torch.float64)[:, None] + self.t * _on(speed, torch.float64)[:, None],
            _on(period, torch.float64)[:, None],
        )
        sounds = place < _on(length, torch.float64)[:, None]
        back = _on((rng.random(n) < recipe.reversed) & pool.steady[k])[:, None]
        place = torch.where(back, _on(length - 1.0, torch.float64)[:, None] - place, place)
        place = place.clamp_(min=0.0)
        noise = pool.play(_on(pool.starts[k], torch.float64)[:, None] + place) * sounds
        if is_babble.any():
            noise[_on(np.flatnonzero(is_babble), torch.int64)] = self._babble(
                rng, clip[is_babble], speech
            )
        noise = noise * self._widening(rng, card, ~is_made & ~is_babble, noise)
        spectrum = self._rfft(noise) * self._equaliser(rng, n, recipe.resonant)
        in_room = (rng.random(n) < recipe.noise_room) & (self._n_simulated > 0)
        room = np.where(in_room, 1 + rng.integers(max(1, self._n_simulated), size=n), 0)
        noise = self._irfft(spectrum * self._whole[_on(room, torch.int64)])
        del spectrum
        # It begins or ends within the clip.
        edge = _on(rng.uniform(0.0, 0.8, n) * self.n_samples)[:, None]
        first = _on(rng.random(n) < 0.7)[:, None]
        low_part = torch.where(first, self.t < edge, self.t >= self.n_samples - edge)
        low_part &= _on(rng.random(n) < 0.15)[:, None]
        noise = noise * torch.where(low_part, _on(rng.choice([0.0, 0.1], n))[:, None], 1.0).float()
        level = noise.square().mean(dim=1, keepdim=True).sqrt()
        wanted = _factor(_on(rng.uniform(-10.0, 0.0, n)))[:, None]
        noise = torch.where(level > 1e-6, noise / level.clamp(min=1e-6) * wanted, 0.0)
        total = torch.zeros((n_clips, self.n_samples), device=device())
        total.index_add_(0, _on(clip, torch.int64), noise)
        level = total.square().mean(dim=1, keepdim=True).sqrt()
        hiss = torch.randn(total.shape, device=device(), generator=card)
        total = torch.where(level > 1e-6, total / level.clamp(min=1e-6), hiss)
        names: list[set[str]] = [set() for _ in range(n_clips)]
        for c, i, synthetic in zip(clip, k, is_made | is_babble, strict=True):
            if not synthetic:
                names[c].add(pool.names[i])
        return total, names

    def _babble(
        self, rng: np.random.Generator, clip: np.ndarray, speech: torch.Tensor
    ) -> torch.Tensor:
        """Four to eight voices together, none of a clip that will hear them."""
        chosen = np.zeros((len(clip), self.n_clips), np.float32)
        others = max(1, self.n_clips - self.echo)
        for row, own in zip(chosen, clip, strict=True):
            voices = rng.choice(others, min(others, int(rng.integers(4, 9))), replace=False)
            row[(own + self.echo + voices) % self.n_clips] = 1.0
        return _on(chosen) @ speech

    def _widening(
        self,
        rng: np.random.Generator,
        card: torch.Generator,
        recorded: np.ndarray,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """A factor over time: pieces with quiet between them, or a level that moves."""
        n, rate = len(recorded), self.sample_rate
        draw = rng.random(n)
        has_events = recorded & (draw < self.recipe.events)
        swells = recorded & ~has_events & (draw < self.recipe.events + self.recipe.swelling)
        factor = torch.ones((n, self.n_samples), device=device())
        if has_events.any():
            m = int(has_events.sum())
            density = rng.uniform(0.2, 1.5, (m, 1)) * self.n_samples / rate
            there = np.arange(_EVENTS) <= rng.poisson(density)
            length = 10.0 ** rng.uniform(-1.3, 0.0, (m, _EVENTS)) * rate
            begin = rng.random((m, _EVENTS)) * self.n_samples
            loud = np.where(there, 10.0 ** (rng.normal(0.0, 4.0, (m, _EVENTS)) / 20.0), 0.0)
            shape = torch.zeros((m, self.n_samples), device=device())
            for j in range(_EVENTS):
                place = (self.t - _on(begin[:, j : j + 1])) / _on(length[:, j : j + 1])
                rise = torch.minimum(10.0 * place, torch.exp(-3.0 * place))
                rise = rise * (8.0 - 8.0 * place).clamp(max=1.0)
                inside = (place >= 0.0) & (place < 1.0)
                shape = torch.maximum(shape, rise * inside * _on(loud[:, j : j + 1]))
            factor[_on(np.flatnonzero(has_events), torch.int64)] = shape
        if swells.any():
            m = int(swells.sum())
            level_db = _on(rng.uniform(2.0, 8.0, (m, 1))) * self._drift(
                card, m, 10.0 ** rng.uniform(-0.7, 1.0, m)
            )
            factor[_on(np.flatnonzero(swells), torch.int64)] = _factor(level_db)
        return factor

    def _drift(self, card: torch.Generator, n: int, rate_hz: np.ndarray) -> torch.Tensor:
        """Smooth random curves of mean 0 and variance about 1: (n, n_samples)."""
        most = 2 + math.ceil(self.n_samples * float(rate_hz.max()) / self.sample_rate)
        knots = torch.randn((n, most), device=device(), generator=card)
        place = self.t * _on(rate_hz)[:, None] / self.sample_rate
        k = place.long().clamp_(0, most - 2)
        part = 0.5 - 0.5 * torch.cos(math.pi * (place - k))
        here, there = knots.gather(1, k), knots.gather(1, k + 1)
        return here + part * (there - here)

    def _rumble(self, rng: np.random.Generator, card: torch.Generator, n: int) -> torch.Tensor:
        """What a microphone on a table hears under a voice, at an RMS of 1."""
        corner, order = (
            _on(rng.uniform(30.0, 90.0, n))[:, None],
            _on(rng.integers(1, 5, n))[:, None],
        )
        hiss = torch.randn((n, self.n_samples), device=device(), generator=card)
        made = self._irfft(self._rfft(hiss) * _low_pass(self.hz / corner, order))
        made = made * _factor(
            _on(rng.uniform(2.0, 8.0, (n, 1)))
            * self._drift(card, n, 10.0 ** rng.uniform(-0.7, 1.0, n))
        )
        return made / made.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-9)

    def _drawn_rooms(self, rng: np.random.Generator, n: int) -> torch.Tensor:
        n_measured = len(self._whole) - 1 - self._n_simulated
        simulated = (rng.random(n) < self.recipe.simulated_room) | (n_measured == 0)
        chosen = np.where(
            simulated & (self._n_simulated > 0),
            1 + rng.integers(max(1, self._n_simulated), size=n),
            1 + self._n_simulated + rng.integers(max(1, n_measured), size=n),
        )
        there = (rng.random(n) < self.recipe.room) & (chosen < len(self._whole))
        return _on(np.where(there, chosen, 0), torch.int64)

    def _equaliser(self, rng: np.random.Generator, n: int, resonant: float = 0.0) -> torch.Tensor:
        """Shelves at random corners, some resonances, and now and then no lows: (n, n_bins)."""
        most, hz = self.recipe.equaliser_db, self.hz
        low_hz, high_hz = (
            _on(rng.uniform(*r, n))[:, None] for r in ((80.0, 500.0), (1000.0, 3000.0))
        )
        low_db, high_db = (_on(rng.triangular(-most, 0.0, most, n))[:, None] for _ in range(2))
        shape = _shelf(low_hz / hz.clamp(min=1.0), low_db) * _shelf(hz / high_hz, high_db)
        no_lows = _on(rng.random(n) < self.recipe.no_lows)[:, None]
        ratio = (hz / _on(rng.uniform(100.0, 350.0, n))[:, None]) ** 4
        shape = torch.where(no_lows, shape * (ratio / (1.0 + ratio)).sqrt(), shape)
        if resonant:
            octaves = torch.log2(hz.clamp(min=20.0))
            bells = np.where(rng.random(n) < resonant, rng.integers(1, 4, n), 0)
            for j in range(3):
                rows = np.flatnonzero(bells > j)
                if not len(rows):
                    break
                centre = np.log2(80.0 * (0.4 * self.sample_rate / 80.0) ** rng.random(len(rows)))
                width, high = rng.uniform(0.03, 0.4, len(rows)), rng.uniform(0.5, 6.0, len(rows))
                bell = torch.exp(
                    -0.5 * ((octaves - _on(centre)[:, None]) / _on(width)[:, None]) ** 2
                )
                shape[_on(rows, torch.int64)] *= 1.0 + _on(high)[:, None] * bell
        return shape

    def _in_call(
        self, rng: np.random.Generator, heard: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """After a narrow band, a telephone, lost packets, a mute."""
        recipe, n, rate = self.recipe, self.n_clips, self.sample_rate
        corners = [hz for hz in BANDS_HZ if hz < NARROWER * rate / 2] or [rate / 2]
        on_telephone = rng.random(n) < recipe.telephone
        narrow = (rng.random(n) < recipe.band_limited) | on_telephone
        corner = np.where(on_telephone, rng.choice([3400.0, 3800.0], n), rng.choice(corners, n))
        order = orders(rng, n)
        if on_telephone.any():
            rows = _on(np.flatnonzero(on_telephone), torch.int64)
            sound = heard[rows]
            law = torch.log1p(255.0 * sound.abs()) / math.log(256.0)
            law = torch.expm1((law * 127.0).round() / 127.0 * math.log(256.0)) / 255.0
            heard[rows] = sound.sign() * law
        if narrow.any():
            rows = _on(np.flatnonzero(narrow), torch.int64)
            ratio = self.hz / _on(corner[narrow])[:, None]
            response = _low_pass(ratio, _on(order[narrow])[:, None])
            first, second = (self._irfft(self._rfft(s[rows]) * response) for s in (heard, wanted))
            gain = (0.99 / _peak(first)).clamp(max=1.0)[:, None]
            heard[rows], wanted[rows] = gain * first, gain * second
        lost = np.flatnonzero(rng.random(n) < recipe.lost_packets)
        if len(lost):
            self._lose_packets(rng, lost, (heard, wanted))
        muted = np.flatnonzero(rng.random(n) < recipe.muted)
        if len(muted):
            m = len(muted)
            begin = np.where(rng.random(m) < 0.7, 0, rng.integers(self.n_samples, size=m))
            end = begin + rng.uniform(0.02, recipe.longest_mute_s, m) * rate
            audible = (self.t < _on(begin)[:, None]) | (self.t >= _on(end)[:, None])
            rows = _on(muted, torch.int64)
            for sound in (heard, wanted):
                sound[rows] *= audible
        return heard, wanted

    def _lose_packets(
        self, rng: np.random.Generator, lost: np.ndarray, sounds: tuple[torch.Tensor, ...]
    ) -> None:
        """Leave gaps in some clips of each of the sounds, or play what was before once more."""
        n, rate = len(lost), self.sample_rate
        packet = (rng.choice([0.01, 0.02, 0.03, 0.06], n) * rate).astype(np.int64)
        gaps = 1 + rng.poisson(10.0 ** rng.uniform(-1.0, 0.7, n) * self.n_samples / rate)
        begin = packet[:, None] * rng.integers(
            1, np.maximum(2, self.n_samples // packet)[:, None], (n, _GAPS)
        )
        there = np.arange(_GAPS) < gaps[:, None]
        repeats = _on(rng.random(n) < 0.4)[:, None]
        length = _on(packet, torch.int64)[:, None]
        inside = torch.zeros((n, self.n_samples), dtype=torch.bool, device=device())
        for j in range(_GAPS):
            since = self.t - _on(begin[:, j : j + 1], torch.int64)
            inside |= (since >= 0) & (since < length) & _on(there[:, j : j + 1])
        before = (self.t - length).clamp_(min=0)
        rows = _on(lost, torch.int64)
        for sound in sounds:
            own = sound[rows]
            once_more = torch.where(repeats, own.gather(1, before), torch.zeros_like(own))
            sound[rows] = torch.where(inside, once_more, own)

    def _rfft(self, sound: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(sound, self.n_fft)

    def _irfft(self, spectrum: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(spectrum, self.n_fft)[:, : self.n_samples]


class CardBatches:
    """An endless supply of batches that lie on the device: as ``batches.Batches``.

    Parameters
    ----------
    mixer : draws the clips
    seed : of this supply; two seeds have nothing in common
    waves : whether batches hold them, for a loss of the samples
    """

    def __init__(self, mixer: CardMixer, spec: ModelSpec, seed: int, waves: bool = False) -> None:
        self._mixer, self._spec, self._seed, self._waves = mixer, spec, seed, waves
        self._met: deque[tuple[int, Met]] = deque(maxlen=4)
        self._sources: tuple[int, Sources] | None = None

    def __getitem__(self, k: int) -> Batch:
        drawn, turn = divmod(k, self._mixer.echo)
        seed = [self._seed, drawn]
        with torch.no_grad():
            if self._sources is None or self._sources[0] != drawn:
                self._sources = drawn, self._mixer.sources(seed)
            noisy, clean, met = self._mixer.mix(self._sources[1], seed, turn)
            self._met.append((k, met))
            return self._batch(noisy, clean)

    def ahead(self, step: int) -> Iterator[Batch]:
        """What to learn from at ``step`` and after, each batch once."""
        for k in count(step):
            yield self[k]

    def met(self, step: int) -> list[Pair]:
        """Which recordings were heard together in what was learnt from at ``step``."""
        return next(met.pairs() for k, met in self._met if k == step)

    def _batch(self, noisy: torch.Tensor, clean: torch.Tensor) -> Any:
        levels = self._mixer.level_db(noisy), self._mixer.level_db(clean)
        return make_batch(noisy, clean, *levels, self._spec, self._waves)


def make_batch(
    noisy: torch.Tensor,
    clean: torch.Tensor,
    noisy_level_db: torch.Tensor,
    clean_level_db: torch.Tensor,
    spec: ModelSpec,
    waves: bool = False,
) -> Batch:
    """``batches.make_batch`` on the device: clips (n_clips, n_samples) to a batch of tensors.

    ``noisy_level_db`` and ``clean_level_db`` (n_clips,) are active levels; −inf for silence.
    """
    full_scale = 2.0 / float(window(spec.window, spec.n_fft).sum())
    noisy_bins, clean_bins = (_stft(sound, spec) for sound in (noisy, clean))
    phase = _phase_motion(noisy_bins, spec) if spec.phase_bins else None
    floor = 10.0 ** (spec.floor_db / 20.0)
    noisy_db, clean_db = (
        20.0 * torch.log10((full_scale * s[..., : spec.n_bins].abs()).clamp(min=floor))
        for s in (noisy_bins, clean_bins)
    )
    alone = torch.where(
        torch.isfinite(noisy_level_db), noisy_level_db + 10.0, torch.zeros_like(noisy_level_db)
    )
    level_db = torch.where(
        torch.isfinite(clean_level_db),
        torch.maximum(clean_level_db, noisy_level_db - FAINT_DB),
        alone,
    )
    scale = (full_scale * 10.0 ** (-level_db / 20.0)).float()[:, None, None]
    noisy_bins, clean_bins = noisy_bins * scale, clean_bins * scale
    product = noisy_bins.real * clean_bins.real + noisy_bins.imag * clean_bins.imag
    clean_power = _with_rest(clean_bins.abs().square(), spec)
    parts = [
        _with_rest(noisy_bins.abs().square(), spec).sqrt(),
        clean_power.sqrt(),
        _with_rest(product, spec),
    ]
    power = clean_power.sum(dim=-1, keepdim=True)
    active = power.mean(dim=1, keepdim=True)
    voiced = power > (active * 10.0 ** (-VOICE_DB / 10.0)).clamp(min=1e-12)
    low = None
    if spec.filter_bins:
        of = noisy_bins[..., : spec.filter_bins], clean_bins[..., : spec.filter_bins]
        low = torch.cat([of[0].real, of[0].imag, of[1].real, of[1].imag], dim=-1)
    tensors: Any = (  # of Batch, in its order
        noisy_db,
        torch.cat(parts, dim=-1),
        voiced.float(),
        clean_db,
        _waves(noisy_bins, clean_bins, full_scale, spec) if waves else None,
        low,
        phase,
    )
    return Batch(*tensors)


def _phase_motion(bins: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """``stft.phase_motion`` on the device, of (n_clips, n_frames, n_spectrum)."""
    n = spec.phase_bins
    low, above = bins[..., :n], bins[..., 1 : n + 1]
    earlier = torch.nn.functional.pad(low[:, :-1], (0, 0, 1, 0))
    steady = torch.from_numpy(advance(n, spec.hop, spec.n_fft)).to(bins.device)
    parts = []
    for product in (low * earlier.conj() * steady, -above * low.conj()):
        way = product / product.abs().clamp(min=float(least_product(spec)))
        parts += [way.real, way.imag]
    return torch.cat(parts, dim=-1)


def _stft(sound: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    n_frames = sound.shape[-1] // spec.hop
    padded = torch.nn.functional.pad(sound[..., : n_frames * spec.hop], (spec.n_fft - spec.hop, 0))
    frames = padded.unfold(-1, spec.n_fft, spec.hop)
    return torch.fft.rfft(frames * _constant(window(spec.window, spec.n_fft)))


def _waves(
    noisy: torch.Tensor, clean: torch.Tensor, full_scale: float, spec: ModelSpec
) -> torch.Tensor:
    """See ``Batch.waves``."""
    if spec.above == "zero":
        steered = torch.arange(spec.n_spectrum, device=noisy.device) < spec.n_bins
        noisy, clean = noisy * steered, clean * steered
    frames = torch.fft.irfft(clean, spec.n_fft) * _constant(synthesis_window(spec))
    n, n_frames, hop = len(clean), clean.shape[1], spec.hop
    sound = torch.zeros((n, n_frames * hop + spec.n_fft), device=clean.device)
    for k in range(0, spec.n_fft, hop):
        part = frames[..., k : k + hop].reshape(n, -1)
        sound[:, k : k + part.shape[1]] += part
    hops = sound[:, : n_frames * hop].reshape(n, n_frames, hop) / full_scale
    return torch.cat([noisy.real, noisy.imag, hops], dim=-1)


def _with_rest(power: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    rest = power[..., spec.n_bins :].sum(dim=-1, keepdim=True)
    if spec.above == "zero":
        rest = torch.zeros_like(rest)
    return torch.cat([power[..., : spec.n_bins], rest], dim=-1)


def active_level_db(power: torch.Tensor) -> torch.Tensor:
    """Active level of frames' powers (…, n_frames) [dB]: as ``mixing.active_level_db``."""
    total, n = power.sum(dim=-1), (power > 0.0).sum(dim=-1)
    for _ in range(_ROUNDS):
        mean = total / n.clamp(min=1)
        active = power > (mean * 10.0 ** (-PAUSE_DB / 10.0))[..., None]
        total, n = (power * active).sum(dim=-1), active.sum(dim=-1)
    return 10.0 * torch.log10(total / n.clamp(min=1))


@cache
def synthetic_bank(sample_rate: int) -> list[Recording]:
    """Synthetic noises that stand for all: made by every core, each kind as often.

    Once: what is learnt from and what is held out share it.
    """
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), end_with_parent) as workers:
        made = workers.map(partial(_synthetic, sample_rate), range(_SYNTHETIC), chunksize=25)
        return [Recording("", "", samples) for samples in made]


def _synthetic(sample_rate: int, k: int) -> np.ndarray:
    make = SYNTHETIC[k % len(SYNTHETIC)]
    sound = make(np.random.default_rng([71, k]), int(_SYNTHETIC_S * sample_rate), sample_rate)
    peak = max(float(np.abs(sound).max()), 1e-9)
    return np.round(sound * np.float32(32000.0 / peak)).astype(np.int16)


def _frame_power(sound: torch.Tensor, frame: int) -> torch.Tensor:
    """Mean square of whole frames, full scale 1: (…, n_samples) to (…, n_frames)."""
    n = sound.shape[-1] // frame
    frames = sound[..., : n * frame].reshape(*sound.shape[:-1], n, frame)
    if sound.dtype == torch.int16:  # a pool: in parts, or float32 would take twice its room
        means = [part.float().square().mean(dim=-1) for part in frames.split(1 << 16)]
        return torch.cat(means) / 32768.0**2
    return frames.square().mean(dim=-1)


def _sinc_table() -> torch.Tensor:
    """Taps of a windowed sinc at each phase: (taps, phases + 1)."""
    apart = np.arange(_TAPS)[:, None] - (_TAPS // 2 - 1) - np.arange(_PHASES + 1) / _PHASES
    shape = np.i0(6.0 * np.sqrt(np.maximum(1.0 - (apart / (_TAPS / 2)) ** 2, 0.0))) / np.i0(6.0)
    return torch.from_numpy((np.sinc(apart) * shape).astype(np.float32))


def _shelf(ratio: torch.Tensor, gain_db: torch.Tensor) -> torch.Tensor:
    square = ratio.square()
    return ((1.0 + square * 10.0 ** (gain_db / 10.0)) / (1.0 + square)).sqrt()


def _low_pass(ratio: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """As ``signals.low_pass``."""
    return 1.0 / (1.0 + torch.minimum(ratio, 10.0 ** (15.0 / order)) ** (2.0 * order)).sqrt()


def _generators(seed: Sequence[int]) -> tuple[np.random.Generator, torch.Generator]:
    """Of numbers that are drawn here, and of those that are drawn on the device."""
    rng = np.random.default_rng(list(seed))
    return rng, torch.Generator(device()).manual_seed(int(rng.integers(2**62)))


def _peak(sound: torch.Tensor) -> torch.Tensor:
    return sound.abs().amax(dim=1).clamp(min=1e-9)


def _factor(level_db: torch.Tensor) -> torch.Tensor:
    return (10.0 ** (level_db / 20.0)).float()


def _on(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """An array on the device; floats as float32 unless told."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if dtype is None and tensor.dtype == torch.float64:
        dtype = torch.float32
    # Not waited for: each wait would leave the card without work.
    return tensor.to(device(), dtype, non_blocking=True)


def _constant(array: Float) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(device())
