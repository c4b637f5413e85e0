"""rtkit: a service of the system that serves the threads of ordinary users before others.

jeepney's room, beside the window's shortcuts. Not here: who asks for what (``priority``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

NAME = "org.freedesktop.RealtimeKit1"
PATH = "/org/freedesktop/RealtimeKit1"
_REPLY_S = 3.0
_SILENT = "it does not answer"


class RtkitError(Exception):
    """It is not there, or said no."""


class Rtkit:
    """A conversation with rtkit."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._silent = False
        self.most_us = self._known("RTTimeUSecMax")
        """The most that RLIMIT_RTTIME may be for whoever asks [µs]."""
        self._highest = self._known("MaxRealtimePriority")
        self._least_nice = self._known("MinNiceLevel")

    def make_realtime(self, thread: int, priority: int) -> None:
        """Have a thread of this process, by its number, in SCHED_RR; raises RtkitError."""
        self._call("MakeThreadRealtime", "tu", (thread, min(priority, self._highest)))

    def make_high(self, thread: int, nice: int) -> None:
        """Have it nicer to itself than to others; raises RtkitError."""
        self._call("MakeThreadHighPriority", "ti", (thread, max(nice, self._least_nice)))

    def _known(self, what: str) -> int:
        ((_, value),) = self._call("Get", "ss", (NAME, what), "org.freedesktop.DBus.Properties")
        return int(value)

    def _call(self, method: str, signature: str, body: Any, interface: str = NAME) -> Any:
        from jeepney import DBusAddress, MessageType, new_method_call

        if self._silent:
            raise RtkitError(_SILENT)
        call = new_method_call(DBusAddress(PATH, NAME, interface), method, signature, body)
        try:
            answer = self._connection.send_and_get_reply(call, timeout=_REPLY_S)
        except TimeoutError as error:
            self._silent = True  # and is not waited for again
            raise RtkitError(_SILENT) from error
        except OSError as error:
            raise RtkitError(str(error)) from error
        if answer.header.message_type is MessageType.error:
            raise RtkitError(str(answer.body[0]) if answer.body else "no reason given")
        return answer.body


@contextlib.contextmanager
def talk() -> Iterator[Rtkit]:
    """Talk to rtkit over the system's bus; raises RtkitError."""
    try:
        from jeepney.io.blocking import open_dbus_connection
    except ImportError as error:
        raise RtkitError("jeepney is not installed") from error
    try:
        connection = open_dbus_connection("SYSTEM")
    except (OSError, ValueError, RuntimeError, StopIteration) as error:
        raise RtkitError("there is no system bus") from error
    with connection:
        yield Rtkit(connection)
