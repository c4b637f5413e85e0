"""What LibriVox's pages tell, once a browser has rendered them.

Nothing is asked here, and whatever a page lacks or has twice is borne: its markup comes from
many hands. Not here: how pages are walked and books gathered (``librivox``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag


def listing_url(site: str, key: int, page: int) -> str:
    """Address of a page of a language's listing; key 0 lists the languages."""
    asked = {"primary_key": key, "search_category": "language", "search_page": page}
    return f"{site}/search?{urlencode(asked)}&search_form=get_results"


@dataclass(frozen=True, slots=True)
class Book:
    """What a listing shows of a book."""

    title: str
    author: str | None
    url: str
    zip_url: str | None
    reason: str | None = None
    """Why there is nothing to gather, where ``zip_url`` is None."""


def books_in(html: str, url: str) -> list[Book]:
    """The books on a page of a listing, each address once; what has no title is left out.

    Parameters
    ----------
    url : of the page, from where its links lead
    """
    found: dict[str, Book] = {}
    for item in _soup(html).select("li.catalog-result"):
        link = _own(item, ".result-data h3 a") or _own(item, ".result-data h3")
        title = _text(link)
        if not title:
            continue
        button = _own(item, ".download-btn a[href]")
        zip_url = _link(button, url)
        # One without a page of its own is known by its file, or by its title.
        book_url = _link(link, url) or zip_url or f"{url}#{title}"
        author = _text(_own(item, "p.book-author"))
        reason = None if zip_url else "has no download"
        if "multilingual" in _text(_own(item, "p.book-meta")).lower():
            zip_url, reason = None, "is in several languages"
        author_known = author and author.lower() != "n/a"
        book = Book(title, author if author_known else None, book_url, zip_url, reason)
        found.setdefault(book_url, book)
    return list(found.values())


def last_page(html: str) -> int | None:
    """Number of the listing's last page; None where the page does not say, or not yet."""
    link = _soup(html).select_one("a.page-number.last")
    if link is None:
        return None
    # The site has written it either way.
    told = str(link.get("data-page-number") or link.get("data-page_number") or "").strip()
    return int(told) if re.fullmatch(r"[0-9]{1,6}", told) and int(told) else None


def languages_in(html: str) -> dict[str, int]:
    """The site's languages, in small letters, and their keys."""
    soup = _soup(html)
    found: dict[str, int] = {}
    for link in soup.select("a[data-primary_key], a[data-primary-key], a[href*='primary_key=']"):
        told = link.get("data-primary_key") or link.get("data-primary-key")
        told = told or re.sub(r".*primary_key=(\d*).*", r"\1", str(link.get("href")))
        if link.get("data-sub_category", "language") == "language":
            _note_language(found, link, str(told))
    for option in soup.select("select[name='recorded_language'] option[value]"):
        _note_language(found, option, str(option.get("value")))
    return found


def _note_language(found: dict[str, int], tag: Tag, key: str) -> None:
    if re.fullmatch(r"[0-9]{1,6}", key) and int(key) and _text(tag):
        found.setdefault(_text(tag).lower(), int(key))


def _soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def _own(item: Tag, selector: str) -> Tag | None:
    """Of an item alone: where its end is missing, the next ones lie within it."""
    for tag in item.select(f":scope {selector}"):
        if tag.find_parent("li", class_="catalog-result") is item:
            return tag
    return None


def _text(tag: Tag | None) -> str:
    return " ".join(tag.get_text(" ").split()) if tag else ""


def _link(tag: Tag | None, url: str) -> str | None:
    """Where a link leads, if to a web address."""
    href = str(tag.get("href") or "").strip() if tag else ""
    if not href or href.startswith("#"):
        return None
    try:
        led = urljoin(url, href)
        parts = urlsplit(led)
    except ValueError:  # no address at all, as http://[
        return None
    return led if parts.scheme in ("http", "https") and parts.hostname else None
