"""``denoise-app on | off | toggle | status``: steer the session that runs, from anywhere.

Bind ``denoise-app toggle`` to a key of the desktop. Not here: the socket (``engine.control``).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from typing import Any

from engine.control import Answer, ControlClient, Request
from engine.live import LiveSession, Status


class Steering:
    """Answers requests about one session.

    Parameters
    ----------
    about : what does not change while it runs: input, output, model, provider
    """

    def __init__(self, about: dict[str, str]) -> None:
        self._about = about
        self.session: LiveSession | None = None
        """None until the devices are open."""
        self.status: Status | None = None
        """The newest."""

    def answer(self, request: Request) -> Answer:
        """Do what is asked: ``{"do": "status"}``, ``{"do": "toggle"}`` or ``{"do": "set"}`` with
        ``on`` (true or false), ``limit_db`` (0…100) or both.

        Returns
        -------
        ``on``, ``limit_db``, input, output, model, provider, and the figures of ``Status``

        Raises
        ------
        ValueError : no such request, or a value out of range
        """
        if self.session is None:
            raise ValueError("the session is just starting: ask again")
        wanted = dict(request)
        do = wanted.pop("do", None)
        knobs = self.session.knobs
        if do == "toggle" and not wanted:
            knobs = replace(knobs, bypass=not knobs.bypass)
        elif do == "set" and wanted.keys() <= {"on", "limit_db"}:
            if "on" in wanted:
                if not isinstance(wanted["on"], bool):
                    raise ValueError(f"on should be true or false, got {wanted['on']!r}")
                knobs = replace(knobs, bypass=not wanted["on"])
            if "limit_db" in wanted:
                limit_db = wanted["limit_db"]
                if isinstance(limit_db, bool) or not isinstance(limit_db, int | float):
                    raise ValueError(f"limit_db should be a number, got {limit_db!r}")
                knobs = replace(knobs, limit_db=float(limit_db))
        elif do != "status" or wanted:
            raise ValueError("ask for status, toggle, or set with on and limit_db")
        self.session.knobs = knobs
        figures: dict[str, Any] = asdict(self.status) if self.status else {}
        return {"on": not knobs.bypass, "limit_db": knobs.limit_db, **self._about, **figures}


def run(args: argparse.Namespace) -> int:
    """Ask the running session; raises ControlError when there is none."""
    request: dict[str, Any] = {"do": args.command}
    if args.command in ("on", "off"):
        request = {"do": "set", "on": args.command == "on"}
        if args.limit is not None:
            request["limit_db"] = args.limit
    with ControlClient() as client:
        answer = client.ask(**request)
    print(json.dumps(answer) if args.json else describe(answer))
    return 0


def describe(answer: Answer) -> str:
    """A session in a line or two."""
    state = "on" if answer["on"] else "off: your voice goes through as it is"
    if answer["on"] and answer["limit_db"] < 100.0:
        state += f", turning nothing down by more than {answer['limit_db']:g} dB"
    lines = [f"{state} ({answer['model']} on {answer['provider']})"]
    if "state" in answer:
        delay = "–" if answer["delay_ms"] is None else f"{answer['delay_ms']:.0f}"
        lines.append(
            f"{answer['state']} for {answer['seconds']:.0f} s: {answer['input']} to "
            f"{answer['output']}, delay {delay} ms, CPU {answer['cpu_percent']:.1f} %, "
            f"drops {answer['drops']}"
        )
    if answer.get("fault"):
        lines.append(f"uncleaned: {answer['fault']}")
    return "\n".join(lines)
