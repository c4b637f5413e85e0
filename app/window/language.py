"""The language of the window: English, or one that a file in ``translations`` knows.

The Qt Linguist files are read as they are, so there is no compiled twin to make, to ship or to
forget. Not here: the words (``text`` and the parts), who chooses (the settings).
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QCoreApplication, QLibraryInfo, QLocale, QTranslator

FOLDER = Path(__file__).parent / "translations"
LANGUAGES = {"en": "English", "es": "Español"}
"""Codes, and what each calls itself."""
SYSTEM = "system"
"""Whichever of them the user's system speaks."""


class Translations(QTranslator):
    """What a Qt Linguist file holds; raises OSError or ValueError when it cannot be read.

    Attributes
    ----------
    found : translation by (context, source); those that are unfinished are left out
    """

    def __init__(self, path: Path) -> None:
        from xml.etree import ElementTree  # 10 ms that English does without

        super().__init__()
        self.found: dict[tuple[str, str], str] = {}
        try:
            contexts = ElementTree.parse(path).getroot().iter("context")
        except ElementTree.ParseError as error:
            raise ValueError(f"{path}: {error}") from error
        for context in contexts:
            name = context.findtext("name") or ""
            for message in context.iter("message"):
                translation = message.find("translation")
                if translation is not None and translation.get("type") is None:
                    source = message.findtext("source") or ""
                    self.found[name, source] = translation.text or ""
        self._anywhere = {source: text for (_, source), text in self.found.items()}

    def isEmpty(self) -> bool:
        """Qt does not ask those that are."""
        return not self.found

    def translate(
        self, context: str, source: str, disambiguation: str | None = None, n: int = -1
    ) -> str | None:
        """None: Qt asks the next one. ``text.tr`` knows no context and takes any."""
        if not context:
            return self._anywhere.get(source)
        return self.found.get((context, source))


def of_system() -> str:
    """The first of the user's languages that is known here, else English."""
    for name in QLocale.system().uiLanguages():
        code = name.replace("_", "-").split("-")[0].lower()
        if code in LANGUAGES:
            return code
    return "en"


def speak(application: QCoreApplication, code: str = SYSTEM) -> str:
    """Have the window speak a language, the system's by default; returns its code.

    To be called once, before the first widget. Where a file cannot be read it stays English.
    """
    code = code if code in LANGUAGES else of_system()
    locale = QLocale.system()
    if locale.language() != QLocale(code).language():
        locale = QLocale(code)
    locale.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
    QLocale.setDefault(locale)
    if code == "en":
        return code
    try:
        ours = Translations(FOLDER / f"{code}.ts")
    except (OSError, ValueError):
        return "en"
    # Qt's own words, on buttons such as Cancel, come with Qt.
    qts = QTranslator(application)
    if qts.load(f"qtbase_{code}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        application.installTranslator(qts)
    ours.setParent(application)
    application.installTranslator(ours)
    return code
