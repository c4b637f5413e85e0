"""Scores as Markdown and as plain values for JSON.

Not here: how they come about (``evaluate``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.scores import DECIMALS, HEADINGS, OCTAVES_HZ, Scores
from training.systems import Item


class Clip(NamedTuple):
    """One item after one system."""

    item: Item
    scores: Scores
    problems: tuple[str, ...] = ()
    """What could not be measured, and counts as lowest."""
    lag: int = 0
    """By which the system is late [samples at the item's rate]."""
    starts_db: tuple[float, ...] = ()
    """What each word start lost [dB]."""


class CleanResult(NamedTuple):
    """What a model does to speech that needs no cleaning."""

    name: str
    si_sdr: float
    """After the model [dB]."""
    si_sdr_of_pipeline: float
    """After the same pipeline with a gain of 1 [dB]: what the band alone costs."""
    pesq_nb: float
    """After the model, against that pipeline's output."""
    pesq_wb: float
    """The same, wide-band."""
    octaves: tuple[float, ...]
    """``scores.octave_losses_db`` against it [dB]."""


class LimitedResult(NamedTuple):
    """What a narrow source costs a system: PESQ-WB against the whole clean speech."""

    whole: float
    """After the system, of the clip as it is."""
    limited: float
    """After the system, of the clip through the narrow source."""
    limit: float
    """Of the clean speech itself through it."""


# PESQ's own scale ends here: clean speech against itself.
_BEST_PESQ_WB = 4.64


def table(systems: Mapping[str, Sequence[Clip]]) -> str:
    """Markdown: the means of every system, each figure by SNR, and what went wrong."""
    lines = [row("system", *HEADINGS), rule(len(HEADINGS))]
    for name, clips in systems.items():
        lines.append(row(name, *map(text, means(clips), DECIMALS)))
    lines += by_snr(systems)
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


def by_snr(systems: Mapping[str, Sequence[Clip]]) -> list[str]:
    """Lines of Markdown: one table of each figure, a column for each SNR of the clips."""
    lines: list[str] = []
    steps = sorted({clip.item.snr_db for clips in systems.values() for clip in clips})
    for k, heading in enumerate(HEADINGS[:-1]):  # the processor time does not depend on it
        at_steps = {
            name: [means([c for c in clips if c.item.snr_db == snr])[k] for snr in steps]
            for name, clips in systems.items()
        }
        known = {name: v for name, v in at_steps.items() if not all(map(math.isnan, v))}
        if not known:
            continue
        lines += ["", f"**{heading}** by SNR [dB]", ""]
        lines += [row("system", *(f"{snr:g}" for snr in steps)), rule(len(steps))]
        for name, values in known.items():
            lines.append(row(name, *(text(value, DECIMALS[k]) for value in values)))
    return lines


def clean_table(results: Mapping[str, Sequence[CleanResult]]) -> str:
    """Markdown: what each model does to clean speech, on average and at worst."""
    headings = (
        "SI-SDR [dB]",
        "with gain 1 [dB]",
        "lost [dB]",
        "lost at worst [dB]",
        "PESQ-NB against gain 1",
        "at worst",
        "PESQ-WB against gain 1",
        "at worst",
    )
    lines = [row("clean speech", *headings), rule(len(headings))]
    for name, of_model in results.items():
        lines.append(row(name, *(f"{value:.2f}" for value in clean_summary(of_model).values())))
    lines += ["", "Energy of clean speech lost by octave [dB], mean / worst clip", ""]
    lines += [row("centre [Hz]", *map(str, OCTAVES_HZ)), rule(len(OCTAVES_HZ))]
    for name, of_model in results.items():
        lost = np.array([result.octaves for result in of_model])
        lines.append(row(name, *(_mean_and_worst(column) for column in lost.T)))
    return "\n".join(lines) + "\n"


def limited_table(results: Mapping[str, Mapping[int, Sequence[LimitedResult]]]) -> str:
    """Markdown: what each system loses of narrow sources beside what these lose themselves."""
    headings = ("source [Hz]", "whole clips", "narrow clips", "lost", "lost by clean speech itself")
    lines = [row("PESQ-WB", *headings), rule(len(headings))]
    for name, by_rate in results.items():
        for rate, clips in by_rate.items():
            whole, limited, limit = np.mean(clips, axis=0)
            cells = (whole, limited, whole - limited, _BEST_PESQ_WB - limit)
            lines.append(row(name, str(rate), *(text(cell, 2) for cell in cells)))
    return "\n".join(lines) + "\n"


def means(clips: Sequence[Clip]) -> Scores:
    """Mean of each figure over the clips that have it; of word starts the median of all."""
    starts_db = [loss_db for clip in clips for loss_db in clip.starts_db]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of none is NaN, as told
        found = Scores(*np.nanmean([clip.scores for clip in clips], axis=0).tolist())
    return found._replace(starts=float(np.median(starts_db))) if starts_db else found


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
        "pesq_wb": float(np.mean([r.pesq_wb for r in results])),
        "pesq_wb_at_worst": min(r.pesq_wb for r in results),
    }


def told(
    systems: Mapping[str, Sequence[Clip]],
    clean: Mapping[str, Sequence[CleanResult]],
    limited: Mapping[str, Mapping[int, Sequence[LimitedResult]]] | None = None,
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
            name: {"mean": clean_summary(results), "clips": [_clean_plain(r) for r in results]}
            for name, results in clean.items()
        },
        "limited": {
            name: {
                str(rate): [{k: round(v, 4) for k, v in clip._asdict().items()} for clip in clips]
                for rate, clips in by_rate.items()
            }
            for name, by_rate in (limited or {}).items()
        },
    }


def _plain(scores: Scores) -> dict[str, float | None]:
    return {
        name: None if math.isnan(value) else round(float(value), 4)
        for name, value in scores._asdict().items()
    }


def _clean_plain(result: CleanResult) -> dict[str, Any]:
    lost = [None if math.isnan(value) else round(value, 4) for value in result.octaves]
    return result._asdict() | {"octaves": lost}


def text(value: float, decimals: int) -> str:
    """A figure, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def _mean_and_worst(losses_db: np.ndarray) -> str:
    known = losses_db[np.isfinite(losses_db)]
    if not len(known):
        return "–"
    # A loss of −0.04 dB is none: no sign before a zero.
    return " / ".join(f"{round(float(v), 1) + 0.0:.1f}" for v in (known.mean(), known.max()))


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def rule(n_figures: int) -> str:
    """The line under a table's head: a name and so many figures."""
    return "|---|" + "---:|" * n_figures
