"""Pages built as LibriVox's are: results that a script fetches, some time after loading."""

from __future__ import annotations

import html
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import soundfile

from acquisition.librivox_pages import listing_url
from tests.acquisition.web import Site

VOICE = Path(__file__).parents[2] / "app" / "clips" / "voice.flac"

SHELL = """<!doctype html>
<html><head><meta charset="utf-8"><title>LibriVox</title></head><body>
<div class="main-content"><div class="browse"><ul class="browse-list"></ul>
<div class="page-number-nav"></div></div></div>
<script>
setTimeout(async () => {
  const answer = await (await fetch(%s)).json();
  document.querySelector(".browse-list").innerHTML = answer.results;
  document.querySelector(".page-number-nav").innerHTML = answer.pagination;
}, %d);
</script></body></html>"""


@dataclass
class Shown:
    """A book as a listing shows it."""

    title: str
    zip_url: str | None = None
    author: str = ""
    author_link: bool = True
    language: str = "Spanish"

    @property
    def path(self) -> str:
        return "/book-" + "".join(letter for letter in self.title.lower() if letter.isalnum())

    def item(self) -> str:
        title, author = html.escape(self.title), html.escape(self.author)
        if self.author_link:
            author = f'<a href="/author/1">{author} <span class="dod-dob">(1547 - 1616)</span></a>'
        button = f'<div class="download-btn"><a href="{self.zip_url}">Download</a><span>1MB</span>'
        button = f"{button}</div>" if self.zip_url else ""
        state = "Complete" if self.zip_url else "In Progress"
        return f"""<li class="catalog-result">
<a href="#" class="book-cover"><img src="/cover.jpg" width="65" height="65"></a>
<div class="result-data"><h3><a href="{self.path}">{title}</a></h3>
<p class="book-author"> {author} </p>
<p class="book-meta"> {state} | Solo | {self.language}</p></div>{button}</li>"""


def numbers(pages: int) -> str:
    """The row of page numbers below a listing."""
    links = "".join(
        f'<a class="page-number" data-page-number="{k + 1}">{k + 1}</a>' for k in range(pages)
    )
    return f'{links}<a class="page-number last" data-page-number="{pages}" href="#">&raquo;</a>'


def show(
    site: Site,
    pages: list[list[Shown]],
    key: int = 5,
    delays_s: tuple[float, ...] = (),
    pagination: str | None = None,
) -> None:
    """Have a site show books, a page's after so many seconds."""
    for k, books in enumerate(pages):
        results = "".join(book.item() for book in books)
        row = numbers(len(pages)) if pagination is None else pagination
        show_page(site, key, k + 1, results, row, (*delays_s, *[0.0] * len(pages))[k])


def show_page(
    site: Site, key: int, page: int, results: str, pagination: str = "", delay_s: float = 0.0
) -> None:
    """Have a site show one page, of whatever markup."""
    fetched = f"/results?key={key}&page={page}"
    site.files[listing_url("", key, page)] = (
        SHELL % (json.dumps(fetched), round(delay_s * 1000.0))
    ).encode()
    answer = {"results": results, "pagination": pagination}
    site.files[fetched] = json.dumps(answer).encode()


def mp3(first_s: float, duration_s: float = 1.5) -> bytes:
    """A stretch of a real voice."""
    rate = soundfile.info(VOICE).samplerate
    first, n = round(first_s * rate), round(duration_s * rate)
    voice, _ = soundfile.read(VOICE, n, first, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, voice, rate, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of them, whatever their names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()
