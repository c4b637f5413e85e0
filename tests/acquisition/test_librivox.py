"""Listings in a real headless Chromium, books from a real server that misbehaves."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from acquisition.browser import Patience
from acquisition.downloads import Manners
from acquisition.errors import AcquisitionError
from acquisition.librivox import gather
from acquisition.librivox_listing import KEYS
from acquisition.librivox_pages import books_in, languages_in, last_page, listing_url
from tests.acquisition.listing import Shown, mp3, numbers, show, show_page, zipped
from tests.acquisition.web import Site, drop_after, kill_when, serving, status

BRISK = Manners(pause_s=(0.0, 0.0), tries=5, back_off_s=0.01, longest_wait_s=3.0, timeout_s=5.0)
PATIENT = Patience(wait_s=60.0, tries=2, back_off_s=0.05)
# A page without numbers is waited for by a quarter of it, others by less.
BRIEF = Patience(wait_s=8.0, tries=2, back_off_s=0.05)
ROOT = Path(__file__).parents[2]
SQL = """Robert'); DROP TABLE listed_books; -- "Bobby" <b>Tables</b> & Söhne"""


@pytest.fixture(scope="session")
def voices() -> list[bytes]:
    """Seven recordings."""
    return [mp3(k, 1.2) for k in range(7)]


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture
def zips(voices) -> dict[str, dict[str, bytes]]:
    """What is in each zip, by its path."""
    return {
        "/files/quijote_64kb_mp3.zip": {"q_01.mp3": voices[0], "q_02.mp3": voices[1]},
        "/files/lazarillo.zip": {"l/l_01.mp3": voices[2], "read me.txt": b"words"},
        "/files/both.zip": {"b_01.mp3": voices[3], "b_02.mp3": voices[4], "b_03.mp3": b""},
        "/files/tables.zip": {"t_01.mp3": voices[5]},
        "/files/last.zip": {"z_01.mp3": voices[6]},
    }


def books() -> list[list[Shown]]:
    """Three pages."""
    return [
        [
            Shown("Don Quijote", "/files/quijote_64kb_mp3.zip", "Miguel de CERVANTES"),
            Shown("Lazarillo de Tormes", "/files/lazarillo.zip", "Anónimo", author_link=False),
            Shown("La Regenta", None, "Leopoldo ALAS"),
        ],
        [
            Shown("Cuentos, primera parte", "/files/both.zip", "Emilia PARDO BAZÁN"),
            Shown("Cuentos, segunda parte", "/files/both.zip", "Emilia PARDO BAZÁN"),
            Shown(SQL, "/files/tables.zip", 'O\'Neill "the" author'),
        ],
        [
            Shown("Zalacaín", "/files/last.zip", "n/a", author_link=False),
            Shown("Lenguas", "/files/gone.zip", "Varios", language="Multilingual"),
        ],
    ]


def gathered(into: Path, site: Site, **options) -> str:
    """What a call for Spanish told."""
    told: list[str] = []
    options = {"language": "spanish", "manners": BRISK, "patience": PATIENT} | options
    gather(into / "catalogue.sqlite", site=site.at, tell=told.append, **options)
    (line,) = told
    return line


def rows(into: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(into / "catalogue.sqlite")) as catalogue:
        assert catalogue.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return catalogue.execute(statement).fetchall()


def check_all(into: Path, site: Site, zips: dict[str, dict[str, bytes]]) -> None:
    """Every book is there once, its files byte for byte, and nothing else is."""
    folder = into / "librivox" / "spanish"
    expected = sorted(
        (f"{Path(path).stem}", name, content)
        for path, files in zips.items()
        for name, content in files.items()
        if name.endswith(".mp3")
    )
    found = sorted(
        (path.relative_to(folder).parts[0], "/".join(path.relative_to(folder).parts[1:]), path)
        for path in folder.rglob("*.mp3")
    )
    assert [
        (name.rpartition("-")[0], file, path.read_bytes()) for name, file, path in found
    ] == expected
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"lock", "listing.json"}
    assert len([path for path in folder.iterdir() if path.is_dir()]) == len(zips)
    listed = rows(
        into, "SELECT title, author, page, state, reason FROM listed_books ORDER BY title"
    )
    cuentos = "Emilia PARDO BAZÁN (1547 - 1616)"
    assert listed == [
        ("Cuentos, primera parte", cuentos, 2, "GATHERED", None),
        ("Cuentos, segunda parte", cuentos, 2, "GATHERED", None),
        ("Don Quijote", "Miguel de CERVANTES (1547 - 1616)", 1, "GATHERED", None),
        ("La Regenta", "Leopoldo ALAS (1547 - 1616)", 1, "NOTHING", "has no download"),
        ("Lazarillo de Tormes", "Anónimo", 1, "GATHERED", None),
        ("Lenguas", "Varios (1547 - 1616)", 3, "NOTHING", "is in several languages"),
        (SQL, 'O\'Neill "the" author (1547 - 1616)', 2, "GATHERED", None),
        ("Zalacaín", None, 3, "GATHERED", None),
    ]
    tracks = rows(
        into,
        "SELECT book_name, track_name, book_n_tracks, track_path, book_url, track_duration "
        "FROM audio_books_tracks WHERE track_status = 'OK' ORDER BY book_name, track_name",
    )
    assert [track[:3] for track in tracks] == [
        ("Cuentos, primera parte", "b_01", 2),
        ("Cuentos, primera parte", "b_02", 2),
        ("Cuentos, segunda parte", "b_01", 2),
        ("Cuentos, segunda parte", "b_02", 2),
        ("Don Quijote", "q_01", 2),
        ("Don Quijote", "q_02", 2),
        ("Lazarillo de Tormes", "l_01", 1),
        (SQL, "t_01", 1),
        ("Zalacaín", "z_01", 1),
    ]
    for *_, path, url, duration_s in tracks:
        assert path.startswith("librivox/spanish/")
        assert (into / path).is_file()
        assert url.startswith(f"{site.at}/book-")
        assert 1.1 < duration_s < 1.4  # a coder adds some
    alike = "speaker, licence, source, book_language, track_channels, track_sample_rate"
    assert rows(into, f"SELECT DISTINCT {alike} FROM audio_books_tracks") == [
        (None, "Public Domain", "librivox", "spanish", 1, 48000)
    ]


def serve(site: Site, zips: dict[str, dict[str, bytes]]) -> None:
    site.files |= {path: zipped(files) for path, files in zips.items()}


def test_everything_is_gathered_once_from_slow_pages_and_a_server_that_fails(
    site, zips, tmp_path, caplog
):
    serve(site, zips)
    show(site, books(), delays_s=(0.0, 2.0, 8.0))
    site.faults |= {
        "/search": [status(503)],
        "/files/quijote_64kb_mp3.zip": [drop_after(5000), drop_after(5000)],
        "/files/lazarillo.zip": [status(429, Retry_After="1"), status(503)],
        "/files/both.zip": [drop_after(0), status(503), drop_after(9000)],
    }
    told = gathered(tmp_path, site)
    check_all(tmp_path, site, zips)
    assert told.startswith("spanish: 6 books gathered, 9 new tracks (0.00 h), 1 skipped; of 8 lis")
    assert "b_03.mp3: is empty" in caplog.text
    asked = [path for path, _ in site.asked]
    assert asked.count(listing_url("", 5, 1)) == 2
    assert asked.count(listing_url("", 5, 2)) == asked.count(listing_url("", 5, 3)) == 1
    assert "/files/gone.zip" not in asked
    # What was broken off went on where it stopped.
    starts = [start for path, start in site.asked if "quijote" in path]
    assert starts == ["", "bytes=5000-", "bytes=10000-"]
    assert all("denoise-app" in agent for agent in site.agents)
    # A second time there is nothing to ask for; no browser is started.
    site.asked.clear()
    told = gathered(tmp_path, site, browser="firefox")
    assert "spanish: 0 books gathered, 0 new tracks (0.00 h); of 8 listed, 0 are left" in told
    assert site.asked == []
    check_all(tmp_path, site, zips)


SCRIPT = """
import sys
from pathlib import Path
from acquisition.browser import Patience
from acquisition.downloads import Manners
from acquisition.librivox import gather
gather(
    Path(sys.argv[2]) / "catalogue.sqlite", "spanish", site=sys.argv[1],
    manners=Manners(pause_s=(0.0, 0.0), back_off_s=0.01), patience=Patience(wait_s=60.0),
    tell=lambda line: print(line, file=open(sys.argv[3], "w")),
)
"""


def test_killed_at_any_moment_it_goes_on(site, zips, tmp_path, rng):
    """SIGKILL while the server holds back the rest of a page or a zip, or has given all of it.

    The run that is not killed ends, and browsers end with those that are.
    """
    for files in zips.values():
        files["cover.jpg"] = rng.bytes(60_000)  # so that a zip comes in several blocks
    serve(site, zips)
    show(site, books(), delays_s=(0.1, 0.1, 0.1))
    into, said = tmp_path / "into", tmp_path / "said"
    command = [sys.executable, "-c", SCRIPT, site.at, str(into), str(said)]
    zip_1, zip_2, zip_3, zip_4 = list(zips)[:4]
    moments = [
        (listing_url("", 5, 1), 100),
        ("/results?key=5&page=1", 50),
        (zip_1, int(rng.integers(1, 16_000))),
        (zip_1, int(rng.integers(17_000, 40_000))),
        (zip_1, len(site.files[zip_1])),
        (zip_2, int(rng.integers(17_000, 60_000))),
        ("/results?key=5&page=2", len(site.files["/results?key=5&page=2"])),
        (zip_3, int(rng.integers(33_000, 60_000))),
        (zip_4, len(site.files[zip_4])),
    ]
    started: list[psutil.Process] = []
    for path, n in moments:
        with site.holding(path, n) as reached:
            process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
            kill_when(process, reached.is_set, started)
    assert len(started) > 9  # a browser has several
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert said.exists()
    check_all(into, site, zips)
    # What was there was not asked for again: no file from its start once it had some bytes.
    for path in zips:
        starts = [
            int(a.removeprefix("bytes=").rstrip("-") or 0) for p, a in site.asked if p == path
        ]
        assert starts == sorted(starts), path
    asked = [path for path, _ in site.asked]
    assert asked.count(listing_url("", 5, 1)) == 3
    assert asked.count(listing_url("", 5, 2)) in (1, 2)  # it may be stored before the kill
    assert asked.count(listing_url("", 5, 3)) == 1
    assert psutil.wait_procs(started, 20.0)[1] == []


KILLED = """
import os, sys
done, last = 0, int(sys.argv[4])
def line(frame, event, arg):
    global done
    done += event == "line"
    if done == last:
        os.kill(os.getpid(), 9)
    return line
sys.settrace(lambda frame, *_: line if "/acquisition/" in frame.f_code.co_filename else None)
%s
sys.settrace(None)
print(done)
"""


def test_killed_at_any_line_it_goes_on(site, zips, tmp_path):
    """SIGKILL before lines of the program that are spread over all of its gathering."""
    show(site, books())
    listed = tmp_path / "listed"
    with pytest.raises(AcquisitionError, match="6 books failed"):
        gathered(listed, site)  # there are no zips yet
    serve(site, zips)

    def end(into: Path, last: int) -> subprocess.CompletedProcess:
        shutil.copytree(listed, into)
        command = [sys.executable, "-c", KILLED % SCRIPT, site.at, str(into)]
        command += [str(tmp_path / "said"), str(last)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    whole = end(tmp_path / "whole", -1)
    assert whole.returncode == 0, whole.stderr
    lines = int(whole.stdout)
    for k in range(1, 11):
        into = tmp_path / str(k)
        assert end(into, lines * k // 11).returncode == -signal.SIGKILL
        gathered(into, site)
        check_all(into, site, zips)


def test_hostile_zips_are_a_line_each_and_the_other_books_are_gathered(
    site, voices, tmp_path, caplog
):
    hostile = {
        "up": zipped({"a.mp3": voices[0], "../../../evil.mp3": voices[1]}),
        "absolute": zipped({"/evil.mp3": voices[1], "a.mp3": voices[0]}),
        "bomb": zipped({f"{k}.mp3": bytes(30_000_000) for k in range(2)}),
        "empty": zipped({"a.mp3": b"", "cover.jpg": b"x"}),
        "text": b"<html>Not Found</html>",
    }
    site.files |= {f"/{name}.zip": content for name, content in hostile.items()}
    site.files["/good.zip"] = zipped({"g.mp3": voices[2]})
    shown = [Shown(name, f"/{name}.zip") for name in [*hostile, "missing", "good"]]
    show(site, [shown])
    into = tmp_path / "into"
    with pytest.raises(AcquisitionError, match=r"^6 books failed and are tried again by the next"):
        gathered(into, site)
    reasons = dict(rows(into, "SELECT title, reason FROM listed_books WHERE state = 'FAILED'"))
    for name, reason in {
        "up": "'../../../evil.mp3' would lie outside of its folder",
        "absolute": "'/evil.mp3' would lie outside of its folder",
        "bomb": "unpacks to more than a recording would",
        "empty": "holds no sound that can be read",
        "text": "is no whole archive",
        "missing": "is not there (404)",
    }.items():
        assert reason in reasons[name]
        assert "\n" not in reasons[name]
    assert rows(into, "SELECT book_name FROM audio_books_tracks") == [("good",)]
    assert [path.name for path in tmp_path.iterdir()] == ["into"]
    assert [path.name for path in into.rglob("*.mp3")] == ["g.mp3"]
    assert not list(into.rglob("*.part")) + list(into.rglob("*.zip"))
    assert caplog.text.count("failed: ") == 6
    # They are tried again, and one is good now.
    for name in hostile:
        site.files[f"/{name}.zip"] = zipped({f"{name}.mp3": voices[3]})
    site.asked.clear()
    with pytest.raises(AcquisitionError, match=r"^1 books failed .* first: missing: .*404"):
        gathered(into, site)
    assert "/search" not in " ".join(path for path, _ in site.asked)
    assert len(rows(into, "SELECT * FROM audio_books_tracks")) == 6


def test_a_truncated_zip_is_fetched_anew_by_the_next_call(site, zips, tmp_path):
    path = "/files/tables.zip"
    whole = zipped(zips[path])

    def half(handler):  # says that it is all there is
        handler.give(whole[: len(whole) // 2])

    site.files[path] = whole
    site.faults[path] = [half]
    show(site, [[Shown(SQL, path)]])
    with pytest.raises(AcquisitionError, match="1 books failed"):
        gathered(tmp_path, site)
    gathered(tmp_path, site)
    (found,) = tmp_path.rglob("*.mp3")
    assert found.read_bytes() == zips[path]["t_01.mp3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk_is_one_line_and_nothing_is_lost(site, voices, rng, tmp_path):
    """A file system of 1 MiB, really full: the second book does not fit."""
    site.files["/a.zip"] = zipped({"a.mp3": voices[0]})
    site.files["/b.zip"] = zipped({"b.mp3": voices[1], "b.wav": rng.bytes(1_000_000)})
    site.files["/c.zip"] = zipped({"c.mp3": voices[2]})
    show(site, [[Shown(name, f"/{name}.zip") for name in "abc"]])
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
    try:
        with pytest.raises(AcquisitionError, match=r"the disk is full$") as told:
            gathered(disk, site)
        assert "\n" not in str(told.value)
        assert rows(disk, "SELECT title, state FROM listed_books") == [
            ("a", "GATHERED"),
            ("b", "LISTED"),
            ("c", "LISTED"),
        ]
        assert rows(disk, "SELECT track_name FROM audio_books_tracks") == [("a",)]
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        site.asked.clear()
        assert "2 books gathered, 2 new tracks (0.00 h), 1 skipped" in gathered(disk, site)
        assert site.asked[0][1].startswith("bytes=")
        assert not list(disk.rglob("*.part")) + list(disk.rglob("*.zip"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_limit_is_kept_and_the_next_call_goes_on(site, zips, tmp_path):
    serve(site, zips)
    show(site, books())
    sizes = {path: len(content) for path, content in site.files.items() if path.endswith(".zip")}
    two = sizes["/files/quijote_64kb_mp3.zip"] + sizes["/files/lazarillo.zip"]
    told = gathered(tmp_path, site, limit_mb=two / 1e6)
    assert told.startswith("spanish: 2 books gathered")
    assert told.endswith("; the limit is reached")
    asked = [path for path, _ in site.asked]
    # No more pages are read than the limit needs.
    assert listing_url("", 5, 2) not in asked
    assert {path for path in asked if path.endswith(".zip")} == set(list(zips)[:2])
    # The next book is too large, the others are not.
    left = sizes["/files/both.zip"] - 1
    told = gathered(tmp_path, site, limit_mb=left / 1e6)
    assert told.startswith("spanish: 2 books gathered")
    assert rows(tmp_path, "SELECT count(*) FROM listed_books WHERE state = 'LISTED'") == [(2,)]
    gathered(tmp_path, site)
    check_all(tmp_path, site, zips)


def test_a_listing_is_read_anew_when_asked(site, zips, voices, tmp_path):
    serve(site, zips)
    pages = books()
    show(site, pages)
    gathered(tmp_path, site)
    # A book has another zip now, one was deleted here and has changed there, one is finished.
    (quijote,) = (tmp_path / "librivox" / "spanish").glob("quijote*")
    for path in quijote.iterdir():
        path.unlink()
    quijote.rmdir()
    site.files["/files/quijote_64kb_mp3.zip"] = zipped({"q_01.mp3": voices[6]})
    pages[0][1].zip_url = "/files/new.zip"
    site.files["/files/new.zip"] = zipped({"n_01.mp3": voices[0]})
    pages[0][2].zip_url = "/files/regenta.zip"
    site.files["/files/regenta.zip"] = zipped({"r_01.mp3": voices[1]})
    show(site, pages)
    assert gathered(tmp_path, site).startswith("spanish: 0 books")
    site.asked.clear()
    assert gathered(tmp_path, site, again=True).startswith("spanish: 3 books gathered, 3 new")
    asked = {path for path, _ in site.asked if path.endswith(".zip")}
    assert asked == {"/files/quijote_64kb_mp3.zip", "/files/new.zip", "/files/regenta.zip"}
    of = "SELECT track_name, track_status FROM audio_books_tracks WHERE book_name = "
    assert rows(tmp_path, f"{of} 'Lazarillo de Tormes'") == [("l_01", "DELETED"), ("n_01", "OK")]
    assert rows(tmp_path, f"{of} 'Don Quijote'") == [
        ("q_01", "DELETED"),
        ("q_02", "DELETED"),
        ("q_01", "OK"),
    ]


def test_other_languages_by_name_and_one_page_without_numbers(site, voices, tmp_path):
    link = '<li class="catalog-result"><div class="result-data"><h3><a href="#" class="js-sublink" '
    link += 'data-sub_category="language" data-primary_key="%d">%s</a></h3></div></li>'
    languages = [(1, "English"), (57, "Slovak"), (36, "Ancient Greek")]
    show_page(site, 0, 1, "".join(link % language for language in languages))
    site.files["/a.zip"] = zipped({"a.mp3": voices[0]})
    show(site, [[Shown("Závet", "/a.zip", language="Slovak")]], key=57, pagination="")
    told = gathered(tmp_path, site, language=" SLOVAK ", patience=BRIEF)
    assert told.startswith("slovak: 1 books gathered")
    assert (tmp_path / "librivox" / "slovak").is_dir()
    assert rows(tmp_path, "SELECT book_language FROM audio_books_tracks") == [("slovak",)]
    with pytest.raises(AcquisitionError, match=r"no language 'slovene' among its 3, but slovak$"):
        gathered(tmp_path, site, language="slovene", patience=BRIEF)
    # By its key alone the site's list is not needed.
    site.asked.clear()
    gathered(tmp_path, site, language="slovenčina", key=57, patience=BRIEF)
    assert listing_url("", 0, 1) not in [path for path, _ in site.asked]
    with pytest.raises(AcquisitionError, match="is no language"):
        gathered(tmp_path, site, language="../")


def test_a_listing_that_cannot_be_read_is_told_and_books_are_gathered(site, zips, tmp_path):
    serve(site, zips)
    show(site, books())
    del site.files[listing_url("", 5, 2)]
    with pytest.raises(AcquisitionError, match=r"search_page=2.*: the server answered 404"):
        gathered(tmp_path, site)
    assert len(rows(tmp_path, "SELECT * FROM audio_books_tracks")) == 3
    # What was complete is not read again; then all is there.
    show(site, books())
    gathered(tmp_path, site)
    assert [path for path, _ in site.asked].count(listing_url("", 5, 1)) == 1
    check_all(tmp_path, site, zips)


def test_robots_txt_holds_for_listings_and_only_one_process_gathers(site, zips, tmp_path):
    serve(site, zips)
    show(site, books())
    site.files["/robots.txt"] = b"User-agent: *\nDisallow: /search\n"
    with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
        gathered(tmp_path, site)
    site.files["/robots.txt"] = b"User-agent: *\nCrawl-delay: 4\n"  # 3 s is the longest wait
    with pytest.raises(AcquisitionError, match="asks for 4 s between two requests"):
        gathered(tmp_path, site)
    assert site.asked == []
    lock = tmp_path / "librivox" / "spanish" / "lock"
    with closing(sqlite3.connect(lock, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AcquisitionError, match="is another process's"):
            gathered(tmp_path, site)


def test_the_command_gathers_with_its_own_manners(site, zips, tmp_path):
    path = "/files/tables.zip"
    site.files[path] = zipped(zips[path])
    show(site, [[Shown("Mesas", path)]])
    command = [
        sys.executable,
        str(ROOT / "main.py"),
        "acquire",
        "librivox",
        "--into",
        str(tmp_path),
    ]
    command += ["--language", "spanish", "--site", site.at, "--limit-mb", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("spanish: 1 books gathered, 1 new tracks")
    refused = subprocess.run([*command, "--limit-mb", "many"], capture_output=True, check=False)
    assert refused.returncode == 2


# Pages alone


AT = "https://librivox.org/search"


def test_a_page_of_broken_markup_gives_what_can_be_read() -> None:
    html = f"""<ul><li class="catalog-result"><div class="result-data"><h3>
    <a href="https://librivox.org/a/">A  <i>title</h3><p class="book-author">Nobody
    <li class="catalog-result"><div class="result-data"><h3><a>No address</a></h3>
    <div class="download-btn"><a href="/b.zip">
    <li class="catalog-result"><h3>nothing here
    <li class="catalog-result"><div class="result-data"><h3><a href="http://[">odd</a></h3></div>
    <div class="download-btn"><a href="javascript:alert(1)">x</a></div>
    <li class=catalog-result><div class=result-data><h3><a href=/c/>{"x" * 9999}</h3></div>
    <div class="download-btn"><a href="c.zip"""
    found = books_in(html, AT)
    assert found[0].title == "A title"
    assert {book.zip_url for book in found} <= {None, "https://librivox.org/b.zip"}
    assert all(book.url.startswith("https://librivox.org/") for book in found)
    assert last_page(html) is None
    for broken in ("", "<", "\x00", "<li class='catalog-result'>", "<!--", "</li></li>"):
        assert books_in(broken, AT) == []
        assert languages_in(broken) == {}


def test_titles_are_text_and_an_address_counts_once() -> None:
    twice = Shown(SQL, "/a.zip", "A & B").item() * 2
    (book,) = books_in(twice, AT)
    assert book.title == SQL
    assert book.author == "A & B (1547 - 1616)"
    assert book.zip_url == "https://librivox.org/a.zip"


def test_the_last_page_is_told_in_either_spelling() -> None:
    assert last_page(numbers(17)) == 17
    assert last_page(numbers(17).replace("data-page-number", "data-page_number")) == 17
    for odd in ("", "0", "-3", "many", "²", "9" * 400):
        row = f'<a class="page-number last" data-page-number="{odd}">'
        assert last_page(row) is None, odd


def test_languages_are_read_from_links_and_from_the_menu() -> None:
    html = """<a href="/search?primary_key=7&amp;search_category=language">Dutch</a>
    <a href="#" data-sub_category="genre" data-primary_key="9">Poetry</a>
    <a href="#" data-sub_category="language" data-primary_key="36">Ancient  Greek</a>
    <a href="#" data-sub_category="language" data-primary_key="36" class="more-result"></a>
    <select name="recorded_language"><option value="1">English</option>
    <option value="">------</option><option value="57">Slovak</option></select>"""
    assert languages_in(html) == {"dutch": 7, "ancient greek": 36, "english": 1, "slovak": 57}
    assert sorted(KEYS) == ["english", "french", "german", "italian", "spanish"]
