"""Which books LibriVox has in a language, page after page of its listing.

They are in ``listed_books``, each page at once, so that a reading that was killed goes on. Not
here: what a page tells (``librivox_pages``), and what becomes of the books (``librivox``).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from acquisition.browser import Browser
from acquisition.catalogue import Catalogue
from acquisition.downloads import Visitor
from acquisition.errors import AcquisitionError
from acquisition.librivox_pages import Book, books_in, languages_in, last_page, listing_url

log = logging.getLogger("acquisition")

SITE = "https://librivox.org"
SOURCE = "librivox"

KEYS = {"english": 1, "french": 2, "german": 3, "italian": 4, "spanish": 5}
"""How the site counts languages; others are read from its list of them."""

LISTED, GATHERED, FAILED, NOTHING = "LISTED", "GATHERED", "FAILED", "NOTHING"
"""States of a listed book: to be gathered, done, to be tried again, and none to be had."""


@dataclass(slots=True)
class Listing:
    """A language's listing, where it is kept, and by whom it is read."""

    catalogue: Catalogue
    folder: Path
    """Of the language's books."""
    language: str
    """In small letters."""
    key: int | None
    """How the site counts the language; None where it is to be looked up."""
    site: str
    visitor: Visitor
    browser: Browser

    @property
    def note(self) -> Path:
        """Holds how many pages there are."""
        return self.folder / "listing.json"

    def books(self, **columns: Any) -> list[sqlite3.Row]:
        """Rows of ``listed_books`` of this language that have these values."""
        return self.catalogue.find("listed_books", source=SOURCE, language=self.language, **columns)

    def place(self, zip_url: str) -> Path:
        """Folder of a zip's files: its name is readable, and no other address has it."""
        last = PurePosixPath(unquote(urlsplit(zip_url).path)).name.removesuffix(".zip")
        readable = re.sub(r"[^A-Za-z0-9_]+", "_", last)[:80].strip("_") or "book"
        return self.folder / f"{readable}-{hashlib.sha256(zip_url.encode()).hexdigest()[:8]}"

    def forget(self) -> None:
        """Have it read anew from its first page; what is known of its books stays."""
        self.note.unlink(missing_ok=True)
        which = {"source": SOURCE, "language": self.language}
        self.catalogue.change("listed_books", which, page=0)


def read_on(listing: Listing) -> Iterator[int]:
    """Read the pages that are not stored yet; yields the number of each after it is."""
    while True:
        read = max((row["page"] for row in listing.books()), default=0)
        pages = _pages(listing)
        if pages is not None and read >= pages:
            return
        if listing.key is None:
            listing.key = _key_of(listing)
        # Without the note it is not known whether the last page that was read has a next one.
        page = max(1, read if pages is None else read + 1)
        _read_page(listing, listing.key, page)
        yield page


def _read_page(listing: Listing, key: int, page: int) -> None:
    url = listing_url(listing.site, key, page)
    listing.visitor.allow(url)
    first_seen: float | None = None

    def ready(html: str) -> bool:
        nonlocal first_seen
        if "catalog-result" not in html or not books_in(html, url):
            return False
        if last_page(html):
            return True
        # A listing of a single page has no page numbers. On others they may come late.
        first_seen = first_seen or time.monotonic()
        alone_s = listing.browser.patience.wait_s / 4.0
        return page == 1 and time.monotonic() - first_seen > alone_s

    html = listing.browser.rendered(url, ready, listing.visitor.wait)
    pages = last_page(html) or 1
    new = listing.note.with_suffix(".new")
    new.write_text(json.dumps({"pages": pages}))
    new.replace(listing.note)
    # A page counts as read once its books are there, all of them at once.
    with listing.catalogue.transaction():
        for book in books_in(html, url):
            _store(listing, page, book)
    log.info("%s: page %d of %d is listed", listing.language, page, pages)


def _store(listing: Listing, page: int, book: Book) -> None:
    which = {"source": SOURCE, "language": listing.language, "url": book.url}
    told = {"page": page, "title": book.title, "author": book.author, "zip_url": book.zip_url}
    state = {"state": LISTED if book.zip_url else NOTHING, "reason": book.reason}
    known = listing.catalogue.find("listed_books", **which)
    if not known:
        listing.catalogue.add("listed_books", **which, **told, **state)
        return
    (row,) = known
    same = book.zip_url is not None and row["zip_url"] == book.zip_url
    if same and row["state"] == GATHERED and listing.place(row["zip_url"]).is_dir():
        state = {}  # what was gathered and deleted since is gathered again
    listing.catalogue.change("listed_books", which, **told, **state)


def _pages(listing: Listing) -> int | None:
    """How many the listing has, as far as one of them said."""
    try:
        return int(json.loads(listing.note.read_text())["pages"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _key_of(listing: Listing) -> int:
    if listing.language in KEYS:
        return KEYS[listing.language]
    url = listing_url(listing.site, 0, 1)
    listing.visitor.allow(url)
    html = listing.browser.rendered(
        url, lambda html: bool(languages_in(html)), listing.visitor.wait
    )
    known = languages_in(html)
    if listing.language not in known:
        near = difflib.get_close_matches(listing.language, known, 5) or sorted(known)[:5]
        raise AcquisitionError(
            f"{listing.site} has no language {listing.language!r} among its {len(known)}, but "
            f"{', '.join(near)}"
        )
    return known[listing.language]
