"""The row in which a profile is chosen, added, renamed and deleted."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QMessageBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.window import text
from app.window.controls import Picker
from app.window.settings import Settings


class ProfileBar(QWidget):
    """Shows the profiles of some settings; tells what should become of them."""

    chosen = Signal(str)
    changed = Signal(object)
    """Settings with other profiles, or others names of them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = Settings()
        self.dialog: QInputDialog | QMessageBox | None = None
        """The one that is open."""
        self.picker = Picker(self.tr("Profile"))
        self.picker.setToolTip(self.tr("Remembers devices, model and strength for a place"))
        self.picker.chosen.connect(lambda name: self.chosen.emit(name))
        head = QLabel(self.tr("P&rofile"))
        head.setBuddy(self.picker)
        menu = QMenu(self)
        self.add = self._action(menu, self.tr("&Add a profile…"), self._ask_for_new)
        self.rename = self._action(menu, self.tr("Re&name this profile…"), self._ask_for_name)
        self.delete = self._action(menu, self.tr("&Delete this profile…"), self._ask_to_delete)
        self.more = QToolButton()
        self.more.setText("…")
        self.more.setAccessibleName(self.tr("Change profiles"))
        self.more.setToolTip(self.more.accessibleName())
        self.more.setMenu(menu)
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        line = QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(self.picker, 1)
        line.addWidget(self.more)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(head)
        column.addLayout(line)

    def show_settings(self, settings: Settings) -> None:
        """Offer the profiles of these settings."""
        self._settings = settings
        self.picker.show_choices(
            [(text.profile(one.name), one.name) for one in settings.profiles], settings.profile
        )
        self.delete.setEnabled(len(settings.profiles) > 1)

    def _action(self, menu: QMenu, words: str, act: Callable[[], None]) -> QAction:
        action = menu.addAction(words)
        action.triggered.connect(lambda: act())
        return action

    def _ask_for_new(self) -> None:
        self._ask(self.tr("Add a profile"), "", self._settings.added)

    def _ask_for_name(self) -> None:
        name = self._settings.profile
        self._ask(
            self.tr("Rename a profile"),
            text.profile(name),
            lambda new_name: self._settings.renamed(name, new_name),
        )

    def _ask(self, title: str, name: str, change: Callable[[str], Settings]) -> None:
        dialog = QInputDialog(self)
        dialog.setWindowTitle(title)
        dialog.setLabelText(self.tr("Name of the profile:"))
        dialog.setTextValue(name)

        def take(new_name: str) -> None:
            if new_name == name:
                return
            try:
                self.changed.emit(change(new_name))
            except ValueError:
                self._refuse()

        dialog.textValueSelected.connect(take)
        self._open(dialog)

    def _ask_to_delete(self) -> None:
        name = self._settings.profile
        dialog = QMessageBox(self)
        dialog.setWindowTitle(self.tr("Delete a profile"))
        dialog.setText(self.tr("Delete the profile “{0}”?").format(text.profile(name)))
        dialog.setInformativeText(self.tr("What it remembers is lost."))
        yes = dialog.addButton(self.tr("&Delete"), QMessageBox.ButtonRole.DestructiveRole)
        keep = dialog.addButton(self.tr("&Keep"), QMessageBox.ButtonRole.RejectRole)
        dialog.setDefaultButton(keep)
        dialog.setEscapeButton(keep)
        yes.clicked.connect(lambda: self._delete(name))
        self._open(dialog)

    def _delete(self, name: str) -> None:
        left = self._settings.without(name)
        # The session is told to be as another wants it before this one is forgotten.
        self.chosen.emit(left.profile)
        self.changed.emit(self._settings.without(name))

    def _refuse(self) -> None:
        dialog = QMessageBox(self)
        dialog.setIcon(QMessageBox.Icon.Warning)
        dialog.setText(self.tr("That name cannot be had."))
        dialog.setInformativeText(
            self.tr("A name has 1 to 40 characters, and no two profiles have the same.")
        )
        self._open(dialog)

    def _open(self, dialog: QInputDialog | QMessageBox) -> None:
        """Without waiting for it: the window goes on."""
        self.dialog = dialog
        dialog.open()
