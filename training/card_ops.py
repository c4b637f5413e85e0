"""The operations that losses are made of, by PyTorch alone: as those of ``keras.ops``.

Keras's own on PyTorch bring each number to the card by itself and wait for it, which takes as
long as learning and keeps an update from being recorded (``card_learning``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from training.accelerated import device, has_tiles

_TILES = has_tiles()
"""Whether convolutions are rounded here; asked once, each update has a dozen of them."""


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """For what a compiled loss should run as it is: of rounded convolutions slopes become NaN."""
    if _TILES and device().type == "cpu":
        return torch.compiler.disable(function)
    return function


def convert_to_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Where the card computes."""
    return (
        array if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array)).to(device())
    )


def maximum(a: torch.Tensor, b: torch.Tensor | float) -> torch.Tensor:
    """The larger, element by element."""
    return torch.maximum(a, b) if isinstance(b, torch.Tensor) else a.clamp(min=b)


def minimum(a: torch.Tensor, b: torch.Tensor | float) -> torch.Tensor:
    """The smaller, element by element."""
    return torch.minimum(a, b) if isinstance(b, torch.Tensor) else a.clamp(max=b)


def clip(a: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Brought between both."""
    return a.clamp(low, high)


def mean(a: torch.Tensor, axis: int, keepdims: bool = False) -> torch.Tensor:
    """Along an axis."""
    return a.mean(dim=axis, keepdim=keepdims)


def sum(a: torch.Tensor, axis: int, keepdims: bool = False) -> torch.Tensor:
    """Along an axis."""
    return a.sum(dim=axis, keepdim=keepdims)


def max(a: torch.Tensor, axis: int) -> torch.Tensor:
    """Along an axis."""
    return a.amax(dim=axis)


def concatenate(parts: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """One after the other along an axis."""
    return torch.cat(list(parts), dim=axis)


def repeat(a: torch.Tensor, n: int, axis: int) -> torch.Tensor:
    """Each so often along an axis."""
    return a.repeat_interleave(n, dim=axis)


def where(condition: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One or the other, element by element."""
    return torch.where(condition, a, b)


def reshape(a: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """In another shape."""
    return a.reshape(tuple(shape))


def pad(a: torch.Tensor, widths: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Zeros before and after, for each axis."""
    return torch.nn.functional.pad(a, [n for pair in reversed(widths) for n in pair])


def matmul(a: torch.Tensor, b: Any) -> torch.Tensor:
    """A product of matrices; a constant may be an array."""
    return a @ convert_to_tensor(b)


def conv(a: torch.Tensor, kernel: torch.Tensor, padding: str) -> torch.Tensor:
    """Channels last, as Keras has them: (n, height, width, in), (height, width, in, out).

    Processors with tiles round to 8 bits of mantissa, and answer so: three times as fast.
    """
    kind = torch.bfloat16 if not a.is_cuda and _TILES else a.dtype
    moved = torch.nn.functional.conv2d(
        a.permute(0, 3, 1, 2).to(kind), kernel.permute(3, 2, 0, 1).to(kind), padding=padding
    )
    return moved.permute(0, 2, 3, 1)


def cast(a: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """As numbers of another kind."""
    return a.to(kind)


def max_pool(a: torch.Tensor, size: int, padding: str) -> torch.Tensor:
    """Channels last; what is left over at the ends is dropped (``valid``)."""
    assert padding == "valid"
    return torch.nn.functional.max_pool2d(a.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


abs, log, relu = torch.abs, torch.log, torch.relu
