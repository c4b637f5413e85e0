"""``python -m app.watched_window once|bare|SECONDS``: the window, telling how it does.

It loads nothing that the program itself does not: that would be measured with it. Not here: what
it is run on, how often, and what is made of it (``bench_window``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.window.main_window import MainWindow

_SETTLING_S = 3.0


def _watch(window: MainWindow, seconds: float) -> None:
    """Tell when the first picture is on the screen, and what it costs from then on."""
    from PySide6.QtCore import QEvent, QObject, QTimer

    class Painted(QObject):
        def __init__(self) -> None:
            super().__init__(window)
            self.count = 0
            self.told: dict[str, float] = {}

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint:
                self.count += 1
                if not self.told and window.pictures.input_level.peak_dbfs > -60.0:
                    QTimer.singleShot(0, self.begin)  # when it has been painted
                    self.told["at_s"] = 0.0
            return False

        def begin(self) -> None:
            self.told |= {"at_s": time.monotonic(), "cpu_s": time.process_time()}
            if not seconds:
                self.end()
                return
            QTimer.singleShot(round(1000 * _SETTLING_S), lambda: self.measure("shown", self.hide))

        def hide(self) -> None:
            window.hide()
            QTimer.singleShot(round(1000 * _SETTLING_S), lambda: self.measure("hidden", self.end))

        def measure(self, name: str, then: Any) -> None:
            before, cpu_s, count = time.monotonic(), time.process_time(), self.count

            def take() -> None:
                elapsed_s = time.monotonic() - before
                self.told[f"{name}_percent"] = 100 * (time.process_time() - cpu_s) / elapsed_s
                if name == "shown":
                    self.told["frames_per_s"] = (self.count - count) / elapsed_s
                then()

            QTimer.singleShot(round(1000 * seconds), take)

        def end(self) -> None:
            import psutil

            self.told["memory_mb"] = psutil.Process().memory_info().rss / 1e6
            print(json.dumps(self.told), flush=True)
            window.quit()

    painted = Painted()
    window.pictures.before.installEventFilter(painted)


def _bare() -> int:
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QWidget

    class Empty(QWidget):
        def paintEvent(self, event: Any) -> None:
            QTimer.singleShot(0, tell)

    def tell() -> None:
        print(json.dumps({"at_s": time.monotonic()}), flush=True)
        application.quit()

    application = QApplication([])
    window = Empty()
    window.show()
    return int(application.exec())


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        sys.exit(_bare())
    from app.window import run as open_window

    span_s = 0.0 if sys.argv[1] == "once" else float(sys.argv[1])
    how = argparse.Namespace(minimised=False)
    sys.exit(open_window(how, lambda window: _watch(window, span_s)))
