"""A desktop's panel with a tray, as small as it can be, on a real bus: lines on stdin click in it.

``labels`` tells what the menu of the one icon offers, ``click LABEL`` clicks there, ``activate``
on the icon, ``tooltip`` tells its words, ``notices`` what was told by notifications so far.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call
from jeepney import new_method_return as reply
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

WATCHER = "org.kde.StatusNotifierWatcher"
NOTIFICATIONS = "org.freedesktop.Notifications"
ITEM = "org.kde.StatusNotifierItem"
MENU = "com.canonical.dbusmenu"
PROPERTIES = {
    "IsStatusNotifierHostRegistered": ("b", True),
    "ProtocolVersion": ("i", 0),
    "RegisteredStatusNotifierItems": ("as", []),
}


class Panel:
    """Takes in one icon, and whatever notifications come."""

    def __init__(self) -> None:
        self.item: tuple[str, str] | None = None  # whose, and where
        self.notices: list[str] = []
        self._bus = open_dbus_connection("SESSION")
        for name in (WATCHER, NOTIFICATIONS):
            assert self._bus.send_and_get_reply(message_bus.RequestName(name)).body == (1,)

    def serve(self) -> None:
        while True:
            call = self._bus.receive()
            if call.header.message_type is MessageType.method_call:
                self._bus.send(self._answer(call))

    def _answer(self, call: Any) -> Any:
        fields, body = call.header.fields, call.body
        match fields[HeaderFields.member]:
            case "Get":
                return reply(call, "v", (PROPERTIES[body[1]],))
            case "GetAll":
                return reply(call, "a{sv}", (PROPERTIES,))
            case "RegisterStatusNotifierItem":
                path = body[0] if body[0].startswith("/") else "/StatusNotifierItem"
                self.item = fields[HeaderFields.sender], path
                return reply(call)
            case "RegisterStatusNotifierHost":
                return reply(call)
            case "Notify":
                self.notices.append(body[4])
                return reply(call, "u", (len(self.notices),))
            case "GetCapabilities":
                return reply(call, "as", (["body"],))
            case "GetServerInformation":
                return reply(call, "ssss", ("panel", "tests", "1", "1.2"))
            case _:
                return new_error(call, "org.freedesktop.DBus.Error.UnknownMethod")


class Hand:
    """Clicks, on a connection of its own."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._bus = open_dbus_connection("SESSION")

    def do(self, line: str) -> str:
        command, _, label = line.partition(" ")
        if command == "notices":
            return " | ".join(self._panel.notices)
        if self._panel.item is None:
            return "no icon"
        sender, path = self._panel.item
        item = DBusAddress(path, bus_name=sender, interface=ITEM)
        if command == "activate":
            self._call(item, "Activate", "ii", (0, 0))
            return "done"
        if command == "tooltip":
            _, _, title, words = self._property(item, "ToolTip")
            return f"{title} {words}".replace("\n", " ")
        menu_path = self._property(item, "Menu")
        menu = DBusAddress(menu_path, bus_name=sender, interface=MENU)
        entries = list(self._entries(self._call(menu, "GetLayout", "iias", (0, -1, []))[1]))
        if command == "labels":
            return " | ".join(words for words, _ in entries)
        for words, number in entries:
            if words == label:
                event = (number, "clicked", ("i", 0), int(time.time()))
                self._call(menu, "Event", "isvu", event)
                return "done"
        return "not there"

    def _entries(self, layout: Any) -> Iterator[tuple[str, int]]:
        number, about, children = layout
        if "label" in about:
            yield about["label"][1].replace("_", ""), number
        for _, child in children:
            yield from self._entries(child)

    def _property(self, of: DBusAddress, name: str) -> Any:
        at = DBusAddress(of.object_path, of.bus_name, "org.freedesktop.DBus.Properties")
        return self._call(at, "Get", "ss", (of.interface, name))[0][1]

    def _call(self, of: DBusAddress, method: str, signature: str, body: Any) -> Any:
        answer = self._bus.send_and_get_reply(
            new_method_call(of, method, signature, body), timeout=10.0
        )
        if answer.header.message_type is MessageType.error:
            raise RuntimeError(f"{method}: {answer.body}")
        return answer.body


def main() -> None:
    panel = Panel()
    threading.Thread(target=panel.serve, daemon=True).start()
    hand = Hand(panel)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(hand.do(line.strip()), flush=True)
        except RuntimeError as error:
            print(error, flush=True)


if __name__ == "__main__":
    main()
