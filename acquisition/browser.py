"""A real browser without a window, for pages that a script fills some seconds after loading.

It waits for content, not for a time, says who it is, and leaves no process behind. Not here:
what is read in a page (``librivox``), and whether it may be asked for (``downloads``).
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acquisition.downloads import USER_AGENT
from acquisition.errors import AcquisitionError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome, Firefox

log = logging.getLogger("acquisition")

BROWSERS = ("chromium", "firefox")
"""Those that can be asked to read a page."""

# Under which names each is installed, it and its driver, and what to install on Debian.
_BROWSER = {
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "firefox": (("firefox", "firefox-esr"), "firefox-esr"),
}
_DRIVER = {
    "chromium": (("chromedriver",), "chromium-driver"),
    "firefox": (("geckodriver",), "geckodriver (from Mozilla, where Debian has none)"),
}

_POLL_S = 0.2

_PROFILES = "denoise-app-browser-"

# What a server may say that is over in a while.
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a browser waits for a page's content."""

    wait_s: float = 40.0
    """From asking for a page to its content [s]; a script may take 8 s and more."""
    tries: int = 4
    """Loads of a page before it gives up."""
    back_off_s: float = 4.0
    """Before the second load; twice as long before each further one [s]."""
    longest_wait_s: float = 120.0
    """A server that asks for more than this is left alone [s]."""


class _Unshown(Exception):
    """A page did not come, or came without its content."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Crashed(Exception):
    """The browser, or its driver, is there no more."""


class Browser:
    """Reads pages one at a time; a context manager that ends the browser.

    It starts with its first page. Selenium is imported then: that alone takes 0.3 s.
    """

    def __init__(self, name: str = "chromium", patience: Patience | None = None) -> None:
        self.name = name
        self.patience = patience or Patience()
        self._driver: Chrome | Firefox | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser; the next page starts another."""
        driver, self._driver = self._driver, None
        if driver is not None and driver.service.process.poll() is None:
            # Of a browser that crashed it may raise anything; its driver is ended by then, and
            # a browser ends with its driver.
            with suppress(Exception):
                driver.quit()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def rendered(
        self,
        url: str,
        ready: Callable[[str], bool],
        wait: Callable[[str], object] = lambda url: None,
    ) -> str:
        """Load a page and wait for its content.

        Parameters
        ----------
        ready : told the page as it is now, as HTML, whether what is wanted is there
        wait : told the address before each load, returns when its host may be asked

        Raises
        ------
        AcquisitionError : the server refuses it, nothing is shown after several loads, the
            browser crashes again and again, or there is none
        """
        loads = crashes = 0
        while True:
            try:
                return self._load(url, ready, wait)
            except _Unshown as unshown:
                loads += 1
                wait_s = unshown.wait_s
                if wait_s is None:
                    wait_s = self.patience.back_off_s * 2.0 ** (loads - 1)
                    wait_s *= random.uniform(0.75, 1.25)
                if loads >= self.patience.tries or wait_s > self.patience.longest_wait_s:
                    raise AcquisitionError(
                        f"{url}: {unshown}; given up after {loads} loads"
                    ) from unshown
                log.info("%s: %s; again in %.0f s", url, unshown, wait_s)
                time.sleep(wait_s)
            except _Crashed as crashed:
                self.close()
                crashes += 1
                if crashes > 1:
                    raise AcquisitionError(f"{url}: {self.name} crashed: {crashed}") from crashed
                log.warning("%s crashed; started again", self.name)

    def _load(self, url: str, ready: Callable[[str], bool], wait: Callable[[str], object]) -> str:
        driver = self._started()
        wait(url)
        until = time.monotonic() + self.patience.wait_s
        with _telling():
            driver.set_page_load_timeout(self.patience.wait_s)
            driver.get(url)
        self._heed_status(url)
        while True:
            with _telling():
                html = driver.page_source
            if ready(html):
                return html
            if time.monotonic() > until:
                raise _Unshown(f"showed nothing within {self.patience.wait_s:g} s")
            time.sleep(_POLL_S)

    def _heed_status(self, url: str) -> None:
        """A browser shows a refusal like any page; it must not be waited for."""
        assert self._driver is not None
        with _telling():
            status, wait_s = _answer(self._driver)
        if status in _TRY_AGAIN:
            raise _Unshown(f"the server answered {status}", wait_s)
        if status >= 400:
            raise AcquisitionError(f"{url}: the server answered {status}")

    def _started(self) -> Chrome | Firefox:
        if self._driver is None:
            browser = _on_path(self.name, *_BROWSER[self.name])
            driver = _on_path(f"driver of {self.name}", *_DRIVER[self.name])
            _tidy()
            self._folder = tempfile.TemporaryDirectory(prefix=_PROFILES, ignore_cleanup_errors=True)
            start = _start_chromium if self.name == "chromium" else _start_firefox
            try:
                self._driver = start(browser, driver, self._folder.name)
            except ModuleNotFoundError:  # of Selenium: the command says what to install
                raise
            except Exception as error:  # Selenium's own, its transport's, the system's
                self.close()
                raise AcquisitionError(f"{browser} does not start: {_reason(error)}") from error
        return self._driver


def _start_chromium(browser: str, driver: str, folder: str) -> Chrome:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.page_load_strategy = "eager"  # pictures are not waited for
    # Over a pipe, the browser ends with its driver, even a killed one.
    flags = ["headless=new", "remote-debugging-pipe", "disable-dev-shm-usage", "disable-gpu"]
    flags += ["blink-settings=imagesEnabled=false", "no-first-run", "disable-sync"]
    flags.append(f"user-data-dir={folder}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("no-sandbox")  # for root there is none
    for flag in flags:
        options.add_argument(f"--{flag}")
    # Its record of answers is the only place where a status and its headers are.
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    service = webdriver.ChromeService(driver, popen_kw=_mortal())
    started = webdriver.Chrome(options, service)
    try:
        own = started.execute_cdp_cmd("Browser.getVersion", {})["userAgent"]
        agent = {"userAgent": f"{own} {USER_AGENT}"}
        started.execute_cdp_cmd("Network.setUserAgentOverride", agent)
    except BaseException:
        started.quit()
        raise
    return started


def _start_firefox(browser: str, driver: str, folder: str) -> Firefox:
    from selenium import webdriver

    def start() -> Firefox:
        profile = ["--profile-root", folder]
        service = webdriver.FirefoxService(driver, service_args=profile, popen_kw=_mortal())
        return webdriver.Firefox(options, service)

    options = webdriver.FirefoxOptions()
    options.binary_location = browser
    options.page_load_strategy = "eager"
    options.add_argument("-headless")
    options.set_preference("permissions.default.image", 2)
    # What it calls itself is a setting of its start, and known from a start alone.
    started = start()
    try:
        own = started.execute_script("return navigator.userAgent")
    finally:
        started.quit()
    options.set_preference("general.useragent.override", f"{own} {USER_AGENT}")
    return start()


def _tidy() -> None:
    """Remove profiles that killed processes have left; no browser of ours runs for a day."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PROFILES}*"):
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - 86400.0:
                shutil.rmtree(folder, ignore_errors=True)


def _mortal() -> dict[str, Any]:
    """What makes a driver end with this process, even when that is killed."""
    if sys.platform != "linux":
        return {}
    prctl = ctypes.CDLL(None).prctl
    pr_set_pdeathsig = 1  # <sys/prctl.h>
    return {"preexec_fn": lambda: prctl(pr_set_pdeathsig, signal.SIGTERM)}


def _answer(driver: Chrome | Firefox) -> tuple[int, float | None]:
    """Status of the page that was asked for last, and ``Retry-After`` [s]; 0 if not told."""
    if driver.name == "firefox":
        script = "return performance.getEntriesByType('navigation')[0]?.responseStatus"
        return int(driver.execute_script(script) or 0), None
    status, told = 0, ""
    for entry in driver.get_log("performance"):  # type: ignore[union-attr]
        message = json.loads(entry["message"])["message"]
        of_page = message["params"].get("type") == "Document"
        if message["method"] == "Network.responseReceived" and of_page:
            response = message["params"]["response"]
            status = int(response["status"])
            told = {k.lower(): v for k, v in response["headers"].items()}.get("retry-after", "")
    return status, float(told) if told.isdigit() else None


def _on_path(what: str, names: tuple[str, ...], package: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise AcquisitionError(
        f"there is no {what} on PATH (looked for {', '.join(names)}): install {package}"
    )


@contextmanager
def _telling() -> Iterator[None]:
    """Tell a page that does not come from a browser that is gone."""
    from selenium.common.exceptions import TimeoutException

    try:
        yield
    except TimeoutException as error:
        raise _Unshown("does not load") from error
    except Exception as error:  # of Selenium, or of what it talks to its driver with
        reason = _reason(error)
        if "net::ERR" in reason or "about:neterror" in reason:
            raise _Unshown(f"does not load: {reason}") from error
        raise _Crashed(reason) from error


def _reason(error: Exception) -> str:
    """First line of what Selenium tells; traces of its driver follow."""
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    text = text.strip().splitlines()[0]
    return text if len(text) < 160 else f"{text[:160]}…"
