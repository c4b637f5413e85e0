"""What every test may ask for: seeded chance, the two settings, and real tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engine.network import Network
from engine.spec import ModelSpec
from tests import onnx_models


def pytest_report_header() -> str:
    return f"numpy {np.__version__}, onnxruntime {onnxruntime.__version__}"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was found out before this test; the folder of what it finds out."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "denoise-app"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real sound servers on a machine that others use too are given a second chance, and a third.

    Of 77 such tests three failed in one run beside other work, each at another place; what fails
    three times on end is broken. Reruns are told in the summary.
    """
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))


_TIME_LIMIT = pytest.StashKey[Any]()


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Note the time limit, see below; pytest-timeout goes on to set it."""
    item.stash[_TIME_LIMIT] = settings


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the time limit anew for each try.

    pytest-timeout sets it once for all tries of a test and takes it away with the first failure:
    a second try that hung was never ended, and with it the whole run.
    """
    if (settings := item.stash.get(_TIME_LIMIT, None)) is not None:
        item.ihook.pytest_timeout_cancel_timer(item=item)
        item.ihook.pytest_timeout_set_timer(item=item, settings=settings)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same drawn numbers in every run, so that a red one can be replayed."""
    return np.random.default_rng(20240711)


@pytest.fixture(params=[onnx_models.CLASSIC, onnx_models.FULLBAND], ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """Each of the two settings in turn."""
    return request.param


@pytest.fixture
def identity(tmp_path: Path, spec: ModelSpec) -> Network:
    """An opened model whose gains are 1."""
    return Network(onnx_models.write_identity(tmp_path / "identity.onnx", spec), provider="cpu")


@pytest.fixture
def lstm(tmp_path: Path, spec: ModelSpec) -> Network:
    """An opened model with state and gains that differ by bin and time."""
    return Network(onnx_models.write_lstm(tmp_path / "lstm.onnx", spec), provider="cpu")
