"""``denoise-app --device``: the engine without a window, until Ctrl-C.

Prints a status line a second. Not here: the sound itself, which is ``engine.live``'s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict

import models
from app.steering import Steering
from engine import devices
from engine.control import ControlServer
from engine.denoiser import Knobs
from engine.live import LiveSession, Status
from engine.network import Network, find
from engine.sound_server import MICROPHONE_NAME, SoundServer


def run(args: argparse.Namespace) -> int:
    """Clean the input device until told to stop.

    Raises ModelError, DeviceError, or ControlError when a session runs already.
    """
    stop = _stop_on_signals()
    network = Network(find(args.model, models.FOLDER), args.provider)
    source = devices.find("input", args.device or None)
    about = {"input": source, "model": network.spec.name, "provider": network.provider}
    steering = Steering(about)
    with ControlServer(steering.answer), _output(args.output) as (output, shown):
        about["output"] = shown
        outputs = [output]
        if args.monitor:
            outputs.append(devices.find("output", None))
        with LiveSession(network, source, outputs, Knobs(limit_db=args.limit)) as session:
            steering.session = session
            _announce(args.json, about)
            # The first line comes with the first sound: programs wait for it.
            session.wait_until_running(1.0)
            while not stop.is_set():
                steering.status = session.status()
                _report(args.json, steering.status)
                stop.wait(1.0)
    if args.json:
        _say(json.dumps({"state": "stopped"}))
    return 0


def _stop_on_signals() -> threading.Event:
    """Ctrl-C, SIGTERM and a closed terminal end a session in order, as it is meant to end."""
    stop = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is not everywhere
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    return stop


@contextlib.contextmanager
def _output(name: str | None) -> Iterator[tuple[str, str]]:
    """Where the clean sound goes: (name of the device to play to, what users pick)."""
    if name is not None:
        output = devices.find("output", name)
        yield output, output
    elif not devices.has_sound_server():
        cable = devices.virtual_cable()
        yield cable, cable
    else:
        with SoundServer() as server:
            microphone = server.create_virtual_microphone(devices.SAMPLE_RATE)
            try:
                yield microphone.sink, MICROPHONE_NAME
            finally:
                microphone.remove()


def _announce(as_json: bool, about: dict[str, str]) -> None:
    if as_json:
        _say(json.dumps({"state": "started", **about}))
    else:
        _say(
            f"Cleaning {about['input']} with {about['model']} on {about['provider']}. "
            f"Pick “{about['output']}” in your call app. Ctrl-C ends."
        )


def _report(as_json: bool, status: Status) -> None:
    if as_json:
        _say(json.dumps(asdict(status)))
        return
    delay = "  –" if status.delay_ms is None else f"{status.delay_ms:3.0f}"
    line = (
        f"{status.state:8} in {status.input_dbfs:6.1f} dBFS  out {status.output_dbfs:6.1f} dBFS  "
        f"delay {delay} ms  CPU {status.cpu_percent:4.1f} %  drops {status.drops}"
    )
    _say(f"{line}  uncleaned: {status.fault}" if status.fault else line)


def _say(line: str) -> None:
    print(line, flush=True)
