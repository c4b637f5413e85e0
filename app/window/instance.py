"""One window for each user: a second start brings the first one's forward.

Not here: one session for each user (``engine.control``).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QLockFile, QObject, Signal

from engine.control import folder

if TYPE_CHECKING:
    from PySide6.QtNetwork import QLocalSocket

_NAME = "window"
# For a window that has just been started and does not listen yet.
_PATIENCE_S = 3.0
_ANSWER_MS = 1500
_LONGEST = 1024
_HEARD = b"heard\n"


class Instance(QObject):
    """The user's window, or a caller of the one that runs.

    Parameters
    ----------
    at : where running programs meet (default: the user's)
    """

    called = Signal(str)
    """Somebody has started it again; the desktop's token that lets a window come forward."""

    def __init__(self, at: Path | None = None) -> None:
        super().__init__()
        self._at = at or folder()
        self._lock = QLockFile(str(self._at / f"{_NAME}.lock"))
        # It is stale when its process is gone, however long that has run.
        self._lock.setStaleLockTime(0)

    def take(self) -> bool:
        """Be the window; False when another is."""
        return self._lock.tryLock(0)

    def call(self, token: str | None = None) -> bool:
        """Have the one that runs come forward; False when it does not answer."""
        from PySide6.QtNetwork import QLocalSocket  # 10 ms that the first window does without

        token = os.environ.get("XDG_ACTIVATION_TOKEN", "") if token is None else token
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            socket = QLocalSocket()
            socket.connectToServer(self._address)
            if socket.waitForConnected(_ANSWER_MS):
                socket.write(token.encode()[: _LONGEST - 1] + b"\n")
                socket.flush()
                heard = socket.waitForReadyRead(_ANSWER_MS)
                socket.abort()
                return heard
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.1)

    def listen(self) -> bool:
        """Hear who calls from now on; False when that cannot be."""
        from PySide6.QtNetwork import QLocalServer

        QLocalServer.removeServer(self._address)  # what a crash left
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._welcome)
        return self._server.listen(self._address)

    def leave(self) -> None:
        """Another may be the window."""
        if hasattr(self, "_server"):
            self._server.close()
        self._lock.unlock()

    @property
    def _address(self) -> str:
        return str(self._at / _NAME) if os.name == "posix" else f"denoise-app-{os.getlogin()}"

    def _welcome(self) -> None:
        while caller := self._server.nextPendingConnection():
            caller.disconnected.connect(caller.deleteLater)
            caller.readyRead.connect(lambda caller=caller: self._hear(caller))
            if caller.bytesAvailable():
                self._hear(caller)

    def _hear(self, caller: QLocalSocket) -> None:
        if caller.bytesAvailable() > _LONGEST:
            caller.abort()
        elif caller.canReadLine():
            token = bytes(caller.readLine().data()).decode(errors="replace")
            caller.write(_HEARD)
            caller.flush()
            self.called.emit(token.strip())
