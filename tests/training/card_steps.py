"""What ``test_card_learning`` asks of Keras on PyTorch, in a process of its own: prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from training import card_kernels, card_learning, card_ops, networks, objectives
from training.accelerated import Pool, make_batch
from training.batches import Batch
from training.card_learning import BandNetwork, CardLearner
from training.card_muon import Muon, orthogonal
from training.losses import Weights
from training.networks import Preset
from training.opinion import Opinion
from training.recordings import Recording
from training.settings import FULLBAND, Optimiser, Settings
from training.train import Learner

RATE = 48_000
SHAPE = Preset(24, (20, 16), bands=16, channels=(6, 8), around=8, before=1, after=1)
FILTERED = replace(SHAPE, filter_bins=10, filter_taps=2)
MEAN_DB, DEVIATION_DB = np.full((2, 481), [[-60.0], [20.0]], np.float32)


def forward() -> dict[str, float]:
    """How far the fast network is from Keras's, for each kind."""
    found = {}
    kinds = {
        "plain": SHAPE,
        "filtered": FILTERED,
        "detail": replace(FILTERED, detail=True),
        "two of each": replace(FILTERED, before=2, after=0),
        "phase": replace(FILTERED, phase=True),
    }
    rng = np.random.default_rng(0)
    noisy_db = rng.uniform(-100.0, -20.0, (3, 20, 481)).astype(np.float32)
    for name, preset in kinds.items():
        keras.utils.set_random_seed(1)
        model = networks.build(preset, MEAN_DB, DEVIATION_DB)
        moved = {
            k: w + 0.1 * rng.standard_normal(w.shape).astype(np.float32)
            if k.startswith(("taps", "slope", "answers"))
            else w
            for k, w in networks.weights_of(model).items()
        }
        networks.set_weights(model, moved)
        phases = rng.uniform(-1.0, 1.0, (3, 20, 4 * preset.phase_bins)).astype(np.float32)
        heard = torch.from_numpy(np.concatenate([noisy_db, phases], axis=-1))
        made, logit = BandNetwork(model, preset)(heard)
        wanted = model(heard)
        differences = (made - wanted[0], torch.sigmoid(logit) - wanted[1])
        found[name] = max(float(d.abs().max()) for d in differences)
        rounded, _ = BandNetwork(model, preset, rounded=True)(heard)
        found[f"{name}, rounded"] = float((rounded - made).abs().mean())
    return found


def _batch_and_learners(**changes: Any) -> tuple[Batch, Callable[[type[Learner]], Any]]:
    """A batch of tones in noise, and what makes learners that begin alike."""
    t = np.arange(2 * RATE) / RATE
    voices = [np.sin(2 * np.pi * f * t) * (0.5 + 0.5 * np.sin(6 * np.pi * t)) for f in (200, 330)]
    clean = (0.1 * np.stack(voices)).astype(np.float32)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    spec = replace(FULLBAND, filter_bins=10, filter_taps=2)
    levels = torch.full((2,), -20.0), torch.full((2,), -23.0)
    batch = make_batch(*(torch.from_numpy(s) for s in (noisy, clean)), *levels, spec, waves=True)
    objective = objectives.objective(FILTERED, spec, Weights(si_sdr=0.2))
    chosen = Settings(out=Path("unused"), model=spec, **changes)
    # Compared with Keras, which rounds nothing.
    card_learning.has_tiles = card_learning.compiles = lambda: False

    def learner(kind: type[Learner]) -> Learner:
        keras.utils.set_random_seed(3)
        return kind(chosen, FILTERED, objective, MEAN_DB, DEVIATION_DB)

    return batch, learner


def updates() -> dict[str, object]:
    """Losses of some updates by Keras's own loop and by the fast one, and after a resumption."""
    batch, learner = _batch_and_learners()
    keras_s, ours = learner(Learner), learner(CardLearner)
    losses = [[float(one.learn(batch, 1e-3)) for _ in range(4)] for one in (keras_s, ours)]
    again = learner(CardLearner)
    again.restore(ours.arrays())
    with ours.averaged():
        averaged = ours.look([batch])[0]
    later = learner(CardLearner)
    later.begin_with(networks.weights_of(ours.model))
    with later.averaged():
        begun = later.look([batch])[0]
    return {
        "losses": losses,
        "looks": [one.look([batch]) for one in (keras_s, ours)],
        "averaged": averaged,
        "begun": begun,
        "resumed": [[float(one.learn(batch, 1e-3)) for _ in range(2)] for one in (ours, again)],
    }


def muon() -> dict[str, object]:
    """Updates by Muon: of a matrix beside PyTorch's own, of a network, and after a resumption."""
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Parameter(torch.ones(24, 40)) for _ in range(2))
    rate = torch.tensor(0.01)
    ours = Muon({"front/kernel": mine}, rate)
    reference = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    far = []
    for _ in range(3):
        mine.grad = torch.randn(24, 40)
        theirs.grad = mine.grad.clone()
        before = mine.detach().clone()
        ours.step()
        reference.step()
        moved = (mine - before).detach()
        far.append(float((mine - theirs).detach().norm() / moved.norm()))
    gates = torch.randn(12, 4 * 20)
    alone = torch.cat([orthogonal(gate) for gate in gates.split(20, dim=1)], dim=1)
    weight = torch.nn.Parameter(torch.zeros(12, 80))
    weight.grad = gates
    Muon({"lstm0/lstm_cell/kernel": weight}, torch.tensor(1.0)).step()
    together = -weight.detach() / (0.2 * 20**0.5)
    values = torch.linalg.svdvals(orthogonal(torch.randn(30, 50)))

    batch, learner = _batch_and_learners(optimiser=Optimiser(kind="muon"))
    first, again = learner(CardLearner), learner(CardLearner)
    losses = [float(first.learn(batch, 2e-3)) for _ in range(6)]
    kept = first.arrays()
    again.restore(kept)
    restored = again.arrays()
    _, learner = _batch_and_learners(optimiser=Optimiser(kind="muon", clip=1e9))
    still, slopes = learner(CardLearner), []
    for _ in range(2):
        still.learn(batch, 0.0)
        slopes.append({name: w.grad.clone() for name, w in still._muon._weights.items()})
    return {
        "summed": max(
            float((b - a).norm() / a.norm())
            for a, b in zip(*(s.values() for s in slopes), strict=True)
        ),
        "kept": all(np.array_equal(restored[name], kept[name]) for name in kept),
        "far": far,
        "gates": float((together - alone).abs().max()),
        "values": [float(values.min()), float(values.max())],
        "moved": sorted(first._muon.momenta),
        "losses": losses,
        "resumed": [[float(one.learn(batch, 2e-3)) for _ in range(2)] for one in (first, again)],
    }


def kernels() -> dict[str, float]:
    """How far our programs, interpreted, are from PyTorch's own operations."""
    torch.manual_seed(0)
    time, n, entering, units = 7, 37, 24, 20
    seen = torch.randn(time, n, entering, requires_grad=True)
    kernel, recurrent, bias = (
        (0.3 * torch.randn(shape)).requires_grad_()
        for shape in ((entering, 4 * units), (units, 4 * units), (4 * units,))
    )
    made = card_kernels.lstm(seen, kernel, recurrent, bias)
    slope = torch.randn_like(made)
    mine = torch.autograd.grad(made, (seen, kernel, recurrent, bias), slope)
    state = torch.zeros(1, n, units)
    flat = [kernel.t(), recurrent.t(), bias, torch.zeros_like(bias)]
    wanted, _, _ = torch._VF.lstm(seen, (state, state), flat, True, 1, 0.0, True, False, False)
    right = torch.autograd.grad(wanted, (seen, kernel, recurrent, bias), slope)
    sound = (16_000 * np.sin(np.arange(RATE) / 7.0)).astype(np.int16)
    pool = Pool([Recording("tone", "tone", sound)], RATE)
    place = -200.0 + 1.37 * torch.arange(4_000, dtype=torch.float64).reshape(2, -1)
    played = card_kernels.play(pool.samples, place, pool.filter)
    slopes = [float((a - b).abs().max()) for a, b in zip(mine, right, strict=True)]
    return {
        "lstm": float((made - wanted).abs().max()),
        "slopes": max(slopes),
        "play": float((played - pool.play(place)).abs().max()),
    }


def opinion() -> dict[str, object]:
    """DNSMOS's opinions and their slope, rounded as where processors have tiles and not."""
    torch.manual_seed(0)
    sound = torch.randn(3, RATE) * torch.linspace(0.05, 1.0, 3)[:, None]
    found = []
    for tiles, compiled in ((False, False), (True, False), (True, card_learning.compiles())):
        card_ops._TILES = tiles
        asked = Opinion(RATE, p808=True)
        heard = sound.clone().requires_grad_()
        scores = (torch.compile(asked, dynamic=False) if compiled else asked)(heard)
        told = scores.overall + scores.p808
        told.sum().backward()
        found.append((told.tolist(), heard.grad.flatten()))
    slope = found[0][1]
    cosines = [float(torch.nn.functional.cosine_similarity(slope, s, dim=0)) for _, s in found[1:]]
    return {
        "scores": [told for told, _ in found],
        "cosines": cosines,
        "threads": torch.get_num_threads(),
    }


ASKED = {one.__name__: one for one in (forward, updates, muon, opinion, kernels)}

if __name__ == "__main__":
    print(json.dumps(ASKED[sys.argv[1]]()))
