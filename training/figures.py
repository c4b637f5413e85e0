"""The thesis's figures of a run: learning rate, loss and accuracy, look by look.

Not here: the numbers (``records``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.files import replacing
from training.records import Look

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
