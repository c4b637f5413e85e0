"""What a graphics card does faster by programs of our own, in Triton.

**Narrow LSTMs over many clips at once.** Layers that all places share (``bandwise``) are LSTMs of
some fifty units over thousands of sequences. cuDNN's way back through such a one takes six times
as long as its way there; here some sequences stay with one multiprocessor from the first frame to
the last, with their state in its registers and the recurrent weights beside it. Products are
rounded as the card rounds them (TF32). Wide LSTMs are left to cuDNN.

**Sound at another speed.** A windowed sinc takes ten products for each sample; one after the
other over all of a batch, as PyTorch would, each would go through all of the card's memory.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

WIDEST = 64
"""Units of the widest LSTM that fits."""

_ROWS = 32
"""Sequences that stay together."""

_BLOCK = 1024
"""Samples that are played together."""


def play(samples: torch.Tensor, place: torch.Tensor, sinc: torch.Tensor) -> torch.Tensor:
    """Sound between samples.

    Parameters
    ----------
    samples : (n,) int16
    place : float64 of any shape [samples]
    sinc : (taps, phases + 1) float32

    Returns
    -------
    float32 in [-1, 1), of the shape of ``place``
    """
    place = place.contiguous()
    made = torch.empty(place.shape, device=place.device)
    taps, phases = sinc.shape[0], sinc.shape[1] - 1
    _play[(triton.cdiv(place.numel(), _BLOCK),)](
        samples, place, sinc, made, place.numel(), len(samples) - 1, taps, phases, _BLOCK
    )
    return made


def lstm(
    seen: torch.Tensor, kernel: torch.Tensor, recurrent: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """What an LSTM makes of sequences that begin with an empty state.

    Parameters
    ----------
    seen : (time, sequences, n) float32 on the card
    kernel, recurrent, bias : (n, 4 · units), (units, 4 · units) and (4 · units,), gates in
        Keras's order: input, forget, candidate, output; at most ``WIDEST`` units

    Returns
    -------
    (time, sequences, units)
    """
    entering = torch.addmm(bias, seen.flatten(0, 1), kernel)
    return _Recurrence.apply(entering.reshape(*seen.shape[:2], -1), recurrent)


class _Recurrence(torch.autograd.Function):
    """From what enters the gates (time, sequences, 4 · units) to the outputs."""

    @staticmethod
    def forward(ctx: Any, entering: torch.Tensor, recurrent: torch.Tensor) -> torch.Tensor:
        time, n, width = entering.shape
        units = width // 4
        entering, recurrent = entering.contiguous(), recurrent.contiguous()
        gates = torch.empty_like(entering)
        cells = entering.new_empty((time, n, units))
        made = torch.empty_like(cells)
        _there[(triton.cdiv(n, _ROWS),)](
            entering,
            recurrent,
            gates,
            cells,
            made,
            n,
            time,
            units,
            WIDEST,
            _ROWS,
            num_warps=8,
            num_stages=2,
        )
        ctx.save_for_backward(recurrent, gates, cells, made)
        return made

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        recurrent, gates, cells, made = ctx.saved_tensors
        time, n, units = made.shape
        at_gates = torch.empty_like(gates)
        _back[(triton.cdiv(n, _ROWS),)](
            slopes[0].contiguous(),
            recurrent,
            gates,
            cells,
            at_gates,
            n,
            time,
            units,
            WIDEST,
            _ROWS,
            num_warps=8,
            num_stages=2,
        )
        before = made[:-1].reshape(-1, units)
        return at_gates, before.t() @ at_gates[1:].reshape(-1, 4 * units)


@triton.jit
def _play(
    samples,
    places,
    sinc,
    made,
    n,
    last,
    taps: tl.constexpr,
    phases: tl.constexpr,
    block: tl.constexpr,
):
    k = tl.program_id(0) * block + tl.arange(0, block)
    there = k < n
    place = tl.load(places + k, mask=there, other=0.0)
    base = tl.floor(place)
    phase = tl.floor((place - base) * phases + 0.5).to(tl.int32)
    first = base.to(tl.int64) - (taps // 2 - 1)
    heard = tl.zeros((block,), tl.float32)
    for tap in range(taps):
        at = tl.minimum(tl.maximum(first + tap, 0), last)
        weight = tl.load(sinc + tap * (phases + 1) + phase, mask=there, other=0.0)
        heard += weight * tl.load(samples + at, mask=there, other=0).to(tl.float32)
    tl.store(made + k, heard * (1.0 / 32768.0), mask=there)


@triton.jit
def _four(at, units: tl.constexpr, there):
    """What is there of each of the four gates, in Keras's order."""
    return (
        tl.load(at, mask=there, other=0.0),
        tl.load(at + units, mask=there, other=0.0),
        tl.load(at + 2 * units, mask=there, other=0.0),
        tl.load(at + 3 * units, mask=there, other=0.0),
    )


@triton.jit
def _keep_four(at, units: tl.constexpr, there, a, b, c, d):
    tl.store(at, a, mask=there)
    tl.store(at + units, b, mask=there)
    tl.store(at + 2 * units, c, mask=there)
    tl.store(at + 3 * units, d, mask=there)


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _there(
    entering,
    recurrent,
    gates,
    cells,
    made,
    n,
    time,
    units: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)[:, None]
    unit = tl.arange(0, width)[None, :]
    there = (row < n) & (unit < units)
    source = tl.arange(0, width)[:, None]
    weight = recurrent + source * (4 * units) + unit
    known = (source < units) & (unit < units)
    to_input, to_forget, to_candidate, to_output = _four(weight, units, known)
    out = tl.zeros((rows, width), tl.float32)
    cell = tl.zeros((rows, width), tl.float32)
    place, own = row * (4 * units) + unit, row * units + unit
    for _ in range(time):
        a, b, c, d = _four(entering + place, units, there)
        a = tl.sigmoid(a + tl.dot(out, to_input))
        b = tl.sigmoid(b + tl.dot(out, to_forget))
        c = _tanh(c + tl.dot(out, to_candidate))
        d = tl.sigmoid(d + tl.dot(out, to_output))
        cell = b * cell + a * c
        out = d * _tanh(cell)
        # Past the last unit a sigmoid of nothing is a half: no other unit may hear of it.
        out = tl.where(there, out, 0.0)
        _keep_four(gates + place, units, there, a, b, c, d)
        tl.store(cells + own, cell, mask=there)
        tl.store(made + own, out, mask=there)
        # Places would need 64 bits: from frame to frame the beginnings move.
        entering += n * (4 * units)
        gates += n * (4 * units)
        cells += n * units
        made += n * units


@triton.jit
def _back(
    slopes,
    recurrent,
    gates,
    cells,
    at_gates,
    n,
    time,
    units: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)[:, None]
    unit = tl.arange(0, width)[None, :]
    there = (row < n) & (unit < units)
    gate = tl.arange(0, width)[:, None]
    # Transposed: from a gate to the unit that it heard.
    weight = recurrent + unit * (4 * units) + gate
    known = (gate < units) & (unit < units)
    of_input, of_forget, of_candidate, of_output = _four(weight, units, known)
    later = tl.zeros((rows, width), tl.float32)
    at_cell = tl.zeros((rows, width), tl.float32)
    place, own = row * (4 * units) + unit, row * units + unit
    for _ in range(time - 1):
        slopes += n * units
        cells += n * units
        gates += n * (4 * units)
        at_gates += n * (4 * units)
    for since in range(time):
        a, b, c, d = _four(gates + place, units, there)
        cell = tl.load(cells + own, mask=there, other=0.0)
        cells -= n * units
        before = tl.load(cells + own, mask=there & (since < time - 1), other=0.0)
        slope = tl.load(slopes + own, mask=there, other=0.0) + later
        loud = _tanh(cell)
        at_cell += slope * d * (1.0 - loud * loud)
        at_output = slope * loud * d * (1.0 - d)
        at_input = at_cell * c * a * (1.0 - a)
        at_forget = at_cell * before * b * (1.0 - b)
        at_candidate = at_cell * a * (1.0 - c * c)
        at_cell = at_cell * b
        later = tl.dot(at_input, of_input) + tl.dot(at_forget, of_forget)
        later += tl.dot(at_candidate, of_candidate) + tl.dot(at_output, of_output)
        _keep_four(at_gates + place, units, there, at_input, at_forget, at_candidate, at_output)
        slopes -= n * units
        gates -= n * (4 * units)
        at_gates -= n * (4 * units)
