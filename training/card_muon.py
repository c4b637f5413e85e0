"""Muon on a card: updates of matrices whose singular values are all alike.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with updates as
large as Liu et al. 2025, "Muon is scalable for LLM training" (arXiv:2502.16982), make them, so
that a rate means about what it means to Adam. ``torch.optim.Muon`` takes its rate as a number of
the host, which a recorded update (``card_learning``) cannot follow, and an LSTM's four gates as
one matrix.
Not here: weights that are no matrices between layers, which Adam moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from training.networks import GATES

MOMENTUM = 0.95
_SIZE = 0.2
"""Root mean square of an update at a rate of 1: that of Adam's in practice."""
_ROUNDS = 5
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Of singular values, which brings those from 0.01 to 1 near 1 in five rounds (Jordan et al.)."""

# Layers at the ends of a network: each of their weights is of one bin or band.
_ENDS = ("bands", "gain", "contrast", "slope", "speech", "answers", "taps")
_LEAST = 8
"""Rows and columns of what counts as a matrix."""


def moves(name: str, weight: torch.Tensor) -> bool:
    """Whether a trained weight, by its path in Keras, is a matrix that Muon should move."""
    if weight.dim() < 2 or name.split("/")[0] in _ENDS:
        return False
    return min(_matrices(name, weight).shape[-2:]) >= _LEAST


class Muon:
    """Moves weights by their gradients: ``step()``, nothing of which waits for the host.

    Parameters
    ----------
    weights : by their paths; each for which ``moves`` says so
    rate : (), on the device; read at each step
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], rate: torch.Tensor) -> None:
        self._weights, self._rate = dict(weights), rate
        self.momenta = {name: torch.zeros_like(w) for name, w in self._weights.items()}
        """What it remembers, by the same names."""

    @torch.no_grad()
    def step(self) -> None:
        """One update by the gradients that the weights have."""
        for name, weight in self._weights.items():
            assert weight.grad is not None, f"{name} has no gradient"
            momentum = self.momenta[name]
            momentum.mul_(MOMENTUM).add_(weight.grad)
            ahead = _matrices(name, weight.grad + MOMENTUM * momentum)
            size = _SIZE * math.sqrt(max(ahead.shape[-2:]))
            update = _as_before(orthogonal(ahead) * size, weight)
            weight.sub_(update * self._rate)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (…, n, m) with the same singular vectors and singular values near 1 (0.7 to 1.2)."""
    a, b, c = _POLYNOMIAL
    found = matrices.bfloat16() if matrices.is_cuda else matrices
    upright = found.shape[-2] > found.shape[-1]
    if upright:
        found = found.mT
    found = found / (found.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return (found.mT if upright else found).to(matrices.dtype)


def _matrices(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A kernel as matrices: of an LSTM one for each gate, (4, n, units), else (1, n, out)."""
    flat = weight.flatten(0, -2)
    if "lstm_cell" in name:
        return flat.unflatten(-1, (GATES, -1)).transpose(0, 1)
    return flat.unsqueeze(0)


def _as_before(matrices: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What ``_matrices`` took apart, in the shape of the weight."""
    return matrices.transpose(0, 1).reshape(weight.shape)
