"""Against a real server that drops lines, refuses, changes its mind and lies."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from acquisition.downloads import Manners, Visitor
from acquisition.errors import AcquisitionError
from tests.acquisition.web import Endless, Site, drop_after, hang_up, kill_when, serving, status

BRISK = Manners(pause_s=(0.0, 0.0), tries=4, back_off_s=0.01, longest_wait_s=3.0, timeout_s=5.0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def content(rng: np.random.Generator) -> bytes:
    return rng.bytes(300_000)


@pytest.fixture
def site(content):
    with serving(Site(files={"/a.zip": content})) as site:
        yield site


@pytest.fixture
def visitor():
    with Visitor(BRISK) as visitor:
        yield visitor


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_comes_whole_and_under_its_name_alone(site, visitor, content, tmp_path):
    seen = []
    path = tmp_path / "new" / "a.zip"
    found = visitor.download(f"{site.at}/a.zip", path, progress=lambda *n: seen.append(n))
    assert path.read_bytes() == content
    assert (found.path, found.size, found.sha256) == (path, len(content), sha256(content))
    assert seen[-1] == (len(content), len(content))
    assert list(path.parent.iterdir()) == [path]
    assert all(agent.startswith("denoise-app") for agent in site.agents)
    # A second time nothing is asked, since its checksum is known now.
    site.asked.clear()
    md5 = hashlib.md5(content).hexdigest()
    assert visitor.download(f"{site.at}/a.zip", path, sha256=found.sha256) == found
    assert visitor.download(f"{site.at}/a.zip", path, md5=md5) == found
    assert visitor.download(f"{site.at}/a.zip", path, sha256=found.sha256, md5=md5) == found
    assert site.asked == []
    # One that is wrong is enough to ask anew.
    other = hashlib.md5(b"another").hexdigest()
    with pytest.raises(AcquisitionError, match="has the MD5"):
        visitor.download(f"{site.at}/a.zip", path, sha256=found.sha256, md5=other)
    with pytest.raises(AcquisitionError, match="has the SHA-256"):
        visitor.download(f"{site.at}/a.zip", path, sha256=sha256(b"another"), md5=md5)
    assert len(site.asked) == 2


def test_what_is_broken_off_goes_on_where_it_stopped(site, visitor, content, tmp_path):
    site.faults["/a.zip"] = [
        drop_after(100_000),
        hang_up,
        status(503),
        drop_after(50_000),
        status(429, Retry_After="0"),
        drop_after(0),
    ]
    path = tmp_path / "a.zip"
    visitor.download(f"{site.at}/a.zip", path, sha256=sha256(content))
    assert path.read_bytes() == content
    starts = [asked for _, asked in site.asked]
    assert starts[0] == ""
    assert starts[-1] == "bytes=150000-"
    assert list(tmp_path.iterdir()) == [path]


def test_a_server_without_ranges_begins_again(site, visitor, content, tmp_path):
    site.ranges = False
    site.faults["/a.zip"] = [drop_after(250_000), drop_after(10)]
    path = tmp_path / "a.zip"
    visitor.download(f"{site.at}/a.zip", path)
    assert path.read_bytes() == content


def test_only_what_is_more_than_ever_before_is_a_gain(site, visitor, tmp_path):
    """A server without ranges that cuts now late, now early: it is not asked for ever."""
    site.ranges = False
    site.faults["/a.zip"] = [drop_after(250_000), drop_after(10)] * 20
    with pytest.raises(AcquisitionError, match="given up after 4"):
        visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
    assert len(site.asked) == 4


def test_a_file_that_changed_meanwhile_is_not_joined_with_its_old_beginning(
    site, visitor, content, tmp_path
):
    site.faults["/a.zip"] = [drop_after(100_000), *[hang_up] * 4]
    path = tmp_path / "a.zip"
    with pytest.raises(AcquisitionError, match="given up after 4"):
        visitor.download(f"{site.at}/a.zip", path)
    assert (tmp_path / "a.zip.part").stat().st_size == 100_000
    assert not path.exists()
    site.files["/a.zip"] = content[::-1]
    site.etags["/a.zip"] = '"2"'
    visitor.download(f"{site.at}/a.zip", path)
    assert path.read_bytes() == content[::-1]


def test_what_another_address_left_is_not_taken_up(site, visitor, content, tmp_path):
    site.files["/b.zip"] = content[::-1]
    site.faults["/a.zip"] = [drop_after(100_000), *[hang_up] * 4]
    with pytest.raises(AcquisitionError):
        visitor.download(f"{site.at}/a.zip", tmp_path / "x.zip")
    visitor.download(f"{site.at}/b.zip", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == content[::-1]


def test_a_server_that_asks_for_time_gets_it(site, visitor, tmp_path):
    site.faults["/a.zip"] = [
        status(503, Retry_After="1"),
        status(429, Retry_After=formatdate(time.time() + 3, usegmt=True)),
    ]
    before = time.monotonic()
    visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - before > 1.9
    site.faults["/a.zip"] = [status(503, Retry_After="3600")]
    with pytest.raises(AcquisitionError, match="answered 503; given up"):
        visitor.download(f"{site.at}/a.zip", tmp_path / "b.zip")


def test_one_request_at_a_time_with_a_pause(site, tmp_path):
    manners = Manners(pause_s=(0.2, 0.3))
    with Visitor(manners) as visitor:
        before = time.monotonic()
        for k in range(3):
            visitor.download(f"{site.at}/a.zip", tmp_path / f"{k}.zip")
        # robots.txt first: three pauses between four requests.
        assert time.monotonic() - before > 0.6
    assert site.busiest == 1


def test_robots_txt_is_asked_first_and_honoured(site, visitor, tmp_path):
    site.files["/robots.txt"] = b"User-agent: *\nDisallow: /private\nCrawl-delay: 0.5\n"
    site.files["/private/a.zip"] = b"secret"
    with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
        visitor.download(f"{site.at}/private/a.zip", tmp_path / "a.zip")
    with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
        visitor.page(f"{site.at}/private/index.html")
    assert site.asked == []
    before = time.monotonic()
    visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - before > 0.45


def test_an_endless_robots_txt_is_not_read_on(site, visitor, content, tmp_path):
    long = Endless(128 * 2**20, first=b"User-agent: *\nDisallow: /private\n")
    site.faults["/robots.txt"] = [long]
    visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == content
    # 16 MiB are read, and more lies in the connection's buffers only.
    assert long.sent < 64 * 2**20
    with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
        visitor.page(f"{site.at}/private")


def test_a_server_that_asks_for_long_pauses_is_left_alone(site, visitor, tmp_path):
    site.files["/robots.txt"] = b"User-agent: *\nCrawl-delay: 4\n"
    visitor.allow(f"{site.at}/a.zip")
    for ask in (visitor.page, visitor.wait, lambda url: visitor.download(url, tmp_path / "a.zip")):
        with pytest.raises(AcquisitionError, match="asks for 4 s between two requests"):
            ask(f"{site.at}/a.zip")
    assert site.asked == []
    assert list(tmp_path.iterdir()) == []


def test_another_host_is_followed_to_as_politely(site, content, tmp_path):
    """Its robots.txt is asked, and it has a pause of its own; a file is fetched where it lies."""
    with serving(Site(files={"/deep/b.zip": content})) as mirror, Visitor(BRISK) as visitor:
        mirror.files["/robots.txt"] = (
            b"User-agent: *\nDisallow: /private\nDisallow: /*?key\nCrawl-delay: 0.4\n"
        )
        site.faults["/old.zip"] = [status(301, Location=f"{mirror.at}/new.zip")]
        mirror.faults["/new.zip"] = [status(302, Location="deep/b.zip")]
        before = time.monotonic()
        visitor.page(f"{site.at}/old.zip")
        # After robots.txt and after /new.zip.
        assert time.monotonic() - before > 0.75
        assert mirror.asked == [("/new.zip", ""), ("/deep/b.zip", "")]
        for place in ("/private/a.zip", "/a.zip?key=1"):
            site.faults["/old.zip"] = [status(307, Location=f"{mirror.at}{place}")]
            with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
                visitor.page(f"{site.at}/old.zip")
            assert len(mirror.asked) == 2
        mirror.files["/private/a.zip"] = content
        site.faults["/old.zip"] = [status(302, Location=f"{mirror.at}/private/a.zip")]
        visitor.download(f"{site.at}/old.zip", tmp_path / "a.zip", sha256=sha256(content))
        assert len(mirror.asked) == 3
        assert len(site.asked) == 4


@pytest.mark.parametrize("etag", ['"1"', '"2"'])
def test_a_mirror_goes_on_only_with_the_same_file(site, visitor, content, tmp_path, etag):
    site.files["/there.zip"] = content
    site.faults["/there.zip"] = [drop_after(100_000)]
    with serving(Site(files={"/b.zip": content[::-1]})) as mirror:
        if etag == '"1"':
            mirror.files["/b.zip"] = content
        mirror.etags["/b.zip"] = etag
        site.faults["/old.zip"] = [
            status(302, Location="/there.zip"),
            status(308, Location=f"{mirror.at}/b.zip"),
        ]
        visitor.download(f"{site.at}/old.zip", tmp_path / "a.zip")
        assert (tmp_path / "a.zip").read_bytes() == mirror.files["/b.zip"]
        assert mirror.asked == [("/b.zip", "bytes=100000-")]


def test_where_a_redirect_may_not_lead(site, visitor, tmp_path):
    for place in ("ftp://127.0.0.1/a", "file:///etc/passwd", "http://[", "javascript:0"):
        site.faults["/old.zip"] = [status(302, Location=place)]
        with pytest.raises(AcquisitionError, match="is no web address"):
            visitor.download(f"{site.at}/old.zip", tmp_path / "a.zip")
    site.faults["/old.zip"] = [status(302)]
    with pytest.raises(AcquisitionError, match="answered 302"):
        visitor.download(f"{site.at}/old.zip", tmp_path / "a.zip")
    assert [path for path, _ in site.asked] == ["/old.zip"] * 5
    site.faults["/1"] = [status(303, Location="/2")] * 9
    site.faults["/2"] = [status(302, Location="/1")] * 9
    site.asked.clear()
    with pytest.raises(AcquisitionError, match="/1: leads elsewhere more than 5 times"):
        visitor.page(f"{site.at}/1")
    assert [path for path, _ in site.asked] == ["/1", "/2"] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_not_read(site, visitor, content, tmp_path):
    long = Endless(64 * 2**20, 302, Location="/a.zip")
    site.faults["/old.zip"] = [long]
    visitor.download(f"{site.at}/old.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == content
    assert long.sent < 32 * 2**20


def test_robots_txt_may_lie_elsewhere_or_be_refused(site, visitor, tmp_path):
    """It may lead to a host whose own rules lead back here; refused, it has none."""
    with serving(Site(files={"/rules": b"User-agent: *\nDisallow: /a.zip\n"})) as other:
        site.faults["/robots.txt"] = [
            status(301, Location=f"{other.at}/robots.txt"),
            status(302, Location=f"{other.at}/rules"),
        ]
        other.faults["/robots.txt"] = [
            status(302, Location=f"{site.at}/robots.txt"),
            status(403),
        ]
        with pytest.raises(AcquisitionError, match=r"robots\.txt does not allow"):
            visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
        other.files["/a.zip"] = b"sound"
        visitor.download(f"{other.at}/a.zip", tmp_path / "a.zip")
    assert site.asked == []


def test_what_is_refused_is_told_at_once(site, visitor, tmp_path):
    for path, code in (("/gone.zip", 404), ("/no.zip", 403)):
        if code != 404:
            site.faults[path] = [status(code)]
        with pytest.raises(AcquisitionError, match=str(code)):
            visitor.download(f"{site.at}{path}", tmp_path / "a.zip")
    assert [path for path, _ in site.asked] == ["/gone.zip", "/no.zip"]
    for url in ("ftp://127.0.0.1/a", "nonsense", "http://", "file:///etc/passwd"):
        with pytest.raises(AcquisitionError, match="is no web address"):
            visitor.download(url, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_leaves_nothing(site, visitor, content, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"what was there before")
    with pytest.raises(AcquisitionError, match="was expected"):
        visitor.download(f"{site.at}/a.zip", path, sha256=sha256(b"another"))
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_no_more_than_is_allowed_is_stored(site, visitor, tmp_path):
    with pytest.raises(AcquisitionError, match="has 300000 bytes, 1000 are allowed"):
        visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip", most_bytes=1000)

    def endless(handler):  # says nothing of its size
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(10_000))

    site.faults["/a.zip"] = [endless]
    with pytest.raises(AcquisitionError, match="more than the 200000 bytes allowed"):
        visitor.download(f"{site.at}/a.zip", tmp_path / "b.zip", most_bytes=200_000)
    assert not (tmp_path / "b.zip").exists()


def test_a_server_that_lies_about_parts_is_not_believed(site, visitor, content, tmp_path):
    def another_part(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    site.faults["/a.zip"] = [drop_after(100_000), another_part]
    visitor.download(f"{site.at}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk_is_told_in_a_line_and_what_is_there_is_kept(site, content, tmp_path):
    """A file system of 200 KiB, really full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 200 * 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    subprocess.run(mount, check=True)
    try:
        with Visitor(BRISK) as visitor:
            with pytest.raises(AcquisitionError, match="cannot be stored: the disk is full"):
                visitor.download(f"{site.at}/a.zip", disk / "a.zip")
            assert not (disk / "a.zip").exists()
            subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
            site.asked.clear()
            visitor.download(f"{site.at}/a.zip", disk / "a.zip", sha256=sha256(content))
        assert site.asked[0][1].startswith("bytes=")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_page_is_read_and_no_endless_one(site, visitor):
    site.files["/index.html"] = "<p>¿Qué?</p>".encode()
    assert visitor.page(f"{site.at}/index.html") == "<p>¿Qué?</p>"
    site.files["/large.html"] = bytes(17 * 1024 * 1024)
    with pytest.raises(AcquisitionError, match="larger than a page"):
        visitor.page(f"{site.at}/large.html")


def test_killed_at_any_moment_it_goes_on(site, content, rng, tmp_path):
    """SIGKILL while the server holds back the rest; the last run ends. No byte comes twice."""
    path = tmp_path / "a.zip"
    script = """
import sys
from pathlib import Path
from acquisition.downloads import Manners, Visitor
with Visitor(Manners(pause_s=(0.0, 0.0))) as visitor:
    visitor.download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""
    command = [sys.executable, "-c", script, f"{site.at}/a.zip", str(path), sha256(content)]
    part = path.with_name("a.zip.part")
    stored = [0]
    for n in rng.integers(17_000, 60_000, 5):
        with site.holding("/a.zip", int(n)):
            # All that came, but for less than a block.
            least = stored[-1] + int(n) // 16_384 * 16_384
            process = subprocess.Popen(command, cwd=ROOT)
            kill_when(process, lambda: part.exists() and part.stat().st_size >= least)  # noqa: B023
        stored.append(part.stat().st_size)
        assert not path.exists()
        assert part.read_bytes() == content[: stored[-1]]
    with site.holding("/a.zip", len(content)) as reached:  # in whatever it does then
        kill_when(subprocess.Popen(command, cwd=ROOT), reached.is_set)
    assert not path.exists() or path.read_bytes() == content
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    starts = [int(a.removeprefix("bytes=").rstrip("-") or 0) for _, a in site.asked]
    assert starts[:6] == stored


def test_a_browser_waits_as_long_as_robots_txt_asks(site):
    site.files["/robots.txt"] = b"User-agent: *\nCrawl-delay: 1\n"
    with Visitor(BRISK) as visitor:
        visitor.allow(f"{site.at}/page")
        visitor.wait(f"{site.at}/page")
        began = time.monotonic()
        visitor.wait(f"{site.at}/page")
        assert time.monotonic() - began > 0.95
