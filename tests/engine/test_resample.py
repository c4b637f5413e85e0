"""Change of rate: tones keep level and phase, aliases die, blocks do not matter."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.resample import Resampler
from engine.stft import Float

RATES = [
    (48000, 11025),
    (11025, 48000),
    (44100, 48000),
    (48000, 44100),
    (8000, 11025),
    (11025, 8000),
    (16000, 11025),
    (44100, 11025),
    (96000, 11025),
    (192000, 11025),
    (22050, 48000),
    (7919, 11025),  # a prime rate: as many filter phases as can be
    (11025, 44056),  # NTSC
]
PASS = 0.84
"""Share of the lower Nyquist frequency that must come through unchanged."""
RIPPLE = 2e-4
"""A Kaiser filter's pass band ripples as much as its stop band leaks: −80 dB = 1e-4; twice
that, because ripple and image add."""
ALIAS = 10 ** (-76 / 20)
"""The most that may remain of a tone above the lower Nyquist frequency (design: −76 dB)."""


def convert(signal: Float, rate_in: int, rate_out: int, block: int | None = None) -> Float:
    resampler = Resampler(rate_in, rate_out)
    step = block or max(1, len(signal))
    parts = [resampler.process(signal[k : k + step]) for k in range(0, len(signal), step)]
    return np.concatenate([*parts, resampler.flush(len(signal))])


def tone(frequency_hz: float, rate: int, n: int, phase: float = 0.3) -> Float:
    return np.sin(2 * np.pi * frequency_hz * np.arange(n) / rate + phase).astype(np.float32)


def inner(signal: Float, rate: int) -> Float:
    """Without the first and last 5 ms, where a filter hears the silence around the tone."""
    edge = ceil(0.005 * rate)
    return signal[edge:-edge]


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_a_tone_is_the_tone_generated_at_the_new_rate(rate_in: int, rate_out: int) -> None:
    nyquist_hz = min(rate_in, rate_out) / 2
    for frequency_hz in (50.0, 440.0, 0.5 * nyquist_hz, PASS * nyquist_hz):
        made = convert(tone(frequency_hz, rate_in, rate_in // 5), rate_in, rate_out)
        assert made.dtype == np.float32
        wanted = tone(frequency_hz, rate_out, len(made))
        np.testing.assert_allclose(
            inner(made, rate_out), inner(wanted, rate_out), atol=RIPPLE, err_msg=f"{frequency_hz}"
        )


@pytest.mark.parametrize(("rate_in", "rate_out"), [(i, o) for i, o in RATES if i > o])
def test_nothing_above_the_new_nyquist_frequency_folds_back(rate_in: int, rate_out: int) -> None:
    worst = 0.0
    for frequency_hz in np.linspace(rate_out / 2, rate_in / 2, 25, endpoint=False):
        made = convert(tone(frequency_hz, rate_in, rate_in // 10), rate_in, rate_out)
        worst = max(worst, float(np.abs(inner(made, rate_out)).max()))
    assert worst < ALIAS


@pytest.mark.parametrize(("rate_in", "rate_out"), [(i, o) for i, o in RATES if i < o])
def test_no_image_appears_above_the_old_nyquist_frequency(rate_in: int, rate_out: int) -> None:
    n = rate_in // 5
    for share in (0.1, 0.5, PASS):
        made = inner(convert(tone(share * rate_in / 2, rate_in, n), rate_in, rate_out), rate_out)
        seen = np.kaiser(len(made), 14.0)  # side lobes below −100 dB
        level = np.abs(np.fft.rfft(made * seen)) * 2 / seen.sum()
        frequency_hz = np.fft.rfftfreq(len(made), 1 / rate_out)
        assert level[frequency_hz > rate_in / 2 * (2 - PASS)].max(initial=0.0) < ALIAS


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_a_constant_stays_that_constant(rate_in: int, rate_out: int) -> None:
    made = convert(np.full(rate_in // 10, 0.5, np.float32), rate_in, rate_out)
    # float32: a row of up to 2000 taps sums to 1 but for rounding.
    np.testing.assert_allclose(inner(made, rate_out), 0.5, atol=2e-6)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("block", [17, 128, 509, 4096])
def test_streamed_equals_whole(
    rate_in: int, rate_out: int, block: int, rng: np.random.Generator
) -> None:
    signal = rng.uniform(-1, 1, 9001).astype(np.float32)
    np.testing.assert_allclose(
        convert(signal, rate_in, rate_out, block),
        convert(signal, rate_in, rate_out),
        atol=1e-6,  # float32 sums of up to 2000 products, in whatever order the CPU likes
    )


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 11025), (11025, 48000)])
def test_streamed_sample_by_sample_equals_whole(
    rate_in: int, rate_out: int, rng: np.random.Generator
) -> None:
    signal = rng.uniform(-1, 1, 3001).astype(np.float32)
    np.testing.assert_allclose(
        convert(signal, rate_in, rate_out, 1), convert(signal, rate_in, rate_out), atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(
    rates=st.sampled_from(RATES[:-1]),
    blocks=st.lists(st.integers(0, 1200), max_size=12),
)
def test_any_split_into_blocks_gives_the_same_samples(
    rates: tuple[int, int], blocks: list[int]
) -> None:
    signal = np.random.default_rng(sum(blocks)).uniform(-1, 1, sum(blocks)).astype(np.float32)
    resampler = Resampler(*rates)
    cuts = np.cumsum(blocks)[:-1] if blocks else []
    parts = [resampler.process(block) for block in np.split(signal, cuts)]
    made = np.concatenate([*parts, resampler.flush(len(signal))])
    np.testing.assert_allclose(made, convert(signal, *rates), atol=1e-6)


@pytest.mark.parametrize(("rate_in", "rate_out"), [*RATES, (16000, 16000)])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 65, 66, 67, 1000, 1023, 11025])
def test_as_many_samples_come_out_as_the_new_rate_has_in_that_time(
    rate_in: int, rate_out: int, n: int
) -> None:
    assert len(convert(np.ones(n, np.float32), rate_in, rate_out)) == ceil(n * rate_out / rate_in)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_no_sample_is_withheld_longer_than_declared(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out)
    n_out, worst_s = 0, 0.0
    for n_in in range(1, 3001):
        n_out += len(resampler.process(np.zeros(1, np.float32)))
        worst_s = max(worst_s, (n_in - 1) / rate_in - n_out / rate_out)
    # The next output (index n_out) was not yet known when input n_in − 1 had come.
    assert worst_s <= resampler.latency_s
    assert worst_s > resampler.latency_s - 1.1 * (
        1 / rate_in + 1 / rate_out
    )  # nor is it overstated


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 11025), (11025, 48000)])
def test_the_live_path_waits_less_than_4_5_ms_each_way(rate_in: int, rate_out: int) -> None:
    assert 0.0 < Resampler(rate_in, rate_out).latency_s <= 0.0045


def test_an_impulse_comes_out_where_it_went_in() -> None:
    """There and back: the filter has no phase of its own."""
    position = 4 * 640  # 588 samples at 11025 Hz to the point, so the answer is symmetric
    signal = np.zeros(2 * position, np.float32)
    signal[position] = 1.0
    back = convert(convert(signal, 48000, 11025), 11025, 48000)
    assert np.abs(back).argmax() == position
    around = back[position - 600 : position + 601]
    np.testing.assert_allclose(around, around[::-1], atol=1e-6)  # float32


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 11025), (11025, 48000), (8000, 8000)])
def test_silence_gives_exact_silence(rate_in: int, rate_out: int) -> None:
    made = convert(np.zeros(5000, np.float32), rate_in, rate_out, 128)
    assert not made.any()


@pytest.mark.parametrize("poison", [0.5, np.nan, np.inf])
@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 11025), (11025, 48000), (8000, 8000)])
def test_reset_equals_new_whatever_was_heard(
    rate_in: int, rate_out: int, poison: float, rng: np.random.Generator
) -> None:
    signal = rng.uniform(-1, 1, 4000).astype(np.float32)
    resampler = Resampler(rate_in, rate_out)
    with np.errstate(invalid="ignore"):  # infinity · 0 is what this test is about
        resampler.process(np.full(1717, poison, np.float32))
    resampler.reset()
    made = np.concatenate([resampler.process(signal), resampler.flush(len(signal))])
    np.testing.assert_array_equal(made, convert(signal, rate_in, rate_out))
    again = np.concatenate([resampler.process(signal), resampler.flush(len(signal))])
    np.testing.assert_array_equal(again, made)  # flush has reset as well


def test_the_block_is_neither_kept_nor_changed(rng: np.random.Generator) -> None:
    signal = rng.uniform(-1, 1, 4096).astype(np.float32)
    for rates in ((48000, 11025), (48000, 48000)):
        resampler = Resampler(*rates)
        buffer = np.empty(256, np.float32)
        parts = []
        for block in signal.reshape(-1, 256):
            buffer[:] = block
            parts.append(resampler.process(buffer))
            np.testing.assert_array_equal(buffer, block)
            buffer[:] = np.nan
        parts.append(resampler.flush(len(signal)))
        np.testing.assert_allclose(np.concatenate(parts), convert(signal, *rates), atol=1e-6)


def test_equal_rates_pass_every_sample_at_once(rng: np.random.Generator) -> None:
    signal = rng.uniform(-1, 1, 1000).astype(np.float32)
    resampler = Resampler(16000, 16000)
    assert resampler.latency_s == 0.0
    np.testing.assert_array_equal(resampler.process(signal), signal)
    assert len(resampler.flush(len(signal))) == 0


@pytest.mark.parametrize(("rate_in", "rate_out"), [(0, 11025), (48000, 0), (-48000, 11025)])
def test_a_rate_that_is_none_is_refused(rate_in: int, rate_out: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(rate_in, rate_out)


def test_a_ratio_that_would_need_too_much_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"191999 Hz to 11025 Hz would need .* phases"):
        Resampler(191_999, 11025)


def test_ten_hours_do_not_lose_the_place() -> None:
    """The sample count outgrows 32 bits times the ratio; positions must not."""
    resampler = Resampler(48000, 11025)
    n = 10 * 3600 * 48000
    resampler._first += n  # as if n samples had come: an exact number of periods of the ratio
    resampler._next_out += n * 11025 // 48000
    late = resampler.process(tone(1000.0, 48000, 9600))
    early = Resampler(48000, 11025).process(tone(1000.0, 48000, 9600))
    np.testing.assert_array_equal(late, early)
