"""How recordings sound, in pictures: what a model's own transform makes of them, and counts.

Sounds come by name, ``voice``, ``noise`` and ``mixture``; those that are not there are left
out. Each figure is a PNG that can be read on a telephone. Not here: which sounds
(``explore_sounds``), and what is written around the pictures (``explore_page``).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float, stft, to_db
from training.explore_tables import plain

Sounds = Mapping[str, Float]
"""By name: (n_samples,) at the model's rate, all of one length."""

_COLOURS = {"voice": "tab:blue", "noise": "tab:orange", "mixture": "0.35", "speech": "tab:blue"}
_RANGE_DB = 80.0
_WIDTH = 6.4
_ENVELOPE_S = 0.01
_CLASS_DB = 2.0
_MOST_BARS = 12


def _figure(height: float, rows: int = 1, columns: int = 1, **how: Any) -> tuple[Any, Any]:
    """A figure of our width [inches], and its panels in one list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **how).flat)


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A language may be written in letters that the font has not: boxes take their place.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(content, format="png")
    return content.getvalue()


def _khz(spec: ModelSpec, n_bins: int) -> Float:
    return np.arange(n_bins, dtype=np.float32) * np.float32(spec.sample_rate / spec.n_fft / 1000.0)


def _levels_db(sounds: Sounds, spec: ModelSpec) -> dict[str, Float]:
    """(n_frames, n_spectrum) of each sound [dB re full-scale sine]."""
    return {name: to_db(stft(sound, spec), spec) for name, sound in sounds.items()}


def _network_s_end(axis: Any, spec: ModelSpec, horizontal: bool = False) -> None:
    """Where the highest bin lies that the network sees, if it does not see all."""
    if spec.n_bins < spec.n_spectrum:
        place = spec.n_bins * spec.sample_rate / spec.n_fft / 1000.0
        (axis.axhline if horizontal else axis.axvline)(place, color="tab:red", lw=1.0, ls="--")


def spectrograms(sounds: Sounds, spec: ModelSpec) -> bytes:
    """Level by time and frequency, a panel for each sound, one scale for all."""
    levels = _levels_db(sounds, spec)
    figure, axes = _figure(0.7 + 2.3 * len(levels), len(levels), sharex=True, sharey=True)
    top_db = 5.0 * np.ceil(max(float(one.max()) for one in levels.values()) / 5.0)
    image: Any = None
    for axis, (name, one) in zip(axes, levels.items(), strict=True):
        image = axis.imshow(
            one.T,
            origin="lower",
            aspect="auto",
            extent=(0.0, len(one) * spec.hop_s, 0.0, spec.sample_rate / 2000.0),
            interpolation="nearest",
            cmap="magma",
            vmin=top_db - _RANGE_DB,
            vmax=top_db,
        )
        axis.set_title(name, loc="left")
        axis.set_ylabel("frequency [kHz]")
        _network_s_end(axis, spec, horizontal=True)
    axes[-1].set_xlabel("time [s]")
    figure.colorbar(image, ax=axes, label="level [dB]", pad=0.01, aspect=40)
    return _png(figure)


def spectra(sounds: Sounds, spec: ModelSpec) -> bytes:
    """Transforms over one another: means over time, and the frame in which the first is loudest."""
    levels = _levels_db(sounds, spec)
    first = next(iter(levels.values()))
    whole = min(-(-spec.n_fft // spec.hop), len(first) - 1)  # frames before hold a sudden start
    loudest = whole + int(np.argmax(np.sum(10.0 ** (first[whole:] / 10.0), axis=1)))
    figure, axes = _figure(6.0, 2, sharex=True)
    lows = []
    for name, one in levels.items():
        mean_db = 10.0 * np.log10(np.mean(10.0 ** (one / 10.0), axis=0))
        lows += [np.percentile(mean_db, 1), np.percentile(one[loudest], 1)]
        for axis, shown in zip(axes, (mean_db, one[loudest]), strict=True):
            axis.plot(_khz(spec, one.shape[1]), shown, color=_COLOURS[name], lw=1.0, label=name)
    axes[0].set_title("mean over time", loc="left")
    axes[1].set_title(f"one frame, at {loudest * spec.hop_s:.2f} s", loc="left")
    for axis in axes:
        axis.set(ylabel="level [dB]", xlim=(0.0, spec.sample_rate / 2000.0))
        axis.set_ylim(bottom=max(spec.floor_db, float(min(lows)) - 5.0))
        axis.grid(alpha=0.3)
        _network_s_end(axis, spec)
    axes[0].legend(loc="upper right")
    axes[1].set_xlabel("frequency [kHz]")
    return _png(figure)


def envelopes(sounds: Sounds, spec: ModelSpec) -> bytes:
    """Highest, lowest and effective sample value of every 10 ms."""
    size = max(1, round(_ENVELOPE_S * spec.sample_rate))
    figure, axes = _figure(0.6 + 1.7 * len(sounds), len(sounds), sharex=True, sharey=True)
    for axis, (name, sound) in zip(axes, sounds.items(), strict=True):
        pieces = sound[: len(sound) // size * size].reshape(-1, size)
        t = np.arange(len(pieces)) * (size / spec.sample_rate)
        colour = _COLOURS[name]
        axis.fill_between(t, pieces.min(axis=1), pieces.max(axis=1), color=colour, alpha=0.4, lw=0)
        axis.plot(t, np.sqrt(np.mean(np.square(pieces), axis=1)), color=colour, lw=1.2)
        axis.set_title(name, loc="left")
        axis.set_ylabel("sample value")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time [s]")
    axes[-1].set_xlim(0.0, len(next(iter(sounds.values()))) / spec.sample_rate)
    return _png(figure)


def time_histogram(sounds: Sounds) -> bytes:
    """How often each sample value is met."""
    figure, (axis,) = _figure(3.6)
    edge = max(float(np.abs(sound).max()) for sound in sounds.values())
    edges = np.linspace(-edge, edge, 122)
    for name, sound in sounds.items():
        share = np.histogram(sound, edges)[0] / len(sound)
        axis.stairs(100.0 * share, edges, color=_COLOURS[name], label=name, lw=1.2)
    axis.set(xlabel="sample value", ylabel="samples [%]", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")
    return _png(figure)


def frequency_histogram(sounds: Sounds, spec: ModelSpec) -> bytes:
    """How often each bin has each level, a panel for each sound; the line is the mean."""
    from matplotlib.colors import PowerNorm

    levels = _levels_db(sounds, spec)
    figure, axes = _figure(0.7 + 2.1 * len(levels), len(levels), sharex=True, sharey=True)
    low_db = max(spec.floor_db, min(float(np.percentile(x, 1)) for x in levels.values()) - 10.0)
    low_db = _CLASS_DB * np.floor(low_db / _CLASS_DB)
    top_db = max(float(one.max()) for one in levels.values())
    n_classes = int((top_db - low_db) / _CLASS_DB) + 1
    image: Any = None
    scale = PowerNorm(0.5, 0.0, 25.0)  # a voice spreads over many levels, each seldom met
    for axis, (name, one) in zip(axes, levels.items(), strict=True):
        place = np.clip(((one - low_db) / _CLASS_DB).astype(int), 0, n_classes - 1)
        flat = place + n_classes * np.arange(one.shape[1])  # (n_frames, n_spectrum)
        counts = np.bincount(flat.ravel(), minlength=n_classes * one.shape[1])
        share = counts.reshape(one.shape[1], n_classes) / len(one)  # (n_spectrum, n_classes)
        image = axis.imshow(
            100.0 * share.T,
            origin="lower",
            aspect="auto",
            extent=(0.0, spec.sample_rate / 2000.0, low_db, low_db + n_classes * _CLASS_DB),
            interpolation="nearest",
            cmap="viridis",
            norm=scale,
        )
        axis.plot(_khz(spec, one.shape[1]), one.mean(axis=0), color="w", lw=1.0)
        axis.set_title(name, loc="left")
        axis.set_ylabel("level [dB]")
        _network_s_end(axis, spec)
    axes[-1].set_xlabel("frequency [kHz]")
    figure.colorbar(image, ax=axes, label="frames [%]", pad=0.01, aspect=40, extend="max")
    return _png(figure)


def normalisation(sounds: Sequence[Float], spec: ModelSpec) -> bytes:
    """Mean and deviation of each bin's level over several sounds, before and after.

    Parameters
    ----------
    sounds : (n_samples,) each, at the model's rate
    """
    levels = [to_db(stft(sound, spec), spec)[:, : spec.n_bins] for sound in sounds]
    pooled = np.concatenate(levels)  # (n_frames, n_bins)
    mean, deviation = pooled.mean(axis=0), np.maximum(pooled.std(axis=0), 1e-3)
    khz = _khz(spec, spec.n_bins)
    figure, axes = _figure(6.4, 2, sharex=True)
    after = [(one - mean) / deviation for one in levels]
    zero, one = np.zeros_like(mean), np.ones_like(mean)
    for axis, means, middle, spread in (
        (axes[0], levels, mean, deviation),
        (axes[1], after, zero, one),
    ):
        band = (middle - spread, middle + spread)
        axis.fill_between(khz, *band, color="tab:blue", alpha=0.25, lw=0, label="± deviation")
        for k, values in enumerate(means):
            label = "each recording's mean" if k == 0 else None
            axis.plot(khz, values.mean(axis=0), color="0.45", lw=0.6, label=label)
        axis.plot(khz, middle, color="tab:blue", lw=1.8, label="mean")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="level [dB]")
    axes[0].set_title("before", loc="left")
    axes[0].legend(loc="upper right", fontsize="small")
    axes[1].set(ylabel="level [deviations]", xlabel="frequency [kHz]", xlim=(0.0, khz[-1]))
    axes[1].set_title("after: minus the mean, over the deviation", loc="left")
    return _png(figure)


def languages(told: Sequence[Mapping[str, Any]]) -> bytes:
    """Hours of speech by language, as ``acquisition.statistics`` counts them."""
    shown = told[:_MOST_BARS]
    names = ["unknown" if row["language"] is None else plain(row["language"]) for row in shown]
    return _bars([name[:24] for name in names], {"speech": [row["hours"] for row in shown]})


def rates(told: Sequence[Mapping[str, Any]], sample_rate: int) -> bytes:
    """Hours of speech and noise by sample rate, as ``acquisition.statistics`` counts them."""
    found = {row["sample_rate"] for row in told if row["kind"] != "rooms"}
    shown = sorted(found, key=lambda rate: (rate is None, rate))[:_MOST_BARS]
    hours: dict[str, list[float]] = {}
    for kind in ("speech", "noise"):
        of_it = {row["sample_rate"]: row["hours"] for row in told if row["kind"] == kind}
        hours[kind] = [of_it.get(rate, 0.0) for rate in shown]
    names = []
    for rate in shown:
        low = rate is not None and rate < sample_rate
        names.append("unknown" if rate is None else f"{rate} Hz{' (too low)' if low else ''}")
    return _bars(names, hours)


def _bars(names: Sequence[str], hours: Mapping[str, Sequence[float]]) -> bytes:
    """A group of bars for each name, the first on top."""
    figure, (axis,) = _figure(1.2 + 0.32 * len(names) * len(hours))
    thick = 0.8 / len(hours)
    for k, (kind, values) in enumerate(hours.items()):
        places = np.arange(len(names)) + (k - (len(hours) - 1) / 2.0) * thick
        bars = axis.barh(places, values, thick, color=_COLOURS[kind], label=kind)
        told = [f"{value:.2f}" if value else "" for value in values]
        axis.bar_label(bars, told, padding=3, fontsize="small")
    axis.set_yticks(np.arange(len(names)), names, parse_math=False)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("hours")
    if len(hours) > 1:
        axis.legend(loc="lower right")
    return _png(figure)


def quality(told: Mapping[str, Any]) -> bytes:
    """Histograms of what is told of each file's quality, as ``acquisition.statistics`` counts."""
    figure, axes = _figure(6.0, 2, 2)
    titles = {
        "snr": ("SNR [dB]", 1.0),
        "bandwidth": ("bandwidth [kHz]", 1e-3),
        "silence": ("silence [%]", 100.0),
        "clipped": ("clipped [log10 of share]", 1.0),
    }
    for axis, (name, (title, unit)) in zip(axes, titles.items(), strict=True):
        for kind in ("speech", "noise"):
            if kind not in told[name]:
                continue
            classes = told[name][kind]["classes"]
            edges = unit * np.array([one["from"] for one in classes] + [classes[-1]["to"]])
            files = np.array([one["files"] for one in classes], np.float64)
            if files.any():
                share, colour = 100.0 * files / files.sum(), _COLOURS[kind]
                axis.stairs(share, edges, color=colour, fill=True, alpha=0.3)
                axis.stairs(share, edges, color=colour, lw=1.3, label=kind)
        axis.set(xlabel=title, ylabel="files [%]")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    return _png(figure)
