"""A real headless Chromium against a real server; only a missing one is made up."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from acquisition.browser import Browser, Patience
from acquisition.errors import AcquisitionError
from tests.acquisition.web import Site, serving, status

BRISK = Patience(wait_s=10.0, tries=3, back_off_s=0.05, longest_wait_s=3.0)
PAGE = """<!doctype html><meta charset="utf-8"><ul></ul><script>
setTimeout(() => { document.querySelector("ul").innerHTML = "<l" + "i>¿Qué?" }, %d)</script>"""


@pytest.fixture
def site():
    with serving(
        Site(files={"/now": (PAGE % 0).encode(), "/late": (PAGE % 1000).encode()})
    ) as site:
        yield site


@pytest.fixture(scope="module")
def browser():
    with Browser(patience=BRISK) as browser:
        yield browser


def ready(html: str) -> bool:
    return "<li>" in html


def below() -> list[psutil.Process]:
    """Every process that this one has started, and theirs."""
    return psutil.Process().children(recursive=True)


def asked(site: Site, path: str) -> int:
    return [found for found, _ in site.asked].count(path)


def test_a_page_is_read_once_its_content_is_there(site, browser):
    assert below() == []  # nothing is started before it is needed
    assert "<li>¿Qué?</li>" in browser.rendered(f"{site.at}/now", ready)
    before = time.monotonic()
    assert "<li>¿Qué?</li>" in browser.rendered(f"{site.at}/late", ready)
    assert time.monotonic() - before > 0.9
    assert (asked(site, "/now"), asked(site, "/late")) == (1, 1)
    # It says what it is, and whose.
    assert all("Chrome/" in agent and "denoise-app" in agent for agent in site.agents)
    started = below()
    assert started
    browser.close()
    assert psutil.wait_procs(started, 10.0)[1] == []


def test_what_is_over_in_a_while_is_asked_again_when_told(site, browser):
    site.faults["/now"] = [status(503), status(429, Retry_After="1")]
    before = time.monotonic()
    assert ready(browser.rendered(f"{site.at}/now", ready))
    assert time.monotonic() - before > 1.0
    assert asked(site, "/now") == 3
    site.faults["/late"] = [status(503, Retry_After="3600")]
    with pytest.raises(AcquisitionError, match="answered 503; given up after 1"):
        browser.rendered(f"{site.at}/late", ready)


def test_what_does_not_come_is_told_in_a_line(site):
    with Browser(patience=Patience(wait_s=0.5, tries=2, back_off_s=0.05)) as browser:
        with pytest.raises(
            AcquisitionError, match=r"showed nothing within 0\.5 s; given up after 2"
        ):
            browser.rendered(f"{site.at}/now", lambda html: False)
        assert asked(site, "/now") == 2
        with pytest.raises(AcquisitionError, match="/gone: the server answered 404"):
            browser.rendered(f"{site.at}/gone", ready)
        assert asked(site, "/gone") == 1
        with serving() as gone:
            pass
        # On a machine that has no time half a second passes before Chromium says why.
        browser.patience = Patience(wait_s=20.0, tries=2, back_off_s=0.05)
        with pytest.raises(AcquisitionError, match=r"does not load: .*ERR_CONNECTION_REFUSED"):
            browser.rendered(gone.at, ready)
        # And it still works.
        assert ready(browser.rendered(f"{site.at}/now", ready))


def driver() -> psutil.Process:
    (started,) = psutil.Process().children()
    return started


@pytest.mark.parametrize("which", ["browser", "driver"])
def test_a_crash_is_borne_once(site, browser, which):
    started = []
    crashes = 0

    def ready_after(most: int, html: str) -> bool:
        nonlocal crashes
        if crashes < most:
            crashes += 1
            started.extend(below())
            for process in driver().children() if which == "browser" else [driver()]:
                os.kill(process.pid, signal.SIGKILL)
            return False
        return ready(html)

    assert ready(browser.rendered(f"{site.at}/now", lambda html: ready_after(1, html)))
    crashes = 0
    with pytest.raises(AcquisitionError, match="chromium crashed: ") as told:
        browser.rendered(f"{site.at}/now", lambda html: ready_after(2, html))
    assert len(str(told.value)) < 300
    # The browser ends with its driver, too.
    assert len(started) > 9
    assert psutil.wait_procs(started, 10.0)[1] == []


def test_each_load_waits_for_its_turn(site):
    """The first, one after a refusal and one after a crash."""
    site.faults["/now"] = [status(503)]
    turns = []

    def ready_after_a_crash(html: str) -> bool:
        if len(turns) == 2:
            driver().kill()
            return False
        return ready(html)

    def wait(url: str) -> None:
        turns.append((url, asked(site, "/now")))

    with Browser(patience=BRISK) as browser:
        assert ready(browser.rendered(f"{site.at}/now", ready_after_a_crash, wait))
    assert turns == [(f"{site.at}/now", k) for k in range(3)]
    assert asked(site, "/now") == 3


def test_an_exception_leaves_no_process_and_no_file(site, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "denoise-app-browser-of-a-killed-process"
    left.mkdir()
    os.utime(left, (0, 0))
    started = []

    def broken(html: str) -> bool:
        started.extend(below())
        raise KeyError("a mistake of the caller")

    with pytest.raises(KeyError), Browser(patience=BRISK) as browser:
        browser.rendered(f"{site.at}/now", broken)
    assert started
    assert psutil.wait_procs(started, 10.0)[1] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "there", "told"),
    [
        ("chromium", [], r"no chromium on PATH .*google-chrome\): install chromium$"),
        ("chromium", ["chromium"], r"no driver of chromium .*: install chromium-driver$"),
        ("firefox", ["firefox"], r"no driver of firefox on PATH .*: install geckodriver"),
        ("chromium", ["chromium", "chromedriver"], r"chromium does not start: "),
    ],
)
def test_a_missing_one_is_told_in_a_line(tmp_path: Path, monkeypatch, name, there, told):
    for program in there:
        (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with Browser(name, BRISK) as browser, pytest.raises(AcquisitionError, match=told) as error:
        browser.rendered("http://127.0.0.1:9/", ready)
    assert "\n" not in str(error.value)
    assert below() == []
