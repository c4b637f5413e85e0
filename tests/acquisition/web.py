"""A real web server on loopback that misbehaves as it is told."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """What a server serves, what it does wrong, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    """By path: each is done once, in turn, in place of the right answer."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and ``Range`` of every request, robots.txt left out."""
    agents: set[str] = field(default_factory=set)
    ranges: bool = True
    etags: dict[str, str] = field(default_factory=dict)
    at: str = ""
    """Address of the server, without a slash at its end."""
    busiest: int = 0
    """Most requests that were answered at one time."""
    held: tuple[str, int, threading.Event, threading.Event] | None = None
    """Path with its query, how many bytes of its body come; set when they have, and when over."""

    @contextmanager
    def holding(self, path: str, n: int) -> Iterator[threading.Event]:
        """Give so many bytes of a file's answers and then none; the event tells that it is so.

        Who waits for more waits on, at whatever speed it came here. All of it may be given, too.
        """
        reached, over = threading.Event(), threading.Event()
        self.held = (path, n, reached, over)
        try:
            yield reached
        finally:
            self.held = None
            over.set()


class Handler(BaseHTTPRequestHandler):
    site: Site
    now = 0

    def do_GET(self) -> None:
        site = self.site
        Handler.now += 1
        site.busiest = max(site.busiest, Handler.now)
        try:
            path = self.path.partition("?")[0]
            if path != "/robots.txt":
                site.asked.append((self.path, self.headers.get("Range", "")))
            site.agents.add(self.headers.get("User-Agent", ""))
            if site.faults[path]:
                site.faults[path].pop(0)(self)
            elif self.path in site.files:  # with its query
                self.give(site.files[self.path])
            elif path in site.files:
                self.give(site.files[path])
            else:
                self.say(404)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            Handler.now -= 1

    def say(self, status: int, **headers: str) -> None:
        """An answer without a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, content: bytes, stop_after: int | None = None) -> None:
        """The file or what is asked of it; broken off after so many bytes of it, if said."""
        etag = self.site.etags.get(self.path, '"1"')
        asked, first = self.headers.get("Range"), 0
        same = self.headers.get("If-Range", etag) == etag
        if asked and self.site.ranges and same:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(content):
                self.say(416, Content_Range=f"bytes */{len(content)}")
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[first:]
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[:stop_after]
        held = self.site.held if self.site.held and self.site.held[0] == self.path else None
        if held:
            _, n, reached, over = held
            self.wfile.write(body[:n])
            self.wfile.flush()
            reached.set()
            if n < len(body):
                over.wait()
                self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def drop_after(n: int) -> Answer:
    """The connection ends within the body: a dropped line, or a truncated file."""

    def answer(handler: Handler) -> None:
        handler.give(handler.site.files[handler.path], stop_after=n)
        handler.close_connection = True

    return answer


def status(code: int, **headers: str) -> Answer:
    """Another status than 200."""
    return lambda handler: handler.say(code, **headers)


class Endless:
    """A body without an end, but for a test's sake; ``sent`` tells how much of it was taken."""

    def __init__(self, most: int, code: int = 200, first: bytes = b"", **headers: str) -> None:
        self.sent = 0
        self._most, self._code, self._first, self._headers = most, code, first, headers

    def __call__(self, handler: Handler) -> None:
        handler.send_response(self._code)
        for name, value in self._headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self._first)
        while self.sent < self._most:
            self.sent += handler.wfile.write(bytes(2**16))


def hang_up(handler: Handler) -> None:
    """No answer at all."""
    handler.connection.close()


@contextmanager
def serving(site: Site | None = None) -> Iterator[Site]:
    """Serve a site on a free port of loopback."""
    site = site or Site()
    bound = type("Bound", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    site.at = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kill_when(
    process: subprocess.Popen,
    reached: Callable[[], bool],
    children: list[psutil.Process] | None = None,
) -> None:
    """SIGKILL to a process once something is so; it must not end before that.

    children : gets those that it had then
    """
    while not reached():
        assert process.poll() is None, f"ended with {process.returncode} before it was killed"
        time.sleep(0.01)
    if children is not None:
        children += psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
