"""Pictures of the window for the documents: the real program on a private screen and server.

    python -m tests.live.window_pictures docs/pictures [PART OF A NAME]

A voice in rain is cleaned meanwhile. Each window is a process of its own, because the scale of a
screen is chosen at its start.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.example import noisy_voice
from app.private_screen import PrivateScreen
from app.private_server import PrivateServer

ROOT = Path(__file__).parents[2]
MOST_BYTES = 150_000
COLOURS = ((128, 100), (96, 100), (64, 100), (48, 80), (32, 64), (24, 48), (16, 48), (12, 32))
"""Of levels, and the most frequent ones of everything else; tried until it is small enough."""

_PATIENCE_S = 90.0
_TRIES = 6
# A delay of more than this is a busy machine's.
_CALM_MS = 260.0


@dataclass(frozen=True)
class Shot:
    """One window, and what of it is kept."""

    theme: str
    language: str
    percent: int
    kept: tuple[str, ...]
    """Of ``window``, ``help``, ``settings``, ``hear``."""

    def path(self, folder: Path, kind: str) -> Path:
        scale = "" if self.percent == 100 else f"-{self.percent}"
        return folder / f"{kind}-{self.theme}-{self.language}{scale}.png"


SHOTS = (
    Shot("light", "en", 100, ("window", "help", "settings", "hear")),
    Shot("dark", "es", 100, ("window", "help", "settings", "hear")),
    Shot("dark", "en", 100, ("window",)),
    Shot("light", "es", 100, ("window",)),
    Shot("contrast", "es", 100, ("window",)),
    Shot("light", "es", 200, ("window", "help", "hear")),
    Shot("dark", "en", 200, ("window", "help")),
)


@contextmanager
def stage() -> Iterator[dict[str, str]]:
    """What programs need to be shown and to hear the voice."""
    _, noisy = noisy_voice()
    with PrivateScreen() as screen, PrivateServer("pulseaudio") as server:
        server.add_microphone("room", "Room")
        for kind, name, description, more in (
            ("source", "built_in", "Built-in Microphone", "master=room.monitor"),
            ("sink", "headphones", "Headphones", "master=speakers"),
        ):
            properties = f"{kind}_properties='device.description=\"{description}\"'"
            server.control(
                "load-module", f"module-remap-{kind}", f"{kind}_name={name}", more, properties
            )
            server.control(f"set-default-{kind}", name)
        player = server.play(np.tile(noisy, 40), "room")
        try:
            yield {**server.environment, **screen.environment}
        finally:
            player.kill()
            player.wait()


def take(environment: dict[str, str], shot: Shot, folder: Path) -> None:
    """Run one window and keep its pictures; raises CalledProcessError when it fails."""
    subprocess.run(
        [sys.executable, "-m", "tests.live.window_pictures", str(folder), *_told(shot)],
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "QT_SCALE_FACTOR": str(shot.percent / 100),
            "QT_FONT_DPI": "96",
        },
        check=True,
        timeout=300,
    )


def _told(shot: Shot) -> tuple[str, ...]:
    return shot.theme, shot.language, str(shot.percent), *shot.kept


# The window that is pictured


class Photographer:
    """Goes through its steps while the window runs."""

    def __init__(self, window: object, shot: Shot, folder: Path) -> None:
        from PySide6.QtCore import QTimer

        self.window, self.shot, self.folder = window, shot, folder
        self.steps = self._steps()
        self.until: Callable[[], bool] = lambda: True
        self.timer = QTimer()
        self.timer.timeout.connect(self._go_on)
        self.timer.start(50)

    def _go_on(self) -> None:
        if self.until():
            try:
                self.until = next(self.steps)
            except StopIteration:
                self.timer.stop()
                self.window.quit()

    def _steps(self) -> Iterator[Callable[[], bool]]:
        from PySide6.QtWidgets import QApplication

        window = self.window
        if self.shot.percent > 100:
            window.resize(900, 620)  # as on a small screen; and few enough bytes
        yield lambda: window.pictures.input_level.peak_dbfs > -60 and window.controls.model.count()
        if "window" in self.shot.kept:
            yield self._unbroken()
            self.keep("window", window)
        window.explain()
        yield _after(0.7)
        self.keep("help", window._help)
        window._help.close()
        if "settings" in self.shot.kept:
            window.settings_asked.emit()
            yield _after(0.7)
            page = next(one for one in QApplication.topLevelWidgets() if _is_settings(one))
            self.keep("settings", page)
            page.close()
        if "hear" not in self.shot.kept:
            return
        window.let_hear()
        page = window._hear_page
        for _ in range(_TRIES):
            page.record.click()
            yield lambda: page.player is not None
            if is_unbroken(page.comparison.levels[0]):
                break
        page.plays[1].click()
        yield lambda: page.player.share > 0.6
        self.keep("hear", page)

    def _unbroken(self) -> Callable[[], bool]:
        """Until the picture is full and somebody speaks; a busy machine would leave gaps in it.

        Not for ever.
        """
        until_s = time.monotonic() + _PATIENCE_S

        def look() -> bool:
            picture = self.window.pictures.before
            seen = picture._history[-round(picture.seconds / picture._column_s) :]
            speaks = self.window.pictures.output_level.level_dbfs > -35
            is_calm = (
                self.window.banner.isHidden()
                and (self.window._told.get("delay_ms") or 1e9) < _CALM_MS
            )
            return (speaks and is_calm and is_unbroken(seen)) or time.monotonic() > until_s

        return look

    def keep(self, kind: str, widget: object) -> None:
        if kind in self.shot.kept:
            from PySide6.QtCore import QBuffer

            buffer = QBuffer()
            widget.grab().save(buffer, "PNG")
            self.shot.path(self.folder, kind).write_bytes(small(bytes(buffer.data())))


def is_unbroken(columns: np.ndarray) -> bool:
    """Whether something is heard in every column of a picture."""
    return bool((columns.max(axis=1) > 60).all())


def _is_settings(widget: object) -> bool:
    return type(widget).__name__ == "SettingsDialog" and widget.isVisible()


def _after(seconds: float) -> Callable[[], bool]:
    passed = threading.Event()
    timer = threading.Timer(seconds, passed.set)
    timer.daemon = True
    timer.start()
    return passed.is_set


def small(png: bytes) -> bytes:
    """The same picture with as many colours as ``MOST_BYTES`` allow."""
    from PIL import Image

    from app.window.colours import level_colours

    image = Image.open(io.BytesIO(png)).convert("RGB")
    levels = level_colours()
    ramp = np.stack([levels >> 16 & 255, levels >> 8 & 255, levels & 255], 1).astype(np.int32)
    found, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
    frequent = found[np.argsort(counts)[::-1][:2000]].astype(np.int32)
    apart = np.abs(frequent[:, np.newaxis] - ramp).sum(axis=2).min(axis=1) > 12
    others = frequent[apart]
    for n, n_others in COLOURS:
        chosen = np.concatenate([others[:n_others], ramp[np.linspace(0, 255, n).astype(int)]])
        palette = Image.new("P", (1, 1))
        palette.putpalette(chosen.astype(np.uint8).ravel().tolist())
        out = io.BytesIO()
        few = image.quantize(palette=palette, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
        if out.tell() <= MOST_BYTES:
            break
    return out.getvalue()


def _be_pictured(folder: Path, shot: Shot) -> int:
    from app.window.opening import open_window
    from app.window.settings_file import SettingsFile

    settings = SettingsFile()
    wanted = replace(
        settings.now, theme=shot.theme, language=shot.language, help_seen=True, tray_told=True
    )
    settings.take(wanted)
    settings.save()
    keep: list[Photographer] = []
    return open_window(opened=lambda window: keep.append(Photographer(window, shot, folder)))


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    if len(arguments) > 3:
        theme, language, percent, *kept = arguments[1:]
        return _be_pictured(folder, Shot(theme, language, int(percent), tuple(kept)))
    wanted = arguments[1] if len(arguments) > 1 else ""
    folder.mkdir(parents=True, exist_ok=True)
    with stage() as environment:
        for shot in SHOTS:
            kept = tuple(kind for kind in shot.kept if wanted in shot.path(folder, kind).name)
            if kept:
                take(environment, replace(shot, kept=kept), folder)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
