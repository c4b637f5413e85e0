"""Sample k of both sides is the same moment, whatever the blocks and the delay between them."""

from __future__ import annotations

import numpy as np
import pytest

from engine.denoiser import Denoiser, Knobs
from engine.excerpt import Excerpt
from engine.pipeline import Pipeline
from engine.spec import ModelSpec
from tests.estimators import Steady
from tests.onnx_models import CLASSIC, FULLBAND


def feed(excerpt: Excerpt, pipeline: Pipeline, sound: np.ndarray, size: int) -> None:
    for start in range(0, len(sound), size):
        heard_at, cleaned_at = pipeline.n_in, pipeline.n_out
        heard = sound[start : start + size]
        excerpt.add(heard, heard_at, pipeline.process(heard), cleaned_at)


@pytest.mark.parametrize("size", [1, 17, 480, 5000])
def test_a_ramp_is_the_same_on_both_sides(size: int) -> None:
    """Sample k has value k; 3 and a half blocks are withheld."""
    ramp, held = np.arange(30000, dtype=np.float32), round(3.5 * size)
    excerpt = Excerpt(10007)
    out = 0
    for start in range(0, len(ramp), size):
        heard = ramp[start : start + size]
        until = max(start + len(heard) - held, out)
        if start >= 4321 // size * size:  # somebody asks while it runs
            excerpt.add(heard, start, ramp[out:until], out)
        out = until
    assert excerpt.is_complete
    np.testing.assert_array_equal(excerpt.heard, excerpt.cleaned)
    np.testing.assert_array_equal(np.diff(excerpt.heard), 1)


@pytest.mark.parametrize("bypass", [True, False], ids=["let through", "gain 1"])
@pytest.mark.parametrize("spec", [CLASSIC, FULLBAND], ids=["classic", "fullband"])
def test_what_is_not_cleaned_is_what_was_heard(spec: ModelSpec, bypass: bool) -> None:
    pipeline = Pipeline(Denoiser(Steady(spec), Knobs(bypass=bypass)), spec.sample_rate)
    time_s = np.arange(2 * spec.sample_rate) / spec.sample_rate
    # Rising, so that no other moment is like it; within every model's band.
    sound = (0.3 * np.sin(2 * np.pi * (300 + 200 * time_s) * time_s)).astype(np.float32)
    excerpt = Excerpt(spec.sample_rate)
    feed(Excerpt(1), pipeline, sound[: len(sound) // 4], 509)
    feed(excerpt, pipeline, sound[len(sound) // 4 :], 509)
    assert excerpt.is_complete
    np.testing.assert_allclose(excerpt.heard, excerpt.cleaned, atol=0.0 if bypass else 1e-4)


def test_another_stream_begins_it_anew(rng: np.random.Generator) -> None:
    excerpt, ramp = Excerpt(1000), np.arange(4000, dtype=np.float32)
    excerpt.add(ramp[:600], 0, ramp[:500], 0)
    assert excerpt.n_done == 500
    excerpt.add(ramp[:100], 0, ramp[:0], 0)
    assert excerpt.n_done == 0
    excerpt.add(ramp[100:3000], 100, -ramp[:2900], 0)
    assert excerpt.is_complete
    np.testing.assert_array_equal(excerpt.heard, -excerpt.cleaned)
    excerpt.add(ramp[:100], 0, ramp[:100], 0)
    assert excerpt.is_complete, "what is there stays"
