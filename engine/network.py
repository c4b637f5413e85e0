"""A model file, opened and checked: dB frames and state in, gains and state out.

ONNX Runtime's room. Not here: spectra, samples, or remembering the state.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from engine.errors import ModelError
from engine.spec import METADATA_KEY, ModelSpec
from engine.stft import Complex, Float, synthesis_window

MAX_FILE_BYTES = 256 * 1024 * 1024
"""A model larger than this could not run in real time anyway."""

PROVIDERS = {
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our name to ONNX Runtime's, in the order in which ``auto`` tries them."""

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

    def __call__(self, noisy_db: Float, state: State) -> Estimate: ...


class Network:
    """A checked model file in ONNX Runtime. Calling it has no side effect.

    Parameters
    ----------
    path : an ``.onnx`` file that follows the model contract (docs/architecture.md)
    provider : ``auto`` or a key of PROVIDERS; ``auto`` keeps the fastest installed one
    threads : threads inside one operator; a batch of one gains nothing from more

    Raises
    ------
    ModelError : the file is missing, too large, foreign, or breaks the contract, or the
        provider is not installed or did not come up
    """

    def __init__(self, path: str | Path, provider: str = "auto", threads: int = 1) -> None:
        self.path = Path(path)
        content = _read(self.path)
        sessions = _open_all(content, self.path, provider, threads)
        any_session = next(iter(sessions.values()))
        try:
            self.spec = _read_spec(any_session, self.path)
            self._states = _check_interface(any_session, self.spec, self.path)
        except UnicodeDecodeError as error:  # ONNX Runtime reads any bytes as a name
            raise ModelError(f"{self.path}: has a name that is not text: {error}") from error
        self.provider = _fastest(sessions, self.path)
        self._session = sessions[self.provider]
        self._outputs = ["gain", "speech", *(f"{name}_out" for name, _ in self._states)]
        if self.spec.filter_taps:
            self._outputs.append("filter")
        self._check_trial_frames()

    def initial_state(self) -> State:
        """Zeros: a network that has heard nothing."""
        return tuple(np.zeros((1, units), np.float32) for _, units in self._states)

    def __call__(self, noisy_db: Float, state: State) -> Estimate:
        """Estimate the gains of consecutive frames.

        Parameters
        ----------
        noisy_db : (n_frames, n_bins) float32 [dB re full-scale sine]
        state : of the frame before, or ``initial_state()``

        Raises
        ------
        ModelError : ONNX Runtime failed, or the answer is not finite or of another shape
        """
        feed = {"noisy_db": noisy_db[np.newaxis]}
        feed.update((name, value) for (name, _), value in zip(self._states, state, strict=True))
        try:
            gain, speech, *rest = self._session.run(self._outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"{self.path}: inference failed: {_one_line(error)}") from error
        n_frames = len(noisy_db)
        if gain.shape != (1, n_frames, self.spec.n_bins) or speech.shape != (1, n_frames, 1):
            raise ModelError(
                f"{self.path}: gain should have shape (1, {n_frames}, {self.spec.n_bins}) and "
                f"speech (1, {n_frames}, 1), found {gain.shape} and {speech.shape}"
            )
        # A sum is finite only if every term is: one pass, and no array of booleans.
        with np.errstate(invalid="ignore", over="ignore"):  # raised below, not warned of
            total = sum(float(np.add.reduce(part, axis=None)) for part in (gain, speech, *rest))
        if not math.isfinite(total):
            raise ModelError(f"{self.path}: the network answered NaN or infinity")
        taps = self._taps(rest.pop()) if self.spec.filter_taps else None
        return Estimate(gain[0], speech[0, :, 0], tuple(rest), taps)

    def _taps(self, found: Float) -> Complex:
        """The output ``filter`` as complex numbers: (n_frames, filter_taps, filter_bins)."""
        parts = np.ascontiguousarray(found[0])
        return parts.view(np.complex64).reshape(-1, self.spec.filter_taps, self.spec.filter_bins)

    def _check_trial_frames(self) -> None:
        """Two frames of a plausible level, and the state between them, must pass in range."""
        frame = np.full((1, self.spec.n_bins), -60.0, np.float32)
        estimate = self(frame, self(frame, self.initial_state()).state)
        low = min(estimate.gain.min(), estimate.speech.min())
        high = max(estimate.gain.max(), estimate.speech.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise ModelError(f"{self.path}: gain should be within 0…1, found {low:.3g}…{high:.3g}")


def installed_providers() -> list[str]:
    """Our names of the providers of the installed ONNX Runtime build, best first."""
    available = ort.get_available_providers()
    return [name for name, theirs in PROVIDERS.items() if theirs in available]


def runtime_name() -> str:
    """What runs the models, and its version."""
    return f"ONNX Runtime {ort.__version__}"


def _read(path: Path) -> bytes:
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


def _open_all(
    content: bytes, path: Path, provider: str, threads: int
) -> dict[str, ort.InferenceSession]:
    """Open the model on the provider asked for, or on each installed one that starts."""
    installed = installed_providers()
    if provider != "auto":
        if provider not in PROVIDERS:
            raise ModelError(f"provider should be auto or {', '.join(PROVIDERS)}, not {provider!r}")
        if provider not in installed:
            raise ModelError(
                f"provider {provider} is not in the installed ONNX Runtime build "
                f"(it has {', '.join(installed)}); see the README on choosing a build"
            )
        return {provider: _open(content, path, provider, threads)}
    opened: dict[str, ort.InferenceSession] = {}
    reason: ModelError | None = None
    for name in installed:
        try:
            opened[name] = _open(content, path, name, threads)
        except ModelError as error:
            reason = error
    if not opened:
        raise reason or ModelError("the installed ONNX Runtime build has no provider we know")
    return opened


def _fastest(sessions: dict[str, ort.InferenceSession], path: Path) -> str:
    """Name of the provider that makes a frame in the least time, of those that make one."""
    if len(sessions) == 1:
        return next(iter(sessions))
    costs = {}
    reason: Exception | None = None
    for name, session in sessions.items():
        try:
            costs[name] = _cost_s(session)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            reason = error
    if reason is not None and not costs:
        raise ModelError(f"{path}: inference failed: {_one_line(reason)}") from reason
    return min(costs, key=lambda name: costs[name])


def _open(content: bytes, path: Path, provider: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    # Spinning threads would burn a core between two hops.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Its own fallback prints to the standard output and goes on elsewhere.
        session = ort.InferenceSession(
            content, options, providers=[PROVIDERS[provider]], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise ModelError(
            f"{path}: is not a model that can be opened: {_one_line(error)}"
        ) from error
    # Some builds fall back to the CPU without a word; only this list is to be believed.
    running = session.get_providers()[0]
    if running != PROVIDERS[provider]:
        raise ModelError(f"provider {provider} did not start; ONNX Runtime fell back to {running}")
    return session


def _cost_s(session: ort.InferenceSession) -> float:
    """Median time of one frame over about a second of frames [s]."""
    feed = {
        node.name: np.zeros([n if isinstance(n, int) else 1 for n in node.shape], np.float32)
        for node in session.get_inputs()
    }
    clock: Callable[[], float] = time.perf_counter
    costs = []
    for _ in range(100):
        before = clock()
        session.run(None, feed)
        costs.append(clock() - before)
    return float(np.median(costs))


def _read_spec(session: ort.InferenceSession, path: Path) -> ModelSpec:
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


def _check_interface(
    session: ort.InferenceSession, spec: ModelSpec, path: Path
) -> list[tuple[str, int]]:
    """Compare names, types and shapes with the contract; return the states (name, units)."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    _expect_node(inputs, "noisy_db", spec.n_bins, 3, path)
    _expect_node(outputs, "gain", spec.n_bins, 3, path)
    _expect_node(outputs, "speech", 1, 3, path)
    if spec.filter_taps:
        _expect_node(outputs, "filter", 2 * spec.filter_taps * spec.filter_bins, 3, path)
    states = []
    for name, node in inputs.items():
        if name == "noisy_db":
            continue
        units = node.shape[-1] if node.shape else None
        if not isinstance(units, int) or not 1 <= units <= 65_536:
            raise ModelError(f"{path}: state {name} should be (batch, units), found {node.shape}")
        _expect_node(inputs, name, units, 2, path)
        _expect_node(outputs, f"{name}_out", units, 2, path)
        states.append((name, units))
    return states


def _expect_node(
    nodes: dict[str, ort.NodeArg], name: str, last: int, rank: int, path: Path
) -> None:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def find(name_or_path: str, folder: Path) -> Path:
    """The model file meant by a name from ``folder`` or by a path; raises ModelError."""
    shipped = folder / f"{name_or_path}.onnx"
    if os.sep not in name_or_path and shipped.is_file():
        return shipped
    if Path(name_or_path).exists():
        return Path(name_or_path)
    names = ", ".join(sorted(path.stem for path in folder.glob("*.onnx"))) or "none"
    raise ModelError(f"no model {name_or_path!r}: give a path or one of these names: {names}")
