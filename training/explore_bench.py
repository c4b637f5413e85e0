"""How long the statistics of a large catalogue take, as a Markdown table.

The catalogue is made up, with rates, books and pairs as gathering and training leave them.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics as averages
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from acquisition import statistics
from acquisition.catalogue import Catalogue
from engine.errors import TrainingError

_NOISES = 300
_TRACKS_OF_A_BOOK, _BOOKS_OF_A_SPEAKER = 30, 3
_PAIRS_OF_A_TRACK = 3
_AGAIN = 7

_Times = tuple[float, float, float]
"""Median and highest on the clock, and median of the processor's own [s]."""

_LANGUAGES = ("english", "german", "french", "italian", "spanish")
_RATES = (8000, 16_000, 22_050, 24_000, 44_100, 48_000)


def run(n_tracks: int, sample_rate: int) -> str:
    """Measure in a temporary catalogue; returns the table.

    Parameters
    ----------
    n_tracks : at least 1
    sample_rate : of the model [Hz]
    """
    if n_tracks < 1:
        raise TrainingError(f"--bench should be 1 or more tracks, found {n_tracks}")
    with tempfile.TemporaryDirectory(prefix="denoise-app-bench-") as folder:
        path = Path(folder) / "catalogue.sqlite"
        with Catalogue(path) as catalogue, catalogue.transaction():
            _fill(catalogue, n_tracks)
        opening = _times(lambda: Catalogue(path).close())
        with Catalogue(path) as catalogue:
            (row,) = catalogue.ask("SELECT count(*) AS n FROM training_track")
            found = statistics.combinations(catalogue, sample_rate)
            several = statistics.describe(catalogue, sample_rate)["several_books"]["by_content"]
            parts: dict[str, Callable[[], object]] = {
                "all statistics, with the queries below": lambda: statistics.describe(
                    catalogue, sample_rate
                ),
                "combination queries, all four": lambda: statistics.combinations(
                    catalogue, sample_rate
                ),
                "how many pairs there are, by rates": lambda: statistics.pairs_by_rate(
                    catalogue, sample_rate
                ),
                "what each model has learnt from": lambda: statistics.learnt_by_model(catalogue),
                "pairs learnt from most often": lambda: statistics.most_learnt(catalogue),
                "pairs not learnt from": lambda: statistics.not_learnt(catalogue, sample_rate),
            }
            times = {"opening, with its check": opening}
            times |= {name: _times(how) for name, how in parts.items()}
        size_mb = path.stat().st_size / 1e6
    lines = [
        f"Measured on {_machine()}: {n_tracks:,} tracks ({several['count']:,} of them in two "
        f"books), {_NOISES} noises, {found['pairs']:,} pairs, {row['n']:,} rows of what was learnt "
        f"from, a file of {size_mb:.0f} MB in the system's memory.",
        "",
        f"| | median of {_AGAIN} [s] | slowest [s] | processor [s] |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {a:.2f} | {b:.2f} | {c:.2f} |" for name, (a, b, c) in times.items()),
    ]
    return "\n".join(lines) + "\n"


def _fill(catalogue: Catalogue, n_tracks: int) -> None:
    """Tracks in books, one of fifty in a second one; noises; two models that have learnt."""
    rng = np.random.default_rng(1)
    rates = rng.choice(_RATES, n_tracks).tolist()
    seconds = rng.uniform(60.0, 2400.0, n_tracks).round(3).tolist()
    qualities = rng.uniform((0.0, 0.0, 3000.0, 0.0), (70.0, 1e-3, 24_000.0, 0.9), (n_tracks, 4))
    again = max(1, n_tracks - n_tracks // 50)

    def track(k: int) -> dict[str, object]:
        book, file = k // _TRACKS_OF_A_BOOK, k % again
        snr, clipped, bandwidth, silence = qualities[file].tolist()
        language = _LANGUAGES[book % len(_LANGUAGES)]
        return {
            "book_name": f"Book {book}",
            "book_author": f"Author {book // 5}",
            "book_url": f"https://books.example/{language}/book-{book}",
            "book_language": language,
            "track_name": f"{file:06d}_64kb.mp3",
            "track_path": f"librivox/{language}/{file // _TRACKS_OF_A_BOOK}/{file:06d}_64kb.mp3",
            "track_channels": 1,
            "track_sample_rate": rates[file],
            "track_duration": seconds[file],
            "speaker": f"speaker {book // _BOOKS_OF_A_SPEAKER}",
            "licence": "CC0-1.0",
            "sha256": f"{file:064x}",
            "track_snr": round(snr, 1),
            "track_clipped": clipped,
            "track_bandwidth": round(bandwidth),
            "track_silence": round(silence, 4),
        }

    tracks = catalogue.add_all("audio_books_tracks", map(track, range(n_tracks)))
    noises = catalogue.add_all(
        "noise_files",
        (
            {
                "name": f"noise {k}",
                "path": f"noise/{k}.flac",
                "sample_rate": _RATES[k % len(_RATES)],
                "duration": 300.0,
                "bandwidth": 100.0 * (k % 200),
            }
            for k in range(_NOISES)
        ),
    )
    for name in ("classic", "fullband"):
        catalogue.add("model_info", name=name, version="1")
    drawn = rng.integers((len(tracks), len(noises), 4), size=(_PAIRS_OF_A_TRACK * n_tracks, 3))
    catalogue.add_all(
        "training_track",
        (
            {
                "model_name": "classic" if k % 3 else "fullband",
                "model_version": "1",
                "audio_book_track_id": tracks[track],
                "noise_id": noises[noise],
                "epoch": k // 10_000,
                "times": 1 + times,
            }
            for k, (track, noise, times) in enumerate(drawn.tolist())
        ),
    )


def _times(how: Callable[[], object]) -> _Times:
    """Do it some times; a machine shared with others is told by the processor's own time."""
    clock, processor = [], []
    for _ in range(_AGAIN):
        before, spent = time.perf_counter(), time.process_time()
        how()
        clock.append(time.perf_counter() - before)
        processor.append(time.process_time() - spent)
    return averages.median(clock), max(clock), averages.median(processor)


def _machine() -> str:
    """What this was measured on, and how busy that was."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0].partition(":")[2].strip() if named else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{name}, {os.cpu_count()} cores{load}, {platform.system()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
