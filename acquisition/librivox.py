"""Read books from LibriVox: which there are in a language, and their sound.

Books that are listed come first, then the next page of the listing, so that a limit needs no
more pages than it has books. Not here: the listing (``librivox_listing``), and how a file is
fetched (``downloads``), unpacked (``archives``) and read (``tracks``).
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from acquisition.archives import unpack
from acquisition.browser import BROWSERS, Browser, Patience
from acquisition.catalogue import DELETED, OK, Catalogue, CatalogueError
from acquisition.downloads import Manners, Visitor
from acquisition.errors import AcquisitionError, is_full
from acquisition.librivox_listing import (
    FAILED,
    GATHERED,
    KEYS,
    LISTED,
    NOTHING,
    SITE,
    SOURCE,
    Listing,
    read_on,
)
from acquisition.tracks import SUFFIXES, Track, enter, read_tracks, sound_files, stored_path

log = logging.getLogger("acquisition")

LICENCE = "Public Domain"

_LARGEST_ZIP = 16 * 2**30

# Books in a row that are too large for what is left of a limit, before it counts as reached.
_TOO_LARGE_IN_A_ROW = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("--language", required=True, help=f"in English: {', '.join(KEYS)}, or any that it has")
    add(
        "--language-key",
        type=int,
        metavar="K",
        help="how the site counts the language (primary_key in its addresses), where its name "
        "is not found",
    )
    add(
        "--limit-mb",
        type=float,
        metavar="N",
        help="of what this call downloads [MB]; a book that would exceed it is not begun "
        "(default: none)",
    )
    add("--again", action="store_true", help="read the listing anew from its first page")
    add("--browser", choices=BROWSERS, default=BROWSERS[0], help="(default: %(default)s)")
    add("--site", default=SITE, metavar="URL", help="(default: %(default)s)")


def run(args: argparse.Namespace, catalogue: Path, tell: Callable[[str], object]) -> None:
    """Gather a language's books; see ``acquire.run``."""
    gather(
        catalogue,
        args.language,
        args.language_key,
        args.site,
        args.limit_mb,
        args.again,
        args.browser,
        tell=tell,
    )


def gather(
    catalogue: Path,
    language: str,
    key: int | None = None,
    site: str = SITE,
    limit_mb: float | None = None,
    again: bool = False,
    browser: str = BROWSERS[0],
    manners: Manners | None = None,
    patience: Patience | None = None,
    tell: Callable[[str], object] = log.info,
) -> None:
    """Gather a language's books: those that are listed already, then page after page.

    Parameters
    ----------
    catalogue : beside it, ``librivox/LANGUAGE`` gets a folder for each zip
    key : of the language on the site; looked up there if not given
    limit_mb : of all that is downloaded [MB]; a book that would exceed it is not begun
    again : read the listing from its first page, whatever is known of it
    tell : told in one line what came of it

    Raises
    ------
    AcquisitionError : the listing cannot be read or the disk is full; or some books failed,
        which keeps none of the others. What was gathered stays, and the next call goes on
    """
    language = " ".join(language.lower().split())
    name = re.sub(r"[^\w-]+", "_", language).strip("_")
    if not name:
        raise AcquisitionError(f"{language!r} is no language")
    folder = catalogue.parent / SOURCE / name
    left = float("inf") if limit_mb is None else limit_mb * 1e6
    with (
        _storing(folder),
        _alone(folder),
        Catalogue(catalogue) as opened,
        Visitor(manners) as visitor,
        Browser(browser, patience) as reader,
    ):
        listing = Listing(opened, folder, language, key, site.rstrip("/"), visitor, reader)
        _tidy(folder)
        if again:
            listing.forget()
        run = _Run(listing, opened, visitor, left)
        trouble = None
        try:
            _gather_listed(run)
            pages = read_on(listing)
            while not run.enough and next(pages, None):
                _gather_listed(run)
        except AcquisitionError as error:
            trouble = error
        tell(_summary(run))
        if trouble:
            raise trouble
        if run.failures:
            raise AcquisitionError(
                f"{len(run.failures)} books failed and are tried again by the next call; the "
                f"first: {run.failures[0]}"
            )


@dataclass(slots=True)
class _Run:
    """What a call works with, and what has come of it."""

    listing: Listing
    catalogue: Catalogue
    visitor: Visitor
    left: float
    """To be downloaded still [bytes]."""
    tried: set[str] = field(default_factory=set)
    """Addresses of zips."""
    too_large: int = 0
    """In a row."""
    gathered: int = 0
    tracks: int = 0
    skipped: int = 0
    hours: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """Whether the limit is reached."""
        return self.left <= 0 or self.too_large >= _TOO_LARGE_IN_A_ROW


def _summary(run: _Run) -> str:
    books = run.listing.books
    told = f"{run.listing.language}: {run.gathered} books gathered, {run.tracks} new tracks"
    told += f" ({run.hours:.2f} h)"
    told += f", {run.skipped} skipped" if run.skipped else ""
    told += f", {len(run.failures)} books failed" if run.failures else ""
    left = len(books(state=LISTED)) + len(books(state=FAILED))
    told += f"; of {len(books())} listed, {left} are left, {len(books(state=NOTHING))} have nothing"
    return told + ("; the limit is reached" if run.enough else "")


class _TooLarge(AcquisitionError):
    """A zip is larger than what is left of the limit."""


def _gather_listed(run: _Run) -> None:
    """Gather what is listed and not yet tried by this call; one's failure stops no other."""
    rows = sorted(
        [*run.listing.books(state=LISTED), *run.listing.books(state=FAILED)],
        key=lambda row: row["id"],
    )
    for zip_url in dict.fromkeys(row["zip_url"] for row in rows):
        if run.enough:
            return
        if zip_url in run.tried:
            continue
        run.tried.add(zip_url)
        try:
            _gather_zip(run, zip_url)
            run.too_large = 0
        except _TooLarge as error:
            run.too_large += 1
            log.info("%s", error)
        except AcquisitionError as error:
            if isinstance(error, CatalogueError) or is_full(error):
                raise
            log.warning("failed: %s", error)
            with run.catalogue.transaction():
                for book in run.listing.books(zip_url=zip_url):
                    run.failures.append(f"{book['title']}: {error}")
                    which = {"id": book["id"]}
                    run.catalogue.change("listed_books", which, state=FAILED, reason=str(error))


def _gather_zip(run: _Run, zip_url: str) -> None:
    """Fetch, unpack, read and enter a zip, for all books that are in it."""
    folder = run.listing.place(zip_url)
    archive = folder.with_name(f"{folder.name}.zip")
    # Either is there whole or not at all, and its name is of this address alone.
    run.listing.browser.close()  # a page's scripts need not run for as long as this takes
    if not folder.is_dir():
        if not archive.is_file():
            _fetch(run, zip_url, archive)
        try:
            unpack(archive, folder, lambda name: Path(name).suffix.lower() in SUFFIXES)
        except AcquisitionError as error:
            if not is_full(error):
                archive.unlink()  # so that it is fetched anew
            raise
    tracks = []
    for track in read_tracks(sound_files(folder)):
        if isinstance(track, AcquisitionError):
            log.warning("skipped: %s", track)
            run.skipped += 1
        else:
            tracks.append(track)
    if not tracks:
        shutil.rmtree(folder)
        archive.unlink(missing_ok=True)
        raise AcquisitionError(f"{zip_url}: holds no sound that can be read")
    with run.catalogue.transaction():
        books = run.listing.books(zip_url=zip_url)
        for book in books:
            new = _enter_book(run, book, folder, tracks)
            run.tracks, run.hours = run.tracks + len(new), run.hours + sum(new) / 3600.0
    archive.unlink(missing_ok=True)
    run.gathered += sum(book["state"] != GATHERED for book in books)
    log.info("%s: %d tracks", folder, len(tracks))


def _fetch(run: _Run, zip_url: str, archive: Path) -> None:
    """Download a zip, if it is within the limit."""
    counted = 0
    with tqdm(desc=archive.stem, unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def watch(done: int, whole: int | None) -> None:
            nonlocal counted
            if max(done, whole or 0) > run.left:
                counted = 0 if whole else done
                raise _TooLarge(f"{zip_url}: is larger than what is left of the limit")
            counted, bar.total = done, whole
            bar.update(done - bar.n)

        try:
            found = run.visitor.download(zip_url, archive, None, _LARGEST_ZIP, watch)
        finally:
            run.left -= counted
    log.info("%s: %d bytes, SHA-256 %s", zip_url, found.size, found.sha256)


def _enter_book(run: _Run, book: sqlite3.Row, folder: Path, tracks: list[Track]) -> list[float]:
    """Enter a book's tracks, all that there are; returns the new ones' lengths [s]."""
    columns = {
        "book_dummy_name": folder.name,
        "book_name": book["title"],
        "book_author": book["author"],
        "book_url": book["url"],
        "book_language": run.listing.language,
        "book_path": stored_path(run.catalogue, folder),
        "book_n_tracks": len(tracks),
        "licence": LICENCE,
        "source": SOURCE,
    }
    new = [
        track.duration_s
        for track in tracks
        if enter(run.catalogue, "speech", track, track.path.stem, **columns)
    ]
    there = {stored_path(run.catalogue, track.path) for track in tracks}
    of_book = {"book_url": book["url"], "book_language": run.listing.language, "source": SOURCE}
    for row in run.catalogue.find("audio_books_tracks", **of_book, track_status=OK):
        if row["track_path"] not in there:  # of another zip, which this one replaced
            which = {"id": row["id"]}
            run.catalogue.change("audio_books_tracks", which, track_status=DELETED)
    run.catalogue.change("listed_books", {"id": book["id"]}, state=GATHERED, reason=None)
    return new


def _tidy(folder: Path) -> None:
    """Remove what a killed run had begun and no run goes on with."""
    for left in folder.glob("*.part"):
        if left.is_dir():  # of an archive, half unpacked
            shutil.rmtree(left)
    for note in folder.glob("*.zip.part.json*"):  # of a download, whole since
        if not (folder / f"{note.name.partition('.zip.part')[0]}.zip.part").exists():
            note.unlink()
    for archive in folder.glob("*.zip"):
        if archive.with_suffix("").is_dir():
            archive.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process gathers into the folder meanwhile; a killed one's lock ends with it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = sqlite3.connect(folder / "lock", timeout=0.0, isolation_level=None)
        with closing(lock):
            lock.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.OperationalError as error:
        raise AcquisitionError(f"{folder}: is another process's, or not to be written") from error


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    """One line for what a disk cannot do."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if is_full(error) else error.strerror or str(error)
        raise AcquisitionError(f"{folder}: cannot be stored: {reason}") from error
