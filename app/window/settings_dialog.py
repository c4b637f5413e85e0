"""The page of settings. What is changed holds at once; there is nothing to confirm.

Devices, model and strength stand in the window itself and belong to profiles. Not here: the file
(``settings_file``), what is done about a change (``shell``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.window import desktop, text
from app.window.controls import Picker, Tick
from app.window.language import LANGUAGES
from app.window.settings import CHOICES, Settings
from app.window.shortcut import State

COMMAND = "“denoise-app toggle”"
_COPIED_MS = 3000
_FIELD_WIDTH = 240


class SettingsDialog(QDialog):
    """Shows settings; ``changed`` tells new ones."""

    changed = Signal(object)
    copy_asked = Signal()
    log_asked = Signal()

    def __init__(self, settings: Settings, tray: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._heads: list[QLabel] = []
        self.setWindowTitle(self.tr("Settings"))
        start = QGroupBox(self.tr("When it starts"))
        form = QFormLayout(start)
        self.start_on = self._add_picker(form, self.tr("&Taking noise out"), "start_on")
        self.start_muted = self._add_picker(form, self.tr("&Muted"), "start_muted")
        self.autostart = Tick(self.tr("Start at &log-in, in the tray"))
        self.autostart.clicked.connect(
            lambda on: self._keep_file(self.autostart, desktop.set_autostart, on)
        )
        form.addRow(self.autostart)
        self.start_minimised = self._add_tick(form, self.tr("Always start &hidden"))

        window = QGroupBox(self.tr("Window"))
        form = QFormLayout(window)
        self.theme = self._add_picker(form, self.tr("L&ook"), "theme")
        self.language = self._add_picker(form, self.tr("Lan&guage"), "language")
        self.close_to_tray = self._add_tick(form, self.tr("&Close to the tray: the sound goes on"))
        self.notifications = self._add_tick(form, self.tr("Tell when a &device comes or goes"))
        self.in_menu = Tick(self.tr("Show denoise-app in the desktop's &applications"))
        self.in_menu.clicked.connect(
            lambda on: self._keep_file(self.in_menu, desktop.set_in_menu, on)
        )
        form.addRow(self.in_menu)

        shortcut = QGroupBox(self.tr("Shortcut from anywhere"))
        form = QFormLayout(shortcut)
        self.shortcut = self._add_tick(form, self.tr("Turn cleaning on and o&ff with a key"))
        self.keys = QLineEdit()
        self.keys.setMaxLength(60)
        self.keys.editingFinished.connect(self._take_keys)
        head = QLabel(self.tr("&Keys to ask for"))
        head.setBuddy(self.keys)
        self._heads.append(head)
        self.keys.setAccessibleName(self.tr("Keys to ask for"))
        form.addRow(head, self.keys)
        self.shortcut_state = QLabel()
        self.shortcut_state.setWordWrap(True)
        # Its longest words have room from the start: a page does not grow by itself.
        self.shortcut_state.setMinimumHeight(3 * self.fontMetrics().lineSpacing())
        self.shortcut_state.setAlignment(Qt.AlignmentFlag.AlignTop)
        form.addRow(self.shortcut_state)

        help_ = QGroupBox(self.tr("If something is wrong"))
        row = QGridLayout(help_)
        self._copy_words = self.tr("Co&py diagnostics")
        self.copy = QPushButton(self._copy_words)
        self.copy.setToolTip(
            self.tr("Versions, devices and errors, to send to who helps; nothing private")
        )
        self.copy.clicked.connect(self.copy_asked)
        self.show_log = QPushButton(self.tr("&Show logs"))
        for button in (self.copy, self.show_log):
            button.setAutoDefault(False)  # Return closes the page
        self.show_log.clicked.connect(self.log_asked)
        row.addWidget(self.copy, 0, 0)
        row.addWidget(self.show_log, 0, 1)

        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setMinimumHeight(2 * self.fontMetrics().lineSpacing())
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        for part in (start, window, shortcut, help_, self.note, buttons):
            column.addWidget(part)
        # A letter more: what is underlined in it makes a text wider than its hint.
        width = max(head.sizeHint().width() for head in self._heads)
        width += self.fontMetrics().averageCharWidth()
        for head in self._heads:
            head.setMinimumWidth(width)  # the fields of all groups in one line
        for tick in (self.autostart, self.in_menu):
            tick.setVisible(desktop.is_supported())
        self.close_to_tray.setEnabled(tray)
        if not tray:
            self.close_to_tray.setToolTip(self.tr("This desktop has no tray"))
        self.show_settings(settings)

    def show_settings(self, settings: Settings) -> None:
        """Show these."""
        self._settings = settings
        for name, picker in self._pickers().items():
            picker.show_choices(self._choices(name), getattr(settings, name))
        for name, tick in self._ticks().items():
            tick.setChecked(getattr(settings, name))
        self.autostart.setChecked(desktop.autostarts())
        self.in_menu.setChecked(desktop.is_in_menu())
        if not self.keys.hasFocus():
            self.keys.setText(settings.shortcut_keys)
        self.keys.setEnabled(settings.shortcut)

    def show_shortcut(self, state: State, keys: str) -> None:
        """Say how far the desktop has taken the shortcut."""
        words = {
            State.OFF: self.tr("Off."),
            State.ASKING: self.tr("Asking the desktop…"),
            State.BOUND: self.tr("Works: {0}").format(keys or self.tr("the desktop knows it")),
            State.REFUSED: self.tr(
                "The desktop refused it. Bind {0} to a key in the desktop's keyboard settings."
            ).format(COMMAND),
            State.NONE: self.tr(
                "This desktop lets no program ask for keys. Bind {0} to a key in its keyboard "
                "settings."
            ).format(COMMAND),
        }
        self.shortcut_state.setText(words[state])

    def show_copied(self) -> None:
        """Say that the report is on the clipboard."""
        self.copy.setText(self.tr("Copied"))
        QTimer.singleShot(_COPIED_MS, self, lambda: self.copy.setText(self._copy_words))

    def _pickers(self) -> dict[str, Picker]:
        return {
            "start_on": self.start_on,
            "start_muted": self.start_muted,
            "theme": self.theme,
            "language": self.language,
        }

    def _ticks(self) -> dict[str, QCheckBox]:
        names = ("start_minimised", "close_to_tray", "notifications", "shortcut")
        return {name: getattr(self, name) for name in names}

    def _choices(self, name: str) -> list[text.Choice]:
        if name == "language":
            first = self.tr("As the desktop")
            return [(first, "system"), *((own, code) for code, own in LANGUAGES.items())]
        words = {
            ("start_on", "last"): self.tr("As it was left"),
            ("start_on", "on"): self.tr("Yes"),
            ("start_on", "off"): self.tr("No"),
            ("start_muted", "last"): self.tr("As it was left"),
            ("start_muted", "yes"): self.tr("Yes"),
            ("start_muted", "no"): self.tr("No"),
            ("theme", "system"): self.tr("As the desktop"),
            ("theme", "light"): self.tr("Light"),
            ("theme", "dark"): self.tr("Dark"),
            ("theme", "contrast"): self.tr("High contrast"),
        }
        return [(words[name, one], one) for one in CHOICES[name]]

    def _add_picker(self, form: QFormLayout, label: str, name: str) -> Picker:
        picker = Picker(label.replace("&", ""))
        picker.chosen.connect(lambda value: self._take(name, value))
        head = QLabel(label)
        head.setBuddy(picker)
        self._heads.append(head)
        # Else a form gives it no room: in the window a long name must not ask for any.
        picker.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        picker.setMinimumWidth(_FIELD_WIDTH)
        form.addRow(head, picker)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        return picker

    def _add_tick(self, form: QFormLayout, label: str) -> Tick:
        tick = Tick(label)
        tick.clicked.connect(lambda on: self._take_tick(tick, on))
        form.addRow(tick)
        return tick

    def _take_tick(self, tick: QCheckBox, on: bool) -> None:
        name = next(name for name, one in self._ticks().items() if one is tick)
        self._take(name, on)

    def _take_keys(self) -> None:
        keys = " ".join(self.keys.text().split())
        if keys:
            self._take("shortcut_keys", keys)
        else:
            self.keys.setText(self._settings.shortcut_keys)

    def _take(self, name: str, value: Any) -> None:
        settings = replace(self._settings, **{name: value})
        if name == "language":
            self.note.setText(self.tr("The language changes at the next start."))
        if settings != self._settings:
            self.show_settings(settings)
            self.changed.emit(settings)

    def _keep_file(self, tick: QCheckBox, keep: Callable[[bool], None], on: bool) -> None:
        """Write or remove a file of the desktop's."""
        try:
            keep(on)
            self.note.clear()
        except OSError as error:
            with QSignalBlocker(tick):
                tick.setChecked(not on)
            words = self.tr("That could not be written: {0}").format(error.strerror)
            self.note.setText(words)
