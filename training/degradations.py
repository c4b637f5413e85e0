"""What a call does to sound after the microphone: narrow bands, codecs, lost packets.

Everything takes what is heard and what is wanted and keeps the two in step, to the
sample. What a narrow band took away is gone from both: nobody should be asked to
invent it. What a codec adds stays in what is heard alone. Not here: noise, rooms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import soxr

from engine.stft import Float
from training.signals import fast_length, filtered, frequencies_hz, low_pass

log = logging.getLogger("training")

Pair = tuple[Float, Float]
"""What is heard and what is wanted, both (n_samples,)."""

BANDS_HZ = (3400.0, 4000.0, 5500.0, 7000.0, 8000.0, 11000.0, 12000.0)
"""Upper ends of telephone lines, Bluetooth, conferences, and old sound cards."""

# A corner nearer to the end of the model's own band would take nothing away.
NARROWER = 0.9


def band_limited(rng: np.random.Generator, heard: Float, wanted: Float, sample_rate: int) -> Pair:
    """Both through the low-pass of one of ``BANDS_HZ`` that the rate can hold, if any can."""
    corners = [hz for hz in BANDS_HZ if hz < NARROWER * sample_rate / 2]
    if not corners:
        return heard, wanted
    n_fft = fast_length(len(heard))
    ratio = frequencies_hz(n_fft, sample_rate) / np.float32(rng.choice(corners))
    response = low_pass(ratio, int(orders(rng, 1)[0]))
    return filtered(heard, response, n_fft), filtered(wanted, response, n_fft)


def orders(rng: np.random.Generator, n: int) -> np.ndarray:
    """Of n low-passes: half of them as before a converter, half as what changes rates leaves it.

    A band that ends within 100 Hz is what headsets and calls of a lower rate have most.
    """
    return np.where(rng.random(n) < 0.5, rng.integers(6, 25, n), rng.integers(60, 241, n))


def mu_law(signal: Float) -> Float:
    """Through the 8-bit μ-law of ITU-T G.711 (its continuous form) and back; within [-1, 1]."""
    law = np.log1p(255.0 * np.minimum(np.abs(signal), 1.0)) / np.log(256.0)
    kept = np.round(law * 127.0) / 127.0
    return (np.sign(signal) * np.expm1(kept * np.log(256.0)) / 255.0).astype(np.float32)


def a_law(signal: Float) -> Float:
    """Through the 8-bit A-law of ITU-T G.711 (its continuous form) and back; within [-1, 1]."""
    ratio, scale = 87.6, 1.0 + np.log(87.6)
    level = ratio * np.minimum(np.abs(signal), 1.0)
    law = np.where(level < 1.0, level, 1.0 + np.log(np.maximum(level, 1.0))) / scale
    code = np.minimum(np.floor(law * 128.0), 127.0)
    kept = (code + 0.5) / 128.0 * scale  # no code for 0: it rounds to the middle
    back = np.where(kept < 1.0, kept, np.exp(kept - 1.0)) / ratio
    return (np.sign(signal) * back).astype(np.float32)


def telephone(rng: np.random.Generator, heard: Float, wanted: Float, sample_rate: int) -> Pair:
    """A telephone line: 8 bits of μ-law or A-law, and then no more than 3.4 or 4 kHz."""
    law: Callable[[Float], Float] = mu_law if rng.random() < 0.5 else a_law
    n_fft = fast_length(len(heard))
    ratio = frequencies_hz(n_fft, sample_rate) / np.float32(rng.choice([3400.0, 3800.0]))
    response = low_pass(ratio, 16)
    return filtered(law(heard), response, n_fft), filtered(wanted, response, n_fft)


@dataclass(frozen=True, slots=True)
class Codec:
    """A lossy codec as calls use it."""

    encoder: str
    """FFmpeg's name of it."""
    decoder: str
    sample_rate: int
    """[Hz]"""
    bit_rates: tuple[int, ...]
    """[bit/s]; one is drawn."""
    options: tuple[tuple[str, str], ...] = ()


_SPEECH = (("application", "voip"), ("compression_level", "2"))

CODECS = (
    Codec("libopus", "libopus", 16_000, (12_000, 16_000, 24_000), _SPEECH),
    Codec("libopus", "libopus", 8_000, (6_000, 8_000, 12_000), _SPEECH),
    Codec("libmp3lame", "mp3float", 16_000, (24_000, 32_000)),
    Codec("libmp3lame", "mp3float", 22_050, (32_000, 48_000)),
    Codec("sbc", "sbc", 16_000, (60_000,)),  # as mSBC of Bluetooth headsets
    Codec("g722", "g722", 16_000, (64_000,)),
    Codec("libopencore_amrnb", "libopencore_amrnb", 8_000, (4_750, 7_950, 12_200)),
)
"""10 to 25 ms of processor time for a clip of 4.5 s: mixing one takes 8."""


def coded(rng: np.random.Generator, heard: Float, wanted: Float, sample_rate: int) -> Pair:
    """What is heard through one of ``usable_codecs()``, both through the codec's rate."""
    known = usable_codecs()
    if not known:
        return heard, wanted
    codec = known[int(rng.integers(len(known)))]
    bit_rate = int(rng.choice(codec.bit_rates))
    sent, straight = (soxr.resample(s, sample_rate, codec.sample_rate) for s in (heard, wanted))
    lag, received = codec_delay(codec), through(codec, bit_rate, sent)
    in_step = np.concatenate([np.zeros(max(0, -lag), np.float32), received[max(0, lag) :]])
    made = (soxr.resample(s, codec.sample_rate, sample_rate) for s in (in_step, straight))
    first, second = (_fitted(s, len(heard)) for s in made)
    return first, second


def _fitted(signal: Float, n_samples: int) -> Float:
    """Cut or filled with silence to a length: codecs work in packets, conversions round."""
    return np.pad(signal, (0, max(0, n_samples - len(signal))))[:n_samples]


def through(codec: Codec, bit_rate: int, sound: Float) -> Float:
    """Encode and decode in memory: (n_samples,) at the codec's rate, as late as it makes it.

    A little longer than ``sound``: whole packets come out.
    """
    import av

    # PyAV types every context alike; these two are of sound.
    coder: Any = av.CodecContext.create(codec.encoder, "w")
    coder.sample_rate, coder.layout = codec.sample_rate, "mono"
    coder.format = coder.codec.audio_formats[0].name
    coder.bit_rate, coder.options = bit_rate, dict(codec.options)
    coder.time_base, coder.thread_count = Fraction(1, codec.sample_rate), 1
    coder.open()
    decoder: Any = av.CodecContext.create(codec.decoder, "r")
    decoder.sample_rate, decoder.layout = codec.sample_rate, "mono"
    decoder.extradata = coder.extradata
    whole = av.AudioFrame.from_ndarray(sound[np.newaxis], format="flt", layout="mono")
    whole.sample_rate, whole.pts = codec.sample_rate, 0
    feed = av.AudioResampler(coder.format, "mono", codec.sample_rate, coder.frame_size or 320)
    frames = [*feed.resample(whole), *feed.resample(None)]
    packets = [packet for frame in [*frames, None] for packet in coder.encode(frame)]
    heard = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    made = np.concatenate([_as_float(frame.to_ndarray()) for frame in heard])
    # Opus always decodes at 48 kHz.
    return soxr.resample(made, heard[0].sample_rate, codec.sample_rate)


def _as_float(samples: np.ndarray) -> Float:
    flat = samples.reshape(-1)
    scale = 32768.0 if flat.dtype == np.int16 else 1.0
    return flat.astype(np.float32) / np.float32(scale)


@lru_cache(maxsize=32)
def codec_delay(codec: Codec) -> int:
    """By how many samples, at its own rate, what a codec decodes is late: measured."""
    rng = np.random.default_rng(0)
    n_samples = 2 * codec.sample_rate
    # Bursts of noise in the band that every codec keeps: one clear match.
    n_fft = fast_length(n_samples)
    hz = frequencies_hz(n_fft, codec.sample_rate)
    band = ((hz > 200.0) & (hz < 2500.0)).astype(np.float32)
    sound = filtered(rng.standard_normal(n_samples, np.float32), band, n_fft)
    sound *= np.float32(0.2) * (np.arange(n_samples) // (codec.sample_rate // 5) % 2)
    made = through(codec, max(codec.bit_rates), sound)
    match = np.fft.irfft(np.fft.rfft(made, 2 * n_fft) * np.conj(np.fft.rfft(sound, 2 * n_fft)))
    longest = codec.sample_rate // 5
    around = np.concatenate([match[-longest:], match[:longest]])
    return int(np.argmax(around)) - longest


@lru_cache(maxsize=1)
def usable_codecs() -> tuple[Codec, ...]:
    """Those of ``CODECS`` that this build of FFmpeg has; tells of the others once."""
    import av

    known = av.codecs_available
    usable = tuple(c for c in CODECS if c.encoder in known and c.decoder in known)
    for codec in CODECS:
        if codec not in usable:
            log.warning("no %s in this FFmpeg: it is not simulated", codec.encoder)
    return usable


def with_lost_packets(
    rng: np.random.Generator, heard: Float, wanted: Float, sample_rate: int
) -> Pair:
    """Gaps of 10 to 60 ms as of a bad radio link: silent, or the sound before once more.

    The same happens to both: what was lost is not to be invented.
    """
    heard, wanted = heard.copy(), wanted.copy()
    repeat = rng.random() < 0.4
    packet = int(rng.choice([0.01, 0.02, 0.03, 0.06]) * sample_rate)
    # From one in ten seconds to five in each.
    for _ in range(1 + rng.poisson(10.0 ** rng.uniform(-1.0, 0.7) * len(heard) / sample_rate)):
        start = packet * int(rng.integers(1, max(2, len(heard) // packet)))
        end = max(start, min(start + packet, len(heard)))  # the first may begin after a short clip
        for signal in (heard, wanted):
            signal[start:end] = signal[start - packet : end - packet] if repeat else 0.0
    return heard, wanted
