from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra 'card' is not installed")

ROOT = Path(__file__).parents[2]


def asked(what: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.card_steps", what],
        cwd=ROOT,
        env=os.environ
        | {"KERAS_BACKEND": "torch", "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_fast_network_answers_as_keras_s():
    found = asked("forward")
    rounded = {name: far for name, far in found.items() if name.endswith("rounded")}
    exact = {name: far for name, far in found.items() if name not in rounded}
    assert max(exact.values()) < 1e-5, exact
    assert 0.0 < min(rounded.values()) <= max(rounded.values()) < 0.01, rounded


def test_an_update_is_that_of_keras_and_goes_on_where_it_was_left():
    found = asked("updates")
    keras_s, ours = found["losses"]
    assert ours == pytest.approx(keras_s, rel=1e-3)
    assert ours[-1] < ours[0]
    assert found["looks"][1] == pytest.approx(found["looks"][0], rel=1e-3)
    assert found["averaged"] > found["looks"][1][0], "an average lags behind"
    assert found["begun"] == pytest.approx(found["looks"][1][0], rel=1e-6)
    assert found["resumed"][1] == pytest.approx(found["resumed"][0], rel=1e-6)


def test_muon_moves_matrices_as_pytorch_s_does_and_goes_on_where_it_was_left():
    found = asked("muon")
    assert max(found["far"]) < 0.05, "PyTorch rounds to seven bits"
    assert found["gates"] < 1e-5
    assert 0.6 < found["values"][0] <= found["values"][1] < 1.3
    layers = {name.split("/")[0] for name in found["moved"]}
    assert {"lstm0", "before0", "front", "back", "encode1"} <= layers
    assert not layers & {"gain", "bands", "answers", "taps", "speech"}
    assert found["losses"][-1] < found["losses"][0]
    assert found["summed"] < 1e-3, "a gradient is of its own batch only"
    assert found["kept"]
    # What rounding leaves of a gradient's small singular values is made as large as the others.
    assert found["resumed"][1] == pytest.approx(found["resumed"][0], rel=1e-3)


def test_opinions_of_rounded_products_lead_the_same_way_and_every_processor_is_used():
    found = asked("opinion")
    exact, rounded, compiled = found["scores"]
    assert rounded == pytest.approx(exact, abs=0.03)
    assert rounded != exact
    assert compiled == pytest.approx(rounded, abs=0.03)
    # The loudest place of a picture may be another one; compiled wrongly they are not numbers.
    assert min(found["cosines"]) > 0.8
    assert found["threads"] == len(os.sched_getaffinity(0))


def test_programs_of_our_own_compute_what_pytorch_does():
    found = asked("kernels")
    assert found["lstm"] < 1e-5
    assert found["slopes"] < 1e-4
    assert found["play"] < 1e-6
