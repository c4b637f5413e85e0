"""Services of a system bus that a priority is asked of, as small as they can be.

Run as ``python authority.py polkit`` beside the real rtkit, which asks it whether a user may; as
``rtkit`` it plays rtkit itself, as strict as the real one, and really schedules; as ``refusing``
it gives out high priorities only, and as ``silent`` it answers what it knows and nothing else.
Says "ready" when it can be asked.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

NAMES = {"polkit": "org.freedesktop.PolicyKit1"}
KNOWN = {
    "RTTimeUSecMax": ("x", 200_000),
    "MaxRealtimePriority": ("i", 8),
    "MinNiceLevel": ("i", -15),
}
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
WANTED = {
    "Get": "ss",
    "MakeThreadRealtime": "tu",
    "MakeThreadHighPriority": "ti",
    "CheckAuthorization": "(sa{sv})sa{ss}us",
}


class Authority:
    """Answers whoever asks."""

    def __init__(self, plays: str) -> None:
        self._plays = plays
        self._bus = open_dbus_connection("SYSTEM")
        name = NAMES.get(plays, "org.freedesktop.RealtimeKit1")
        assert self._bus.send_and_get_reply(message_bus.RequestName(name)).body == (1,)

    def serve(self) -> None:
        while True:
            message = self._bus.receive()
            if message.header.message_type is MessageType.method_call:
                answer = self._answer(message)
                if answer is not None:
                    self._bus.send(answer)

    def _answer(self, call: Message) -> Message | None:
        fields = call.header.fields
        member = fields[HeaderFields.member]
        if WANTED.get(member) != fields.get(HeaderFields.signature, ""):
            return new_error(call, "org.freedesktop.DBus.Error.UnknownMethod", "s", (member,))
        if member == "CheckAuthorization":
            return new_method_return(call, "(bba{ss})", ((True, False, {}),))
        if member == "Get":
            return new_method_return(call, "v", (KNOWN[call.body[1]],))
        if self._plays == "silent":
            return None
        why = self._schedule(member, self._asker(call), *call.body)
        return new_error(call, DENIED, "s", (why,)) if why else new_method_return(call)

    def _asker(self, call: Message) -> int:
        """Number of the process that asks; the bus knows."""
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        sender = call.header.fields[HeaderFields.sender]
        ask = new_method_call(bus, "GetConnectionUnixProcessID", "s", (sender,))
        return int(self._bus.send_and_get_reply(ask).body[0])

    def _schedule(self, member: str, process: int, thread: int, value: int) -> str | None:
        """Why not, if not."""
        if not os.path.exists(f"/proc/{process}/task/{thread}"):
            return "not your thread"
        if member == "MakeThreadHighPriority":
            if value < KNOWN["MinNiceLevel"][1]:
                return "too nice"
            os.setpriority(os.PRIO_PROCESS, thread, value)
            return None
        if self._plays == "refusing":
            return "no real time here"
        _, hard = resource.prlimit(process, resource.RLIMIT_RTTIME)
        most: Any = KNOWN["RTTimeUSecMax"][1]
        if hard == resource.RLIM_INFINITY or hard > most:
            return "RLIMIT_RTTIME is not set"
        if not 1 <= value <= KNOWN["MaxRealtimePriority"][1]:
            return "too high"
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(thread, policy, os.sched_param(value))
        return None


if __name__ == "__main__":
    authority = Authority(sys.argv[1])
    print("ready", flush=True)
    authority.serve()
