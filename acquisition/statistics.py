"""What a catalogue holds, counted: hours, rates, quality, and what met what in training.

All is counted in SQL; nothing is read but the catalogue. Of recordings whose status is
``DELETED`` only the number is told. A file that is in several books has a row for each, but
its hours count once. Not here: how the numbers are shown, and what the recordings sound like.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from acquisition.catalogue import Catalogue

LISTED = 20
"""Rows of a list that could be as long as the catalogue."""

Rows = list[dict[str, Any]]

# Of a file's rows the oldest stands for it. A row without a path stands for itself.
_SPEECH = """SELECT * FROM audio_books_tracks AS one
    WHERE track_status = 'OK' AND NOT EXISTS (
        SELECT 1 FROM audio_books_tracks AS older
        WHERE older.track_path = one.track_path AND older.track_status = 'OK'
            AND older.id < one.id)"""

_BOOK = "coalesce(book_url, book_name)"

# Better than the model's rate is as good: nothing is missing in what it hears. A whole multiple
# of it needs no fractional resampling.
_FIT = "coalesce({rate} >= ?1, 0) AS compatible, coalesce({rate} >= ?1 AND {rate} % ?1 = 0, 0)"


class Scale(NamedTuple):
    """Classes of a histogram: ``n`` of one width; values beyond are in the first or last."""

    column: str
    kinds: tuple[str, ...]
    low: float
    width: float
    n: int
    unit: str


SCALES = {
    "snr": Scale("snr", ("speech",), -10.0, 5.0, 18, "dB"),
    "bandwidth": Scale("bandwidth", ("speech", "noise"), 0.0, 1000.0, 24, "Hz"),
    "silence": Scale("silence", ("speech", "noise"), 0.0, 0.05, 20, "share"),
    "clipped": Scale("clipped", ("speech", "noise"), -7.0, 1.0, 7, "log10 of share"),
}
"""What is told of a recording's quality, as ``acquisition.quality`` measures it. Without any
clipped sample a recording is in the first class of ``clipped``, up to 1e-6."""


def describe(catalogue: Catalogue, sample_rate: int, listed: int = LISTED) -> dict[str, Any]:
    """All statistics, as JSON takes them.

    Parameters
    ----------
    sample_rate : of the model that recordings should be compatible with [Hz]
    listed : rows of a list at most

    Raises
    ------
    acquisition.catalogue.CatalogueError : the catalogue cannot be read
    """
    return {
        "sample_rate": sample_rate,
        **_counts(catalogue, sample_rate),
        "languages": _languages(catalogue, listed),
        "speakers": _speakers(catalogue, listed),
        "books": _books(catalogue, listed),
        "several_books": _several_books(catalogue, listed),
        "combinations": combinations(catalogue, sample_rate, listed),
    }


def _counts(catalogue: Catalogue, sample_rate: int) -> dict[str, Any]:
    """``kinds``, ``rates`` and ``quality``: one walk over the recordings for all of them."""
    count = "count(*) AS files, total(duration) / 3600.0 AS hours"
    asked = []
    for kind in ("speech", "noise", "rooms"):
        asked.append(f"SELECT 'kinds' AS what, '{kind}' AS kind, NULL AS key, {count} FROM {kind}")
        asked.append(f"SELECT 'rates', '{kind}', rate, {count} FROM {kind} GROUP BY rate")
    for name, scale in SCALES.items():
        asked += [
            f"SELECT '{name}', '{kind}', {_class(scale)}, {count} FROM {kind} GROUP BY 3"
            for kind in scale.kinds
        ]
    found = catalogue.ask(
        f"""WITH speech AS MATERIALIZED (
            SELECT track_sample_rate AS rate, track_duration AS duration, track_snr AS snr,
                track_clipped AS clipped, track_bandwidth AS bandwidth, track_silence AS silence
            FROM ({_SPEECH})),
        noise AS (
            SELECT sample_rate AS rate, duration, clipped, bandwidth, silence
            FROM noise_files WHERE status = 'OK'),
        rooms AS (
            SELECT sample_rate AS rate, duration FROM room_responses WHERE status = 'OK')
        SELECT *, {_FIT.format(rate="key")} AS whole FROM ({" UNION ALL ".join(asked)})""",
        sample_rate,
    )
    rates = [
        {
            "kind": row["kind"],
            "sample_rate": row["key"],
            "files": row["files"],
            "hours": row["hours"],
            "compatible": bool(row["compatible"]),
            "whole_ratio": bool(row["whole"]),
        }
        for row in found
        if row["what"] == "rates"
    ]
    kinds = {row["kind"]: (row["files"], row["hours"]) for row in found if row["what"] == "kinds"}
    return {
        "kinds": [
            {**row, "files": kinds[row["kind"]][0], "hours": kinds[row["kind"]][1]}
            for row in _rows_by_kind(catalogue)
        ],
        "rates": rates,
        "quality": {
            name: {
                "unit": scale.unit,
                **{kind: _histogram(scale, name, kind, found) for kind in scale.kinds},
            }
            for name, scale in SCALES.items()
        },
    }


def _class(scale: Scale) -> str:
    """Number of a value's class, in SQL; rounded first, as 0.15 / 0.05 is below 3."""
    value = scale.column
    if scale.unit.startswith("log10"):  # a power of ten is a class; there is no logarithm in SQL
        steps = " + ".join(f"({value} > 1e{round(scale.low) + k})" for k in range(1, scale.n))
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE {steps} END"
    place = f"CAST(round(({value} - {scale.low}) / {scale.width}, 6) AS INTEGER)"
    return f"max(0, min({scale.n - 1}, {place}))"  # of NULL NULL


def _histogram(scale: Scale, name: str, kind: str, found: list[sqlite3.Row]) -> dict[str, Any]:
    """Every class, the empty ones too; ``unmeasured`` are the files that have no such value."""
    of_it = [row for row in found if row["what"] == name and row["kind"] == kind]
    by_class = {row["key"]: row for row in of_it}
    classes = [
        {
            "from": round(scale.low + k * scale.width, 6),
            "to": round(scale.low + (k + 1) * scale.width, 6),
            "files": by_class[k]["files"] if k in by_class else 0,
            "hours": by_class[k]["hours"] if k in by_class else 0.0,
        }
        for k in range(scale.n)
    ]
    return {"classes": classes, "unmeasured": by_class[None]["files"] if None in by_class else 0}


def _rows_by_kind(catalogue: Catalogue) -> Rows:
    return _plain(
        catalogue.ask(
            """SELECT 'speech' AS kind, count(*) FILTER (WHERE track_status = 'OK') AS tracks,
                count(*) FILTER (WHERE track_status = 'DELETED') AS deleted
            FROM audio_books_tracks
            UNION ALL SELECT 'noise', count(*) FILTER (WHERE status = 'OK'),
                count(*) FILTER (WHERE status = 'DELETED') FROM noise_files
            UNION ALL SELECT 'rooms', count(*) FILTER (WHERE status = 'OK'),
                count(*) FILTER (WHERE status = 'DELETED') FROM room_responses"""
        )
    )


def _languages(catalogue: Catalogue, listed: int) -> Rows:
    return _plain(
        catalogue.ask(
            f"""SELECT book_language AS language, count(*) AS files,
                total(track_duration) / 3600.0 AS hours,
                count(DISTINCT speaker) AS speakers, count(DISTINCT {_BOOK}) AS books
            FROM ({_SPEECH}) GROUP BY book_language ORDER BY hours DESC, language LIMIT ?1""",
            listed,
        )
    )


def _speakers(catalogue: Catalogue, listed: int) -> dict[str, Any]:
    """How many there are, and those who speak longest; without a name they are one."""
    found = _plain(
        catalogue.ask(
            f"""SELECT speaker, count(*) AS files, total(track_duration) / 3600.0 AS hours,
                sum(speaker IS NOT NULL) OVER () AS n
            FROM ({_SPEECH}) GROUP BY speaker ORDER BY hours DESC, speaker LIMIT ?1""",
            listed,
        )
    )
    return _counted(found, "longest")


def _books(catalogue: Catalogue, listed: int) -> dict[str, Any]:
    """How many there are, and the longest; a book is its address, or else its name."""
    found = _plain(
        catalogue.ask(
            f"""SELECT min(book_name) AS book, min(book_author) AS author,
                min(book_language) AS language, count(*) AS files,
                total(track_duration) / 3600.0 AS hours, count(*) OVER () AS n
            FROM audio_books_tracks
            WHERE track_status = 'OK' AND {_BOOK} IS NOT NULL
            GROUP BY {_BOOK} ORDER BY hours DESC, book LIMIT ?1""",
            listed,
        )
    )
    return _counted(found, "longest")


def _several_books(catalogue: Catalogue, listed: int) -> dict[str, Any]:
    """Tracks that more than one book has (the thesis's query 4.1), by name and by content.

    One name may stand for many recordings (``01.mp3``); one content is one recording.
    """

    def asked(same: str) -> dict[str, Any]:
        found = catalogue.ask(
            f"""SELECT min(track_name) AS track, count(*) AS tracks,
                count(DISTINCT {_BOOK}) AS books, min(book_name) AS one, max(book_name) AS another,
                count(*) OVER () AS n
            FROM audio_books_tracks WHERE track_status = 'OK' AND {same} IN (
                SELECT {same} FROM audio_books_tracks GROUP BY 1 HAVING count(*) > 1)
            GROUP BY {same} HAVING min({_BOOK}) <> max({_BOOK})
            ORDER BY books DESC, track LIMIT ?1""",
            listed,
        )
        return _counted(_plain(found), "tracks")

    return {"by_name": asked("track_name"), "by_content": asked("coalesce(sha256, track_path)")}


def combinations(catalogue: Catalogue, sample_rate: int, listed: int = LISTED) -> dict[str, Any]:
    """Which pairs of a track and a noise there are, and which have been learnt from.

    Pairs that there are, are counted by multiplying: nobody has to see them all. A track that
    is in several books makes pairs with each of its rows.

    Parameters
    ----------
    sample_rate : of the model; in a compatible pair both recordings have at least this rate [Hz]
    listed : rows of a list at most
    """
    return {
        **pairs_by_rate(catalogue, sample_rate, listed),
        "models": learnt_by_model(catalogue, listed),
        "most_learnt": most_learnt(catalogue, listed),
        "not_learnt": not_learnt(catalogue, sample_rate, listed),
    }


# Of one rate of tracks. The order of the join is that of the indices: nothing is sorted.
_LEARNT = """SELECT count(*) AS learnt, total(noise_rate >= ?1) AS compatible{columns} FROM (
        SELECT m.sample_rate AS noise_rate FROM audio_books_tracks AS t
            CROSS JOIN training_track AS p ON p.audio_book_track_id = t.id AND p.status = 'OK'
            CROSS JOIN noise_files AS m ON m.id = p.noise_id AND m.status = 'OK'
        WHERE t.track_status = 'OK' AND t.track_sample_rate IS ?2
        GROUP BY t.id, p.noise_id)"""


def pairs_by_rate(catalogue: Catalogue, sample_rate: int, listed: int = LISTED) -> dict[str, Any]:
    """How many pairs there are, are compatible, and were learnt from; ``rates``: by rates.

    Parameters are those of ``combinations``; the most frequent rates are listed.
    """
    tracks, noises = (
        catalogue.ask(
            f"""SELECT {prefix}sample_rate AS rate, count(*) AS n FROM {table}
            WHERE {prefix}status = 'OK' GROUP BY 1 ORDER BY n DESC, 1"""
        )
        for table, prefix in (("audio_books_tracks", "track_"), ("noise_files", ""))
    )
    shown = [row["rate"] for row in noises[:listed]]
    columns = "".join(f", total(noise_rate IS ?{k + 3}) AS rate{k}" for k in range(len(shown)))
    learnt = {
        row["rate"]: catalogue.ask(
            _LEARNT.format(columns=columns), sample_rate, row["rate"], *shown
        )[0]
        for row in tracks
    }

    def fits(rate: int | None) -> bool:
        return rate is not None and rate >= sample_rate

    def count(found: Iterable[sqlite3.Row]) -> int:
        return sum(row["n"] for row in found)

    fit = [count(row for row in rows if fits(row["rate"])) for rows in (tracks, noises)]
    compatible = fit[0] * fit[1]
    compatible_learnt = sum(
        int(learnt[row["rate"]]["compatible"]) for row in tracks if fits(row["rate"])
    )
    rates = [
        {
            "speech_rate": track["rate"],
            "noise_rate": noise["rate"],
            "pairs": track["n"] * noise["n"],
            "learnt": int(learnt[track["rate"]][f"rate{k}"]),
            "compatible": fits(track["rate"]) and fits(noise["rate"]),
        }
        for track in tracks[:listed]
        for k, noise in enumerate(noises[:listed])
    ]
    return {
        "pairs": count(tracks) * count(noises),
        "compatible": compatible,
        "learnt": sum(row["learnt"] for row in learnt.values()),
        "compatible_learnt": compatible_learnt,
        "compatible_not_learnt": compatible - compatible_learnt,
        "rates": sorted(rates, key=lambda row: -row["pairs"])[:listed],
    }


def learnt_by_model(catalogue: Catalogue, listed: int = LISTED) -> Rows:
    """How often each model has learnt from a pair, and from how many tracks and noises."""
    return _plain(
        catalogue.ask(
            """SELECT model_name AS model, model_version AS version, sum(times) AS times,
                count(DISTINCT audio_book_track_id) AS tracks, count(DISTINCT noise_id) AS noises
            FROM training_track WHERE status = 'OK' GROUP BY 1, 2 ORDER BY times DESC, 1, 2
            LIMIT ?1""",
            listed,
        )
    )


def most_learnt(catalogue: Catalogue, listed: int = LISTED) -> Rows:
    """Pairs that were learnt from most often."""
    return _plain(
        catalogue.ask(
            """WITH often AS (
                SELECT audio_book_track_id AS track, noise_id AS noise, sum(times) AS times
                FROM training_track WHERE status = 'OK' GROUP BY 1, 2
                ORDER BY times DESC, 1, 2 LIMIT ?1)
            SELECT track_name AS track, name AS noise, times FROM often
                JOIN audio_books_tracks AS t ON t.id = often.track
                JOIN noise_files AS m ON m.id = often.noise
            ORDER BY times DESC, t.id, m.id""",
            listed,
        )
    )


def not_learnt(catalogue: Catalogue, sample_rate: int, listed: int = LISTED) -> Rows:
    """Compatible pairs that no model has learnt from: what could come next.

    Of the tracks that met the fewest noises, each with the noise that met the fewest tracks of
    those that it has not met. While there is such a pair at all, one is told.
    """
    return _plain(
        catalogue.ask(
            """WITH usable AS MATERIALIZED (
                SELECT id, (
                    SELECT count(DISTINCT audio_book_track_id) FROM training_track
                    WHERE noise_id = noise_files.id AND status = 'OK') AS n
                FROM noise_files WHERE status = 'OK' AND sample_rate >= ?1 ORDER BY 2, 1),
            rare AS MATERIALIZED (
                SELECT t.id, count(DISTINCT p.noise_id) AS n FROM audio_books_tracks AS t
                    LEFT JOIN training_track AS p ON p.audio_book_track_id = t.id
                        AND p.status = 'OK' AND +p.noise_id IN (SELECT id FROM usable)
                WHERE t.track_status = 'OK' AND t.track_sample_rate >= ?1
                GROUP BY t.track_sample_rate, t.track_status, t.id ORDER BY 2, 1 LIMIT ?2),
            chosen AS (
                SELECT rare.id AS track, rare.n AS met, (
                    SELECT usable.id FROM usable WHERE NOT EXISTS (
                        SELECT 1 FROM training_track
                        WHERE audio_book_track_id = rare.id AND noise_id = usable.id
                            AND status = 'OK')
                    ORDER BY usable.n, usable.id LIMIT 1) AS noise
                FROM rare)
            SELECT track_name AS track, name AS noise, met AS noises_met
            FROM chosen JOIN audio_books_tracks AS t ON t.id = chosen.track
                JOIN noise_files AS m ON m.id = chosen.noise
            ORDER BY met, t.id""",
            sample_rate,
            listed,
        )
    )


def _counted(found: Rows, name: str) -> dict[str, Any]:
    """A list that was cut off, and how long it would be."""
    n = found[0].pop("n") if found else 0
    for row in found[1:]:
        del row["n"]
    return {"count": n, name: found}


def _plain(found: Iterable[sqlite3.Row]) -> Rows:
    return [dict(row) for row in found]
