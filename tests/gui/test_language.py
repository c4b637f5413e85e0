"""Every word of the window in every language that it claims to speak."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from PySide6.QtCore import QLocale
from PySide6.QtWidgets import QDialogButtonBox
from pytestqt.qtbot import QtBot

from app.window import language, text
from app.window.controls import Controls
from app.window.language import FOLDER, LANGUAGES, Translations

SOURCES = sorted(FOLDER.parent.rglob("*.py"))
OTHERS = sorted(set(LANGUAGES) - {"en"})
UPDATE = (
    "pyside6-lupdate -locations none -no-obsolete app/window/*.py "
    "-ts app/window/translations/es.ts, then fill in what it marks as unfinished"
)
SHOWN_BY = {
    *("QLabel", "QPushButton", "QCheckBox", "QRadioButton", "QGroupBox", "QAction", "QMenu"),
    *("setText", "setTitle", "setToolTip", "setWindowTitle", "setPlaceholderText", "setStatusTip"),
    *("setAccessibleName", "setAccessibleDescription", "setInformativeText", "setLabelText"),
    *("addAction", "addMenu", "addButton", "addTab", "addRow", "drawText", "showMessage"),
}
"""Calls whose text a user reads."""
NAMES = re.compile(r"denoise-app|https?:|(Ctrl|Alt|Shift)\+|F\d+$|&?English$|&?Español$")


def calls_in(node: ast.AST, context: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the class it is in."""
    if isinstance(node, ast.ClassDef):
        context = node.name
    if isinstance(node, ast.Call):
        yield context, node
    for child in ast.iter_child_nodes(node):
        yield from calls_in(child, context)


def marked_in(source: str) -> Iterator[tuple[str, str | None, int]]:
    """(context, words, line) of what is marked for translation; None for what nobody can find.

    Qt asks for the words of ``self.tr`` in the class, for those of ``text.tr`` anywhere.
    """
    for context, call in calls_in(ast.parse(source), ""):
        asked = ast.unparse(call.func)
        if asked not in ("self.tr", "tr", "text.tr") or not call.args:
            continue
        words = call.args[0]
        literal = words.value if isinstance(words, ast.Constant) else None
        found = literal if isinstance(literal, str) else None
        yield (context if asked == "self.tr" else "", found, call.lineno)


def unmarked_in(source: str) -> Iterator[tuple[str, int]]:
    """(words, line) of what is shown as it stands."""
    for _, call in calls_in(ast.parse(source), ""):
        if ast.unparse(call.func).split(".")[-1] in SHOWN_BY:
            for argument in call.args:
                words = argument.value if isinstance(argument, ast.Constant) else ""
                if isinstance(words, str) and re.search(r"[^\W\d_]{2}", words):
                    yield words, call.lineno


def test_the_guard_sees_what_is_marked_and_what_is_not() -> None:
    source = (
        "class A:\n def f(self):\n  self.tr('one ' 'two'); text.tr('three'); self.tr(x)\n"
        "  self.b.setText('four'); QLabel('–')\ntr('five')"
    )
    assert sorted(marked_in(source), key=str) == [
        ("", "five", 5),
        ("", "three", 3),
        ("A", "one two", 3),
        ("A", None, 3),
    ]
    assert list(unmarked_in(source)) == [("four", 4)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_what_is_shown_is_marked(path: Path) -> None:
    source = path.read_text("utf-8")
    shown = [(words, line) for words, line in unmarked_in(source) if not NAMES.search(words)]
    assert not shown, "pass these through self.tr or text.tr"
    nameless = [line for _, words, line in marked_in(source) if words is None]
    assert not nameless, f"{path.name}: only literal strings can be found, lines {nameless}"


@pytest.mark.parametrize("code", OTHERS)
def test_no_word_is_missing(code: str) -> None:
    translations = Translations(FOLDER / f"{code}.ts")
    marked = {
        (context, words, f"{path.name}:{line}")
        for path in SOURCES
        for context, words, line in marked_in(path.read_text("utf-8"))
        if words is not None
    }
    assert len(marked) > 80
    missing = [
        f"{place}: {words!r}"
        for context, words, place in sorted(marked)
        if not translations.translate(context, words)
    ]
    assert not missing, f"run {UPDATE}"
    sources = {words for _, words, _ in marked}
    unused = [source for _, source in translations.found if source not in sources]
    assert not unused, f"nothing says these any more: run {UPDATE}"


@pytest.mark.parametrize("code", OTHERS)
def test_translations_keep_what_words_are_filled_with(code: str) -> None:
    for (_, source), translation in Translations(FOLDER / f"{code}.ts").found.items():
        both = (source, translation)
        fields = [{name for _, name, _, _ in Formatter().parse(one)} for one in both]
        assert fields[0] == fields[1], source
        for pattern in (r"</?\w+>", r"&(?=\w)", r"^\s|\s$", r"…$", r"[.:]$"):
            found = [re.findall(pattern, one) for one in both]
            assert found[0] == found[1], source


def test_what_is_unfinished_stays_english(tmp_path: Path) -> None:
    path = tmp_path / "xx.ts"
    path.write_text(
        "<TS><context><name>A</name>"
        "<message><source>one</source><translation>uno</translation></message>"
        '<message><source>two</source><translation type="unfinished">dos</translation></message>'
        "</context></TS>"
    )
    translations = Translations(path)
    assert translations.translate("A", "one") == "uno"
    assert translations.translate("B", "one") is None
    assert translations.translate("", "one") == "uno"
    assert translations.translate("A", "two") is None
    path.write_text("<TS><context>")
    with pytest.raises(ValueError, match=r"xx\.ts"):
        Translations(path)


def test_the_window_speaks_spanish(qtbot: QtBot, spanish: None) -> None:
    controls = Controls()
    qtbot.addWidget(controls)
    assert controls.monitor.text() == "&Escucharme"
    assert text.strength(20.0) == "20 dB: equilibrada"
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    qtbot.addWidget(buttons)
    assert buttons.buttons()[0].text() == "Cancelar", "Qt's own words as well"
    assert controls.tr("no such words") == "no such words"
    told = {"delay_ms": 1144.4, "cpu_percent": 7.25}
    assert text.figures(told)["cpu"] == "CPU 7,3 %"
    assert text.figures(told)["delay"] == "Retardo 1144 ms"


def test_the_language_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, code in (
        (["es-MX", "en"], "es"),
        (["de-DE", "es"], "es"),
        (["fr"], "en"),
        (["C"], "en"),
    ):
        monkeypatch.setattr(QLocale, "uiLanguages", lambda self, names=names: names)
        assert language.of_system() == code
