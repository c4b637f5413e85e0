"""The thesis's figures of a run, learning rate, loss and accuracy, and several runs side by side.

Not here: the numbers (``records``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.errors import TrainingError
from training.files import replacing
from training.records import Look, read_looks

FIGURE = "curves.png"
"""Its name in the run's folder."""


def draw(looks: Sequence[Look], title: str, path: Path) -> None:
    """Draw all looks of a run into a PNG file; at least one."""
    from matplotlib.figure import Figure

    steps = [look.step for look in looks]
    figure = Figure(figsize=(8.0, 9.0), layout="constrained")
    rate, loss, accuracy = figure.subplots(3, sharex=True)
    rate.plot(steps, [look.rate for look in looks], ".-", color="tab:green")
    rate.set(ylabel="learning rate", title=title)
    loss.plot(steps, [look.loss for look in looks], ".-", label="learnt from")
    loss.plot(steps, [look.held_out for look in looks], ".-", label="held out")
    best = min(looks, key=lambda look: look.held_out)
    loss.plot(best.step, best.held_out, "o", color="tab:red", fillstyle="none", label="kept")
    loss.set(ylabel="loss")
    loss.legend()
    accuracy.plot(steps, [100.0 * look.accuracy for look in looks], ".-", label="learnt from")
    accuracy.plot(steps, [100.0 * look.held_out_accuracy for look in looks], ".-", label="held out")
    accuracy.set(ylabel="accuracy: loudest bin found [%]", xlabel="updates")
    accuracy.legend()
    for axes in (rate, loss, accuracy):
        axes.grid(alpha=0.3)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=100)


def compare(runs: Mapping[str, Sequence[Look]], path: Path) -> None:
    """Draw loss and accuracy of each run, by name, into one PNG file.

    Each loss has an axis of its own: different losses cannot be compared.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_visible(False)
    for k, (name, looks) in enumerate(runs.items()):
        loss, accuracy = axes[2 * (k // columns) : 2 * (k // columns) + 2, k % columns]
        for panel in (loss, accuracy):
            panel.set_visible(True)
            panel.grid(alpha=0.3)
        steps = [look.step for look in looks]
        loss.plot(steps, [look.loss for look in looks], ".-", label="learnt from")
        loss.plot(steps, [look.held_out for look in looks], ".-", label="held out")
        accuracy.plot(steps, [100.0 * look.accuracy for look in looks], ".-")
        accuracy.plot(steps, [100.0 * look.held_out_accuracy for look in looks], ".-")
        accuracy.set(ylim=(0.0, 100.0))
        loss.set_title(name)
        if k % columns == 0:
            loss.set(ylabel="loss")
            accuracy.set(ylabel="accuracy [%]")
        if k == 0:
            loss.legend()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=80)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``denoise-app figures``."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Compare runs, each under the name of its folder; raises TrainingError for one without."""
    runs = {folder.resolve().name: read_looks(folder) for folder in args.runs}
    if len(runs) < len(args.runs):
        raise TrainingError("two of these runs have folders of one name: rename one")
    compare(runs, args.out)
    tell(f"wrote {args.out}\n")
