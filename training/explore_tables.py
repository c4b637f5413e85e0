"""A catalogue's statistics as tables for people: plain text, which Markdown shows as tables.

Not here: the counting (``acquisition.statistics``) and the page (``explore_page``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

LONGEST_TEXT = 80
"""Titles are anybody's: what is longer is cut [characters]."""

Cell = str | int | float | bool | None


class Table(NamedTuple):
    """Rows under a head, and what they answer."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


def tables(told: Mapping[str, Any]) -> dict[str, Table]:
    """The tables of ``acquisition.statistics.describe``, by name."""
    rate, pairs, several = told["sample_rate"], told["combinations"], told["several_books"]
    by_name, by_content = several["by_name"], several["by_content"]
    return {
        "kinds": Table(
            "Kinds",
            "A track is a row of the catalogue; a file in several books has several, and its "
            "hours count once. Deleted files stay as rows, as models were trained on them.",
            ("kind", "tracks", "files", "hours", "deleted"),
            _rows(told["kinds"], "kind", "tracks", "files", "hours", "deleted"),
        ),
        "languages": Table(
            "Languages",
            "Of speech, by hours.",
            ("language", "files", "hours", "speakers", "books"),
            _rows(told["languages"], "language", "files", "hours", "speakers", "books"),
        ),
        "speakers": Table(
            "Speakers",
            _of("speaker", told["speakers"]["count"], told["speakers"]["longest"], "longest"),
            ("speaker", "files", "hours"),
            _rows(told["speakers"]["longest"], "speaker", "files", "hours"),
        ),
        "books": Table(
            "Books",
            _of("book", told["books"]["count"], told["books"]["longest"], "longest"),
            ("book", "author", "language", "tracks", "hours"),
            _rows(told["books"]["longest"], "book", "author", "language", "files", "hours"),
        ),
        "rates": Table(
            "Sample rates",
            f"Compatible with {rate} Hz is a rate of at least {rate} Hz: nothing is missing of "
            "what the model hears. At a whole multiple of it, conversion only leaves samples "
            "out; other rates are converted by a fraction, which costs time and no quality "
            "that is heard.",
            ("kind", "rate [Hz]", "files", "hours", "compatible", "whole multiple"),
            [(row["kind"], _hz(row["sample_rate"]), *_some(row, *_RATE)) for row in told["rates"]],
        ),
        "same_name": Table(
            "Track names in several books",
            "The thesis's query 4.1. One name may stand for many recordings. "
            + _of("name", by_name["count"], by_name["tracks"], "most frequent"),
            ("track", "tracks", "books", "one book", "another"),
            _rows(by_name["tracks"], "track", "tracks", "books", "one", "another"),
        ),
        "same_content": Table(
            "Recordings in several books",
            "The same by checksum, or by path where there is none. "
            + _of("recording", by_content["count"], by_content["tracks"], "most frequent"),
            ("track", "tracks", "books", "one book", "another"),
            _rows(by_content["tracks"], "track", "tracks", "books", "one", "another"),
        ),
        "quality": Table(
            "Quality",
            "Half of the measured files lie in or below the middle class, a tenth in or below "
            "the low one, a tenth in or above the high one.",
            ("measure", "kind", "files", "not measured", "low", "middle", "high"),
            list(_quality(told["quality"])),
        ),
        "pairs": Table(
            "Pairs of a track and a noise",
            f"In a compatible pair both have at least {rate} Hz. Pairs learnt from are those "
            "of any model, each counted once.",
            ("pairs", "number"),
            [
                ("all", pairs["pairs"]),
                ("compatible", pairs["compatible"]),
                ("learnt from", pairs["learnt"]),
                ("compatible and learnt from", pairs["compatible_learnt"]),
                ("compatible and not yet", pairs["compatible_not_learnt"]),
            ],
        ),
        "pair_rates": Table(
            "Pairs by rates",
            "",
            ("speech [Hz]", "noise [Hz]", "pairs", "learnt from", "compatible"),
            [
                (_hz(row["speech_rate"]), _hz(row["noise_rate"]), *_some(row, *_PAIR))
                for row in pairs["rates"]
            ],
        ),
        "models": Table(
            "What models have learnt from",
            "Times counts each pair as often as it was learnt from.",
            ("model", "version", "times", "tracks", "noises"),
            _rows(pairs["models"], "model", "version", "times", "tracks", "noises"),
        ),
        "most_learnt": Table(
            "Pairs learnt from most often",
            "",
            ("track", "noise", "times"),
            _rows(pairs["most_learnt"], "track", "noise", "times"),
        ),
        "not_learnt": Table(
            "Compatible pairs not learnt from",
            "Tracks that met the fewest noises, each with a noise that it has not met.",
            ("track", "noise", "noises that it met"),
            _rows(pairs["not_learnt"], "track", "noise", "noises_met"),
        ),
    }


_RATE = ("files", "hours", "compatible", "whole_ratio")
_PAIR = ("pairs", "learnt", "compatible")


def markdown(shown: Iterable[Table]) -> str:
    """All tables one after the other; those without rows as a line."""
    parts = []
    for one in shown:
        parts.append(f"## {one.title}\n")
        if one.note:
            parts.append(f"{one.note}\n")
        if one.rows:
            parts.append(_markdown_rows(one.head, one.rows))
        else:
            parts.append("None.\n")
    return "\n".join(parts)


def text_of(cell: Cell) -> str:
    """A cell in words; of text nothing that would steer a terminal or a page."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    return plain(cell)


def plain(text: str) -> str:
    """One line of printable characters, cut where it is very long."""
    line = " ".join(text[: 4 * LONGEST_TEXT].split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"


def is_number(cell: Cell) -> bool:
    """Whether a cell stands to the right."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _markdown_rows(head: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> str:
    """A table whose columns line up as plain text, too."""
    cells = [head, *([text_of(cell).replace("|", "\\|") for cell in row] for row in rows)]
    right = [all(is_number(row[k]) for row in rows) for k in range(len(head))]
    widths = [max(4, *(len(row[k]) for row in cells)) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(row, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |\n"

    rule = [
        "-" * (w - 1) + ":" if at_right else "-" * w
        for w, at_right in zip(widths, right, strict=True)
    ]
    return line(cells[0]) + line(rule) + "".join(map(line, cells[1:]))


def _rows(found: Iterable[Mapping[str, Any]], *names: str) -> list[tuple[Cell, ...]]:
    return [_some(row, *names) for row in found]


def _some(row: Mapping[str, Any], *names: str) -> tuple[Cell, ...]:
    return tuple(row[name] for name in names)


def _hz(rate: Any) -> str | None:
    """A rate without separators, as it is written everywhere."""
    return None if rate is None else str(rate)


def _of(what: str, count: int, listed: Sequence[Any], which: str) -> str:
    """How much of a list is shown."""
    n = f"{count:,} {what}{'' if count == 1 else 's'}"
    return f"{n}, the {len(listed)} {which} of them." if count > len(listed) else f"{n}."


def _quality(quality: Mapping[str, Any]) -> Iterable[tuple[Cell, ...]]:
    names: dict[str, tuple[str, Callable[[float], str]]] = {
        "snr": ("SNR [dB]", "{:g}".format),
        "bandwidth": ("bandwidth [Hz]", "{:g}".format),
        "silence": ("silence [share]", "{:g}".format),
        "clipped": ("clipped [share]", lambda power: f"1e{power:g}"),
    }
    for name, (title, written) in names.items():
        for kind, found in quality[name].items():
            if kind == "unit":
                continue
            classes = found["classes"]
            n = sum(one["files"] for one in classes)
            spread = [_class_at(classes, share * n, written) for share in (0.1, 0.5, 0.9)]
            yield (title, kind, n, found["unmeasured"], *spread)


def _class_at(
    classes: Sequence[Mapping[str, Any]], rank: float, written: Callable[[float], str]
) -> str | None:
    """The class that holds the file of this rank, by its bounds; None without files."""
    seen = 0
    for one in classes:
        seen += one["files"]
        if seen and seen >= rank:
            return f"{written(one['from'])} to {written(one['to'])}"
    return None
