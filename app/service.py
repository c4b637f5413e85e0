"""A session that can be steered: other devices and models while it runs, and a picture of it.

Two threads: the one that runs the service opens and closes devices, the control's answers
requests and never waits for a device. Whatever cannot be opened is tried again; the service
ends only when it is told to. Not here: the sound (``engine.live``), the socket
(``engine.control``), who asks (``steering``, the window).
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

import models
from app.columns import ROWS, byte, rows_of
from app.excerpts import REQUESTS, Excerpts
from engine import devices
from engine.control import Answer, Request
from engine.denoiser import Frame, Knobs
from engine.errors import DeviceError, ModelError
from engine.live import LiveSession, Status
from engine.network import Network, find
from engine.sound_server import MICROPHONE_NAME, SoundServer, VirtualMicrophone
from engine.spec import ModelSpec

# Pictures wait for whoever asks, half a second of them at the fastest model's 100 a second.
_FRAMES = 50
# A device that went is tried again, soon at first.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 3.0
_TICK_S = 1.0
# Asking the sound server costs some milliseconds of processor time.
_TICKS_A_LOOK = 2


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants opened. Names are as the user gave them."""

    model: str
    provider: str = "auto"
    source: str | None = None
    """None: the system's default."""
    output: str | None = None
    """None: the virtual microphone."""
    monitor: bool = False


class Service:
    """One steerable session.

    Parameters
    ----------
    wishes, knobs : to begin with
    """

    def __init__(self, wishes: Wishes, knobs: Knobs) -> None:
        self._wishes = wishes
        self._knobs = knobs
        self._wake = threading.Event()
        self._stopping = False
        self._session: LiveSession | None = None
        self._sound, self._outlet = contextlib.ExitStack(), contextlib.ExitStack()
        self._out: tuple[str | None, str, str] | None = None  # as wished, its name, as shown
        self._status: Status | None = None
        self._problem: str | None = None
        self._opened: Wishes | None = None
        self._ticks = 0
        self._source: str | None = None  # that was opened, while it is there
        self._about: dict[str, str] = {}
        self._frames: deque[Frame] = deque(maxlen=_FRAMES)
        self._excerpts = Excerpts()
        self._rows: tuple[ModelSpec, np.ndarray] | None = None
        self._network = Network(find(wishes.model, models.FOLDER), wishes.provider)

    # Asked by the control's thread

    def answer(self, request: Request) -> Answer:
        """Do what is asked.

        ``{"do": "status"}``; ``{"do": "toggle"}``; ``{"do": "devices"}``; ``{"do": "models"}``;
        ``{"do": "quit"}``; ``{"do": "set"}`` with any of ``on``, ``muted``, ``monitor`` (true or
        false), ``limit_db`` (0…100), ``input``, ``output`` (names or null), ``model`` (name);
        and those of ``Excerpts``.

        Returns
        -------
        of most: ``on``, ``muted``, ``limit_db``, ``monitor``, ``input``, ``output``, ``model``,
        ``provider``, ``problem`` (what could not be had, or null) and the figures of ``Status``

        Raises
        ------
        ValueError : no such request, a value out of range, or no such device or model
        """
        wanted = dict(request)
        do = wanted.pop("do", None)
        if do in REQUESTS:
            return self._excerpts.answer(do, wanted, self._session)
        if do not in ("status", "toggle", "set", "devices", "models", "quit") or (
            wanted and do != "set"
        ):
            raise ValueError("ask for status, toggle, set, devices, models or quit")
        if do == "devices":
            return {"devices": [device.as_dict() for device in _asked(devices.devices)]}
        if do == "models":
            return {"models": [path.stem for path in sorted(models.FOLDER.glob("*.onnx"))]}
        if do == "quit":
            self.stop()
        elif do == "toggle":
            self._turn(replace(self._knobs, bypass=not self._knobs.bypass))
        elif do == "set":
            self._set(wanted)
        return self._told()

    def _set(self, wanted: dict[str, Any]) -> None:
        knobs, wishes = self._knobs, self._wishes
        for name, value in wanted.items():
            if name in ("on", "muted", "monitor"):
                if not isinstance(value, bool):
                    raise ValueError(f"{name} should be true or false, got {value!r}")
                if name == "on":
                    knobs = replace(knobs, bypass=not value)
                elif name == "muted":
                    knobs = replace(knobs, muted=value)
                else:
                    wishes = replace(wishes, monitor=value)
            elif name == "limit_db":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(f"limit_db should be a number, got {value!r}")
                knobs = replace(knobs, limit_db=float(value))
            elif name in ("input", "output"):
                if not isinstance(value, str | None):
                    raise ValueError(f"{name} should be a name or null, got {value!r}")
                if value is not None or name == "input":
                    _asked(devices.find, name, value)
                field = "source" if name == "input" else "output"
                wishes = replace(wishes, **{field: value})
            elif name == "model":
                if not isinstance(value, str):
                    raise ValueError(f"model should be a name, got {value!r}")
                _asked(find, value, models.FOLDER)
                wishes = replace(wishes, model=value)
            else:
                raise ValueError(f"there is no {name} to set")
        self._turn(knobs)
        if wishes != self._wishes:
            self._wishes = wishes
            self._wake.set()

    def _turn(self, knobs: Knobs) -> None:
        self._knobs = knobs
        if self._session is not None:
            self._session.knobs = knobs

    def _told(self) -> Answer:
        figures: dict[str, Any] = asdict(self._status) if self._status else {}
        return {
            "on": not self._knobs.bypass,
            "muted": self._knobs.muted,
            "limit_db": self._knobs.limit_db,
            "monitor": self._wishes.monitor,
            **self._about,
            **figures,
            "problem": self._problem,
        }

    def picture(self) -> Answer:
        """Columns since the last call, for those who watch.

        Returns
        -------
        ``model``; ``top_hz`` of the uppermost row; ``column_s``; ``rows``; ``columns``, their
        number; ``levels``, base64 of (columns, 2, rows) bytes, noisy and clean, from ``FLOOR_DB``
        to ``CEILING_DB``; ``gain``, base64 of (rows,) bytes, the newest, 255 for 1
        """
        frames = [self._frames.popleft() for _ in range(len(self._frames))]
        spec = self._network.spec
        frames = [frame for frame in frames if len(frame.noisy_db) == spec.n_spectrum]
        if self._rows is None or self._rows[0] is not spec:
            self._rows = (spec, rows_of(spec))
        starts = self._rows[1]
        levels, gain = np.zeros((len(frames), 2, ROWS), np.uint8), np.zeros(ROWS, np.uint8)
        for column, frame in zip(levels, frames, strict=True):
            noisy = np.maximum.reduceat(frame.noisy_db, starts)
            clean_db = frame.noisy_db + 20.0 * np.log10(np.maximum(frame.gain, 1e-6))
            column[0] = byte(noisy)
            column[1] = byte(np.maximum.reduceat(clean_db, starts))
        if frames:
            gain[:] = np.round(255.0 * np.maximum.reduceat(frames[-1].gain, starts))
        return {
            "model": spec.name,
            "top_hz": spec.sample_rate / 2,
            "column_s": spec.hop_s,
            "rows": ROWS,
            "columns": len(frames),
            "levels": base64.b64encode(levels.tobytes()).decode(),
            "gain": base64.b64encode(gain.tobytes()).decode(),
        }

    # The service's own thread

    def run(
        self, started: Callable[[dict[str, str]], None], report: Callable[[Status], None]
    ) -> None:
        """Run until ``stop``; the devices wished for at first must be there.

        Parameters
        ----------
        started : told the first devices and the model
        report : told how it does, once a second

        Raises
        ------
        DeviceError, ModelError : it cannot begin; later ones are told and tried again
        """
        try:
            self._open()
            started(self._about)
            wait_s = _FIRST_WAIT_S
            while not self._stopping:
                self._look(report)
                if not self._must_open():
                    self._pause(_TICK_S)
                    continue
                try:
                    self._open()
                    wait_s = _FIRST_WAIT_S
                except ModelError as error:
                    # What runs goes on.
                    self._problem = str(error)
                    self._wishes = replace(self._wishes, model=str(self._network.path))
                except DeviceError as error:
                    self._problem = str(error)
                    self._pause(wait_s)
                    wait_s = min(2.0 * wait_s, _LONGEST_WAIT_S)
        finally:
            self._sound.close()
            self._outlet.close()

    def stop(self) -> None:
        """End ``run`` soon; from any thread."""
        self._stopping = True
        self._wake.set()

    def _look(self, report: Callable[[Status], None]) -> None:
        session = self._session
        if session is None:
            return
        if session.is_new:
            # The first line comes with the first sound: programs wait for it.
            session.wait_until_running(1.0)
        self._status = session.status()
        report(self._status)

    def _must_open(self) -> bool:
        """Whether something else is wished for, has come back, or has gone silent."""
        if self._session is None or self._opened != self._wishes:
            return True
        if self._status is not None and self._status.state == "stalled":
            return True
        self._ticks += 1
        if self._ticks % _TICKS_A_LOOK:
            return False
        try:
            wanted = devices.find("input", self._wishes.source)
        except DeviceError as error:
            # A sound server may have moved us to another input when ours went.
            self._source, self._problem = None, str(error)
            with contextlib.suppress(DeviceError):
                self._about["input"] = devices.heard() or self._about["input"]
            return False
        return wanted != self._source

    def _pause(self, at_most_s: float) -> None:
        self._wake.wait(at_most_s)
        self._wake.clear()

    def _open(self) -> None:
        """Open what is wished for in place of what is open; raises DeviceError or ModelError.

        The virtual microphone stays while it can: call apps would lose it.
        """
        wishes = self._wishes
        path = find(wishes.model, models.FOLDER)
        network = self._network
        if path != network.path:
            network = Network(path, wishes.provider)
        self._sound.close()
        self._network = network
        if self._out is None or self._out[0] != wishes.output or not _is_there(self._out[1]):
            self._outlet.close()
            self._out = None
            output, shown = self._outlet.enter_context(_output(wishes.output))
            self._out = wishes.output, output, shown
        _, output, shown = self._out
        source = devices.find("input", wishes.source)
        outputs = [output]
        if wishes.monitor:
            outputs.append(devices.find("output", None))
        session = LiveSession(self._network, source, outputs, self._knobs, self._frames.append)
        self._sound.callback(self._forget)
        self._sound.enter_context(session)
        self._session, self._opened, self._source, self._problem = session, wishes, source, None
        session.knobs = self._knobs  # as they may be by now
        session.excerpt = self._excerpts.wanted
        self._about = {
            "input": source,
            "output": shown,
            "model": self._network.spec.name,
            "provider": self._network.provider,
        }

    def _forget(self) -> None:
        self._session = self._status = None


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
            microphone: VirtualMicrophone = server.create_virtual_microphone(devices.SAMPLE_RATE)
            try:
                yield microphone.sink, MICROPHONE_NAME
            finally:
                microphone.remove()


def _is_there(output: str) -> bool:
    """Whether an output has outlived what made the session stall."""
    try:
        return any(one.name == output for one in devices.devices() if one.kind == "output")
    except DeviceError:
        return False


def _asked(ask: Callable[..., T], *of: Any) -> T:
    """The answer of devices or models, where an error is the asker's to be told."""
    try:
        return ask(*of)
    except (DeviceError, ModelError) as error:
        raise ValueError(str(error)) from error
