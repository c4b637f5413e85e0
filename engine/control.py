"""How other programs steer a running session: JSON lines over a socket that is ours alone.

One line asks, one line answers. Nothing but JSON crosses it. There is one session for each
user; the socket lies in the user's runtime folder, readable by nobody else, and who connects
is checked as well. Where a system has no such sockets it is a port of loopback with a secret
that lies in that folder.

Clients cannot harm the sound: requests are short, there are so many clients and no more,
whoever does not read is cut off, and the server rests after each small portion of work. Nor
can they harm each other: who asks much at a time has one answer, then it is the next one's turn.
Not here: what is asked, and what is answered (the application's).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import selectors
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.errors import ControlError

log = logging.getLogger(__name__)

Request = dict[str, Any]
Answer = dict[str, Any]

LONGEST = 64 * 1024
"""Of a request, and of what a client has left unread [bytes]."""
MOST_CLIENTS = 256
"""At a time; further ones are told so and left."""
MOST_WATCHERS = 8

# Half a request for this long is no request.
_PATIENCE_S = 10.0
# Answers before a rest, and the rest [s]: no more than this delays the sound.
_AT_ONCE = 16
_REST_S = 0.002
_POLL_S = 0.2
_PICTURE_S = 1.0 / 30.0


def folder() -> Path:
    """Where this user's running programs keep their sockets; made if it is not there.

    Raises ControlError when somebody else owns it.
    """
    chosen = os.environ.get("XDG_RUNTIME_DIR")
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    # Who becomes root with the environment kept would make a folder that locks its user out.
    if chosen and Path(chosen).is_dir() and _owns(Path(chosen).stat()):
        path = Path(chosen) / "denoise-app"
    else:
        path = Path(tempfile.gettempdir()) / f"denoise-app-{user}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"{path}: is not a folder")
    if not _owns(found):
        raise ControlError(f"{path}: belongs to somebody else")
    if found.st_mode & 0o077 and os.name == "posix":
        path.chmod(0o700)
    return path


def _owns(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


class ControlServer:
    """Answers other programs while a session runs; a context manager.

    Parameters
    ----------
    answer : called with each request, in the server's thread; what it raises as ValueError or
        ControlError becomes an error object, so does anything else, but logged
    picture : called some thirty times a second while somebody watches (``{"do": "watch"}``);
        what it returns is sent to them, or not, where one has not read the last yet
    at : folder of the socket (default: ``folder()``)
    unix : whether to use a Unix socket; None: where the system has them

    Raises
    ------
    ControlError : from ``start``: another session runs, or the socket cannot be made
    """

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        picture: Callable[[], Answer] | None = None,
        at: Path | None = None,
        unix: bool | None = None,
    ) -> None:
        self._answer = answer
        self._picture = picture
        self._at = at
        self._unix = hasattr(socket, "AF_UNIX") if unix is None else unix
        self._thread: threading.Thread | None = None
        self._stopping = False

    def __enter__(self) -> ControlServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer; raises ControlError."""
        at = self._at or folder()
        self._place = _Place(at)
        self._lock = _locked(self._place.lock)
        try:
            self._secret = None if self._unix else secrets.token_hex(16)
            self._listener = self._listen()
        except OSError as error:
            self._lock.close()
            raise ControlError(f"{at}: no control socket: {error.strerror or error}") from error
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._clients: set[_Client] = set()
        self._waiting: deque[_Client] = deque()  # who has asked and is not answered yet
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="denoise control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave all clients and remove the socket. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping = True
        thread.join(timeout=5.0)
        for client in list(self._clients):
            self._leave(client)
        self._selector.close()
        self._listener.close()
        self._place.remove()
        self._lock.close()

    def _listen(self) -> socket.socket:
        """Nobody else may hold the lock by now, so what lies there is what a crash left."""
        self._place.remove()
        if self._unix:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listener.bind(str(self._place.socket))
                self._place.socket.chmod(0o600)
                listener.listen(MOST_CLIENTS)
            except OSError:
                listener.close()
                raise
            return listener
        listener = socket.create_server(("127.0.0.1", 0), backlog=MOST_CLIENTS)
        told = json.dumps({"port": listener.getsockname()[1], "secret": self._secret})
        part = self._place.port.with_suffix(".part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(told)
        part.replace(self._place.port)
        return listener

    def _serve(self) -> None:
        due_s = 0.0
        while not self._stopping:
            watchers = [client for client in self._clients if client.watches]
            at_most_s = _PICTURE_S / 2 if watchers else _POLL_S
            ready = self._selector.select(0.0 if self._waiting else at_most_s)
            for n, (key, _) in enumerate(ready):
                if key.data is None:
                    self._admit()
                else:
                    self._hear(key.data)
                if n % _AT_ONCE == _AT_ONCE - 1:
                    time.sleep(_REST_S)
            for _ in range(min(len(self._waiting), _AT_ONCE)):
                self._attend(self._waiting.popleft())
            now = time.monotonic()
            if watchers and now >= due_s:
                due_s = now + _PICTURE_S
                self._show(watchers)
            for client in list(self._clients):
                if (client.unread and not client.flush()) or client.is_late(now):
                    self._leave(client)
            if ready or self._waiting:
                time.sleep(_REST_S)

    def _show(self, watchers: list[_Client]) -> None:
        """One picture for all: who has not taken the last one misses this one."""
        ready = [client for client in watchers if client.flush() and not client.unread]
        if self._picture is None or not ready:
            return
        try:
            data = json.dumps({"ok": True, "picture": self._picture()}).encode() + b"\n"
        except Exception:
            log.exception("a picture failed")
            return
        for client in ready:
            if not client.send(data):
                self._leave(client)

    def _admit(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody else waits, or there are no more open files
                return
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        client = _Client(connection, needs_secret=self._secret is not None)
        if self._unix and not _is_ours(connection):
            client.say({"ok": False, "error": "this session is somebody else's"})
            connection.close()
        elif len(self._clients) >= MOST_CLIENTS:
            client.say({"ok": False, "error": "too many programs ask at a time"})
            connection.close()
        else:
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _hear(self, client: _Client) -> None:
        """Take what a client sent, unless it has not been answered yet."""
        if client.asks:
            return
        with self._leaving(client):
            client.receive()
            if client.asks:
                self._waiting.append(client)

    def _attend(self, client: _Client) -> None:
        """Answer one request; who has asked more is to wait for the others."""
        if client not in self._clients:
            return
        with self._leaving(client):
            line = client.next_line()
            if line.strip() and not client.say(self._reply(client, line)):
                raise _Gone
            if client.asks:
                self._waiting.append(client)

    @contextlib.contextmanager
    def _leaving(self, client: _Client) -> Iterator[None]:
        """Whoever errs in form is told so and left; whatever one does, the others are served."""
        try:
            yield
        except _TooLong:
            client.say({"ok": False, "error": f"a request has {LONGEST} bytes at most"})
            self._leave(client)
        except _Gone:
            self._leave(client)
        except Exception:
            log.exception("a client is left")
            self._leave(client)

    def _reply(self, client: _Client, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "a request should be a line of JSON"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "a request should be an object"}
        if client.needs_secret:
            found = str(request.get("secret", "")).encode(errors="replace")
            if not secrets.compare_digest(found, str(self._secret).encode()):
                return {"ok": False, "error": "the secret is missing or wrong"}
            client.needs_secret = False
        request.pop("secret", None)
        if request == {"do": "watch"} and self._picture is not None:
            if sum(one.watches for one in self._clients) >= MOST_WATCHERS:
                return {"ok": False, "error": f"{MOST_WATCHERS} programs watch already"}
            client.watches = True
            return {"ok": True}
        try:
            return {"ok": True, **self._answer(request)}
        except (ValueError, TypeError, ControlError) as error:
            return {"ok": False, "error": " ".join(str(error).split())[:500]}
        except Exception:
            log.exception("a request failed")
            return {"ok": False, "error": "that failed; the log says why"}

    def _leave(self, client: _Client) -> None:
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(client.connection)
        client.connection.close()


class ControlClient:
    """Asks a running session; a context manager.

    Raises
    ------
    ControlError : no session of this user runs, or it does not answer
    """

    def __init__(self, at: Path | None = None, timeout_s: float = 3.0) -> None:
        place = _Place(at or folder())
        self._secret: str | None = None
        try:
            self._connection = self._connect(place, timeout_s)
        except (OSError, ValueError, KeyError) as error:
            raise ControlError("denoise-app is not running: start denoise-app --device") from error
        self._rest = b""

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, **request: Any) -> Answer:
        """Send a request and return what comes back; raises ControlError with the error's text.

        After an answer that did not come in time nothing can be asked any more: it would come
        for the next request.
        """
        if self._secret is not None:
            request = {"secret": self._secret, **request}
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ControlError(f"denoise-app does not answer: {error}") from error
        answer = self._line()
        if not answer.pop("ok", False):
            raise ControlError(str(answer.get("error", "no reason given")))
        return dict(answer)

    def watch(self) -> Iterator[Answer]:
        """Pictures as they come, until the session ends; raises ControlError as ``ask``."""
        self.ask(do="watch")
        while True:
            told = self._line()
            if "picture" in told:
                yield told["picture"]

    def _line(self) -> Answer:
        try:
            while b"\n" not in self._rest:
                more = self._connection.recv(LONGEST)
                if not more:
                    raise ControlError("denoise-app has ended")
                self._rest += more
            line, _, self._rest = self._rest.partition(b"\n")
            return dict(json.loads(line))
        except TimeoutError as error:
            self._connection.close()
            raise ControlError("denoise-app does not answer") from error
        except (OSError, ValueError) as error:
            self._connection.close()
            raise ControlError(f"denoise-app does not answer: {error}") from error

    def _connect(self, place: _Place, timeout_s: float) -> socket.socket:
        if place.port.exists():
            told = json.loads(place.port.read_text())
            self._secret = str(told["secret"])
            return socket.create_connection(("127.0.0.1", int(told["port"])), timeout_s)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(place.socket))
        except OSError:
            connection.close()
            raise
        return connection


class _Gone(Exception):
    """A client has left, or does not read what it asked for."""


class _TooLong(Exception):
    """A request does not end."""


class _Place:
    """Files of a session's control in its folder."""

    def __init__(self, at: Path) -> None:
        self.lock = at / "lock"
        self.socket = at / "control"
        self.port = at / "port.json"

    def remove(self) -> None:
        """Nobody can connect any more."""
        self.socket.unlink(missing_ok=True)
        self.port.unlink(missing_ok=True)


class _Client:
    """A connection and what of a request has come over it."""

    def __init__(self, connection: socket.socket, needs_secret: bool) -> None:
        self.connection = connection
        self.needs_secret = needs_secret
        self.watches = False
        self.unread = b""
        """What the other side had no room for."""
        self._buffer = bytearray()
        self._end = -1  # of the first line in it; -1: none is whole
        self._since_s = 0.0

    @property
    def asks(self) -> bool:
        """Whether a whole line has come."""
        return self._end >= 0

    def receive(self) -> None:
        """Take some of what has come; raises _Gone or _TooLong."""
        try:
            more = self.connection.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError as error:
            raise _Gone from error
        if not more:
            raise _Gone
        if not self._buffer:
            self._since_s = time.monotonic()
        searched = len(self._buffer)
        self._buffer += more
        self._end = self._buffer.find(b"\n", searched)
        if not self.asks and len(self._buffer) > LONGEST:
            raise _TooLong

    def next_line(self) -> bytes:
        """Of those that have come whole; raises _TooLong."""
        line = bytes(self._buffer[: self._end])
        del self._buffer[: self._end + 1]
        self._end = self._buffer.find(b"\n")
        self._since_s = time.monotonic()
        if len(line) > LONGEST:
            raise _TooLong
        return line

    def say(self, answer: Answer) -> bool:
        """Send a line; False as ``send``."""
        return self.flush() and self.send(json.dumps(answer).encode() + b"\n")

    def send(self, data: bytes) -> bool:
        """Send or keep for later; False when the client is gone or leaves too much unread."""
        self.unread += data
        return self.flush() and len(self.unread) <= LONGEST

    def flush(self) -> bool:
        """Send what is kept, as far as there is room; False when the client is gone."""
        while self.unread:
            try:
                sent = self.connection.send(self.unread)
            except BlockingIOError:
                break
            except OSError:
                return False
            self.unread = self.unread[sent:]
        return True

    def is_late(self, now_s: float) -> bool:
        """Whether it began a request and does not end it."""
        return bool(self._buffer) and not self.asks and now_s - self._since_s > _PATIENCE_S


def _is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end runs for this user, as far as the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder's mode has to do
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", told)
    return user in (os.getuid(), 0)


def _locked(path: Path) -> Any:
    """The lock of the one session; it goes with the process, however that ends."""
    file = path.open("a+")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
    except OSError as error:
        file.seek(0)
        holder = "" if sys.platform == "win32" else file.read(20)
        file.close()
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
            raise ControlError(
                f"denoise-app already runs (process {holder or 'unknown'}): end it, or steer it "
                "with on, off, toggle and status"
            ) from error
        raise ControlError(f"{path}: {error.strerror}") from error
    return file
