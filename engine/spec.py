"""What a model says about itself: the numbers the signal path must share with it.

Read from the metadata of an ``.onnx`` file; nothing is inferred from its name.
Not here: reading the file (``network``) or using the numbers (``stft``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from engine.errors import ModelError

FORMAT = 1
METADATA_KEY = "denoise_app.spec"
WINDOWS = ("hann", "sqrt_hann")
SYNTHESIS_WINDOWS = ("rect", "hann", "sqrt_hann")
ABOVE = ("zero", "hold")
MAX_TAPS = 16
PHASE_PARTS = 4
"""Numbers for each bin whose phase is heard: two phases, a cosine and a sine of each."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The numbers a model was trained with, and who made it of what.

    Raises ModelError when a field is out of range or two fields do not fit together.
    """

    name: str
    version: str
    sample_rate: int
    """[Hz]"""
    n_fft: int
    """Samples under the window."""
    hop: int
    """Samples between two frames."""
    n_bins: int
    """Bins the network sees and steers, counted from DC."""
    window: str = "hann"
    """Analysis window, periodic: one of WINDOWS."""
    synthesis_window: str = "rect"
    """Window applied after the inverse transform: one of SYNTHESIS_WINDOWS."""
    above: str = "zero"
    """Bins from n_bins up: ``zero`` silences them, ``hold`` gives them the top bins' mean gain."""
    floor_db: float = -100.0
    """Lower clamp of the network's input [dB re full-scale sine]."""
    lookahead: int = 0
    """Frames the network's answer lags behind its input."""
    filter_bins: int = 0
    """Bins from DC that the network also filters over time, before the gain."""
    filter_taps: int = 0
    """Frames that such a filter reaches over, the newest with them; 0: there is none."""
    phase_bins: int = 0
    """Bins from DC of which the network also hears how their phase moves (``stft.phase_motion``);
    0: it hears levels alone."""
    description: str = ""
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: data, hours, date, commit, scores."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name, wanted in _TYPES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ModelError(f"{name} should be {_type_name(wanted)}, found {value!r}")
        if self.format != FORMAT:
            raise ModelError(
                f"model format {self.format} is not known here (this program reads {FORMAT}); "
                "update the program or export the model again"
            )
        if not self.name:
            raise ModelError("name is empty")
        _in_range("sample_rate", self.sample_rate, 4000, 192_000)
        _in_range("n_fft", self.n_fft, 16, 16_384)
        _in_range("hop", self.hop, 8, self.n_fft)
        _in_range("n_bins", self.n_bins, 1, self.n_fft // 2 + 1)
        _in_range("floor_db", self.floor_db, -200.0, -20.0)
        _in_range("lookahead", self.lookahead, 0, 64)
        _one_of("window", self.window, WINDOWS)
        _one_of("synthesis_window", self.synthesis_window, SYNTHESIS_WINDOWS)
        _one_of("above", self.above, ABOVE)
        _in_range("filter_bins", self.filter_bins, 0, self.n_bins)
        _in_range("filter_taps", self.filter_taps, 0, MAX_TAPS)
        if bool(self.filter_bins) != bool(self.filter_taps):
            raise ModelError(
                f"filter_bins and filter_taps go together, found {self.filter_bins} and "
                f"{self.filter_taps}"
            )
        _in_range("phase_bins", self.phase_bins, 0, min(self.n_bins, self.n_fft // 2))
        if self.n_fft % 2:
            raise ModelError(f"n_fft should be even, found {self.n_fft}")

    @property
    def n_spectrum(self) -> int:
        """Bins of the whole one-sided spectrum."""
        return self.n_fft // 2 + 1

    @property
    def n_heard(self) -> int:
        """Numbers that the network reads of a frame: levels, then the motion of phases."""
        return self.n_bins + PHASE_PARTS * self.phase_bins

    @property
    def latency(self) -> int:
        """Delay of the denoiser after a hop has been collected [samples]."""
        return self.n_fft - self.hop + self.lookahead * self.hop

    @property
    def hop_s(self) -> float:
        """Time between two frames [s]."""
        return self.hop / self.sample_rate

    @property
    def total_latency_s(self) -> float:
        """What a caller waits for: collecting a hop, then ``latency`` [s]."""
        return (self.hop + self.latency) / self.sample_rate

    def to_json(self) -> str:
        """The text stored under METADATA_KEY."""
        told = asdict(self)
        # Programs from before there were filters and phases read what has none.
        if not self.filter_taps:
            del told["filter_bins"], told["filter_taps"]
        if not self.phase_bins:
            del told["phase_bins"]
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read the text stored under METADATA_KEY; raises ModelError."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{METADATA_KEY} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise ModelError(
                f"{METADATA_KEY} should be a JSON object, found {type(found).__name__}"
            )
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(found) - known)
        if unknown:
            raise ModelError(f"{METADATA_KEY} has unknown fields: {', '.join(unknown)}")
        try:
            return cls(**found)
        except TypeError as error:  # a field without default is missing
            raise ModelError(f"{METADATA_KEY} is incomplete: {error}") from error


_TYPES: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "name": str,
    "version": str,
    "sample_rate": int,
    "n_fft": int,
    "hop": int,
    "n_bins": int,
    "window": str,
    "synthesis_window": str,
    "above": str,
    "floor_db": (int, float),
    "lookahead": int,
    "filter_bins": int,
    "filter_taps": int,
    "phase_bins": int,
    "description": str,
    "licence": str,
    "training": Mapping,
}


def _type_name(wanted: type | tuple[type, ...]) -> str:
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    return " or ".join(kind.__name__ for kind in kinds)


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # False for NaN; an int may be beyond any float
        raise ModelError(f"{name} should be within {low}…{high}, found {value}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"{name} should be one of {', '.join(allowed)}, found {value!r}")
