"""The spec accepts what the signal path can carry out, and names what it refuses."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ModelError
from engine.spec import ABOVE, SYNTHESIS_WINDOWS, WINDOWS, ModelSpec
from tests.onnx_models import CLASSIC, FULLBAND

some_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any spec whose fields are in range."""
    n_fft = 2 * draw(st.integers(8, 8192))
    return ModelSpec(
        name=draw(st.text(min_size=1)),
        version=draw(st.text()),
        sample_rate=draw(st.integers(4000, 192_000)),
        n_fft=n_fft,
        hop=draw(st.integers(8, n_fft)),
        n_bins=draw(st.integers(1, n_fft // 2 + 1)),
        window=draw(st.sampled_from(WINDOWS)),
        synthesis_window=draw(st.sampled_from(SYNTHESIS_WINDOWS)),
        above=draw(st.sampled_from(ABOVE)),
        floor_db=draw(st.floats(-200, -20)),
        lookahead=draw(st.integers(0, 64)),
        description=draw(st.text()),
        licence=draw(st.text()),
        training=draw(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3)),
    )


@given(spec=specs())
def test_a_spec_written_and_read_is_the_same(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_declared_latencies_are_those_of_the_design() -> None:
    assert CLASSIC.latency == 512
    assert CLASSIC.total_latency_s == pytest.approx(0.0929, abs=5e-5)  # "93 ms"
    assert FULLBAND.latency == 480
    assert FULLBAND.total_latency_s == pytest.approx(0.020)
    assert replace(FULLBAND, lookahead=3).latency == 480 + 3 * 480
    assert CLASSIC.hop_s == pytest.approx(512 / 11025)
    assert (CLASSIC.n_spectrum, FULLBAND.n_spectrum) == (513, 481)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CLASSIC.hop = 256  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", 3999),
        ("sample_rate", 192_001),
        ("n_fft", 14),
        ("n_fft", 16_386),
        ("hop", 7),
        ("hop", 1025),
        ("n_bins", 0),
        ("n_bins", 514),
        ("floor_db", -200.5),
        ("floor_db", -19.5),
        ("floor_db", float("nan")),
        ("floor_db", float("-inf")),
        ("lookahead", -1),
        ("lookahead", 65),
        ("lookahead", 10**400),  # more than a float can hold
        ("filter_bins", 251),
        ("filter_taps", 17),
        ("phase_bins", -1),
        ("phase_bins", 251),
        ("window", "Hann"),
        ("window", "rect"),  # as an analysis window it leaks into every bin
        ("synthesis_window", ""),
        ("above", "pass"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_number_out_of_range_is_named_with_what_was_found(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"^{name} should be .*found ") as error:
        replace(CLASSIC, **{name: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", [f.name for f in fields(ModelSpec)])
def test_every_field_has_its_type_checked(name: str) -> None:
    wrong = 3 if isinstance(getattr(CLASSIC, name), str) else "3"
    with pytest.raises(ModelError, match=name):
        replace(CLASSIC, **{name: wrong})
    with pytest.raises(ModelError, match=name):
        replace(CLASSIC, **{name: None})


@given(found=some_json)
def test_any_json_is_a_spec_or_a_model_error(found: object) -> None:
    with pytest.raises(ModelError):
        ModelSpec.from_json(json.dumps(found))


@given(name=st.sampled_from([f.name for f in fields(ModelSpec)]), found=some_json)
def test_any_value_of_any_field_is_usable_or_a_model_error(name: str, found: object) -> None:
    text = json.dumps({**asdict(CLASSIC), name: found})
    try:
        spec = ModelSpec.from_json(text)
    except ModelError:
        return
    assert 8 <= spec.hop <= spec.n_fft
    assert 1 <= spec.n_bins <= spec.n_spectrum
    assert spec.total_latency_s < 300.0  # finite: 16 384 samples and 64 hops at 4 kHz are less


@given(text=st.text())
def test_any_text_is_a_model_error(text: str) -> None:
    with pytest.raises(ModelError):
        ModelSpec.from_json(text)


def test_a_spec_without_a_filter_says_nothing_of_it() -> None:
    """So that programs from before there were filters read it."""
    assert "filter" not in CLASSIC.to_json()
    filtered = replace(CLASSIC, filter_bins=40, filter_taps=5)
    assert ModelSpec.from_json(filtered.to_json()) == filtered
    with pytest.raises(ModelError, match="filter_bins and filter_taps go together, found 0 and 5"):
        replace(CLASSIC, filter_taps=5)


def test_a_spec_without_phases_says_nothing_of_them() -> None:
    """So that programs from before there were any read it."""
    assert "phase" not in CLASSIC.to_json()
    assert CLASSIC.n_heard == CLASSIC.n_bins == 250
    told = replace(CLASSIC, phase_bins=40)
    assert ModelSpec.from_json(told.to_json()) == told
    assert told.n_heard == 250 + 4 * 40
