"""The window: shows what the session does and tells it what the user wants.

Everything that comes from the session is pulled on one timer; nothing here waits for it.
Not here: talking (``link``), the engine's process (``engine_process``), the parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QColor, QHideEvent, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

import models
from app.window import colours, help_page, text
from app.window.catalogue import Catalogue
from app.window.controls import Controls
from app.window.engine_process import EngineProcess, State, start_options
from app.window.link import Link, Told
from app.window.pictures import Pictures
from app.window.profiles import ProfileBar
from app.window.settings import Settings
from app.window.settings_file import SettingsFile
from app.window.switches import MuteSwitch, Switch

if TYPE_CHECKING:
    from app.window.hear_page import HearPage

PULL_MS, HIDDEN_MS = 33, 500
# What has passed is told for so long.
_NOTICE_S = 6.0


class MainWindow(QMainWindow):
    """One window on one session.

    Parameters
    ----------
    link : talks to the session; started and closed by the window
    engine : starts one where none runs
    settings : what is remembered; an engine is started as its profile in use wants it
    """

    status_told = Signal(dict)
    devices_told = Signal(list)
    sound_ended = Signal()
    """No session answers any more, or not yet."""
    settings_changed = Signal()
    settings_asked = Signal()
    hidden_instead = Signal()
    """It was closed and goes on."""
    has_quit = Signal()

    def __init__(self, link: Link, engine: EngineProcess, settings: SettingsFile) -> None:
        super().__init__()
        self._link, self._engine, self._settings = link, engine, settings
        self._catalogue = Catalogue()
        self._told: dict[str, Any] = {}
        self._answers = False
        self._wished: dict[str, Any] = settings.now.current.wishes()
        self._awaited: dict[str, str] = {}
        self._undo: dict[str, Any] = {}
        self._quits = False
        self.goes_on_hidden: Callable[[], bool] = lambda: False
        """Asked when the window is closed: whether there is a way back to it."""
        self._notice, self._notice_until_s = "", 0.0
        self._hear_page: HearPage | None = None
        self.setWindowTitle("denoise-app")
        self.resize(1040, 720)
        self._build()
        self._bind()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._pull)
        self._tell_of_settings()
        self._link.start()
        self._timer.start(PULL_MS)

    def _tell_of_settings(self) -> None:
        """Once, what could not be taken over from the last time."""
        if self._settings.damaged is not None:
            self._tell(
                self.tr("Some settings made no sense; the old file is kept as {0}").format(
                    self._settings.damaged.name
                )
            )
        elif self._settings.problems:
            self._tell(self.tr("The settings cannot be read; what you change now is not kept"))

    def explain_once(self) -> None:
        """Show the help page to who sees this for the first time."""
        if not self._settings.now.help_seen:
            self._settings.change(help_seen=True)
            self._settings.save()
            self.explain()

    def explain(self) -> None:
        """Show the help page beside the window; the sound and the pictures go on."""
        self._help = help_page.HelpPage(self)
        self._help.show()

    def let_hear(self) -> None:
        """Show the page that records and plays before and after."""
        if self._hear_page is None:
            from app.window.hear_page import HearPage  # not needed to open the window

            self._hear_page = HearPage(self._link.record, self)
        self._hear_page.show()
        self._hear_page.activateWindow()

    @property
    def engine(self) -> EngineProcess:
        """What keeps an engine running."""
        return self._engine

    # Parts

    def _build(self) -> None:
        self.power = Switch(
            self.tr("Take noise out"),
            (
                (self.tr("On"), self.tr("Noise is taken out of your voice")),
                (self.tr("Off"), self.tr("Your voice goes through as it is")),
            ),
            ("on", "off"),
            (self.tr("Waiting…"), self.tr("The engine is not there yet")),
        )
        self.mute = MuteSwitch(
            self.tr("Mute"),
            (
                (self.tr("Muted"), self.tr("Nobody hears you")),
                (self.tr("Mute"), self.tr("The others hear you")),
            ),
            ("muted", None),
            (self.tr("Mute"), self.tr("There is no sound yet")),
        )
        self.pause = QPushButton(self.tr("&Pause pictures"))
        self.pause.setCheckable(True)
        self.compare = QPushButton(self.tr("Hear the d&ifference…"))
        self.help = QPushButton(self.tr("How to &use it"))
        self.settings = QPushButton(self.tr("S&ettings…"))
        self.banner = QLabel()
        self.banner.setWordWrap(True)
        self.banner.setContentsMargins(12, 8, 12, 8)
        self.banner.setAutoFillBackground(True)
        self.banner.setTextFormat(Qt.TextFormat.PlainText)
        self.banner.hide()
        self.profiles = ProfileBar()
        self.profiles.show_settings(self._settings.now)
        self.controls = Controls()
        self.pictures = Pictures(self.pause)

        head = QHBoxLayout()
        head.setSpacing(6)
        head.setContentsMargins(-3, 0, -3, 0)  # the room of the switches' focus rings
        head.addWidget(self.power, 3)
        head.addWidget(self.mute, 2)
        side = QVBoxLayout()
        side.setSpacing(8)
        side.addWidget(self.profiles)
        side.addSpacing(6)
        side.addWidget(self.controls, 1)
        side.addSpacing(8)
        side.addWidget(self.compare)
        foot = QHBoxLayout()
        foot.setSpacing(8)
        for button in (self.help, self.settings):
            foot.addWidget(button, 1)
        side.addLayout(foot)
        middle = QHBoxLayout()
        middle.setSpacing(20)
        middle.addLayout(side)
        middle.addWidget(self.pictures, 1)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(16, 14, 16, 6)
        column.setSpacing(12)
        column.addLayout(head)
        column.addWidget(self.banner)
        column.addLayout(middle, 1)
        self.setCentralWidget(page)
        self._build_status_bar()
        self._dress()
        self._enable(False)
        self.power.setFocus()

    def _build_status_bar(self) -> None:
        bar = self.statusBar()
        bar.setSizeGripEnabled(False)
        bar.setContentsMargins(12, 0, 12, 4)
        self.state = QLabel(self.tr("Starting…"))
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.state.setAccessibleName(self.tr("State"))
        bar.addWidget(self.state, 1)
        self.figures: dict[str, QLabel] = {}
        for name, words in text.figures({}).items():
            label = QLabel(words)
            label.setFrameShape(QFrame.Shape.NoFrame)
            label.setContentsMargins(8, 0, 8, 0)
            bar.addPermanentWidget(label)
            self.figures[name] = label
        self.figures["delay"].setToolTip(self.tr("From the microphone to the call app"))
        self.figures["cpu"].setToolTip(self.tr("Of one processor core, by the engine"))
        self.figures["drops"].setToolTip(self.tr("Moments in which sound was lost"))
        self.figures["provider"].setToolTip(self.tr("What runs the model"))

    def _bind(self) -> None:
        self.power.clicked.connect(lambda on: self.want({"on": on}))
        self.mute.clicked.connect(lambda on: self.want({"muted": on}))
        self.mute.toggled.connect(
            lambda on: self.power.overrule(self.tr("Nobody hears you at the moment") if on else "")
        )
        self.controls.wanted.connect(self.want)
        self.profiles.chosen.connect(self.use_profile)
        self.profiles.changed.connect(self.take_settings)
        self.pause.toggled.connect(self._pause)
        self.compare.clicked.connect(self.let_hear)
        self.help.clicked.connect(self.explain)
        self.settings.clicked.connect(self.settings_asked)
        for keys, act in (
            ("Ctrl+T", self.power.click),
            ("Ctrl+M", self.mute.click),
            ("Ctrl+P", self.pause.toggle),
            ("Ctrl+E", self.controls.monitor.click),
            ("Ctrl+O", self.controls.speakers.click),
            ("Ctrl+D", self.compare.click),
            ("F1", self.explain),
            ("Ctrl+,", self.settings_asked.emit),
            ("Ctrl+Q", self.quit),
        ):
            QShortcut(QKeySequence(keys), self).activated.connect(act)
        for widget, keys in (
            (self.power, "Ctrl+T"),
            (self.mute, "Ctrl+M"),
            (self.pause, "Ctrl+P"),
            (self.compare, "Ctrl+D"),
            (self.help, "F1"),
        ):
            widget.setToolTip(keys)

    def _dress(self) -> None:
        """What does not follow the palette by itself."""
        palette = self.banner.palette()
        palette.setColor(self.banner.backgroundRole(), QColor(colours.accents.warning))
        palette.setColor(self.banner.foregroundRole(), QColor(colours.accents.on_warning))
        self.banner.setPalette(palette)

    # What the user wants

    def want(self, values: dict[str, Any]) -> None:
        """Have the session do this, and remember it for the next."""
        before = self._settings.now.current.wishes()
        self._undo.update({name: before[name] for name in values if name in before})
        for name in values:
            self._awaited.pop(name, None)
        left = {f"was_{name}": values[name] for name in ("on", "muted") if name in values}
        self.take_settings(replace(self._settings.now.with_wishes(values), **left))
        self._ask_for(values)

    def turn(self, knob: str) -> None:
        """Have ``on`` or ``muted`` be what it is not, where a session answers."""
        if self._answers:
            self.want({knob: not self._told[knob]})

    def use_profile(self, name: str) -> None:
        """Have the session be as a profile wants it."""
        if name == self._settings.now.profile:
            return
        self.take_settings(self._settings.now.in_use(name))
        wishes = self._settings.now.current.wishes()
        self._awaited.clear()
        self._undo.clear()
        self.controls.forget_picks()
        self._ask_for({**wishes, "model": wishes["model"] or models.DEFAULT})

    def take_settings(self, settings: Settings) -> None:
        """Have these settings; what of them is the session's business is not told to it."""
        if settings != self._settings.now:
            self._settings.take(settings)
            self.profiles.show_settings(settings)
            self.settings_changed.emit()

    def _ask_for(self, values: dict[str, Any]) -> None:
        told = {name: values[name] for name in values if name in self._told}
        if "speakers" in told:
            told["speakers"] = {**self._told["speakers"], "on": values["speakers"]}
        self._told.update(told)
        if "limit_db" in values:
            self.pictures.gain.set_limit(values["limit_db"])
        for name, switch in (("on", self.power), ("muted", self.mute)):
            if name in told:
                switch.setChecked(told[name])
        self._link.want(**values)

    def _pause(self, paused: bool) -> None:
        self.pictures.set_paused(paused)
        self.pause.setText(self.tr("Let &pictures go on") if paused else self.tr("&Pause pictures"))

    # What the session tells

    def _pull(self) -> None:
        for told in self._link.events():
            self._hear(told)
        self.pictures.add(self._link.pictures())
        if self._catalogue.cards is not None:
            self.controls.show_models(self._catalogue.cards)
            self._catalogue.cards = None
        self._keep_engine()
        self._settings.save_when_calm()

    def _hear(self, told: Told) -> None:
        if told.kind == "status":
            self._hear_status(told.answer)
        elif told.kind == "devices":
            self.controls.show_devices(told.answer["devices"])
            self._welcome(told.answer["devices"])
            self.devices_told.emit(told.answer["devices"])
        elif told.kind == "refused":
            self.controls.refuse(told.answer)
            self._take_back(told.answer)
            self._tell(self.tr("That was not possible: {0}").format(told.text))
        elif told.kind == "lost":
            self._answers = False

    def _hear_status(self, told: dict[str, Any]) -> None:
        if not self._answers:
            self._answers = True
            self._greet(told)
        self._told = told
        if "state" in told:
            # While a session opens its devices it cannot tell what was wished for.
            self._wished = self.controls.wished(told)
        self._enable(True)
        self.power.setChecked(told["on"])
        self.mute.setChecked(told["muted"])
        self.pictures.set_muted(told["muted"])
        self.pictures.gain.set_limit(told["limit_db"])
        self.controls.show_status(told)
        for name, words in text.figures(told).items():
            if words != self.figures[name].text():
                self.figures[name].setText(words)
        self.pictures.input_level.tell()
        self.pictures.output_level.tell()
        self._settings.change(was_on=told["on"], was_muted=told["muted"])
        self.status_told.emit(told)

    def _take_back(self, refused: dict[str, Any]) -> None:
        """What was picked here is forgotten; a device that a profile wants is awaited."""
        undone = {name: self._undo.pop(name) for name in refused if name in self._undo}
        self.take_settings(self._settings.now.with_wishes(undone))
        for field in ("input", "output"):
            if field not in undone and refused.get(field):
                self._awaited[field] = refused[field]

    def _welcome(self, devices: list[dict[str, Any]]) -> None:
        """Take up a device of the profile that was not there when it was wished for."""
        there = {(device["kind"], device["name"]) for device in devices}
        for field, name in list(self._awaited.items()):
            if (field, name) in there:
                del self._awaited[field]
                self._ask_for({field: name})

    def _greet(self, told: dict[str, Any]) -> None:
        """A session answers that did not before."""
        if not self._told:
            self._catalogue.start()
        if self._told:
            # One that was started again is to be as the last one was.
            lost = {name: self._told[name] for name in ("on", "muted")}
        elif self._engine.starts:
            now = self._settings.now
            lost = {"on": now.starts_on(), "muted": now.starts_muted()}
        else:
            return  # somebody else's is as they want it
        if self._engine.starts and self._engine.choice:
            # It did not start with what was wished for.
            self._undo.clear()
            wishes = self._settings.now.current.wishes()
            self._awaited = {field: wishes[field] for field in ("input", "output") if wishes[field]}
            if wishes["model"] is not None:
                lost["model"] = wishes["model"]
            if self._awaited:
                self._tell(
                    self.tr("Not there: {0}. The system's device is used until it is.").format(
                        ", ".join(self._awaited.values())
                    )
                )
        lost = {name: value for name, value in lost.items() if told.get(name) != value}
        told.update(lost)
        if lost:
            self._link.want(**lost)

    def _keep_engine(self) -> None:
        state = self._engine.look(self._answers, *start_options(self._wished))
        if state is State.RUNS:
            notice = self._notice if time.monotonic() < self._notice_until_s else ""
            self._warn(text.problem(self._told) or notice)
            self._say(self._doing())
            return
        self._enable(False)
        self.sound_ended.emit()
        for name, words in text.figures({}).items():
            self.figures[name].setText(words)
        if self._engine.starts <= 1 and state is State.STARTING and not self._told:
            self._say(self.tr("Starting…"))
            return
        words = self.tr("The engine ended; starting it again")
        if state is State.SILENT:
            words = self.tr("The engine does not answer; waiting for it")
        why = self._engine.words
        self._tell(f"{words}: {why}" if why else words)
        self._warn(self._notice)
        self._say(self.tr("No sound"))

    def _doing(self) -> str:
        if self._told.get("idle"):
            return self.tr("Nobody listens: the microphone is off")
        if self._told.get("state") != "running":
            return self.tr("Opening the microphone…")
        return self.tr("{input} → {output}").format(
            input=self.controls.input.currentText(), output=self._told["output"]
        )

    def _say(self, words: str) -> None:
        if words != self.state.text():
            self.state.setText(words)

    def _tell(self, notice: str) -> None:
        """Warn of something for a while, also when it is over by then."""
        self._notice, self._notice_until_s = notice, time.monotonic() + _NOTICE_S

    def _warn(self, words: str) -> None:
        if words != self.banner.text():
            self.banner.setText(words)
            self.banner.setAccessibleName(words)
        if self.banner.isHidden() == bool(words):
            self.banner.setVisible(bool(words))

    def _enable(self, there: bool) -> None:
        for widget in (self.power, self.mute, self.controls, self.compare):
            if widget.isEnabled() != there:
                widget.setEnabled(there)

    # Seen or not

    def _look(self) -> None:
        seen = self.isVisible() and not self.isMinimized()
        self._link.watch(seen)
        self._timer.setInterval(PULL_MS if seen else HIDDEN_MS)

    def showEvent(self, event: QShowEvent) -> None:
        """Somebody looks: pictures again."""
        super().showEvent(event)
        self._look()

    def hideEvent(self, event: QHideEvent) -> None:
        """Nobody looks: no pictures."""
        super().hideEvent(event)
        self._look()

    def changeEvent(self, event: QEvent) -> None:
        """Minimised windows are not looked at either; a new palette is put on."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.WindowStateChange:
            self._look()
        elif event.type() == QEvent.Type.PaletteChange and hasattr(self, "banner"):
            self._dress()

    def quit(self) -> None:
        """Close it for good, shown or hidden."""
        if self._quits:
            return
        self._quits = True
        self._timer.stop()
        if self._hear_page is not None:
            self._hear_page.close()
        self._settings.save()
        self._link.close()
        self._engine.end(self._link.quit_session)
        self.close()
        self.has_quit.emit()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Hide if there is a way back, else end the session if a window started it.

        One of somebody else's runs on.
        """
        if not self._quits and self.goes_on_hidden():
            event.ignore()
            self.hide()
            self.hidden_instead.emit()
            return
        self.quit()
        super().closeEvent(event)
