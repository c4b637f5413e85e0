"""The operations that losses are made of, by PyTorch alone: as those of ``keras.ops``.

Keras's own on PyTorch bring each number to the card by itself and wait for it, which takes as
long as learning and keeps an update from being recorded (``card_learning``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from training.accelerated import device

Tensor = torch.Tensor


def convert_to_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Where the card computes."""
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array)).to(device())


def maximum(a: Tensor, b: Tensor | float) -> Tensor:
    """The larger, element by element."""
    return torch.maximum(a, b) if isinstance(b, Tensor) else a.clamp(min=b)


def minimum(a: Tensor, b: Tensor | float) -> Tensor:
    """The smaller, element by element."""
    return torch.minimum(a, b) if isinstance(b, Tensor) else a.clamp(max=b)


def clip(a: Tensor, low: float, high: float) -> Tensor:
    """Brought between both."""
    return a.clamp(low, high)


def mean(a: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Along an axis."""
    return a.mean(dim=axis, keepdim=keepdims)


def sum(a: Tensor, axis: int, keepdims: bool = False) -> Tensor:
    """Along an axis."""
    return a.sum(dim=axis, keepdim=keepdims)


def max(a: Tensor, axis: int) -> Tensor:
    """Along an axis."""
    return a.amax(dim=axis)


def concatenate(parts: Sequence[Tensor], axis: int) -> Tensor:
    """One after the other along an axis."""
    return torch.cat(list(parts), dim=axis)


def repeat(a: Tensor, n: int, axis: int) -> Tensor:
    """Each so often along an axis."""
    return a.repeat_interleave(n, dim=axis)


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """One or the other, element by element."""
    return torch.where(condition, a, b)


def reshape(a: Tensor, shape: Sequence[int]) -> Tensor:
    """In another shape."""
    return a.reshape(tuple(shape))


def pad(a: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros before and after, for each axis."""
    return torch.nn.functional.pad(a, [n for pair in reversed(widths) for n in pair])


def matmul(a: Tensor, b: Any) -> Tensor:
    """A product of matrices; a constant may be an array."""
    return a @ convert_to_tensor(b)


def conv(a: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """Channels last, as Keras has them: (n, height, width, in), (height, width, in, out)."""
    moved = torch.nn.functional.conv2d(
        a.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=padding
    )
    return moved.permute(0, 2, 3, 1)


def max_pool(a: Tensor, size: int, padding: str) -> Tensor:
    """Channels last; what is left over at the ends is dropped (``valid``)."""
    assert padding == "valid"
    return torch.nn.functional.max_pool2d(a.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


abs, log, relu = torch.abs, torch.log, torch.relu
