from __future__ import annotations

import numpy as np
import pytest

from app.example import noisy_voice
from engine.errors import TrainingError
from training.opinion import _LEVEL, Opinion, resampling
from training.scores import at_rate

SEGMENT = 144_160  # what DNSMOS hears at a time, at 16 kHz


@pytest.mark.parametrize("rate", [11_025, 48_000])
def test_it_is_dnsmos_s_own_opinion(rate):
    from speechmos import dnsmos

    clean, noisy = noisy_voice()
    found = []
    for sound in (clean, noisy):
        heard = at_rate(sound, 48_000, rate)
        heard = heard[: int(SEGMENT * rate / 16_000)]
        wanted = dnsmos.run(at_rate(heard, rate, 16_000)[:SEGMENT], 16_000)
        opinion = Opinion(rate, p808=True)
        scores = [float(s[0]) for s in opinion(heard[None].astype(np.float32) / _LEVEL)]
        wanted = [wanted[f"{name}_mos"] for name in ("sig", "bak", "ovrl", "p808")]
        # Its resampler is another one, and the first and last hundredths of a second are missing;
        # P.808's network hears the faintest highs of them.
        assert scores[:3] == pytest.approx(wanted[:3], abs=0.05)
        assert scores[3] == pytest.approx(wanted[3], abs=0.1)
        found.append(scores)
    assert all(clean > noisy for clean, noisy in zip(*found, strict=True))


def test_it_says_what_would_be_better():
    import tensorflow as tf

    clean, noisy = (
        at_rate(s[4 * 48_000 : 6 * 48_000], 48_000, 11_025) / _LEVEL for s in noisy_voice()
    )
    share = tf.Variable([[0.5]])
    with tf.GradientTape() as tape:
        scores = Opinion(11_025, p808=True)(
            tf.constant(clean[None]) + share * tf.constant((noisy - clean)[None])
        )
        told = tf.stack([scores.overall, scores.p808])
    assert (tape.jacobian(told, share).numpy() < 0.0).all()  # less noise
    silence = tf.Variable(tf.zeros((1, 11_025)))
    with tf.GradientTape() as tape:
        score = sum(Opinion(11_025, p808=True)(silence))
    assert np.isfinite(tape.gradient(score, silence).numpy()).all()


@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100, 48_000])
def test_tones_stay_and_aliases_do_not_come(rate):
    block, weights = resampling(rate)
    made = weights.shape[1]
    context = (len(weights) - block) // 2
    for hz, wanted in ((1000.0, 1.0), (4500.0, 1.0), (10_000.0, 0.0)):
        if hz > 0.47 * rate:
            continue
        n = np.arange(-context, 5 * block + context)
        tone = np.sin(2 * np.pi * hz * n / rate)
        blocks = [tone[k * block : (k + 1) * block + 2 * context] @ weights for k in range(5)]
        due = np.arange(5 * made) / 16_000
        expected = wanted * np.sin(2 * np.pi * hz * due)
        np.testing.assert_allclose(np.concatenate(blocks), expected, atol=2e-3)


def test_a_rate_without_whole_blocks_is_told():
    with pytest.raises(TrainingError, match="cannot resample from 11027 Hz"):
        resampling(11_027)
