"""Which provider serves a model: measured, remembered, and replaced when it dies.

A faster one than the CPU is looked for while the CPU serves: compiling a model for a GPU may
take minutes. What carries over between frames is handed in and out of a network, so another
session can take over at any frame. Not here: opening a session (``sessions``).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import cache, sessions
from engine.errors import ModelError
from engine.sessions import PROVIDERS, Session, frame_cost_s, installed_providers, open_session
from engine.stft import Float

log = logging.getLogger(__name__)

# GPUs sum in another order, some in half precision. Half a per cent of a gain is not heard.
_TOLERANCE = 0.02
# Below everything that has to do with sound.
_NICE = 15

Answers = Callable[[Session], Float]


class Serving(NamedTuple):
    """A session, and the name of its provider."""

    name: str
    session: Session


class Choice:
    """The provider that serves a model now.

    Parameters
    ----------
    content, path : of the model
    asked : ``auto`` or a key of PROVIDERS
    threads : within one operator
    background : serve on the CPU at once, and look for what is asked meanwhile

    Raises
    ------
    ModelError : the model cannot be opened, or the provider is not installed or, unless in the
        background, did not start
    """

    def __init__(
        self, content: bytes, path: Path, asked: str, threads: int, background: bool
    ) -> None:
        installed = installed_providers()
        if asked != "auto" and asked not in PROVIDERS:
            raise ModelError(f"provider should be auto or {', '.join(PROVIDERS)}, not {asked!r}")
        if asked != "auto" and asked not in installed:
            raise ModelError(
                f"provider {asked} is not in the installed ONNX Runtime build "
                f"(it has {', '.join(installed)}); see the README on choosing a build"
            )
        if not installed:
            raise ModelError("the installed ONNX Runtime build has no provider we know")
        self._content, self._path, self._threads = content, path, threads
        self._background = background
        self._auto = asked == "auto"
        first = asked
        self._wanted: list[str] = []
        if self._auto or background:
            first = "cpu" if "cpu" in installed else installed[-1]
            others = [name for name in installed if name != first]
            self._wanted = others if self._auto else [asked] if asked != first else []
        self._lock = threading.Lock()
        self._dead: set[str] = set()
        self._search: threading.Thread | None = None
        self.serving = Serving(first, open_session(content, path, first, threads))
        """Replaced whole; read once a call."""
        self.note: str | None = None
        """Why what was asked for does not serve, or what served no longer does."""

    def look_for_faster(self, answers: Answers, n_frames: int) -> None:
        """Try what else is installed, as was asked; in the background, if that was.

        Parameters
        ----------
        answers : asks a session some frames; what it raises is a reason not to take it
        n_frames : how many are timed
        """
        if not self._wanted:
            return
        if self._background:
            self._search = threading.Thread(
                target=self._look, args=(answers, n_frames), name="denoise providers", daemon=True
            )
            self._search.start()
        else:
            self._look(answers, n_frames)

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing faster is looked for any more; False when that takes longer."""
        if self._search is not None:
            self._search.join(timeout_s)
            return not self._search.is_alive()
        return True

    def replace_dead(self, served: Serving, error: Exception) -> bool:
        """Go on without a provider that failed; False when that was the last resort."""
        with self._lock:
            if self.serving is not served:
                return True  # somebody has been quicker
            if served.name == "cpu":
                return False
            try:
                self.serving = self._on_cpu()
            except ModelError:
                return False
            self._dead.add(served.name)
            self.note = f"{served.name} failed while it ran, the CPU goes on: {error}"
            log.warning("%s", self.note)
            return True

    def _on_cpu(self) -> Serving:
        return Serving("cpu", open_session(self._content, self._path, "cpu", self._threads))

    def _look(self, answers: Answers, n_frames: int) -> None:
        if self._background:
            _step_back()
        digest = hashlib.sha256(self._content).hexdigest()
        now = self.serving
        try:
            expected = answers(now.session)
            cost_s = _known_cost_s(digest, now.name) or _timed(digest, now, n_frames)
        except Exception as error:  # the network's own trial says what is wrong with the model
            log.debug("%s", error)
            return
        known = {name: _known_cost_s(digest, name) if self._auto else None for name in self._wanted}
        # The fastest of those that were measured before makes opening the others needless.
        for name in sorted(self._wanted, key=lambda name: known[name] or math.inf):
            known_s = known[name]
            if known_s is not None and known_s >= cost_s:
                continue
            try:
                found = Serving(name, self._opened(name))
                told = answers(found.session)  # compiles it, which may take minutes
                if told.shape != expected.shape or np.abs(told - expected).max() > _TOLERANCE:
                    raise ModelError(f"provider {name} answers otherwise than {now.name}")
                found_s = known_s or _timed(digest, found, n_frames)
            except Exception as error:  # ONNX Runtime's exceptions share no narrower base
                log.info("%s: %s does not serve: %s", self._path, name, error)
                if not self._auto:
                    self.note = f"{name} does not serve, the CPU does: {sessions.one_line(error)}"
                continue
            if self._auto and found_s >= cost_s:
                continue
            with self._lock:
                if name not in self._dead:
                    self.serving, cost_s = found, found_s

    def _opened(self, name: str) -> Session:
        if name == "migraphx":
            # Where this build looks for what it has compiled before. Read while it opens.
            os.environ.setdefault("ORT_MIGRAPHX_MODEL_CACHE_PATH", str(_compiled_folder()))
        return open_session(self._content, self._path, name, self._threads)


def _compiled_folder() -> Path:
    path = cache.folder() / "migraphx"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _known_cost_s(digest: str, provider: str) -> float | None:
    """What a frame took when it was measured, if that was with this ONNX Runtime [s]."""
    found = cache.recall("providers", _key(digest, provider))
    cost_s = found.get("frame_s") if found else None
    valid = isinstance(cost_s, float) and math.isfinite(cost_s) and cost_s > 0.0
    return cost_s if valid else None


def _timed(digest: str, serving: Serving, n_frames: int) -> float:
    cost_s = frame_cost_s(serving.session, n_frames)
    cache.keep("providers", _key(digest, serving.name), {"frame_s": cost_s})
    return cost_s


def _key(digest: str, provider: str) -> str:
    return f"{digest}-{provider}-{sessions.runtime_version()}"


def _step_back() -> None:
    """Let this thread, and those it starts, have the processor when nobody else wants it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
