"""ONNX Runtime's room: which providers its build has, and a model opened on one of them.

Not here: whether the model is one of ours (``network``), and which provider serves
(``providers``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime as ort

from engine.errors import ModelError

PROVIDERS = {
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our name to ONNX Runtime's, in the order in which ``auto`` tries them."""

MAX_MEMORY = 1024 * 1024 * 1024
"""What all models together may hold in the processor's memory [bytes]; the largest of ours, of
the thesis's size, takes a tenth. Beyond it the model fails, not the machine."""

Session: TypeAlias = ort.InferenceSession
NodeArg: TypeAlias = ort.NodeArg


def installed_providers() -> list[str]:
    """Our names of the providers of the installed ONNX Runtime build, best first."""
    available = ort.get_available_providers()
    return [name for name, theirs in PROVIDERS.items() if theirs in available]


def runtime_version() -> str:
    """Of ONNX Runtime."""
    return str(ort.__version__)


def runtime_name() -> str:
    """What runs the models, and its version."""
    return f"ONNX Runtime {ort.__version__}"


def open_session(content: bytes, path: Path, provider: str, threads: int) -> Session:
    """Open a model on one provider and no other.

    Parameters
    ----------
    content : of the model's file
    path : for messages
    provider : a key of PROVIDERS
    threads : within one operator

    Raises
    ------
    ModelError : it is no model, or the provider did not start
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    # Spinning threads would burn a core between two hops.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its other format has no checks of its own.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if provider == "cpu":
        _bound_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        # Its own fallback prints to the standard output and goes on elsewhere.
        session = ort.InferenceSession(
            content, options, providers=[PROVIDERS[provider]], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise ModelError(f"{path}: is not a model that can be opened: {one_line(error)}") from error
    # Some builds fall back to the CPU without a word; only this list is to be believed.
    running = session.get_providers()[0]
    if running != PROVIDERS[provider]:
        raise ModelError(f"provider {provider} did not start; ONNX Runtime fell back to {running}")
    return session


def frame_cost_s(session: Session, n_frames: int) -> float:
    """Median time that one frame takes, of ``n_frames`` in a row [s]; raises what a run does."""
    feed = {
        node.name: np.zeros([n if isinstance(n, int) else 1 for n in node.shape], np.float32)
        for node in session.get_inputs()
    }
    clock: Callable[[], float] = time.perf_counter
    costs = []
    for _ in range(n_frames):
        before = clock()
        session.run(None, feed)
        costs.append(clock() - before)
    return float(np.median(costs))


def one_line(error: Exception) -> str:
    """An exception of ONNX Runtime, fit for a status bar."""
    return " ".join(str(error).split())[:300]


@cache
def _bound_memory() -> None:
    """Let all sessions of this process share one bounded store of memory."""
    bounds = ort.OrtArenaCfg(
        # As much as is asked for at a time: doubling, its default, would waste the half.
        {"max_mem": MAX_MEMORY, "arena_extend_strategy": 1}
    )
    where = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    with contextlib.suppress(RuntimeError):  # one is registered already
        ort.create_and_register_allocator(where, bounds)
