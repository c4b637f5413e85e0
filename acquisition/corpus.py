"""Open corpora: fetched, checked, unpacked and entered, each as its table says.

A new corpus is a table, not code. Not here: the tables (``corpora.toml``).
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from acquisition.archives import unpack
from acquisition.catalogue import Catalogue
from acquisition.downloads import Visitor
from acquisition.errors import AcquisitionError, is_full
from acquisition.tables import check_name, rows_of
from acquisition.tracks import KINDS, enter_files

TABLE = Path(__file__).with_name("corpora.toml")

# Of an archive whose size no table tells; as much as one may unpack to [bytes].
_LARGEST_PART = 64 * 2**30


@dataclass(frozen=True, slots=True)
class Layout:
    """Which files of a corpus hold what."""

    kind: str
    files: re.Pattern[str]
    """Of paths in the archive; its group ``group`` is who or what is heard."""


@dataclass(frozen=True, slots=True)
class Part:
    """One archive of a corpus."""

    name: str
    url: str
    size_mb: float | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a table says of a corpus."""

    name: str
    title: str
    homepage: str
    licence: str
    layouts: tuple[Layout, ...]
    parts: tuple[Part, ...]
    language: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="of the corpus; none: tell which there are")
    add("parts", nargs="*", metavar="PART", help="of it; none: all of them")
    add("--table", type=Path, metavar="TOML", help="corpora of your own, as in acquisition/")


def run(args: argparse.Namespace, catalogue: Path, tell: Callable[[str], object]) -> None:
    """Fetch a corpus, or tell which there are; see ``acquire.run``."""
    table = read_tables(args.table)
    if args.name is None:
        for line in described(table):
            tell(line)
        return
    corpus, parts = choose(table, args.name, args.parts)
    with Catalogue(catalogue) as opened, Visitor() as visitor:
        for part in parts:
            told = gather(opened, corpus, part, args.into / "corpora" / corpus.name, visitor)
            tell(f"{corpus.name} {part.name}: {told}")


def read_tables(own: Path | None, table: Path = TABLE) -> dict[str, Corpus]:
    """All corpora by name, those of the user's own table in place of ours of that name.

    Raises AcquisitionError for a table that cannot be read or has a wrong line.
    """
    found = {}
    for path in (table, own) if own else (table,):
        for row in rows_of(path, "corpus"):
            try:
                corpus = _corpus_of(row)
                for part in corpus.parts:
                    check_name(path, part.name)
            except (KeyError, TypeError, ValueError, re.error) as error:
                name = row.get("name", "without a name")
                raise AcquisitionError(f"{path}: corpus {name}: {error}") from error
            found[corpus.name] = corpus
    return found


def choose(
    table: Mapping[str, Corpus], name: str, parts: Sequence[str]
) -> tuple[Corpus, list[Part]]:
    """A corpus and those of its parts that are named, or all."""
    if name not in table:
        raise AcquisitionError(f"there is no corpus {name}, but {', '.join(sorted(table))}")
    known = {part.name: part for part in table[name].parts}
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise AcquisitionError(f"{name} has no {', '.join(unknown)}, but {', '.join(known)}")
    return table[name], [known[part] for part in parts] or list(known.values())


def described(table: Mapping[str, Corpus], kind: str | None = None) -> Iterator[str]:
    """A line for each corpus, or for each that has files of a kind."""
    for corpus in table.values():
        kinds = dict.fromkeys(layout.kind for layout in corpus.layouts)
        if kind is None or kind in kinds:
            sizes = [part.size_mb for part in corpus.parts]
            gb = sum(size or 0.0 for size in sizes) / 1000.0
            more = "+" if None in sizes else ""
            parts = f"{len(corpus.parts)} parts, " if len(corpus.parts) > 1 else ""
            yield (
                f"{corpus.name}: {corpus.title}; {', '.join(kinds)}; {parts}{gb:.1f}{more} GB; "
                f"{corpus.licence}; {corpus.homepage}"
            )


def gather(catalogue: Catalogue, corpus: Corpus, part: Part, folder: Path, visitor: Visitor) -> str:
    """Fetch one archive, unpack what is wanted of it and enter that; returns what came of it.

    What an earlier call did is not done again.

    Raises
    ------
    AcquisitionError : it is not to be had, is damaged or hostile, or cannot be stored
    """
    files = folder / part.name
    # The end of the name tells nothing to ``unpack``: it looks into the file.
    archive = folder / f"{part.name}.archive"
    if not files.is_dir():
        # One of no known checksum is whole all the same: only then it gets its name.
        checked = part.sha256 or part.md5
        if checked or not archive.is_file():
            _fetch(part, archive, visitor)
        try:
            unpack(
                archive, files, lambda name: any(one.files.match(name) for one in corpus.layouts)
            )
        except AcquisitionError as error:
            if not (checked or is_full(error)):
                archive.unlink()  # so that it is fetched anew
            raise
    archive.unlink(missing_ok=True)
    told = []
    for layout in corpus.layouts:
        groups: dict[Path, str] = {}
        for path in sorted(files.rglob("*")):
            found = layout.files.match(path.relative_to(files).as_posix())
            if found and path.is_file():
                groups[path] = f"{corpus.name}/{found['group']}"
        if groups:
            entered = enter_files(
                catalogue,
                layout.kind,
                list(groups),
                partial(_columns, corpus, part, layout.kind, groups),
                trusted=True,
            )
            told.append(f"{layout.kind} {entered}")
    if not told:
        raise AcquisitionError(f"{part.url}: holds none of the files that its table tells of")
    return "; ".join(told)


def _fetch(part: Part, archive: Path, visitor: Visitor) -> None:
    """Download an archive, but for what is there of it."""
    # Twice what the table tells: sizes are rounded, and corpora grow a little.
    most = _LARGEST_PART if part.size_mb is None else round(part.size_mb * 2e6)
    with tqdm(desc=part.name, unit="B", unit_scale=True, disable=None) as bar:

        def progress(done: int, size: int | None) -> None:
            bar.total = size
            bar.update(done - bar.n)

        visitor.download(part.url, archive, part.sha256, most, progress, part.md5)


def _columns(
    corpus: Corpus, part: Part, kind: str, groups: Mapping[Path, str], path: Path
) -> dict[str, Any]:
    """Of a file's row."""
    group = groups[path]
    origin = {"licence": corpus.licence, "source": f"corpus: {corpus.name} {part.name}"}
    if kind != "speech":
        return {"name": group, "url": part.url, **origin}
    return {
        "name": f"{path.parent.name}/{path.name}",
        "speaker": group,
        "book_language": corpus.language,
        **origin,
    }


def _corpus_of(row: Mapping[str, Any]) -> Corpus:
    """Check a table; raises KeyError, TypeError, ValueError or re.error."""
    more = dict(row)
    layouts = tuple(
        Layout(str(one["kind"]), re.compile(one["files"])) for one in more.pop("layout")
    )
    parts = tuple(Part(**one) for one in more.pop("part"))
    corpus = Corpus(layouts=layouts, parts=parts, **more)
    for part in parts:
        if part.size_mb is not None and not 0.0 < part.size_mb < math.inf:
            raise ValueError(f"size_mb should be above 0, got {part.size_mb}")
    for layout in layouts:
        if layout.kind not in KINDS:
            raise ValueError(f"kind should be one of {', '.join(KINDS)}, got {layout.kind}")
        if "group" not in layout.files.groupindex:
            raise ValueError(f"files should have a group named group: {layout.files.pattern}")
    return corpus
