"""One HTML page that holds all of it: text, tables, and pictures as data.

Nothing is fetched from anywhere and nothing runs in it; whatever a catalogue's titles are,
they are text. Not here: what is in the sections (``explore``).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from training.explore_tables import Table, is_number, text_of


class Picture(NamedTuple):
    """A figure."""

    name: str
    """Of its file, without ``.png``."""
    png: bytes
    says: str
    """What is to be seen, for those who cannot see it."""


class Section(NamedTuple):
    """A part of the page under a heading of its own."""

    title: str
    text: str
    """What it answers, or why there is nothing to show."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


# No script, no font, no address: the page is the same in ten years, and in a train.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #667; --line: #ccd3da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --paper: #16191c; --soft: #9aa4ad; --line: #3a4148; } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 46rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.5rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1rem; margin-bottom: 0; }
p { margin: .4rem 0 .8rem; } .note { color: var(--soft); font-size: .9rem; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: .4rem;
  margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal; }
td { min-width: 3rem; } .n { text-align: right; white-space: nowrap; }
"""


def page(title: str, text: str, sections: Sequence[Section]) -> str:
    """The page as HTML.

    Parameters
    ----------
    title, text : of the whole page, plain text
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1><p>{escape(text)}</p>",
            *map(_section, sections),
            "</body></html>",
            "",
        ]
    )


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    for picture in section.pictures:
        data = base64.b64encode(picture.png).decode()
        parts.append(
            f'<img id="{escape(picture.name)}" alt="{escape(picture.says)}" '
            f'src="data:image/png;base64,{data}">'
        )
    parts += map(_table, section.tables)
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    parts = [f"<h3>{escape(table.title)}</h3>"]
    if table.note:
        parts.append(f'<p class="note">{escape(table.note)}</p>')
    if not table.rows:
        return "\n".join([*parts, "<p>None.</p>"])
    right = [all(is_number(row[k]) for row in table.rows) for k in range(len(table.head))]

    def cells(tag: str, texts: Sequence[str]) -> str:
        made = (
            f"<{tag}{' class=n' if at_right else ''}>{escape(text)}</{tag}>"
            for text, at_right in zip(texts, right, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    rows = "\n".join(cells("td", [text_of(cell) for cell in row]) for row in table.rows)
    head = cells("th", table.head)
    return "\n".join([*parts, f'<div class="wide"><table>{head}\n{rows}</table></div>'])
