"""What the window says of devices, models and figures. Not here: where it stands."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QCoreApplication, QLocale

Choice = tuple[str, str | None]
"""(what is read, what is asked for)."""


_PROVIDERS = {"cpu": "CPU", "cuda": "CUDA", "rocm": "ROCm", "migraphx": "MIGraphX"}


def tr(text: str) -> str:
    """Translate, for those that are no QObject."""
    return QCoreApplication.translate("", text)


def number(value: float, digits: int = 0) -> str:
    """As the user's language writes it, with a minus that is as wide as a plus."""
    return QLocale().toString(float(value), "f", digits).replace("-", "−")


def inputs(devices: list[dict[str, Any]]) -> list[Choice]:
    """Microphones to choose from: real ones first, never our own."""
    found = [
        device
        for device in devices
        if device["kind"] == "input" and not device["name"].startswith("denoise_app")
    ]
    default = next((device for device in found if device["default"]), None)
    named = tr("Default")
    if default is not None:
        named = tr("Default: {0}").format(default["description"])
    found.sort(key=lambda device: bool(device["virtual"]))
    return [(named, None), *((device["description"], device["name"]) for device in found)]


def outputs(devices: list[dict[str, Any]]) -> list[Choice]:
    """Where clean sound may go: to call apps, or to somebody's ears."""
    found = [
        (device["description"], device["name"])
        for device in devices
        if device["kind"] == "output" and not device["name"].startswith("denoise_app")
    ]
    return [(tr("Denoised Microphone, for call apps"), None), *found]


def default_input(devices: list[dict[str, Any]]) -> str | None:
    """Name of the system's default microphone."""
    for device in devices:
        if device["kind"] == "input" and device["default"]:
            return str(device["name"])
    return None


def model(card: dict[str, Any]) -> str:
    """A model and its numbers, in a line."""
    return tr("{name}  ({delay} ms, up to {top} kHz)").format(
        name=card["name"],
        delay=number(card["latency_ms"]),
        top=number(card["sample_rate"] / 2000, 1),
    )


def model_facts(card: dict[str, Any]) -> str:
    """What else is known of it."""
    return tr("{description}\nVersion {version}, {megabytes} MB, licence {licence}").format(
        **{**card, "megabytes": number(card["megabytes"], 1)}
    )


def strength(limit_db: float) -> str:
    """How far noise may be turned down, in words and figures."""
    if limit_db <= 0.0:
        return tr("0 dB: changes nothing")
    if limit_db >= 100.0:
        return tr("no limit")
    if limit_db <= 12.0:
        return tr("{0} dB: gentle").format(number(limit_db))
    if limit_db <= 30.0:
        return tr("{0} dB: balanced").format(number(limit_db))
    return tr("{0} dB: strong").format(number(limit_db))


def profile(name: str) -> str:
    """A profile's name as it is shown: the first ones speak the user's language."""
    first = {"home": tr("Home"), "office": tr("Office"), "train": tr("Train")}
    return first.get(name, name)


def figures(told: dict[str, Any]) -> dict[str, str]:
    """Delay, processor, drops and provider of a status, as the status bar shows them."""
    delay = told.get("delay_ms")
    cpu = told.get("cpu_percent")
    provider = told.get("provider", "–")
    return {
        "delay": tr("Delay {0}").format("–" if delay is None else f"{number(delay)} ms"),
        "cpu": tr("CPU {0}").format("–" if cpu is None else f"{number(cpu, 1)} %"),
        "drops": tr("Drops {0}").format(told.get("drops", "–")),
        "provider": tr("Runs on {0}").format(_PROVIDERS.get(provider, provider)),
    }


def problem(told: dict[str, Any]) -> str:
    """What the user should know of, or nothing."""
    if told.get("problem"):
        return tr("Trying again: {0}").format(told["problem"])
    if told.get("fault"):
        return tr("Your voice goes through uncleaned: {0}").format(told["fault"])
    if told.get("state") == "stalled":
        return tr("The device delivers no sound; trying again")
    if told.get("overload"):
        return tr("{0} is too much for this machine at the moment: {1} cleans instead").format(
            told["model_wanted"], told["model"]
        )
    others = told.get("speakers", {})
    if others.get("problem") or others.get("fault"):
        why = others["problem"] or others["fault"]
        return tr("What the others send is not clean at the moment: {0}").format(why)
    return ""
