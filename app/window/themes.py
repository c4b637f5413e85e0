"""How the window looks: light, dark, in high contrast, or as the system does.

Not here: who chooses, and what is painted with these colours (``colours``).
"""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QToolTip

from app.window import colours
from app.window.colours import Accents

SYSTEM = "system"


@dataclass(frozen=True)
class Theme:
    """Colours of one look, as HTML writes them. What is written on each is readable there."""

    window: str
    text: str
    base: str
    """Of lists and of fields."""
    button: str
    highlight: str
    highlighted_text: str
    link: str
    accents: Accents
    sheet: str = ""
    """What the style does not show by itself."""

    def palette(self) -> QPalette:
        """For Qt."""
        role = QPalette.ColorRole
        palette = QPalette(QColor(self.button), QColor(self.window))
        for roles, colour in (
            ((role.Window, role.AlternateBase), self.window),
            ((role.WindowText, role.Text, role.ButtonText), self.text),
            ((role.Base, role.ToolTipBase), self.base),
            ((role.ToolTipText, role.BrightText), self.text),
            ((role.Button,), self.button),
            ((role.Highlight, role.Accent), self.highlight),
            ((role.HighlightedText,), self.highlighted_text),
            ((role.Link, role.LinkVisited), self.link),
        ):
            for one in roles:
                palette.setColor(one, QColor(colour))
        placeholder = colours.mixed(QColor(self.text), QColor(self.base), 0.3)
        palette.setColor(role.PlaceholderText, placeholder)
        for one in (role.WindowText, role.Text, role.ButtonText):
            # What cannot be used at the moment can still be read.
            pale = colours.mixed(QColor(self.text), QColor(self.window), 0.45)
            palette.setColor(QPalette.ColorGroup.Disabled, one, pale)
        return palette


_CONTRAST_SHEET = """
QPushButton, QToolButton, QComboBox, QLineEdit, QSpinBox {
    border: 2px solid white; border-radius: 4px; padding: 3px 8px; background: black; color: white;
}
QPushButton:disabled, QComboBox:disabled { border-color: #8c8c8c; color: #8c8c8c; }
QPushButton:focus, QToolButton:focus, QComboBox:focus, QLineEdit:focus { border-color: #ffd400; }
QPushButton:checked, QPushButton:default { background: white; color: black; }
QPushButton:default:focus { background: #ffd400; }
QComboBox QAbstractItemView { border: 2px solid white; }
QCheckBox:focus, QSlider:focus { outline: 2px solid #ffd400; }
QSlider::groove:horizontal { height: 4px; background: white; }
QSlider::handle:horizontal { width: 14px; margin: -8px 0; background: white; border-radius: 3px; }
QSlider::handle:horizontal:focus { background: #ffd400; }
QToolTip { border: 1px solid white; }
"""

THEMES = {
    "light": Theme(
        window="#f3f4f6",
        text="#1b1e24",
        base="#ffffff",
        button="#fcfcfd",
        highlight="#1a66ad",
        highlighted_text="#ffffff",
        link="#0b5cad",
        accents=colours.LIGHT,
    ),
    "dark": Theme(
        window="#1b1e23",
        text="#e8eaed",
        base="#131619",
        button="#343a43",
        highlight="#2a72b5",
        highlighted_text="#ffffff",
        link="#7ab8f0",
        accents=colours.DARK,
    ),
    "contrast": Theme(
        window="#000000",
        text="#ffffff",
        base="#000000",
        button="#000000",
        highlight="#ffd400",
        highlighted_text="#000000",
        link="#8fd3ff",
        accents=colours.CONTRAST,
        sheet=_CONTRAST_SHEET,
    ),
}


class Look(QObject):
    """Dresses an application, and again when the system changes while it follows that."""

    def __init__(self, application: QApplication) -> None:
        super().__init__(application)
        self._application = application
        self.theme = SYSTEM
        # Platforms draw their own controls in their own colours; these are ours everywhere.
        application.setStyle("Fusion")
        hints = application.styleHints()
        hints.colorSchemeChanged.connect(self._follow)
        if hasattr(hints, "accessibility"):  # since Qt 6.10
            hints.accessibility().contrastPreferenceChanged.connect(self._follow)

    def wear(self, theme: str) -> None:
        """One of ``THEMES``, or ``SYSTEM``; also while windows are open."""
        self.theme = theme
        chosen = THEMES[self.shown]
        colours.accents = chosen.accents
        palette = chosen.palette()
        if self._application.styleSheet() != chosen.sheet:
            self._application.setStyleSheet(chosen.sheet)
        self._application.setPalette(palette)
        QToolTip.setPalette(palette)

    @property
    def shown(self) -> str:
        """Name of the theme that is worn, the system's by its own name."""
        return self.theme if self.theme in THEMES else of_system(self._application)

    def _follow(self) -> None:
        if self.theme not in THEMES:
            self.wear(self.theme)


def of_system(application: QApplication) -> str:
    """The theme that is like the system's."""
    hints = application.styleHints()
    if hasattr(hints, "accessibility"):
        wanted = hints.accessibility().contrastPreference()
        if wanted == Qt.ContrastPreference.HighContrast:
            return "contrast"
    return "dark" if hints.colorScheme() == Qt.ColorScheme.Dark else "light"
