"""Keys that work from anywhere, had from the desktop by its portal for global shortcuts.

A thread of its own talks to the bus and sleeps until something comes. Where no portal answers
there is nothing to be had: the user binds ``denoise-app toggle`` to a key instead. jeepney's
room: Qt's own D-Bus cannot write the list of shortcuts. Not here: what a key does (``shell``).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import sys
import threading
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from jeepney import Message
    from jeepney.io.blocking import DBusConnection

log = logging.getLogger(__name__)

APP_ID = "denoise-app"
DESKTOP = "org.freedesktop.portal.Desktop"
DESKTOP_PATH = "/org/freedesktop/portal/desktop"
SHORTCUTS = "org.freedesktop.portal.GlobalShortcuts"
REQUEST = "org.freedesktop.portal.Request"
SESSION = "org.freedesktop.portal.Session"
REGISTRY = "org.freedesktop.host.portal.Registry"

# Replies of the bus; what waits for the user has no limit.
_REPLY_S = 10.0
_tokens = itertools.count(1)


class State(Enum):
    """How far the desktop has taken the keys."""

    OFF = auto()
    ASKING = auto()
    BOUND = auto()
    REFUSED = auto()
    NONE = auto()
    """There is no portal for it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One action a key may be bound to."""

    name: str
    description: str
    wish: str = ""
    """The keys to propose, in the form of the XDG shortcuts specification."""


class GlobalShortcut(QObject):
    """Asks the desktop for keys, and tells when one is pressed."""

    pressed = Signal(str)
    """The name of a key."""
    changed = Signal(object, str)
    """State, and the desktop's words for the first key."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state, self.words = State.OFF, ""
        self._talk: _Talk | None = None
        self.changed.connect(self._remember)

    def start(self, keys: tuple[Key, ...]) -> None:
        """Ask for these; what was asked for before is given back."""
        self.stop()
        self._say(State.ASKING, "")
        self._talk = _Talk(self, keys)
        self._talk.start()

    def stop(self) -> None:
        """Give the keys back."""
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.end()
        self._say(State.OFF, "")

    def _say(self, state: State, words: str) -> None:
        if (state, words) != (self.state, self.words):
            self.changed.emit(state, words)

    def _remember(self, state: State, words: str) -> None:
        self.state, self.words = state, words


class _NoPortal(Exception):
    """Nobody on the bus gives out keys."""


class _Talk(threading.Thread):
    """One conversation with the portal, from asking for keys to giving them back."""

    def __init__(self, to: GlobalShortcut, keys: tuple[Key, ...]) -> None:
        super().__init__(name="denoise shortcut", daemon=True)
        self._to, self._keys = to, keys
        self._connection: DBusConnection | None = None
        self._ended = False
        self._session = ""
        self._answers: list[Message] = []

    def end(self) -> None:
        """Leave the bus; the portal takes that for the end of the session."""
        self._ended = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(timeout=2.0)

    def run(self) -> None:
        """Ask, then wait for keys until the end."""
        try:
            from jeepney.io.blocking import open_dbus_connection
        except ImportError:
            self._tell(State.NONE)
            return
        try:
            if not sys.platform.startswith("linux"):
                raise _NoPortal
            self._connection = open_dbus_connection("SESSION")
            with self._connection:
                self._watch()
                while not self._ended:
                    self._bind()
                    self._listen()
        except (_NoPortal, OSError, KeyError, ValueError) as error:
            # No bus, no portal, or a bus that ends.
            log.info("no global shortcut: %s", error or "no portal gives out keys")
            self._tell(State.NONE)
        except Exception:  # a portal that talks nonsense costs the keys and nothing else
            log.exception("no global shortcut")
            self._tell(State.NONE)

    def _tell(self, state: State, words: str = "") -> None:
        if not self._ended:
            self._to.changed.emit(state, words)

    def _bind(self) -> None:
        """Have a session with keys; raises _NoPortal."""
        self._tell(State.ASKING)
        self._session = ""
        try:
            self._call("org.freedesktop.DBus.Properties", "Get", "ss", (SHORTCUTS, "version"))
        except _Refused as refusal:
            raise _NoPortal(str(refusal)) from refusal
        with contextlib.suppress(_Refused):  # older portals do without it
            self._call(REGISTRY, "Register", "sa{sv}", (APP_ID, {}))
        try:
            made = self._request(
                "CreateSession",
                "a{sv}",
                lambda options: (
                    {**options, "session_handle_token": ("s", f"denoise{next(_tokens)}")},
                ),
            )
            self._session = str(made["session_handle"][1])
            shortcuts = []
            for key in self._keys:
                about = {"description": ("s", key.description)}
                if key.wish:
                    about["preferred_trigger"] = ("s", key.wish)
                shortcuts.append((key.name, about))
            bound = self._request(
                "BindShortcuts",
                "oa(sa{sv})sa{sv}",
                lambda options: (self._session, shortcuts, "", options),
            )
        except _Refused as refusal:
            log.info("no global shortcut: %s", refusal)
            self._tell(State.REFUSED)
            return
        self._tell_bound(bound.get("shortcuts", ("", []))[1])

    def _tell_bound(self, shortcuts: Any) -> None:
        found = dict(shortcuts)
        if self._keys[0].name not in found:
            self._tell(State.REFUSED)
            return
        words = found[self._keys[0].name].get("trigger_description", ("s", ""))[1]
        self._tell(State.BOUND, str(words))

    def _listen(self) -> None:
        """Pass on keys until the portal is another one."""
        while not self._ended:
            message = self._receive()
            name, body = _name_of(message), message.body
            if name == (SHORTCUTS, "Activated") and body[0] == self._session:
                self._to.pressed.emit(str(body[1]))
            elif name == (SHORTCUTS, "ShortcutsChanged") and body[0] == self._session:
                self._tell_bound(body[1])
            elif name == (SESSION, "Closed") and _path_of(message) == self._session:
                self._session = ""
                self._tell(State.REFUSED)
            elif name[1] == "NameOwnerChanged" and body[0] == DESKTOP:
                self._session = ""
                if body[2]:
                    return
                self._tell(State.NONE)

    # The bus

    def _watch(self) -> None:
        from jeepney import MatchRule
        from jeepney.bus_messages import message_bus

        assert self._connection is not None
        rules = [
            MatchRule(type="signal", interface=interface, sender=DESKTOP)
            for interface in (REQUEST, SESSION, SHORTCUTS)
        ]
        owner = MatchRule(
            type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged"
        )
        owner.add_arg_condition(0, DESKTOP)
        for rule in (*rules, owner):
            self._connection.send_and_get_reply(message_bus.AddMatch(rule), timeout=_REPLY_S)

    def _request(self, method: str, signature: str, body: Any) -> dict[str, Any]:
        """Call what answers by a signal later, perhaps after the user; raises _Refused."""
        assert self._connection is not None
        token = f"denoise{next(_tokens)}"
        sender = self._connection.unique_name.lstrip(":").replace(".", "_")
        expected = f"{DESKTOP_PATH}/request/{sender}/{token}"
        (handle,) = self._call(SHORTCUTS, method, signature, body({"handle_token": ("s", token)}))
        while True:
            message = self._receive()
            if _name_of(message) == (REQUEST, "Response") and _path_of(message) in (
                expected,
                handle,
            ):
                code, results = message.body
                if code != 0:
                    raise _Refused(f"{method} was refused ({code})")
                return dict(results)
            if _name_of(message)[1] == "NameOwnerChanged" and not message.body[2]:
                raise _Refused("the portal ended")

    def _call(self, interface: str, method: str, signature: str, body: Any) -> Any:
        """What a method answers; raises _Refused. Signals that come first are kept."""
        from jeepney import DBusAddress, MessageType, new_method_call

        assert self._connection is not None
        address = DBusAddress(DESKTOP_PATH, bus_name=DESKTOP, interface=interface)
        serial = next(self._connection.outgoing_serial)
        call = new_method_call(address, method, signature, body)
        self._connection.send(call, serial=serial)
        kept = []
        while True:
            message = self._connection.receive(timeout=_REPLY_S)
            if message.header.fields.get(_REPLY_SERIAL) != serial:
                kept.append(message)
                continue
            self._answers += kept
            if message.header.message_type is MessageType.error:
                told = message.body[0] if message.body else "no reason given"
                raise _Refused(f"{method}: {told}")
            return message.body

    def _receive(self) -> Message:
        """The next signal, however long that takes."""
        assert self._connection is not None
        if self._answers:
            return self._answers.pop(0)
        return self._connection.receive()


class _Refused(Exception):
    """The portal, or the user, said no."""


# Of the protocol's header fields.
_REPLY_SERIAL = 5


def _name_of(message: Message) -> tuple[str, str]:
    fields = message.header.fields
    return str(fields.get(2, "")), str(fields.get(3, ""))


def _path_of(message: Message) -> str:
    return str(message.header.fields.get(1, ""))
