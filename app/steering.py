"""``denoise-app on | off | toggle | status``: steer the session that runs, from anywhere.

Bind ``denoise-app toggle`` to a key of the desktop. Not here: the socket (``engine.control``),
and who answers (``service``).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from app import spare_model
from app.idle import IDLE_WORDS
from app.speakers import in_words
from engine.control import Answer, ControlClient
from engine.priority import Granted


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
    if answer["muted"]:
        state = "muted: nobody hears you"
    elif answer["on"] and answer["limit_db"] < 100.0:
        state += f", turning nothing down by more than {answer['limit_db']:g} dB"
    lines = [f"{state} ({answer['model']} on {answer['provider']})"]
    if answer.get("idle"):
        lines.append(f"{IDLE_WORDS}; {answer['input']} to {answer['output']}")
    elif "state" in answer:
        delay = "–" if answer["delay_ms"] is None else f"{answer['delay_ms']:.0f}"
        lines.append(
            f"{answer['state']} for {answer['seconds']:.0f} s: {answer['input']} to "
            f"{answer['output']}, delay {delay} ms, CPU {answer['cpu_percent']:.1f} %, "
            f"drops {answer['drops']}"
        )
        if "priority" in answer:
            lines.append(Granted(answer["priority"], answer["priority_note"]).in_words())
    if answer.get("fault"):
        lines.append(f"uncleaned: {answer['fault']}")
    if spare := spare_model.in_words(answer):
        lines.append(spare)
    if answer.get("provider_note"):
        lines.append(answer["provider_note"])
    if answer["problem"]:
        lines.append(f"trying again: {answer['problem']}")
    others = answer.get("speakers")
    if others and others["on"]:
        lines.append(f"what others send to {others['output'] or '–'}: {in_words(others)}")
    return "\n".join(lines)
