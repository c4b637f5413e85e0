"""One page: how to choose the Denoised Microphone in a call app."""

from __future__ import annotations

from PySide6.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget


class HelpPage(QDialog):
    """How to use it. Closed by Esc or its button."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("How to use it"))
        self.resize(600, 430)
        self.page = QTextBrowser()
        self.page.setAccessibleName(self.windowTitle())
        self.page.setHtml(self._html())
        self.page.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.page.viewport().setAutoFillBackground(False)
        buttons = QDialogButtonBox()
        start = buttons.addButton(self.tr("&Got it"), QDialogButtonBox.ButtonRole.AcceptRole)
        start.setDefault(True)
        buttons.accepted.connect(self.accept)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 16, 20, 16)
        column.addWidget(self.page)
        column.addWidget(buttons)
        start.setFocus()

    def _html(self) -> str:
        places = (
            ("Zoom", self.tr("Settings › Audio › Microphone")),
            ("Google Meet", self.tr("⋮ › Settings › Audio › Microphone")),
            ("Microsoft Teams", self.tr("⋯ › Settings › Devices › Microphone")),
            ("Discord", self.tr("User Settings › Voice & Video › Input Device")),
            ("OBS", self.tr("Sources › + › Audio Input Capture › Device")),
            (self.tr("In a browser"), self.tr("the camera icon in the address bar")),
        )
        rows = "".join(
            f"<tr><td style='padding:3px 18px 3px 0'><b>{app}</b></td>"
            f"<td style='padding:3px 0'>{where.replace('&', '&amp;')}</td></tr>"
            for app, where in places
        )
        steps = (
            self.tr("Choose your real microphone in this window, under <b>Microphone</b>."),
            self.tr("In your call app choose <b>Denoised Microphone</b> as the microphone:")
            + f"<table cellspacing=0 style='margin-bottom:8px'>{rows}</table>",
            self.tr("Turn the app's own noise suppression off: two in a row damage the voice."),
            self.tr(
                "Speak. The upper picture shows what your microphone hears, the lower one what "
                "the others hear."
            ),
            self.tr(
                "To take the noise out of what you hear, tick <b>Clean what others send</b> and "
                "choose <b>Denoised Speakers</b> as the speaker in your call app."
            ),
        )
        items = "".join(f"<li style='margin-bottom:8px'>{step}</li>" for step in steps)
        after = self.tr(
            "The big switch lets your voice through as it is when it is off; nothing else "
            "changes in the call. All sound stays on this machine."
        )
        return f"<h2>{self.windowTitle()}</h2><ol>{items}</ol><p>{after}</p>"
