"""A model file, opened and checked: dB frames and state in, gains and state out.

Not here: ONNX Runtime (``sessions``), which provider serves (``providers``), spectra, samples,
or remembering the state.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from engine.errors import ModelError
from engine.inspection import inspect
from engine.providers import Choice
from engine.sessions import NodeArg, Session, one_line
from engine.spec import METADATA_KEY, ModelSpec
from engine.stft import Complex, Float, synthesis_window

MAX_FILE_BYTES = 256 * 1024 * 1024
"""A model larger than this could not run in real time anyway."""

# Of frames that a provider is asked for comparison and timed by: not fewer, however long.
_LEAST_FRAMES = 20

State = tuple[Float, ...]


class Estimate(NamedTuple):
    """What a network says of some frames."""

    gain: Float
    """(n_frames, n_bins) in [0, 1]."""
    speech: Float
    """(n_frames,) probability of voice in the frame, in [0, 1]."""
    state: State
    """To be handed in with the next frames."""
    filter: Complex | None = None
    """(n_frames, filter_taps, filter_bins): what the spectra of a frame and of those before it,
    the newest first, are multiplied by and summed; None where the spec has no filter."""


class Estimator(Protocol):
    """Anything that can steer a Denoiser: a Network, or two lines in a test."""

    @property
    def spec(self) -> ModelSpec: ...

    def initial_state(self) -> State: ...

    def __call__(self, heard: Float, state: State, /) -> Estimate: ...


class Network:
    """A checked model file in ONNX Runtime. Calling it has no side effect.

    Parameters
    ----------
    path : an ``.onnx`` file that follows the model contract (docs/architecture.md)
    provider : ``auto`` or a key of PROVIDERS; ``auto`` keeps the fastest installed one
    threads : threads inside one operator; a batch of one gains nothing from more
    content : of the file, where it has been read already
    background : serve on the CPU at once, and let another provider take over when it is ready

    Raises
    ------
    ModelError : the file is missing, too large, foreign, or breaks the contract, or the
        provider is not installed or, unless in the background, did not come up
    """

    def __init__(
        self,
        path: str | Path,
        provider: str = "auto",
        threads: int = 1,
        content: bytes | None = None,
        background: bool = False,
    ) -> None:
        self.path = Path(path)
        if content is None:
            content = read(self.path)
        inspect(content, self.path)
        self._choice = Choice(content, self.path, provider, threads, background)
        session = self._choice.serving.session
        try:
            self.spec = _read_spec(session, self.path)
            self._states = _check_interface(session, self.spec, self.path)
        except UnicodeDecodeError as error:  # ONNX Runtime reads any bytes as a name
            raise ModelError(f"{self.path}: has a name that is not text: {error}") from error
        self._outputs = ["gain", "speech", *(f"{name}_out" for name, _ in self._states)]
        if self.spec.filter_taps:
            self._outputs.append("filter")
        self._check_trial_frames()
        n_frames = max(_LEAST_FRAMES, round(1.0 / self.spec.hop_s))
        self._choice.look_for_faster(self._answers, n_frames)

    @property
    def provider(self) -> str:
        """The one that serves now."""
        return self._choice.serving.name

    @property
    def note(self) -> str | None:
        """Why the provider that was asked for does not serve, or no longer does."""
        return self._choice.note

    def settle(self, timeout_s: float) -> bool:
        """Wait until no other provider is tried any more; False when that takes longer."""
        return self._choice.settle(timeout_s)

    def initial_state(self) -> State:
        """Zeros: a network that has heard nothing."""
        return tuple(np.zeros((1, units), np.float32) for _, units in self._states)

    def __call__(self, heard: Float, state: State) -> Estimate:
        """Estimate the gains of consecutive frames.

        Parameters
        ----------
        heard : (n_frames, spec.n_heard) float32: levels [dB re full-scale sine] of n_bins bins,
            behind them, where the spec has phases, their motion (``stft.phase_motion``)
        state : of the frame before, or ``initial_state()``

        Raises
        ------
        ModelError : ONNX Runtime failed, or the answer is not finite or of another shape
        """
        feed = self._feed(heard[np.newaxis], state)
        while True:
            serving = self._choice.serving
            try:
                gain, speech, rest = self._run(serving.session, feed, len(heard))
                break
            except ModelError as error:
                # The CPU's answer to the same frame, where something else has failed.
                if not self._choice.replace_dead(serving, error):
                    raise
        taps = self._taps(rest.pop()) if self.spec.filter_taps else None
        return Estimate(gain[0], speech[0, :, 0], tuple(rest), taps)

    def _feed(self, heard: Float, state: State) -> dict[str, Float]:
        """What a session is handed: (1, n_frames, n_heard) as the inputs it is told apart by."""
        feed = {"noisy_db": heard}
        if self.spec.phase_bins:
            n_bins = self.spec.n_bins
            feed = {"noisy_db": heard[..., :n_bins], "phase": heard[..., n_bins:]}
        feed.update((name, value) for (name, _), value in zip(self._states, state, strict=True))
        return feed

    def _run(
        self, session: Session, feed: dict[str, Float], n_frames: int
    ) -> tuple[Float, Float, list[Float]]:
        """Gain, speech and whatever else a session answers; raises ModelError."""
        try:
            gain, speech, *rest = session.run(self._outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"{self.path}: inference failed: {one_line(error)}") from error
        if gain.shape != (1, n_frames, self.spec.n_bins) or speech.shape != (1, n_frames, 1):
            raise ModelError(
                f"{self.path}: gain should have shape (1, {n_frames}, {self.spec.n_bins}) and "
                f"speech (1, {n_frames}, 1), found {gain.shape} and {speech.shape}"
            )
        if not finite(gain, speech, *rest):
            raise ModelError(f"{self.path}: the network answered NaN or infinity")
        return gain, speech, rest

    def _answers(self, session: Session) -> Float:
        """Gains and speech of some frames from silence to full scale, one at a time, as live."""
        rng = np.random.default_rng(3)
        state, told = self.initial_state(), []
        for level_db in np.linspace(-100.0, 0.0, _LEAST_FRAMES):
            frame = rng.uniform(level_db - 20.0, level_db, (1, 1, self.spec.n_bins))
            gain, speech, rest = self._run(session, self._feed(self._still(frame), state), 1)
            state = tuple(rest[: len(self._states)])
            told.append(np.append(gain.ravel(), speech.ravel()))
        return np.array(told)

    def _still(self, noisy_db: np.ndarray) -> Float:
        """Levels, (…, n_bins) to float32 (…, n_heard): no phase moves."""
        n = self.spec.n_heard - self.spec.n_bins
        return np.pad(noisy_db, [(0, 0)] * (noisy_db.ndim - 1) + [(0, n)]).astype(np.float32)

    def _taps(self, found: Float) -> Complex:
        """The output ``filter`` as complex numbers: (n_frames, filter_taps, filter_bins)."""
        parts = np.ascontiguousarray(found[0])
        return parts.view(np.complex64).reshape(-1, self.spec.filter_taps, self.spec.filter_bins)

    def _check_trial_frames(self) -> None:
        """Two frames of a plausible level, and the state between them, must pass in range."""
        session, state = self._choice.serving.session, self.initial_state()
        for _ in range(2):
            frame = np.full((1, 1, self.spec.n_bins), -60.0)
            gain, speech, rest = self._run(session, self._feed(self._still(frame), state), 1)
            state = tuple(rest[: len(self._states)])
        low, high = min(gain.min(), speech.min()), max(gain.max(), speech.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise ModelError(f"{self.path}: gain should be within 0…1, found {low:.3g}…{high:.3g}")


def finite(*parts: Float | Complex) -> bool:
    """Whether no number is NaN, infinity or so large (1e19) that its square is."""
    # A sum of squares is finite only if every term is: one pass, and no array of booleans.
    return all(math.isfinite(np.vdot(part, part).real) for part in parts)


def read(path: Path) -> bytes:
    """All of a model's file; raises ModelError when it is none or too large."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise ModelError(f"{path}: is not a file")
        size = status.st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size} bytes is more than the {MAX_FILE_BYTES} allowed")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a path that cannot exist, with a zero byte in it
        raise ModelError(f"{str(path)!r}: cannot be read: {error}") from error


def _read_spec(session: Session, path: Path) -> ModelSpec:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path}: has no {METADATA_KEY} in its metadata, so it is not a model of this program"
        )
    try:
        spec = ModelSpec.from_json(text)
        synthesis_window(spec)
        return spec
    except (ModelError, ValueError) as error:  # a ValueError: its windows cannot be inverted
        raise ModelError(f"{path}: {error}") from error


def _check_interface(session: Session, spec: ModelSpec, path: Path) -> list[tuple[str, int]]:
    """Compare names, types and shapes with the contract; return the states (name, units)."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    _expect_node(inputs, "noisy_db", spec.n_bins, 3, path)
    if spec.phase_bins:
        _expect_node(inputs, "phase", spec.n_heard - spec.n_bins, 3, path)
    _expect_node(outputs, "gain", spec.n_bins, 3, path)
    _expect_node(outputs, "speech", 1, 3, path)
    if spec.filter_taps:
        _expect_node(outputs, "filter", 2 * spec.filter_taps * spec.filter_bins, 3, path)
    states = []
    for name, node in inputs.items():
        if name == "noisy_db" or (name == "phase" and spec.phase_bins):
            continue
        units = node.shape[-1] if node.shape else None
        if not isinstance(units, int) or not 1 <= units <= 65_536:
            raise ModelError(f"{path}: state {name} should be (batch, units), found {node.shape}")
        _expect_node(inputs, name, units, 2, path)
        _expect_node(outputs, f"{name}_out", units, 2, path)
        states.append((name, units))
    return states


def _expect_node(nodes: dict[str, NodeArg], name: str, last: int, rank: int, path: Path) -> None:
    if name not in nodes:
        raise ModelError(f"{path}: {name} is missing, found {', '.join(nodes) or 'nothing'}")
    node = nodes[name]
    symbolic = all(not isinstance(size, int) for size in node.shape[:-1])
    if node.type != "tensor(float)" or len(node.shape) != rank or node.shape[-1] != last:
        wanted = "(batch, time, " if rank == 3 else "(batch, "
        raise ModelError(
            f"{path}: {name} should be float32 {wanted}{last}), found {node.type} {node.shape}"
        )
    if not symbolic:
        raise ModelError(f"{path}: batch and time of {name} should be symbolic, found {node.shape}")


def find(name_or_path: str, folder: Path) -> Path:
    """The model file meant by a name from ``folder`` or by a path; raises ModelError."""
    shipped = folder / f"{name_or_path}.onnx"
    if os.sep not in name_or_path and shipped.is_file():
        return shipped
    if Path(name_or_path).exists():
        return Path(name_or_path)
    names = ", ".join(sorted(path.stem for path in folder.glob("*.onnx"))) or "none"
    raise ModelError(f"no model {name_or_path!r}: give a path or one of these names: {names}")
