"""A model file, opened and checked: dB frames and state in, gains and state out.

ONNX Runtime's room. Not here: spectra, samples, or remembering the state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from engine.errors import ModelError
from engine.spec import METADATA_KEY, ModelSpec
from engine.stft import Float

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
        self._session, self.provider = _open_fastest(content, self.path, provider, threads)
        self.spec = _read_spec(self._session, self.path)
        self._states = _check_interface(self._session, self.spec, self.path)
        self._outputs = ["gain", "speech", *(f"{name}_out" for name, _ in self._states)]
        self._check_trial_frame()

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
        ModelError : ONNX Runtime failed, or the answer is not finite
        """
        feed = {"noisy_db": noisy_db[np.newaxis]}
        feed.update((name, value) for (name, _), value in zip(self._states, state, strict=True))
        try:
            gain, speech, *new_state = self._session.run(self._outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"{self.path}: inference failed: {_one_line(error)}") from error
        # A sum is finite only if every term is: one pass, and no array of booleans.
        if not np.isfinite(gain.sum() + speech.sum() + sum(s.sum() for s in new_state)):
            raise ModelError(f"{self.path}: the network answered NaN or infinity")
        return Estimate(gain[0], speech[0, :, 0], tuple(new_state))

    def _check_trial_frame(self) -> None:
        """One frame of a plausible level must come back whole and in range."""
        n_bins = self.spec.n_bins
        estimate = self(np.full((1, n_bins), -60.0, np.float32), self.initial_state())
        if estimate.gain.shape != (1, n_bins) or estimate.speech.shape != (1,):
            raise ModelError(
                f"{self.path}: gain should have shape (1, {n_bins}) and speech (1,), "
                f"found {estimate.gain.shape} and {estimate.speech.shape}"
            )
        low = min(estimate.gain.min(), estimate.speech.min())
        high = max(estimate.gain.max(), estimate.speech.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise ModelError(f"{self.path}: gain should be within 0…1, found {low:.3g}…{high:.3g}")


def installed_providers() -> list[str]:
    """Our names of the providers of the installed ONNX Runtime build, best first."""
    available = ort.get_available_providers()
    return [name for name, theirs in PROVIDERS.items() if theirs in available]


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size} bytes is more than the {MAX_FILE_BYTES} allowed")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _open_fastest(
    content: bytes, path: Path, provider: str, threads: int
) -> tuple[ort.InferenceSession, str]:
    """Open the model on the provider asked for, or on the fastest one that works."""
    installed = installed_providers()
    if provider != "auto":
        if provider not in PROVIDERS:
            raise ModelError(f"provider should be auto or {', '.join(PROVIDERS)}, not {provider!r}")
        if provider not in installed:
            raise ModelError(
                f"provider {provider} is not in the installed ONNX Runtime build "
                f"(it has {', '.join(installed)}); see the README on choosing a build"
            )
        return _open(content, path, provider, threads), provider
    opened: dict[str, ort.InferenceSession] = {}
    reason: ModelError | None = None
    for name in installed:
        try:
            opened[name] = _open(content, path, name, threads)
        except ModelError as error:
            reason = error
    if not opened:
        raise reason or ModelError("the installed ONNX Runtime build has no provider we know")
    if len(opened) == 1:
        name, session = next(iter(opened.items()))
        return session, name
    fastest = min(opened, key=lambda name: _cost_s(opened[name]))
    return opened[fastest], fastest


def _open(content: bytes, path: Path, provider: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    # Spinning threads would burn a core between two hops.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(content, options, providers=[PROVIDERS[provider]])
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
        return ModelSpec.from_json(text)
    except ModelError as error:
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
