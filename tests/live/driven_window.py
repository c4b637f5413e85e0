"""The program's window as users start it, with somebody who clicks: lines on stdin say where.

Each line holds words between tabs: ``click power``, ``tray mute``, ``key Ctrl+T``,
``pick input NAME``, ``tell power``, ``tell banner``,
``tell visible``, ``close``. Each is answered by a line.
"""

from __future__ import annotations

import sys
import threading

from PySide6.QtCore import QObject, QPoint, Qt, Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox

from app.window.opening import open_window

LEFT = Qt.MouseButton.LeftButton


class Hand(QObject):
    """Does in the window's thread what the reading one was told."""

    asked = Signal(list)

    def __init__(self) -> None:
        super().__init__()
        self.asked.connect(self.do, Qt.ConnectionType.QueuedConnection)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self.asked.emit(line.rstrip("\n").split("\t"))

    def do(self, words: list[str]) -> None:
        from app.window.main_window import MainWindow
        from app.window.tray import Tray

        for window in QApplication.topLevelWidgets():
            if isinstance(window, MainWindow):
                break
        else:
            print("no window yet", flush=True)
            return
        told = "done"
        match words:
            case ["click", name]:
                widget = getattr(window, name, None) or getattr(window.controls, name)
                if not widget.isEnabled():
                    told = "not there"
                at = QPoint(8, 8) if isinstance(widget, QCheckBox) else widget.rect().center()
                QTest.mouseClick(widget, LEFT, Qt.KeyboardModifier.NoModifier, at)
            case ["tray", name]:
                action = getattr(window.findChild(Tray), name)
                told = "done" if action.isEnabled() else "not there"
                action.trigger()
            case ["key", keys]:
                window.activateWindow()
                if QTest.qWaitForWindowActive(window, 3000):
                    QTest.keySequence(window, QKeySequence(keys))
                else:
                    told = "another window is active"
            case ["pick", name, value]:
                told = self.pick(getattr(window.controls, name), value)
            case ["tell", "banner"]:
                told = window.banner.text().replace("\n", " ") if window.banner.isVisible() else ""
            case ["tell", "visible"]:
                told = str(window.isVisible())
            case ["tell", name]:
                told = str(getattr(window, name).isChecked())
            case ["close"]:
                window.close()
        print(told, flush=True)

    def pick(self, picker, value: str) -> str:
        """Open the list and click on an entry."""
        at = picker.findData(value)
        if at < 0 or not picker.isEnabled():
            return "not there"
        picker.showPopup()
        QTest.qWait(300)
        view = picker.view()
        where = view.visualRect(view.model().index(at, 0)).center()
        QTest.mouseClick(view.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, where)
        QTest.qWait(100)
        return "picked" if picker.currentData() == value else "not picked"


if __name__ == "__main__":
    hand = Hand()
    sys.exit(open_window())
