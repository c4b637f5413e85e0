"""Questions to a sound server that may never answer, and an answer within a time for all that.

Not here: what is asked (``service``).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import DeviceError

_ANSWER_S = 1.5

T = TypeVar("T")


class Inquiry:
    """Asks one question at a time: who waits in the sound server's library cannot be called back.

    Parameters
    ----------
    answer_s : what is waited for an answer [s]
    """

    def __init__(self, answer_s: float = _ANSWER_S) -> None:
        self._answer_s = answer_s
        self._asking: threading.Thread | None = None

    def ask(self, what: Callable[..., T], *of: Any) -> T:
        """The answer; raises what ``what`` raises, or DeviceError when none has come in time."""
        if self._asking is not None and self._asking.is_alive():
            raise DeviceError("the sound server does not answer")
        told: queue.SimpleQueue[tuple[T, None] | tuple[None, Exception]] = queue.SimpleQueue()

        def asks() -> None:
            try:
                told.put((what(*of), None))
            except Exception as error:
                told.put((None, error))

        self._asking = threading.Thread(target=asks, name="denoise inquiry", daemon=True)
        self._asking.start()
        try:
            answer, error = told.get(timeout=self._answer_s)
        except queue.Empty:
            raise DeviceError("the sound server does not answer") from None
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]
