"""The transform: streamed equals whole, invertible, and calibrated in dB."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from engine.spec import SYNTHESIS_WINDOWS, WINDOWS, ModelSpec
from engine.stft import (
    Analysis,
    Complex,
    Float,
    Synthesis,
    heard,
    istft,
    phase_motion,
    stft,
    to_db,
    window,
)

WINDOW_PAIRS = list(product(WINDOWS, SYNTHESIS_WINDOWS))


def setting(n_fft: int, hop: int, analysis: str = "hann", synthesis: str = "rect") -> ModelSpec:
    return ModelSpec(
        name="test",
        version="1",
        sample_rate=16000,
        n_fft=n_fft,
        hop=hop,
        n_bins=n_fft // 2 + 1,
        window=analysis,
        synthesis_window=synthesis,
    )


def noise(rng: np.random.Generator, *shape: int) -> Float:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def streamed_stft(signal: Float, spec: ModelSpec, analysis: Analysis | None = None) -> Complex:
    analysis = analysis or Analysis(spec)
    return np.array([analysis(hop) for hop in signal.reshape(-1, spec.hop)])


def streamed_istft(spectra: Complex, spec: ModelSpec, synthesis: Synthesis | None = None) -> Float:
    synthesis = synthesis or Synthesis(spec)
    return np.concatenate([synthesis(spectrum) for spectrum in spectra])


def test_streamed_equals_whole(spec: ModelSpec, rng: np.random.Generator) -> None:
    signal = noise(rng, 40 * spec.hop)
    spectra = stft(signal, spec)
    assert spectra.shape == (40, spec.n_spectrum)
    assert spectra.dtype == np.complex64
    np.testing.assert_array_equal(streamed_stft(signal, spec), spectra)
    back = istft(spectra, spec)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(streamed_istft(spectra, spec), back)


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 300), (1024, 600), (64, 8), (1000, 333)])
def test_streamed_equals_whole_when_hops_do_not_divide_the_window(
    n_fft: int, hop: int, rng: np.random.Generator
) -> None:
    spec = setting(n_fft, hop)
    signal = noise(rng, 12 * hop)
    np.testing.assert_array_equal(streamed_stft(signal, spec), stft(signal, spec))
    spectra = stft(signal, spec)
    np.testing.assert_array_equal(streamed_istft(spectra, spec), istft(spectra, spec))


def test_clips_in_a_batch_are_transformed_as_if_alone(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    clips = noise(rng, 3, 5 * spec.hop + 7)
    spectra = stft(clips, spec)
    assert spectra.shape == (3, 5, spec.n_spectrum)
    for clip, alone in zip(clips, spectra, strict=True):
        np.testing.assert_array_equal(stft(clip, spec), alone)


@pytest.mark.parametrize("missing", [1, 2, 511])
def test_an_incomplete_last_hop_is_dropped(missing: int, rng: np.random.Generator) -> None:
    spec = setting(1024, 512)
    signal = noise(rng, 4 * 512)
    np.testing.assert_array_equal(stft(signal[:-missing], spec), stft(signal[: 3 * 512], spec))


@pytest.mark.parametrize("n_samples", [0, 1, 511])
def test_less_than_a_hop_has_no_frames(n_samples: int) -> None:
    spec = setting(1024, 512)
    assert stft(np.ones(n_samples, np.float32), spec).shape == (0, 513)
    assert stft(np.ones((2, n_samples), np.float32), spec).shape == (2, 0, 513)
    assert istft(np.zeros((0, 513), np.complex64), spec).shape == (0,)


def test_frame_k_ends_with_hop_k(spec: ModelSpec) -> None:
    """An impulse is seen by the frames whose stretch holds it, and by no other."""
    position = 3 * spec.hop + spec.hop // 2
    signal = np.zeros(8 * spec.hop, np.float32)
    signal[position] = 1.0
    level = np.abs(stft(signal, spec)).max(axis=1)
    for k in range(8):
        start, end = (k + 1) * spec.hop - spec.n_fft, (k + 1) * spec.hop
        assert (level[k] > 0) == (start <= position < end)
        if level[k] > 0:  # an impulse weighs what the window weighs there
            expected = window(spec.window, spec.n_fft)[position - start]
            assert level[k] == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.parametrize(("analysis", "synthesis"), WINDOW_PAIRS)
@pytest.mark.parametrize("n_fft", [16, 960, 1024])
@pytest.mark.parametrize("hops_per_window", [2, 3, 4, 6])
def test_every_window_pair_reconstructs_at_half_a_window_and_less(
    analysis: str, synthesis: str, n_fft: int, hops_per_window: int, rng: np.random.Generator
) -> None:
    hop = max(8, n_fft // hops_per_window)
    spec = setting(n_fft, hop, analysis, synthesis)
    signal = noise(rng, 20 * n_fft // hop * hop)
    back = istft(stft(signal, spec), spec)
    assert len(back) == len(signal)
    delay = spec.latency
    np.testing.assert_allclose(back[:delay], 0.0, atol=1e-6)
    # The law's 1e-6; float32 rounding makes up 3e-7 of it.
    np.testing.assert_allclose(back[delay:], signal[: len(signal) - delay], atol=1e-6)


@pytest.mark.parametrize(("analysis", "synthesis"), WINDOW_PAIRS)
def test_longer_hops_reconstruct_within_the_law_or_are_refused(
    analysis: str, synthesis: str, rng: np.random.Generator
) -> None:
    """A hop that leaves nearly no window over a sample would amplify rounding without bound."""
    refused = []
    for hop in range(520, 1025, 24):
        spec = setting(1024, hop, analysis, synthesis)
        signal = noise(rng, 12 * hop)
        try:
            back = istft(stft(signal, spec), spec)
        except ValueError:
            refused.append(hop)
            with pytest.raises(ValueError, match=f"hop {hop} leave gaps"):
                Synthesis(spec)
            continue
        np.testing.assert_allclose(back[spec.latency :], signal[: -spec.latency], atol=1e-6)
    assert 1024 in refused  # both windows begin at 0, so without overlap a sample is lost
    assert refused == list(range(refused[0], 1025, 24))  # once too long, longer is no better


@pytest.mark.parametrize("name", WINDOWS)
def test_a_full_scale_sine_at_a_bin_centre_reads_0_db(spec: ModelSpec, name: str) -> None:
    spec = setting(spec.n_fft, spec.hop, name)
    time = np.arange(4 * spec.n_fft)
    # Nearer to DC or Nyquist the sine's mirror image leaks in: at bin 64 of sqrt_hann 1e-4 dB.
    for k in (64, spec.n_fft // 4, spec.n_fft // 2 - 64):
        for level_db in (0.0, -20.0, -60.0):
            sine = 10 ** (level_db / 20) * np.sin(2 * np.pi * k * time / spec.n_fft + 0.7)
            noisy_db = to_db(stft(sine.astype(np.float32), spec)[-1], spec)
            assert noisy_db.dtype == np.float32
            assert noisy_db.argmax() == k
            assert noisy_db[k] == pytest.approx(level_db, abs=1e-3)


def test_silence_reads_the_floor_and_nothing_reads_less(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    silence = np.zeros(spec.n_spectrum, np.complex64)
    np.testing.assert_allclose(to_db(silence, spec), spec.floor_db, atol=1e-4)  # float32 of 100 dB
    faint = (1e-9 * rng.standard_normal((2, 3, spec.n_spectrum))).astype(np.complex64)
    assert to_db(faint, spec).shape == faint.shape
    assert to_db(faint, spec).min() >= spec.floor_db - 1e-4


def test_the_transform_is_linear_and_loses_no_energy_at_half_overlap(
    rng: np.random.Generator,
) -> None:
    spec = setting(1024, 512, "sqrt_hann", "sqrt_hann")
    signal = noise(rng, 100 * 512)
    spectra = stft(signal, spec).astype(np.complex128)
    one_sided = np.abs(spectra) ** 2
    one_sided[:, 1:-1] *= 2
    # sqrt_hann² at half overlap sums to 1, so energy is kept but for the ends (1 of 100 frames).
    assert one_sided.sum() / 1024 == pytest.approx((signal.astype(float) ** 2).sum(), rel=0.01)
    np.testing.assert_allclose(stft(signal * np.float32(0.25), spec), spectra / 4, atol=1e-5)


def test_windows_are_periodic_and_cannot_be_written_to() -> None:
    for n_fft in (16, 960, 1024):
        hann, root = window("hann", n_fft), window("sqrt_hann", n_fft)
        assert hann.dtype == root.dtype == np.float32
        assert hann[0] == 0.0
        assert hann[n_fft // 2] == 1.0
        np.testing.assert_array_equal(hann[1:], hann[:0:-1])  # symmetric about n_fft / 2
        np.testing.assert_allclose(root**2, hann, atol=1e-7)
        np.testing.assert_allclose(hann[: n_fft // 2] + hann[n_fft // 2 :], 1.0, atol=1e-7)
        with pytest.raises(ValueError, match="read-only"):
            hann[0] = 1.0
    with pytest.raises(ValueError, match="hamming"):
        window("hamming", 16)


def test_reset_equals_new_even_after_nan(spec: ModelSpec, rng: np.random.Generator) -> None:
    signal = noise(rng, 6 * spec.hop)
    analysis, synthesis = Analysis(spec), Synthesis(spec)
    poison = np.full(spec.hop, np.nan, np.float32)
    synthesis(analysis(signal[: spec.hop]))
    synthesis(analysis(poison))
    analysis.reset()
    synthesis.reset()
    spectra = streamed_stft(signal, spec, analysis)
    np.testing.assert_array_equal(spectra, stft(signal, spec))
    np.testing.assert_array_equal(streamed_istft(spectra, spec, synthesis), istft(spectra, spec))


def test_what_was_handed_over_is_neither_kept_nor_changed(
    spec: ModelSpec, rng: np.random.Generator
) -> None:
    """A sound card's buffer is overwritten as soon as the callback returns."""
    signal = noise(rng, 6 * spec.hop)
    analysis, synthesis = Analysis(spec), Synthesis(spec)
    buffer = np.empty(spec.hop, np.float32)
    spectra, hops = [], []
    for hop in signal.reshape(-1, spec.hop):
        buffer[:] = hop
        spectra.append(analysis(buffer))
        np.testing.assert_array_equal(buffer, hop)
        hops.append(synthesis(spectra[-1]))
        buffer[:] = np.nan
    np.testing.assert_array_equal(np.array(spectra), stft(signal, spec))
    np.testing.assert_array_equal(np.concatenate(hops), istft(np.array(spectra), spec))


@pytest.mark.parametrize(("n_fft", "hop"), [(960, 480), (1024, 256), (1000, 333)])
@pytest.mark.parametrize("off_centre", [-0.4, 0.0, 0.3])
def test_phases_of_a_steady_sine_move_by_how_far_it_is_from_a_centre(
    n_fft: int, hop: int, off_centre: float
) -> None:
    spec = replace(setting(n_fft, hop), phase_bins=40)
    k = 20
    frequency = (k + off_centre) / n_fft  # in cycles a sample
    signal = 0.1 * np.sin(2 * np.pi * frequency * np.arange(12 * n_fft) + 0.7)
    motion = phase_motion(stft(signal.astype(np.float32), spec), spec)
    assert motion.shape[-1] == 160
    assert motion.dtype == np.float32
    moved, apart = (motion[8:, part : part + 80] for part in (0, 80))
    for near in (k - 1, k, k + 1):  # all bins of the main lobe see it, each from its own centre
        angle = 2 * np.pi * (k + off_centre - near) * hop / n_fft
        np.testing.assert_allclose(moved[:, near], np.cos(angle), atol=0.02)
        np.testing.assert_allclose(moved[:, 40 + near], np.sin(angle), atol=0.02)
    for near in (k - 1, k):
        np.testing.assert_allclose(apart[:, near], 1.0, atol=0.02)
        np.testing.assert_allclose(apart[:, 40 + near], 0.0, atol=0.1)


def test_phases_know_no_level_and_are_0_in_silence(rng: np.random.Generator) -> None:
    spec = replace(setting(960, 480), phase_bins=100)
    signal = noise(rng, 20 * 480)
    loud, faint = (phase_motion(stft(np.float32(g) * signal, spec), spec) for g in (1.0, 1e-2))
    np.testing.assert_allclose(faint, loud, atol=1e-3)
    of_noise = loud[1:].reshape(19, 4, 100)
    for part in (0, 2):
        length = np.hypot(of_noise[:, part], of_noise[:, part + 1])
        np.testing.assert_allclose(length, 1.0, atol=1e-4)
    under = phase_motion(stft(np.float32(1e-8) * signal, spec), spec)  # −140 dB a bin
    assert 0.0 < np.abs(under).max() < 0.01
    assert not phase_motion(np.zeros((3, 481), np.complex64), spec).any()


def test_what_is_heard_frame_by_frame_is_what_is_heard_of_the_whole(
    rng: np.random.Generator,
) -> None:
    spec = replace(setting(960, 480), n_bins=200, phase_bins=60)
    spectra = stft(noise(rng, 10 * 480), spec)
    noisy_db = to_db(spectra, spec)
    whole = heard(noisy_db, spectra, spec)
    assert whole.shape == (10, spec.n_heard)
    before = np.zeros(481, np.complex64)
    for k, frame in enumerate(whole):
        alone = heard(noisy_db[k : k + 1], spectra[k : k + 1], spec, before)
        np.testing.assert_array_equal(alone[0], frame)
        before = spectra[k]
    np.testing.assert_array_equal(
        heard(noisy_db, spectra, replace(spec, phase_bins=0)), noisy_db[:, :200]
    )
