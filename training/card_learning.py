"""Learning on a graphics card as fast as it goes: one recorded update that is played again.

Keras on PyTorch starts some thousand small pieces of work for each update, and a card waits for
most of them. Here the same network is put together of a few large products, convolutions as
products with banded matrices, all in order of time as the card's LSTMs want them; a CUDA graph
holds the whole update, from levels to averaged weights. Weights are Keras's own, by their names.
Processors learn by the same update where there is no card, step by step.
Not here: what is mixed (``accelerated``), what is learnt for (``objectives``), networks without
bands, which learn by Keras (``train.Learner``).
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from engine.errors import TrainingError
from engine.spec import PHASE_PARTS
from engine.stft import Float
from training import card_muon, networks
from training.accelerated import device, has_tiles
from training.bandwise import BACK_WIDTH, LAST_WIDTH, WIDTHS
from training.batches import Batch
from training.card_muon import Muon
from training.networks import STRETCH, Preset
from training.objectives import Objective
from training.settings import Settings
from training.train import Learner

_BEFORE_RECORDING = 3
"""Updates that are made step by step first: libraries choose their ways in them."""

_ROUNDED = torch.bfloat16
"""What large products are made of where that is fast; sums have more bits."""


def compiles() -> bool:
    """Whether a loss can be compiled: always on a card, on processors by a compiler of C++."""
    on_card = device().type == "cuda"
    return on_card or shutil.which(os.environ.get("CXX", "g++")) is not None


def learns(preset: Preset) -> bool:
    """Whether a network of this kind can be learnt here."""
    return bool(preset.bands) and not preset.settle and preset.normalisation == "training"


class BandNetwork:
    """A network of bands (``bandwise``) on weights of Keras on PyTorch.

    ``network(heard)``: (batch, time, n_heard) as of ``Batch`` to gains with the filter behind, and
    logits of speech (batch, time, 1), as the Keras model, but for the last layer's sigmoid. With
    ``rounded`` large products are made of numbers of eight bits of mantissa.
    """

    def __init__(self, model: Any, preset: Preset, rounded: bool = False) -> None:
        self.preset = preset
        self._rounded = rounded
        self.weights: dict[str, torch.Tensor] = {
            f"{layer.name}.{k}": variable.value
            for layer in model.layers
            for k, variable in enumerate(layer.weights)
        }
        bands, (first, second) = preset.bands, WIDTHS
        self._encoders = (
            _steps(bands, first, stride=2).to(device()),
            _steps(bands // 2, second, stride=2).to(device()),
        )
        # A transposed convolution is the other way round.
        self._decoders = tuple(
            _steps(n, BACK_WIDTH, stride=2).transpose(1, 2).contiguous().to(device())
            for n in (bands // 2, bands)
        )
        self._answers = _steps(bands, LAST_WIDTH).to(device())
        self._taps = _steps(preset.filter_bins or 1, LAST_WIDTH).to(device())

    def __call__(self, heard: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w, preset = self.weights, self.preset
        clips, time, _ = heard.shape
        n_bins = len(w["standardise.0"])
        noisy_db = heard[..., :n_bins]
        standard = ((noisy_db - w["standardise.0"]) / w["standardise.1"]).transpose(0, 1)
        standard = standard.reshape(time * clips, n_bins)
        seen = self._dense("bands", standard)
        if preset.phase:
            seen = self._with_phases(seen, heard[..., n_bins:])
        scales = []
        for k, steps in enumerate(self._encoders):
            seen = torch.relu(self._along(f"encode{k}", seen, steps))
            scales.append(seen)
        for k in range(preset.before):
            seen = self._around(f"before{k}", seen, (time, clips))
        known = torch.relu(self._dense("front", seen))
        for k in range(len(preset.units)):
            known = self._lstm(f"lstm{k}", known.reshape(time, clips, -1)).flatten(0, 1)
        seen = seen + self._dense("back", known)
        for k in range(preset.after):
            seen = self._around(f"after{k}", seen, (time, clips))
        for k, steps in enumerate(self._decoders):
            seen = torch.relu(self._back(f"decode{k}", (seen, scales.pop()), steps))
        answers = self._along("answers", seen, self._answers).unflatten(-1, (-1, 2)).float()
        opening = self._exactly("gain", answers[..., 0])
        if preset.detail:
            contrast = self._exactly("contrast", standard)
            opening = opening + self._exactly("slope", answers[..., 1]) * contrast
        scale, offset = STRETCH
        gain = (scale * torch.sigmoid(opening) + offset).clamp(0.0, 1.0)
        parts = [gain, self._filter(seen)] if preset.filter_taps else [gain]
        speech = self._exactly("speech", known)
        return _clips_first(torch.cat(parts, dim=-1), clips), _clips_first(speech, clips)

    def _with_phases(self, bands: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        """Levels and phases of each band side by side: (n, bands · 5)."""
        preset = self.preset
        parts = phases.transpose(0, 1).reshape(len(bands), PHASE_PARTS, preset.phase_bins)
        rest = preset.bands - preset.phase_bins
        parts = torch.nn.functional.pad(parts, (0, rest)).to(bands.dtype)
        return torch.cat([bands.unsqueeze(1), parts], dim=1).transpose(1, 2).flatten(1)

    def _filter(self, seen: torch.Tensor) -> torch.Tensor:
        bins, taps = self.preset.filter_bins, self.preset.filter_taps
        low = seen.unflatten(-1, (self.preset.bands, -1))[:, :bins].flatten(1)
        found = self._along("taps", low, self._taps).float().unflatten(-1, (bins, 2 * taps))
        turned = (found * self.weights["turn.0"]).unflatten(-1, (2, taps))
        return turned.permute(0, 3, 1, 2).flatten(1)

    def _around(self, name: str, seen: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        time, clips = size
        channels = self.weights[f"{name}.0"].shape[0]
        places = seen.reshape(time, -1, channels)
        heard = self._lstm(name, places)
        found = self._dense(f"{name}_out", heard.flatten(0, 1)).reshape(time * clips, -1)
        return seen + found

    def _lstm(self, name: str, seen: torch.Tensor) -> torch.Tensor:
        """(time, clips, n) to (time, clips, units)."""
        kernel, recurrent, bias = (self.weights[f"{name}.{k}"] for k in range(3))
        units = recurrent.shape[0]
        if seen.is_cuda:
            from training import card_kernels

            if units <= card_kernels.WIDEST:
                return card_kernels.lstm(seen.float(), kernel, recurrent, bias)
        state = torch.zeros((1, seen.shape[1], units), device=seen.device)
        flat = [kernel.t().contiguous(), recurrent.t().contiguous(), bias, torch.zeros_like(bias)]
        # cuDNN rounds by itself; on processors sums have more bits than what is summed.
        kind = _ROUNDED if self._rounded and not seen.is_cuda else torch.float32
        with warnings.catch_warnings():
            # Keras keeps them apart; to bring them together takes no time worth the name.
            warnings.filterwarnings("ignore", message="RNN module weights")
            heard, _, _ = torch._VF.lstm(
                seen.to(kind),
                (state.to(kind), state.to(kind)),
                [weight.to(kind) for weight in flat],
                True,
                1,
                0.0,
                True,
                False,
                False,
            )
        return heard

    def _dense(self, name: str, seen: torch.Tensor) -> torch.Tensor:
        return self._product(seen, self.weights[f"{name}.0"], self.weights[f"{name}.1"])

    def _product(
        self, seen: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Seen · matrix + bias."""
        if self._rounded:
            seen, matrix = seen.to(_ROUNDED), matrix.to(_ROUNDED)
            bias = None if bias is None else bias.to(_ROUNDED)
        return seen @ matrix if bias is None else torch.addmm(bias, seen, matrix)

    def _exactly(self, name: str, seen: torch.Tensor) -> torch.Tensor:
        """The same of answers, which nothing rounds but the card's own products."""
        return seen.float() @ self.weights[f"{name}.0"] + self.weights[f"{name}.1"]

    def _along(self, name: str, seen: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """A convolution along frequency: (n, places · channels)."""
        kernel, bias = self.weights[f"{name}.0"][0], self.weights[f"{name}.1"]
        return self._product(seen, _banded(steps, kernel), bias.repeat(steps.shape[2]))

    def _back(
        self, name: str, parts: tuple[torch.Tensor, torch.Tensor], steps: torch.Tensor
    ) -> torch.Tensor:
        """A transposed one, of what comes from below and of what it is to be laid beside."""
        kernel, bias = self.weights[f"{name}.0"][0].transpose(1, 2), self.weights[f"{name}.1"]
        n = parts[0].shape[-1] // steps.shape[1]
        first = self._product(parts[0], _banded(steps, kernel[:, :n]), bias.repeat(steps.shape[2]))
        return first + self._product(parts[1], _banded(steps, kernel[:, n:]), None)


class CardLearner(Learner):
    """As ``train.Learner``, for networks of bands; ``learn`` does not wait for the card."""

    def __init__(
        self,
        chosen: Settings,
        preset: Preset,
        objective: Objective,
        mean_db: Float,
        deviation: Float,
    ) -> None:
        super().__init__(chosen, preset, objective, mean_db, deviation)
        on_card = device().type == "cuda"
        self.network = BandNetwork(self.model, preset, rounded=on_card or has_tiles())
        self._trained: list[torch.Tensor] = [v.value for v in self.model.trainable_variables]
        self._names = [v.path for v in self.model.trainable_variables]
        self._clip, self._decay = chosen.optimiser.clip, chosen.optimiser.average
        self._rate = torch.tensor(chosen.optimiser.rate, device=device())
        named = dict(zip(self._names, self._trained, strict=True))
        by_muon = chosen.optimiser.kind == "muon"
        moved = {name: p for name, p in named.items() if by_muon and card_muon.moves(name, p)}
        self._muon = Muon(moved, self._rate)
        self._by_adam = [p for name, p in named.items() if name not in moved]
        self._adam = torch.optim.Adam(
            self._by_adam, lr=self._rate, eps=1e-7, fused=on_card, capturable=on_card
        )
        self._average = [p.detach().clone() for p in self._trained]
        self._loss = torch.zeros((), device=device())
        self._graph: Any = None
        self._inputs: list[torch.Tensor] = []
        self._side = torch.cuda.Stream() if on_card else None
        self._made = 0
        # For any shape, rounded convolutions do not compile; each batch has the same.
        compiled = torch.compile(self._compared, dynamic=False)
        self._losses = compiled if compiles() else self._compared

    def begin_with(self, weights: dict[str, np.ndarray]) -> None:
        super().begin_with(weights)
        with torch.no_grad():
            torch._foreach_copy_(self._average, self._trained)

    def learn(self, batch: Batch, rate: float) -> Any:
        """One update; returns the loss before it, a number that is on the card still."""
        self._rate.fill_(rate)
        told = self._told(batch)
        self._made += 1
        if self._side is None:
            self._update(*told)
        elif self._made <= _BEFORE_RECORDING:
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                self._update(*told)
            torch.cuda.current_stream().wait_stream(self._side)
        else:
            if self._graph is None:
                self._record(told)
            for mine, its in zip(self._inputs, told, strict=True):
                mine.copy_(its)
            self._graph.replay()
        return self._loss.clone()

    def look(self, batches: list[Batch]) -> tuple[float, float]:
        losses, accuracies = [], []
        with torch.no_grad():
            for batch in batches:
                heard, whole, speech = self._told(batch)
                made, logit = self.network(heard)
                losses.append(float(self._compared(whole, speech, made, logit)))
                noisy_db: Any = batch.noisy_db
                found = noisy_db + 20.0 * torch.log10(made[..., : noisy_db.shape[-1]])
                same = found.argmax(dim=-1) == torch.argmax(batch.clean_db, dim=-1)
                accuracies.append(float(same.float().mean()))
        return float(np.mean(losses)), float(np.mean(accuracies))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        own = [p.detach().clone() for p in self._trained]
        self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    def arrays(self) -> dict[str, np.ndarray]:
        arrays = networks.weights_of(self.model)
        for name, array in self._remembered().items():
            arrays[f"optimiser.{name}"] = array.detach().cpu().numpy().copy()
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        networks.set_weights(self.model, arrays)
        for p in self._by_adam:
            step = torch.zeros((), device=device() if self._side is not None else None)
            self._adam.state[p] = {
                "step": step,
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        for name, tensor in self._remembered().items():
            if f"optimiser.{name}" not in arrays:
                raise TrainingError("the checkpoint is of another optimiser: resume it as it began")
            tensor.copy_(torch.from_numpy(arrays[f"optimiser.{name}"]))

    def _remembered(self) -> dict[str, torch.Tensor]:
        """What the optimiser remembers, averages with it."""
        named = {
            f"{name}.{what}": tensor
            for name, p in zip(self._names, self._trained, strict=True)
            for what, tensor in self._adam.state.get(p, {}).items()
        }
        averages = zip(self._names, self._average, strict=True)
        named |= {f"{name}.momentum": tensor for name, tensor in self._muon.momenta.items()}
        return named | {f"{name}.average": tensor for name, tensor in averages}

    def _put(self, weights: list[torch.Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._trained, weights)

    def _told(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        whole, speech = self.objective.targets(batch)
        return batch.heard, whole, speech  # tensors on the card

    def _record(self, told: tuple[torch.Tensor, ...]) -> None:
        """The update as a CUDA graph: it makes none yet."""
        self._inputs = [tensor.clone() for tensor in told]
        self.model.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._update(*self._inputs)

    def _update(self, heard: torch.Tensor, whole: torch.Tensor, speech: torch.Tensor) -> None:
        self.model.zero_grad()  # the optimiser's knows nothing of what Muon moves
        made, logit = self.network(heard)
        loss = self._losses(whole, speech, made, logit)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
        self._adam.step()
        self._muon.step()
        with torch.no_grad():
            self._loss.copy_(loss)
            torch._foreach_lerp_(self._average, self._trained, 1.0 - self._decay)

    def _compared(
        self, whole: torch.Tensor, speech: torch.Tensor, made: torch.Tensor, logit: torch.Tensor
    ) -> torch.Tensor:
        first, second = self.objective.loss_weights
        heard = torch.nn.functional.binary_cross_entropy_with_logits(logit, speech)
        return first * self.objective.losses[0](whole, made).mean() + second * heard


def _banded(steps: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """A convolution's kernel (taps, in, out) as a matrix (places · in, places after · out)."""
    whole = torch.einsum("tio,tcd->icod", steps, kernel)
    return whole.flatten(2).flatten(0, 1)


def _steps(n_in: int, width: int, stride: int = 1) -> torch.Tensor:
    """Which tap leads from where to where, with as many zeros around as ``same`` has.

    Returns
    -------
    (width, n_in, n_in / stride), 1 or 0
    """
    n_out = -(-n_in // stride)
    left = max((n_out - 1) * stride + width - n_in, 0) // 2
    made = torch.zeros((width, n_in, n_out))
    for k in range(width):
        for o in range(n_out):
            if 0 <= (i := o * stride + k - left) < n_in:
                made[k, i, o] = 1.0
    return made


def _clips_first(made: torch.Tensor, clips: int) -> torch.Tensor:
    return made.unflatten(0, (-1, clips)).transpose(0, 1).contiguous()
