"""The models that come with the program and their numbers, as the command line tells them.

Asked for in a process of its own: reading a model loads ONNX Runtime, which the window
otherwise does without.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from app.window.engine_process import MAIN

_PATIENCE_S = 60.0


class Catalogue:
    """``cards`` is None until they have come, and empty when they could not be had."""

    def __init__(self) -> None:
        self.cards: list[dict[str, Any]] | None = None

    def start(self) -> None:
        """Ask, without waiting."""
        threading.Thread(target=self._ask, name="denoise models", daemon=True).start()

    def _ask(self) -> None:
        try:
            done = subprocess.run(
                [sys.executable, str(MAIN), "models", "--json"],
                capture_output=True,
                text=True,
                check=True,
                timeout=_PATIENCE_S,
            )
            self.cards = list(json.loads(done.stdout)["models"])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            self.cards = []
