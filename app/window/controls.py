"""The panel of what can be chosen: devices, model, strength, hearing oneself."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from app.window import colours, text
from app.window.text import Choice
from engine.names import MICROPHONE_NAME

_MARKS_DB = (0, 20, 40, 60, 80, 100)
_WIDTH = 288


class Picker(QComboBox):
    """One of several names; ``chosen`` tells what the user picked."""

    chosen = Signal(object)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        # Long names must not widen the window; the list shows them whole.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMinimumContentsLength(12)
        self.activated.connect(lambda at: self.chosen.emit(self.itemData(at)))

    def show_choices(self, choices: list[Choice], value: str | None) -> None:
        """Offer these, and show ``value``, also when it is not among them."""
        if self.view().isVisible():
            return  # not under the user's pointer
        known = [one for _, one in choices]
        if value is None and value not in known:
            return  # nothing is known yet
        if value not in known:
            choices = [*choices, (self.tr("{0} (not there)").format(value), value)]
        if choices != [(self.itemText(at), self.itemData(at)) for at in range(self.count())]:
            self.clear()
            for label, one in choices:
                self.addItem(label, one)
                self.setItemData(self.count() - 1, label, Qt.ItemDataRole.ToolTipRole)
        at = [one for _, one in choices].index(value)
        if at != self.currentIndex():
            self.setCurrentIndex(at)
        self.setToolTip(self.currentText())

    def paintEvent(self, event: QPaintEvent) -> None:
        """As ever, but a name that is too long ends in an ellipsis."""
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        kind = QStyle.ComplexControl.CC_ComboBox
        room = self.style().subControlRect(kind, option, part, self).width() - 6
        elide = Qt.TextElideMode.ElideMiddle
        option.currentText = self.fontMetrics().elidedText(self.currentText(), elide, room)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()

    @property
    def value(self) -> str | None:
        """What is shown as chosen."""
        found: str | None = self.currentData()
        return found


class Tick(QCheckBox):
    """A check box with an edge that shows on dark windows too."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """As ever, and its edge."""
        super().paintEvent(event)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        box = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self)
        painter = QPainter(self)
        painter.setPen(colours.edge(self.palette()))
        painter.drawRoundedRect(box.adjusted(0, 0, -1, -1), 2, 2)
        painter.end()


class _Marks(QWidget):
    """What a slider's ticks stand for, each below its own."""

    def __init__(self, slider: QSlider) -> None:
        super().__init__()
        self._slider = slider
        self._last = self.tr("{0} dB").format(text.number(_MARKS_DB[-1]))
        self.setFixedHeight(self.fontMetrics().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """The first and the last keep inside."""
        painter = QPainter(self)
        painter.setPen(colours.faint(self.palette()))
        metric = QStyle.PixelMetric.PM_SliderLength
        handle = self.style().pixelMetric(metric, None, self._slider)
        room = self.width() - handle
        for db in _MARKS_DB:
            words = text.number(db) if db != _MARKS_DB[-1] else self._last
            box = self.fontMetrics().boundingRect(words).adjusted(-2, 0, 2, 0)
            middle = QStyle.sliderPositionFromValue(0, _MARKS_DB[-1], db, room) + handle // 2
            box.moveTop(0)
            box.moveLeft(min(max(middle - box.width() // 2, 0), self.width() - box.width()))
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)
        painter.end()


class Controls(QWidget):
    """Everything that is chosen; ``wanted`` tells wishes as the control socket takes them."""

    wanted = Signal(dict)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedWidth(_WIDTH)
        self._devices: list[dict[str, Any]] = []
        self._cards: dict[str, dict[str, Any]] = {}
        self._picked: dict[str, str | None] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        self.input = self._add_picker(column, self.tr("&Microphone"), "input")
        self.output = self._add_picker(column, self.tr("Clean sound &goes to"), "output")
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setTextFormat(Qt.TextFormat.RichText)
        self.hint.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        column.insertWidget(column.count() - 1, self.hint)
        self.model = self._add_picker(column, self.tr("Mo&del"), "model")
        self._add_strength(column)
        self.monitor = Tick(self.tr("&Hear yourself"))
        self.monitor.setToolTip(self.tr("Plays the clean sound to your loudspeakers as well"))
        self.monitor.setAccessibleDescription(self.monitor.toolTip())
        self.monitor.clicked.connect(lambda on: self.wanted.emit({"monitor": on}))
        column.addWidget(self.monitor)
        self._add_speakers(column)
        column.addStretch(1)

    def show_devices(self, devices: list[dict[str, Any]]) -> None:
        """Offer these devices."""
        self._devices = devices
        self.input.show_choices(text.inputs(devices), self.input.value)
        self.output.show_choices(text.outputs(devices), self.output.value)

    def show_models(self, cards: list[dict[str, Any]]) -> None:
        """Offer these models, with their numbers."""
        self._cards = {card["name"]: card for card in cards}
        self.model.show_choices(self._models(), self.model.value)

    def show_status(self, told: dict[str, Any]) -> None:
        """Show what is so now."""
        wished = self.wished(told)
        self.input.show_choices(text.inputs(self._devices), wished["input"])
        self.output.show_choices(text.outputs(self._devices), wished["output"])
        model = told.get("model_wanted", told.get("model"))
        # Until the models have been read, the one that runs is all that is known.
        self.model.show_choices(self._models() or [(model or "", model)], model)
        card = self._cards.get(model or "")
        if card:
            self.model.setToolTip(text.model_facts(card))
        self.monitor.setChecked(bool(told["monitor"]))
        self.speakers.setChecked(bool(told["speakers"]["on"]))
        self.speakers_hint.setVisible(self.speakers.isChecked())
        self._say_hint(wished["output"])
        if not self.strength.isSliderDown():
            self.strength.blockSignals(True)
            self.strength.setValue(round(told["limit_db"]))
            self.strength.blockSignals(False)
            self._say_strength(self.strength.value())

    def wished(self, told: dict[str, Any]) -> dict[str, Any]:
        """What an engine should be started with to be as this one is.

        A session tells what it opened. Where the user has not picked here, the system's default
        is taken for a wish for the default.
        """
        source, output = told.get("input"), told.get("output")
        if source == text.default_input(self._devices) or not self._devices:
            source = None
        if output == MICROPHONE_NAME:
            output = None
        model = told.get("model_wanted", told.get("model"))
        return {
            "input": self._picked.get("input", source),
            "output": self._picked.get("output", output),
            "model": model if model in self._cards else self._picked.get("model"),
            "limit_db": told.get("limit_db", 100.0),
            "monitor": told.get("monitor", False),
            "speakers": told.get("speakers", {}).get("on", False),
        }

    def forget_picks(self) -> None:
        """What was picked here is no longer what is wished for."""
        self._picked.clear()

    def refuse(self, wanted: dict[str, Any]) -> None:
        """Forget picks that the session did not take."""
        for name in wanted:
            self._picked.pop(name, None)

    def _models(self) -> list[Choice]:
        return [(text.model(card), name) for name, card in self._cards.items()]

    def _add_picker(self, column: QVBoxLayout, label: str, field: str) -> Picker:
        picker = Picker(label.replace("&", ""))
        head = QLabel(label)
        head.setBuddy(picker)
        column.addWidget(head)
        column.addWidget(picker)
        column.addSpacing(10)

        def pick(value: str | None) -> None:
            self._picked[field] = value
            self.wanted.emit({field: value})

        picker.chosen.connect(pick)
        return picker

    def _add_strength(self, column: QVBoxLayout) -> None:
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setValue(100)
        self.strength.setSingleStep(1)
        self.strength.setPageStep(10)
        self.strength.setTickInterval(20)
        self.strength.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.strength.setToolTip(
            self.tr(
                "No frequency is turned down by more than this. Less leaves some noise and "
                "sounds more natural."
            )
        )
        head = QLabel(self.tr("&Strength"))
        head.setBuddy(self.strength)
        self._strength_text = QLabel()
        line = QHBoxLayout()
        line.addWidget(head)
        line.addStretch(1)
        line.addWidget(self._strength_text)
        column.addLayout(line)
        column.addWidget(self.strength)
        column.addWidget(_Marks(self.strength))
        column.addSpacing(12)
        self.strength.valueChanged.connect(self._turn_strength)
        self._say_strength(100)

    def _add_speakers(self, column: QVBoxLayout) -> None:
        self.speakers = Tick(self.tr("Clean what &others send"))
        self.speakers.setToolTip(
            self.tr("Takes the noise of the others out of what you hear in a call")
        )
        self.speakers.setAccessibleDescription(self.speakers.toolTip())
        self.speakers.clicked.connect(lambda on: self.wanted.emit({"speakers": on}))
        column.addWidget(self.speakers)
        self.speakers_hint = QLabel(
            self.tr("In your call app choose <b>Denoised Speakers</b> as the speaker.")
        )
        self.speakers_hint.setWordWrap(True)
        self.speakers_hint.setTextFormat(Qt.TextFormat.RichText)
        self.speakers_hint.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self.speakers_hint.setMinimumHeight(self.speakers_hint.heightForWidth(_WIDTH))
        self.speakers_hint.hide()
        column.addWidget(self.speakers_hint)

    def _turn_strength(self, limit_db: int) -> None:
        self._say_strength(limit_db)
        self.wanted.emit({"limit_db": float(limit_db)})

    def _say_hint(self, output: str | None) -> None:
        hint = self.tr("In your call app choose <b>Denoised Microphone</b> as the microphone.")
        if output is not None:
            hint = self.tr("The clean sound is played to a device; call apps do not get it.")
        if hint != self.hint.text():
            self.hint.setText(hint)
            # A window's least size does not ask for the height at a width.
            self.hint.setMinimumHeight(self.hint.heightForWidth(_WIDTH))

    def _say_strength(self, limit_db: int) -> None:
        told = text.strength(limit_db)
        if told != self._strength_text.text():
            self._strength_text.setText(told)
            self.strength.setAccessibleName(self.tr("Strength: {0}").format(told))
