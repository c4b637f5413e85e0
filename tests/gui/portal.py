"""A desktop's portal for global shortcuts, as small as it can be, on a real bus.

Run as ``python portal.py allow|deny``. It checks what it is asked for as strictly as the real
ones do, says "ready" when it can be asked, and presses a key for every line it reads: the name
of a shortcut, ``close`` (the session), or ``rename WORDS`` (of the keys of the first shortcut).
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

DESKTOP = "org.freedesktop.portal.Desktop"
PATH = "/org/freedesktop/portal/desktop"
SHORTCUTS = "org.freedesktop.portal.GlobalShortcuts"
WRONG = "org.freedesktop.portal.Error.InvalidArgument"


class Portal:
    """Answers one program."""

    def __init__(self, allows: bool) -> None:
        self._allows = allows
        self._bus = open_dbus_connection("SESSION")
        self._sends = threading.Lock()
        self._session = ""
        self._bound: list[tuple[str, Any]] = []
        asked = self._bus.send_and_get_reply(message_bus.RequestName(DESKTOP))
        assert asked.body == (1,), "somebody else is the portal"

    def serve(self) -> None:
        while True:
            message = self._bus.receive()
            if message.header.message_type is MessageType.method_call:
                self._answer(message)

    def obey(self) -> None:
        for line in sys.stdin:
            command, _, words = line.strip().partition(" ")
            if command == "close":
                self._signal(self._session, "org.freedesktop.portal.Session", "Closed")
            elif command == "rename":
                self._bound[0][1]["trigger_description"] = ("s", words)
                body = (self._session, self._bound)
                self._signal(PATH, SHORTCUTS, "ShortcutsChanged", "oa(sa{sv})", body)
            else:
                for session in ("/somebody/elses", self._session):
                    body = (session, command, 1234, {})
                    self._signal(PATH, SHORTCUTS, "Activated", "osta{sv}", body)

    def _answer(self, call: Message) -> None:
        fields = call.header.fields
        member, signature = fields[HeaderFields.member], fields.get(HeaderFields.signature, "")
        sender = fields[HeaderFields.sender].lstrip(":").replace(".", "_")
        wanted = {
            "Get": "ss",
            "Register": "sa{sv}",
            "CreateSession": "a{sv}",
            "BindShortcuts": "oa(sa{sv})sa{sv}",
        }
        if wanted.get(member) != signature:
            self._send(new_error(call, WRONG, "s", (f"{member}({signature})",)))
            return
        if member == "Get":
            assert call.body == (SHORTCUTS, "version")
            self._send(new_method_return(call, "v", (("u", 1),)))
            return
        if member == "Register":
            print(f"registered {call.body[0]}", flush=True)
            self._send(new_method_return(call))
            return
        options = call.body[-1]
        request = f"{PATH}/request/{sender}/{options['handle_token'][1]}"
        results: dict[str, Any] = {}
        if member == "CreateSession":
            self._session = f"{PATH}/session/{sender}/{options['session_handle_token'][1]}"
            results = {"session_handle": ("s", self._session)}
        elif call.body[0] != self._session:
            self._send(new_error(call, WRONG, "s", ("no such session",)))
            return
        else:
            for name, about in call.body[1]:
                wish = about.get("preferred_trigger", ("s", "-"))[1]
                print(f"bind {name} {wish} {about['description'][1]}", flush=True)
                self._bound.append((name, {**about, "trigger_description": ("s", f"<{wish}>")}))
            results = {"shortcuts": ("a(sa{sv})", self._bound)}
        # The real ones answer the call first or last, as it comes.
        early = member == "BindShortcuts"
        code = 0 if self._allows or member == "CreateSession" else 1
        response = (code, results if code == 0 else {})
        if early:
            self._respond(request, response)
        self._send(new_method_return(call, "o", (request,)))
        if not early:
            self._respond(request, response)

    def _respond(self, request: str, response: tuple[int, Any]) -> None:
        interface = "org.freedesktop.portal.Request"
        self._signal(request, interface, "Response", "ua{sv}", response)

    def _signal(
        self, path: str, interface: str, name: str, signature: str | None = None, body: Any = ()
    ) -> None:
        self._send(new_signal(DBusAddress(path, interface=interface), name, signature, body))

    def _send(self, message: Message) -> None:
        with self._sends:
            self._bus.send(message)


def main() -> None:
    portal = Portal(sys.argv[1] == "allow")
    threading.Thread(target=portal.obey, daemon=True).start()
    print("ready", flush=True)
    portal.serve()


if __name__ == "__main__":
    main()
