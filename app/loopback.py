"""The whole path tried on itself: a noisy voice played to a room that only we hear, cleaned, and
recorded as a call app would.

On the user's own sound server, beside whatever runs there: the devices have names of their own,
nobody's default changes, and they are gone afterwards. Not here: what is said of it (``doctor``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from app.example import NOISE_ONLY_S, noisy_voice
from engine import devices
from engine.devices import SAMPLE_RATE
from engine.errors import DeviceError
from engine.live import TOO_SLOW, LiveSession
from engine.measure import aligned, delay_between, usual_dbfs
from engine.network import Network
from engine.sound_server import SoundServer
from engine.stft import Float

T = TypeVar("T")

_SECONDS = 8.0
"""Of the clip; with starting and ending it is ten."""
_START_S = 10.0
_SILENCE_S = 0.5
# Two recordings of the same voice, one of them cleaned, are this alike at least.
_ALIKE = 0.3


class LoopBack(NamedTuple):
    """What came of it."""

    delay_ms: float
    """From the room to the virtual microphone, by cross-correlation."""
    told_delay_ms: float | None
    """What the session told of it."""
    drops: int
    """While the clip played."""
    suppression_db: float
    """By how much noise alone got quieter: by its usual level, ``usual_dbfs``."""
    uncleaned_s: float
    """Of the clip went through as it is, because the machine was busy [s]."""
    fault: str | None
    """Why something went through uncleaned, but for a busy machine."""


def loop_back(network: Network) -> LoopBack:
    """Play, clean and record for some seconds.

    Raises
    ------
    DeviceError : the sound server refuses, or no sound comes through
    """
    with _alsa_kept_quiet():
        return _loop_back(network)


def _loop_back(network: Network) -> LoopBack:
    noisy = noisy_voice()[1][: round(_SECONDS * SAMPLE_RATE)]
    with (
        SoundServer() as server,
        server.check_devices(SAMPLE_RATE) as (room, microphone),
        _stream(devices.open_output, room.sink, _Mouth(noisy)) as mouth,
        LiveSession(network, room.source, [microphone.sink]) as session,
    ):
        if not session.wait_until_running(_START_S):
            raise DeviceError("a session was started, but no sound came out of it")
        with (
            _stream(devices.open_input, room.source, _Ear()) as said,
            _stream(devices.open_input, microphone.source, _Ear()) as heard,
        ):
            time.sleep(_SILENCE_S)
            before = session.status()
            mouth.speak()
            time.sleep(_SECONDS + _SILENCE_S)
            after = session.status()
        return _compared(
            noisy,
            said,
            heard,
            LoopBack(
                delay_ms=0.0,
                told_delay_ms=after.delay_ms,
                drops=after.drops - before.drops,
                suppression_db=0.0,
                uncleaned_s=after.uncleaned_s - before.uncleaned_s,
                fault=None if after.fault == TOO_SLOW else after.fault,
            ),
        )


@contextlib.contextmanager
def _alsa_kept_quiet() -> Iterator[None]:
    """ALSA's library writes a line on stderr for every underrun; we count them."""
    with open(os.devnull, "wb") as nothing:
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _compared(noisy: Float, said: _Ear, heard: _Ear, told: LoopBack) -> LoopBack:
    """The same with what two recordings show; raises DeviceError when they share no sound."""
    shift, alike = delay_between(noisy, said.sound)
    if alike < _ALIKE:
        raise DeviceError("what was played to the sound server was not heard in it")
    _, said_clip = aligned(noisy, said.sound, shift)
    # From here on both count from the moment at which the clip was heard first.
    begins = shift + round((said.origin_s - heard.origin_s) * SAMPLE_RATE)
    heard_clip = heard.sound[max(0, begins) :]
    delay = _delay(said_clip, heard_clip)
    noise_only = slice(SAMPLE_RATE, round((NOISE_ONLY_S - 0.2) * SAMPLE_RATE))
    cleaned = heard_clip[delay:]
    return told._replace(
        delay_ms=1000.0 * delay / SAMPLE_RATE,
        suppression_db=usual_dbfs(said_clip[noise_only]) - usual_dbfs(cleaned[noise_only]),
    )


def _delay(said: Float, heard: Float) -> int:
    """How much later a voice comes [samples]; raises DeviceError when it does not come.

    By the median of a second each, because a drop moves all that comes after it.
    """
    delays = []
    for start in range(
        round(NOISE_ONLY_S * SAMPLE_RATE), len(said) - SAMPLE_RATE, SAMPLE_RATE // 2
    ):
        window = said[start : start + SAMPLE_RATE]
        delay, alike = delay_between(window, heard[start : start + 3 * SAMPLE_RATE])
        if alike > _ALIKE and delay >= 0:
            delays.append(delay)
    if not delays:
        raise DeviceError("nothing of the voice came out of the virtual microphone")
    return int(np.median(delays))


@contextlib.contextmanager
def _stream(open_stream: Callable[[str, Any], Any], name: str, end: T) -> Iterator[T]:
    stream = open_stream(name, end)
    try:
        yield end
    finally:
        devices.close(stream)


class _Mouth:
    """Plays silence, and a clip once it is told to; PortAudio's callback."""

    def __init__(self, clip: Float) -> None:
        self._clip = clip
        self._at: int | None = None

    def speak(self) -> None:
        """Begin with the next block."""
        self._at = 0

    def __call__(self, block: Any, n: int, times: Any, flags: Any) -> None:
        block[:] = 0.0
        if self._at is not None:
            part = self._clip[self._at : self._at + n]
            block[: len(part), 0] = part
            self._at += len(part)


class _Ear:
    """Keeps what it hears; PortAudio's callback. Two of the same settings can be compared."""

    def __init__(self) -> None:
        self.origin_s = float("inf")
        """When sample 0 was heard, by the block that came with the least delay."""
        self._blocks: list[Float] = []
        self._n = 0

    @property
    def sound(self) -> Float:
        """(n,) float32 so far."""
        return np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)

    def __call__(self, block: Any, n: int, times: Any, flags: Any) -> None:
        self._blocks.append(block[:, 0].copy())
        self._n += n
        self.origin_s = min(self.origin_s, time.monotonic() - self._n / SAMPLE_RATE)
