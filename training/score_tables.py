"""Scores as Markdown and as plain values for JSON.

Not here: how they come about (``evaluate``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.scores import DECIMALS, HEADINGS, Scores
from training.systems import Item


class Clip(NamedTuple):
    """One item after one system."""

    item: Item
    scores: Scores
    problems: tuple[str, ...] = ()
    """What could not be measured, and counts as lowest."""


class CleanResult(NamedTuple):
    """What a model does to speech that needs no cleaning."""

    name: str
    si_sdr: float
    """After the model [dB]."""
    si_sdr_of_pipeline: float
    """After the same pipeline with a gain of 1 [dB]: what the band alone costs."""
    pesq_nb: float
    """After the model, against that pipeline's output."""


def table(systems: Mapping[str, Sequence[Clip]]) -> str:
    """Markdown: the means of every system, each figure by SNR, and what went wrong."""
    lines = [_row("system", *HEADINGS), _rule(len(HEADINGS))]
    for name, clips in systems.items():
        lines.append(_row(name, *map(_text, means(clips), DECIMALS)))
    steps = sorted({clip.item.snr_db for clips in systems.values() for clip in clips})
    for k, heading in enumerate(HEADINGS[:-1]):  # the processor time does not depend on it
        by_snr = {
            name: [means([c for c in clips if c.item.snr_db == snr])[k] for snr in steps]
            for name, clips in systems.items()
        }
        known = {name: row for name, row in by_snr.items() if not all(map(math.isnan, row))}
        if not known:
            continue
        lines += ["", f"**{heading}** by SNR [dB]", ""]
        lines += [_row("system", *(f"{snr:g}" for snr in steps)), _rule(len(steps))]
        for name, row in known.items():
            lines.append(_row(name, *(_text(value, DECIMALS[k]) for value in row)))
    for name, clips in systems.items():
        troubled = [clip for clip in clips if clip.problems]
        if troubled:
            lines += [
                "",
                f"{name}: {len(troubled)} of {len(clips)} clips could not be scored in full and "
                "count as lowest there:",
            ]
            lines += [f"- {c.item.name}: {'; '.join(c.problems)}" for c in troubled]
    return "\n".join(lines) + "\n"


def clean_table(results: Mapping[str, Sequence[CleanResult]]) -> str:
    """Markdown: what each model does to clean speech, on average and at worst."""
    headings = (
        "SI-SDR [dB]",
        "with gain 1 [dB]",
        "lost [dB]",
        "lost at worst [dB]",
        "PESQ-NB against gain 1",
        "at worst",
    )
    lines = [_row("clean speech", *headings), _rule(len(headings))]
    for name, of_model in results.items():
        lines.append(_row(name, *(f"{value:.2f}" for value in clean_summary(of_model).values())))
    return "\n".join(lines) + "\n"


def means(clips: Sequence[Clip]) -> Scores:
    """Mean of each figure over the clips that have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of none is NaN, as told
        return Scores(*np.nanmean([clip.scores for clip in clips], axis=0).tolist())


def summary(clips: Sequence[Clip]) -> dict[str, float | None]:
    """Mean of each figure over a test set, by name; None where no clip has it."""
    return _plain(means(clips))


def clean_summary(results: Sequence[CleanResult]) -> dict[str, float]:
    """What a model does to clean speech, by name."""
    lost = [r.si_sdr_of_pipeline - r.si_sdr for r in results]
    return {
        "si_sdr": float(np.mean([r.si_sdr for r in results])),
        "si_sdr_of_pipeline": float(np.mean([r.si_sdr_of_pipeline for r in results])),
        "lost": float(np.mean(lost)),
        "lost_at_worst": max(lost),
        "pesq_nb": float(np.mean([r.pesq_nb for r in results])),
        "pesq_nb_at_worst": min(r.pesq_nb for r in results),
    }


def told(
    systems: Mapping[str, Sequence[Clip]], clean: Mapping[str, Sequence[CleanResult]]
) -> dict[str, Any]:
    """Everything that was measured, ready for JSON; figures that do not apply are null."""
    return {
        "systems": {
            name: {
                "mean": summary(clips),
                "by_snr": {
                    f"{snr:g}": summary([c for c in clips if c.item.snr_db == snr])
                    for snr in sorted({c.item.snr_db for c in clips})
                },
                "clips": [
                    {
                        "id": clip.item.name,
                        "snr_db": clip.item.snr_db,
                        **_plain(clip.scores),
                        "problems": list(clip.problems),
                    }
                    for clip in clips
                ],
            }
            for name, clips in systems.items()
        },
        "clean": {
            name: {"mean": clean_summary(results), "clips": [r._asdict() for r in results]}
            for name, results in clean.items()
        },
    }


def _plain(scores: Scores) -> dict[str, float | None]:
    return {
        name: None if math.isnan(value) else round(float(value), 4)
        for name, value in scores._asdict().items()
    }


def _text(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(n_figures: int) -> str:
    return "|---|" + "---:|" * n_figures
