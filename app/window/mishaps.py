"""Errors that nobody caught: all in the log, the user told of one at a time.

Not here: the log itself (``app.log``), what a report holds (``diagnostics``).
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from PySide6.QtCore import (
    QMessageLogContext,
    QObject,
    Qt,
    QtMsgType,
    Signal,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication, QMessageBox

log = logging.getLogger(__name__)
qt_log = logging.getLogger("qt")

# After one has been closed no other opens for so long, whatever happens.
_REST_S = 60.0
_MOST_PLACES = 200
_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}
# What Qt says of platforms that cannot do something is of no use to anybody.
_IDLE_WORDS = ("This plugin does not support",)


class Mishaps(QObject):
    """Takes what nobody caught, in any thread.

    Parameters
    ----------
    copy : puts a report on the clipboard
    """

    _happened = Signal(str)

    def __init__(self, copy: Callable[[], None]) -> None:
        super().__init__()
        self._copy = copy
        self._counts: dict[tuple[str, str, int], int] = {}
        self._lock = threading.Lock()
        self._rests_until_s = 0.0
        self.dialog: QMessageBox | None = None
        """The one that is open."""
        # From any thread to the window's.
        self._happened.connect(self._tell, Qt.ConnectionType.QueuedConnection)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Take them for as long as the block runs."""
        hooks = sys.excepthook, threading.excepthook
        sys.excepthook, threading.excepthook = self._take, self._take_of_thread
        handler = qInstallMessageHandler(_keep_qts)
        try:
            yield
        finally:
            sys.excepthook, threading.excepthook = hooks
            qInstallMessageHandler(handler)

    def _take(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, Exception):
            sys.__excepthook__(kind, error, trace)
            return
        place = _place(kind, trace)
        with self._lock:
            if place not in self._counts and len(self._counts) >= _MOST_PLACES:
                return
            count = self._counts[place] = self._counts.get(place, 0) + 1
        # What happens thirty times a second is told the 1st, 10th, 100th… time.
        if count == 1:
            log.critical("not caught", exc_info=(kind, error, trace))
            self._happened.emit(f"{kind.__name__}: {error}"[:500])
        elif str(count).strip("0") == "1":
            log.critical("not caught, %d times: %s at %s:%d", count, *place)

    def _take_of_thread(self, told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:  # None: the interpreter ends
            self._take(told.exc_type, told.exc_value, told.exc_traceback)

    def _tell(self, words: str) -> None:
        if self.dialog is not None or time.monotonic() < self._rests_until_s:
            return
        dialog = QMessageBox(QApplication.activeWindow())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setWindowModality(Qt.WindowModality.NonModal)
        dialog.setIcon(QMessageBox.Icon.Warning)
        dialog.setWindowTitle("denoise-app")
        dialog.setText(self.tr("Something in the window went wrong. Your sound goes on."))
        dialog.setInformativeText(
            self.tr("If it happens again, please report it with a copy of the diagnostics.")
        )
        dialog.setDetailedText(words)
        copy = dialog.addButton(self.tr("&Copy diagnostics"), QMessageBox.ButtonRole.ActionRole)
        # A button of a message box closes it; this one is to be pressed and stay.
        copy.clicked.disconnect()
        copy.clicked.connect(lambda: self._copy())
        dialog.addButton(QMessageBox.StandardButton.Close)
        dialog.finished.connect(self._rest)
        self.dialog = dialog
        dialog.show()

    def _rest(self) -> None:
        self.dialog = None
        self._rests_until_s = time.monotonic() + _REST_S


def _place(kind: type[BaseException], trace: TracebackType | None) -> tuple[str, str, int]:
    """Where it was raised: what comes from the same line is the same mishap."""
    file, line = "", 0
    while trace is not None:
        file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return kind.__name__, file, line


def _keep_qts(kind: QtMsgType, context: QMessageLogContext, words: str) -> None:
    if not words.startswith(_IDLE_WORDS):
        qt_log.log(_LEVELS.get(kind, logging.WARNING), "%s", words[:1000])
