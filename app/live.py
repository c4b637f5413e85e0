"""``denoise-app --device``: the engine without a window, until Ctrl-C.

Prints a status line a second. Not here: the session itself (``service``).
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable
from dataclasses import asdict

from app.idle import IDLE_WORDS
from app.log import kept
from app.service import Service, Wishes
from app.speakers import SpeakerSide, SpeakerWishes, in_words, speaker_output
from app.supervision import supervise
from engine.control import ControlServer
from engine.denoiser import Knobs
from engine.live import Status
from engine.names import SPEAKERS_NAME
from engine.priority import allowed


def run(args: argparse.Namespace) -> int:
    """Clean the input device until told to stop.

    Raises ModelError, DeviceError, or ControlError when a session runs already.
    """
    wishes = Wishes(
        model=args.model,
        provider=args.provider,
        source=args.device or None,
        output=args.output,
        monitor=args.monitor,
        keep_model=args.keep_model,
        idle=args.idle,
    )
    speakers = SpeakerWishes(args.speakers is not None, args.speakers or None)
    if speakers.output is not None:
        speaker_output(speakers.output)  # a name that fits nothing is told at once
    service = Service(wishes, Knobs(limit_db=args.limit), speakers)
    _on_signals(service.stop)
    with kept(), allowed(), ControlServer(service.answer, service.picture) as control:
        supervise(
            service,
            lambda: service.run(
                lambda about: _announce(args.json, about, speakers.on),
                lambda status: _report(args.json, status, service.speakers),
            ),
            free=control.stop,
        )
    if args.json:
        _say(json.dumps({"state": "stopped"}))
    return 0


def _on_signals(stop: Callable[[], None]) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end a session in order, as it is meant to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is not everywhere
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop())


def _announce(as_json: bool, about: dict[str, str], speakers: bool) -> None:
    if as_json:
        _say(json.dumps({"state": "started", **about}))
        return
    _say(
        f"Cleaning {about['input']} with {about['model']} on {about['provider']}. "
        f"Pick “{about['output']}” in your call app. Ctrl-C ends."
    )
    if speakers:
        _say(f"To hear the others clean, pick “{SPEAKERS_NAME}” as its speaker.")


def _report(as_json: bool, status: Status, speakers: SpeakerSide) -> None:
    others = speakers.told()
    if as_json:
        idle = status.state == "idle"
        _say(json.dumps({**asdict(status), "idle": idle, "speakers": others}))
        return
    if status.state == "idle":
        line = f"{IDLE_WORDS}; CPU {status.cpu_percent:4.1f} %"
        _say(line + (f"  others: {in_words(others)}" if others["on"] else ""))
        return
    delay = "  –" if status.delay_ms is None else f"{status.delay_ms:3.0f}"
    line = (
        f"{status.state:8} in {status.input_dbfs:6.1f} dBFS  out {status.output_dbfs:6.1f} dBFS  "
        f"delay {delay} ms  CPU {status.cpu_percent:4.1f} %  drops {status.drops}"
    )
    if status.fault:
        line += f"  uncleaned: {status.fault}"
    if others["on"]:
        line += f"  others: {in_words(others)}"
    _say(line)


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError:  # a disk that is full: the call goes on
        pass
