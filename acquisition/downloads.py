"""A polite visitor to other people's servers: pages, and files of any size.

It says who it is, asks robots.txt first, makes one request at a time to a host with a pause
between two, and waits when it is told to. A file lies under another name until it is whole and
its checksum right; a download that was broken off, however, goes on where it stopped. Not here:
what is asked for (``librivox``, ``corpora``), archives (``archives``).
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import logging
import os
import random
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

from acquisition.errors import AcquisitionError
from acquisition.robots import Robots, read_robots

log = logging.getLogger("acquisition")

T = TypeVar("T")

USER_AGENT = "denoise-app (gathers openly licensed speech and noise for its user)"
"""How we introduce ourselves; robots.txt is read for its first word."""

_CHUNK = 1 << 14

# What a server may say that is over in a while.
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)

_LARGEST_PAGE = 16 * 1024 * 1024

# As many as RFC 9309 wants followed; mirrors need one or two.
_MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Manners:
    """How patient a visitor is."""

    pause_s: tuple[float, float] = (1.0, 2.0)
    """Between two requests to a host, drawn anew each time [s]; robots.txt may ask for more."""
    tries: int = 6
    """In a row without a byte gained, before it gives up."""
    back_off_s: float = 2.0
    """Before the second try; twice as long before each further one [s]."""
    longest_wait_s: float = 120.0
    """A server that asks for more than this is left alone [s]."""
    timeout_s: float = 30.0
    """Without an answer, or a byte of one [s]."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is there, whole."""

    path: Path
    size: int
    """[bytes]"""
    sha256: str


class _Again(Exception):
    """A request failed in a way that may be over in a while."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Elsewhere(Exception):
    """The server has it at another address."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _Session(requests.Session):
    """Follows no redirect: requests would ask nobody, and read its body whole."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere."""


class Visitor:
    """Asks servers for things, politely; a context manager that closes its connections."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self._session = _Session()
        self._session.headers["User-Agent"] = USER_AGENT
        # What is stored must be what the checksum is of.
        self._session.headers["Accept-Encoding"] = "identity"
        self._robots: dict[str, Robots] = {}
        self._last: dict[str, float] = {}
        self._random = random.Random()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def page(self, url: str) -> str:
        """The text of a page.

        Raises AcquisitionError when it is not allowed, too large, or not to be had.
        """

        def read(response: requests.Response) -> str:
            content = bytearray()
            for chunk in _chunks(response, url):
                content += chunk
                if len(content) > _LARGEST_PAGE:
                    raise AcquisitionError(f"{url}: is larger than a page should be")
            return content.decode(response.encoding or "utf-8", errors="replace")

        self.allow(url)
        return self._patiently(url, lambda: self._ask(url, {}, read), lambda: 0)

    def allow(self, url: str) -> None:
        """Raise AcquisitionError when robots.txt forbids the address, or it is no web address."""
        host = _host(url)
        if host not in self._robots:
            self._robots[host] = self._read_robots(host)
        if not self._robots[host].allows(url):
            raise AcquisitionError(f"{url}: the server's robots.txt does not allow it")

    def wait(self, url: str) -> None:
        """Wait until the host may be asked again, by somebody else for us: a browser.

        Raises AcquisitionError when its robots.txt asks for a longer pause than is ever made.
        """
        host = _host(url)
        self._wait_for_turn(host)
        self._last[host] = time.monotonic()

    def download(
        self,
        url: str,
        path: Path,
        sha256: str | None = None,
        most_bytes: int | None = None,
        progress: Callable[[int, int | None], object] = lambda done, size: None,
        md5: str | None = None,
    ) -> Downloaded:
        """Fetch a file, or what is missing of it.

        Parameters
        ----------
        path : where it will lie, not before it is whole
        sha256 : of the whole file, where it is known
        most_bytes : it may not be larger
        progress : told how many bytes are there, and of how many, where that is known
        md5 : of the whole file, where the source tells no better checksum; a file that is there
            and has all that are known is kept

        Raises
        ------
        AcquisitionError : the server does not give it, it is too large, its checksum is
            wrong, or it cannot be stored. What was fetched is kept, but for a wrong checksum
        """
        if (sha256 or md5) and path.is_file():
            found = sha256_of(path)
            if sha256 in (None, found) and (not md5 or _digest(path, "md5") == md5):
                return Downloaded(path, path.stat().st_size, found)
        self.allow(url)
        part = _Part(path, url)
        with _storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.resume()

        def fetch() -> None:
            def take(answer: requests.Response) -> None:
                part.take(answer, most_bytes, progress)

            # A host may keep its files at one that forbids crawlers everything: we are sent there.
            self._ask(url, part.wanted(), take, allow=_host)

        self._patiently(url, fetch, part.size)
        with _storing(path):
            found = sha256_of(part.path)
            other = _digest(part.path, "md5") if md5 else None
            for name, has, expected in (("SHA-256", found, sha256), ("MD5", other, md5)):
                if has and expected and has != expected:
                    part.forget()
                    raise AcquisitionError(
                        f"{url}: has the {name} {has[:16]}…, {expected[:16]}… was expected"
                    )
            size = part.size()
            part.path.replace(path)
            part.forget()
        return Downloaded(path, size, found)

    def _read_robots(self, host: str) -> Robots:
        url = f"{host}/robots.txt"

        def read(response: requests.Response) -> str:
            content = bytearray()
            for chunk in _chunks(response, url):
                content += chunk
                if len(content) >= _LARGEST_PAGE:
                    break  # the rules that came count, as RFC 9309 has it
            return content.decode(errors="replace")

        try:
            text = self._patiently(url, lambda: self._ask(url, {}, read, _host), lambda: 0)
        except _Refused:
            text = ""  # no rules: everything may be read (RFC 9309: of any 4xx)
        return read_robots(text, USER_AGENT.split()[0])

    def _patiently(self, url: str, ask: Callable[[], T], gained: Callable[[], int]) -> T:
        """Ask until there is an answer, or nothing was gained for too many tries in a row."""
        tries, before = 0, gained()
        while True:
            try:
                return ask()
            except _Again as again:
                now = gained()
                tries = 1 if now > before else tries + 1
                before = max(before, now)
                wait_s = again.wait_s
                if wait_s is None:
                    wait_s = self.manners.back_off_s * 2.0 ** (tries - 1)
                    wait_s *= self._random.uniform(0.75, 1.25)
                if tries >= self.manners.tries or wait_s > self.manners.longest_wait_s:
                    raise AcquisitionError(f"{url}: {again}; given up after {tries}") from again
                log.info("%s: %s; again in %.0f s", url, again, wait_s)
                time.sleep(wait_s)

    def _ask(
        self,
        url: str,
        headers: dict[str, str],
        read: Callable[[requests.Response], T],
        allow: Callable[[str], object] | None = None,
    ) -> T:
        """Ask, and where that leads elsewhere, there, if ``allow`` has nothing against it.

        The headers go along: ``If-Range`` keeps another file's rest away.
        """
        at = url
        for _ in range(1 + _MOST_REDIRECTS):
            try:
                return self._ask_once(at, headers, read)
            except _Elsewhere as elsewhere:
                at = elsewhere.url
                (allow or self.allow)(at)
        raise AcquisitionError(f"{url}: leads elsewhere more than {_MOST_REDIRECTS} times")

    def _ask_once(
        self, url: str, headers: dict[str, str], read: Callable[[requests.Response], T]
    ) -> T:
        """One request, in its turn."""
        self._wait_for_turn(_host(url))
        try:
            with self._session.get(
                url, headers=headers, stream=True, timeout=self.manners.timeout_s
            ) as response:
                code = response.status_code
                if code in _TRY_AGAIN:
                    raise _Again(f"the server answered {code}", _told(response))
                if response.is_redirect:
                    raise _Elsewhere(_led_to(response))
                if code in (404, 410):
                    raise _Refused(f"{url}: is not there ({code})")
                if code >= 300 and code != 416:
                    refused = _Refused if 400 <= code < 500 else AcquisitionError
                    raise refused(f"{url}: the server answered {code}")
                return read(response)
        except requests.RequestException as error:
            if isinstance(
                error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema
            ):
                raise AcquisitionError(f"{url}: is no web address") from error
            raise _Again(_one_line(error)) from error
        finally:
            self._last[_host(url)] = time.monotonic()

    def _wait_for_turn(self, host: str) -> None:
        pause_s = self._random.uniform(*self.manners.pause_s)
        if host in self._robots:
            asked_s = self._robots[host].delay_s
            if asked_s > self.manners.longest_wait_s:
                raise AcquisitionError(
                    f"{host}: its robots.txt asks for {asked_s:g} s between two requests, "
                    f"{self.manners.longest_wait_s:g} s is the most that is waited"
                )
            pause_s = max(pause_s, asked_s)
        ready = self._last.get(host, -1e9) + pause_s
        time.sleep(max(0.0, ready - time.monotonic()))


class _Refused(AcquisitionError):
    """The server has no such thing, or not for us."""


class _Part:
    """What is there of a file that is not whole yet, and which version of it that is.

    ``NAME.part`` holds the bytes, ``NAME.part.json`` the address and what the server said of
    the version, so that a changed file is never joined with the old one's beginning.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self._url = url
        self._version = ""

    def resume(self) -> None:
        """Find what an earlier process left of the same address, or begin anew."""
        try:
            note = json.loads(self._note.read_text())
            if note["url"] == self._url and note["version"] and self.path.is_file():
                self._version = str(note["version"])
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.forget()

    def forget(self) -> None:
        """Nothing is left of it."""
        self._version = ""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def size(self) -> int:
        """How many bytes are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def wanted(self) -> dict[str, str]:
        """Headers that ask for the rest, unless the file has changed."""
        if not (self._version and self.size()):
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": self._version}

    def take(
        self,
        response: requests.Response,
        most_bytes: int | None,
        progress: Callable[[int, int | None], object],
    ) -> None:
        """Add what a response brings; raises ``_Again`` when it ends early."""
        done = self.size() if response.status_code == 206 else 0
        whole = _whole_size(response, done)
        if response.status_code == 416:  # nothing is missing, or what is there is wrong
            if whole is not None and whole == self.size():
                return
            self.forget()
            raise _Again("the server has another file now")
        if response.status_code == 206 and _first(response) != done:
            self.forget()
            raise _Again("the server sent another part than was asked for")
        if most_bytes is not None and whole is not None and whole > most_bytes:
            raise AcquisitionError(f"{self._url}: has {whole} bytes, {most_bytes} are allowed")
        with _storing(self.path):
            if not done:
                self._begin(response)
            with self.path.open("ab" if done else "wb", buffering=0) as file:
                for chunk in _chunks(response, self._url):
                    file.write(chunk)
                    done += len(chunk)
                    if most_bytes is not None and done > most_bytes:
                        raise AcquisitionError(
                            f"{self._url}: has more than the {most_bytes} bytes allowed"
                        )
                    progress(done, whole)
                os.fsync(file.fileno())
        if whole is not None and done < whole:
            raise _Again(f"the answer ended after {done} of {whole} bytes")
        if whole is not None and done > whole:
            self.forget()
            raise _Again(f"{done} bytes came where {whole} were told")

    def _begin(self, response: requests.Response) -> None:
        """Note the version before its first byte, so that a kill leaves no unknown bytes."""
        version = response.headers.get("ETag", "")
        if version.startswith("W/") or not version:  # a weak one is not of the very bytes
            version = response.headers.get("Last-Modified", "")
        self.forget()
        self._version = version
        note = self._note.with_name(f"{self._note.name}.new")
        note.write_text(json.dumps({"url": self._url, "version": version}))
        note.replace(self._note)


def _chunks(response: requests.Response, url: str) -> Iterator[bytes]:
    """The body as it comes; what breaks it off is ``_Again``."""
    # A short body is for us to notice: urllib3 would throw its last bytes away.
    response.raw.enforce_content_length = False
    try:
        yield from response.iter_content(_CHUNK)
    except (requests.RequestException, OSError) as error:
        raise _Again(_one_line(error)) from error


def _whole_size(response: requests.Response, done: int) -> int | None:
    """Of the whole file, as far as the server says [bytes]."""
    told = response.headers.get("Content-Range", "").rpartition("/")[2]
    if told.isdigit():
        return int(told)
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdigit() and response.status_code != 416 else None


def _first(response: requests.Response) -> int:
    """Where the part that came begins; −1 where the server does not say."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _led_to(response: requests.Response) -> str:
    """Where a redirect leads; its address may be relative, and in UTF-8 as it comes."""
    place = response.headers["Location"].encode("latin-1").decode(errors="replace")
    try:
        return urllib.parse.urljoin(response.url, place)
    except ValueError as error:  # http://[
        raise AcquisitionError(f"{place}: is no web address") from error


def _told(response: requests.Response) -> float | None:
    """``Retry-After``, in seconds or as a date [s]."""
    told = response.headers.get("Retry-After", "")
    if told.isdigit():
        return float(told)
    try:
        date = email.utils.parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return None
    return max(0.0, date.timestamp() - time.time())


def _host(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AcquisitionError(f"{url}: is no web address")
    return f"{parts.scheme}://{parts.netloc}"


def sha256_of(path: Path) -> str:
    """Checksum of a whole file, as hexadecimal digits."""
    return _digest(path, "sha256")


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """One line for what a disk cannot do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error)
        raise AcquisitionError(f"{path}: cannot be stored: {reason}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 160 else f"{text[:160]}…"
