"""``denoise-app doctor``: what is well on this machine, what is not, and what to do about it.

Each check tells one thing in a sentence, as ``ok``, ``warning`` (it works, but) or ``failure``,
and no check keeps another from being made. What a check needs is imported by it: a library that
cannot be loaded is a finding. Not here: mending anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from app import log
from app.places import settings_folder, state_folder
from engine import cache, priority
from engine.control import ControlClient, folder
from engine.errors import ControlError, DeviceError, ModelError
from engine.network import Network
from engine.sessions import installed_providers, runtime_name

if TYPE_CHECKING:
    from app.loopback import LoopBack

OK, WARNING, FAILURE = "ok", "warning", "failure"

# The golden answers are stored in 16 bits; other versions and processors round otherwise.
_GOLDEN_TOLERANCE = 1e-3
# Rounding to 8 bits makes a step of what differs in the last bit: 0.005 seen.
_GOLDEN_TOLERANCE_8_BITS = 0.02
# More of a hop's time than this, and a busy machine will not keep up.
_BUSY_SHARE = 0.5
_SUPPRESSION_DB = 6.0
_LONG_MS = 400.0
# A machine with ten times too much to do does not open a device in PortAudio's time at once.
_TRIES = 4
_SEE_ABOVE = "see the lines above; then try denoise-app demo, which brings its own sound server"

# What the program cannot do without, and what it does without with less comfort.
_NEEDED = ("numpy", "sounddevice", "soundfile", "av", "psutil", "matplotlib", "tqdm")
_WANTED = {"PySide6-Essentials": "the window"}
_RUNTIMES = ("onnxruntime", "onnxruntime-rocm", "onnxruntime-migraphx", "onnxruntime-gpu")

_ASK_PORTAUDIO = "import json; from engine import devices; print(json.dumps(devices.portaudio()))"

_START_A_SERVER = "start PulseAudio, or PipeWire with pipewire-pulse, in this session"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """Stable name of it."""
    level: str
    """``ok``, ``warning`` or ``failure``."""
    says: str
    """What was found, a sentence."""
    advice: str = ""
    """What to do, where something should be done."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""


def run(args: argparse.Namespace) -> int:
    """Look at everything and tell; returns 1 when something fails."""
    findings = []
    for finding in examine(sound=not args.no_sound):
        findings.append(finding)
        if not args.json:
            print(in_words(finding), flush=True)
    worst = max((f.level for f in findings), key=(OK, WARNING, FAILURE).index)
    if args.json:
        print(json.dumps({"level": worst, "findings": [asdict(f) for f in findings]}))
    else:
        n = {level: sum(f.level == level for f in findings) for level in (WARNING, FAILURE)}
        print(f"\n{n[FAILURE]} failure(s), {n[WARNING]} warning(s) in {len(findings)} checks.")
    return 1 if worst == FAILURE else 0


def in_words(finding: Finding) -> str:
    """A finding in a line, what to do below it."""
    told = f"{finding.level:8} {finding.says}"
    return f"{told}\n         → {finding.advice}" if finding.advice else told


def examine(sound: bool) -> Iterator[Finding]:
    """Make every check, in the order in which the program needs what they are about.

    Parameters
    ----------
    sound : with the self-test of ten seconds
    """
    yield from _made("packages", _packages)
    yield from _made("folders", _folders)
    yield from _made("priority", _priority)
    reachable = True
    for finding in _made("portaudio", _portaudio):
        reachable = reachable and finding.level == OK
        yield finding
    yield from _made("sound server", _sound_server)
    yield from _made("devices", _devices)
    yield from _made("provider", _provider)
    for path in sorted(models.FOLDER.glob("*.onnx")):
        yield from _made(f"model {path.stem}", partial(_model, path))
    if not list(models.FOLDER.glob("*.onnx")):
        yield Finding("model", FAILURE, "No model is installed.", "install the program again")
    yield from _made("session", _session)
    if sound and reachable:
        yield from _made("self-test", _self_test)
    elif sound:
        yield Finding(
            "self-test",
            FAILURE,
            "The self-test cannot be made without a way to the sound server.",
            "see what is said of PortAudio above",
        )


def _made(check: str, make: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; one that fails in a way that nobody thought of is a finding."""
    try:
        yield from make()
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(
            check,
            FAILURE,
            f"The check of “{check}” itself failed: {told}.",
            "report this line as a bug",
        )


# The machine


def _packages() -> Iterator[Finding]:
    found = {name: _version(name) for name in ("denoise-app", *_NEEDED, *_WANTED)}
    runtimes = {name: _version(name) for name in _RUNTIMES if _version(name)}
    facts = {"python": platform.python_version(), "system": platform.platform()}
    facts |= {name: version for name, version in {**found, **runtimes}.items() if version}
    missing = [name for name in _NEEDED if not found[name]]
    if missing:
        yield Finding(
            "packages",
            FAILURE,
            f"Packages are missing: {', '.join(missing)}.",
            "install the program again: make run, or pip install '.[cpu]'",
            facts,
        )
    elif len(runtimes) != 1:
        names = ", ".join(runtimes) or "none"
        yield Finding(
            "packages",
            WARNING,
            f"There should be one build of ONNX Runtime, found {names}: they overwrite each other.",
            "uninstall all of them, then install one (README, Which ONNX Runtime)",
            facts,
        )
    else:
        yield Finding(
            "packages",
            OK,
            f"Python {facts['python']}, {runtime_name()}, and every package that is needed.",
            facts=facts,
        )
    for name, what in _WANTED.items():
        if not found[name]:
            yield Finding(
                "packages",
                WARNING,
                f"{name} is not installed, so {what} cannot be opened.",
                "pip install '.[gui]', or use denoise-app --device",
            )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _folders() -> Iterator[Finding]:
    try:
        runtime = folder()
    except ControlError as error:
        yield Finding(
            "runtime folder",
            FAILURE,
            f"The folder for the control socket cannot be used: {error}.",
            "log in anew, or set XDG_RUNTIME_DIR to a folder of yours with mode 0700",
        )
    else:
        kept = bool(os.environ.get("XDG_RUNTIME_DIR"))
        yield Finding(
            "runtime folder",
            OK if kept or sys.platform != "linux" else WARNING,
            f"The control socket's folder is {runtime}."
            if kept
            else f"There is no XDG_RUNTIME_DIR, so the control socket's folder is {runtime}.",
            "" if kept or sys.platform != "linux" else "log in through the desktop or with PAM",
            {"path": str(runtime)},
        )
    for check, path, what in (
        ("cache folder", cache.folder(), "what was measured once is measured at every start"),
        ("settings folder", settings_folder(), "the window forgets its settings"),
        ("log folder", state_folder(), "nothing is kept of what went wrong"),
    ):
        writable = _is_writable(path)
        yield Finding(
            check,
            OK if writable else WARNING,
            f"{path} can be written." if writable else f"{path} cannot be written, so {what}.",
            "" if writable else "make it yours, with room on its disk",
            {"path": str(path)},
        )


def _is_writable(path: Path) -> bool:
    """Whether something can be stored in a folder, which need not be there yet."""
    import tempfile

    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"1")
            file.flush()
    except OSError:
        return False
    return True


def _priority() -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    import resource

    granted = priority.tried()
    raised = granted.level != priority.NORMAL
    # Where the user may be nicer to sound than to others, it is done without asking anybody.
    nice = 20 - resource.getrlimit(resource.RLIMIT_NICE)[0]
    facts = {
        "level": granted.level,
        "note": granted.note,
        "nice": nice,
        "realtime": resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
        "groups": _groups(),
    }
    yield Finding(
        "priority",
        OK if raised or nice <= -11 else WARNING,
        f"Sound's {granted.in_words()}."
        if raised
        else f"Sound's {granted.in_words()}, so it may drop out while the machine is busy.",
        "" if raised else "install rtkit, or allow it in /etc/security/limits.d (rtprio 20)",
        facts,
    )


def _groups() -> list[str]:
    import grp

    names = []
    for number in os.getgroups():
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(number).gr_name)
    return sorted(names)


# Sound


def _portaudio() -> Iterator[Finding]:
    """In a process of its own: where ALSA's settings are broken, PortAudio ends the process."""
    advice = "install it (Debian: apt install libportaudio2 libasound2-plugins)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASK_PORTAUDIO],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        timeout=60.0,
        check=False,
    )
    try:
        version, names = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError, TypeError):
        last = done.stderr.decode(errors="replace").strip().splitlines()
        told = last[-1] if last else f"it ended with {done.returncode}"
        yield Finding("portaudio", FAILURE, f"PortAudio cannot be used: {told[:300]}.", advice)
        return
    facts = {"version": version, "devices": names}
    if not sys.platform.startswith("linux"):
        yield Finding("portaudio", OK, f"{version} is there.", facts=facts)
    elif "pulse" in names:
        yield Finding(
            "portaudio", OK, "PortAudio and ALSA's way to the sound server are there.", facts=facts
        )
    else:
        yield Finding(
            "portaudio",
            FAILURE,
            "PortAudio finds no way to the sound server: ALSA's pulse plug-in is missing, or no "
            "sound server answers.",
            "install the plug-in (Debian: apt install libasound2-plugins); see the next line",
            facts,
        )


def _sound_server() -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        from engine import devices

        try:
            cable = devices.virtual_cable()
        except DeviceError as error:
            yield Finding("sound server", FAILURE, f"{error}.", "see the README")
        else:
            yield Finding("sound server", OK, f"The virtual cable is {cable}.")
        return
    from engine.sound_server import SoundServer

    try:
        with SoundServer() as server:
            name = server.name
    except DeviceError:
        yield Finding("sound server", FAILURE, "No sound server answers.", _START_A_SERVER)
    else:
        says = f"The sound server answers: {name}."
        yield Finding("sound server", OK, says, facts={"name": name})


def _devices() -> Iterator[Finding]:
    try:
        facts, inputs = _inputs()
    except DeviceError:
        yield Finding("devices", FAILURE, "No devices can be listed.", "see the sound server above")
        return
    if not inputs:
        yield Finding(
            "devices",
            WARNING,
            "No microphone is connected: there are outputs and their monitors only.",
            "plug one in, or allow it in the system's sound settings",
            facts,
        )
    else:
        says = f"{len(inputs)} microphone(s): {', '.join(inputs)}."
        yield Finding("devices", OK, says, facts=facts)
    if sys.platform.startswith("linux"):
        yield from _default_input()


def _inputs() -> tuple[dict[str, Any], list[str]]:
    """Facts of every device, and descriptions of the microphones; raises DeviceError."""
    if sys.platform.startswith("linux"):
        from engine.sound_server import SoundServer

        with SoundServer() as server:
            found = [(asdict(one), one.monitor or one.ours) for one in server.devices()]
    else:
        from engine import devices

        found = [(dict(one.as_dict()), one.virtual) for one in devices.devices()]
    facts = {"devices": [told for told, _ in found]}
    real = [told for told, virtual in found if not virtual and told["kind"] == "input"]
    return facts, [str(told["description"]) for told in real]


def _default_input() -> Iterator[Finding]:
    """What ``denoise-app --device`` would clean."""
    from engine.sound_server import SoundServer

    try:
        with SoundServer() as server:
            found = server.find("input", None)
            volume = server.volume(found.name)
    except DeviceError as error:
        yield Finding("default input", FAILURE, f"There is nothing to clean: {error}.", "")
        return
    facts = {**asdict(found), "volume": round(volume, 3)}
    rate = f"{found.sample_rate} Hz, {found.channels} channel(s)"
    says = f"The input that is cleaned is {found.description} ({rate})."
    if volume == 0.0:
        yield Finding(
            "default input",
            WARNING,
            f"{says} It is muted, or its volume is 0, so nobody would hear you.",
            "turn it up in the system's sound settings",
            facts,
        )
    elif volume < 0.1:
        yield Finding(
            "default input",
            WARNING,
            f"{says} Its volume is {volume:.0%}.",
            "turn it up in the system's sound settings",
            facts,
        )
    elif found.sample_rate < 32_000:
        yield Finding(
            "default input",
            WARNING,
            f"{says} It does not hear the whole voice.",
            "a Bluetooth headset in a call has a narrow band; another microphone sounds better",
            facts,
        )
    else:
        yield Finding("default input", OK, says, facts=facts)


# Models


def _provider() -> Iterator[Finding]:
    installed = installed_providers()
    path = models.FOLDER / f"{models.DEFAULT}.onnx"
    try:
        network = Network(path)
    except ModelError as error:
        yield Finding(
            "provider",
            FAILURE,
            f"The default model runs nowhere: {error}.",
            "see the model below",
            {"installed": installed},
        )
        return
    cost_ms, hop_ms = 1000.0 * _cost_s(network), 1000.0 * network.spec.hop_s
    share = cost_ms / hop_ms
    facts = {"installed": installed, "chosen": network.provider, "frame_ms": round(cost_ms, 3)}
    says = (
        f"{network.provider} runs {models.DEFAULT}, {cost_ms:.2f} ms for every {hop_ms:.0f} ms of "
        f"sound (installed: {', '.join(installed)})."
    )
    level = FAILURE if share > 1.0 else WARNING if share > _BUSY_SHARE else OK
    advice = "" if level == OK else "end other work, or use a smaller model; see denoise-app bench"
    yield Finding("provider", level, says, advice, facts)


def _cost_s(network: Network) -> float:
    """Median time of a frame, one at a time as live [s]."""
    frame = np.full((1, network.spec.n_heard), -60.0, np.float32)
    frame[:, network.spec.n_bins :] = 0.0  # no phase moves
    state, costs = network.initial_state(), []
    for _ in range(50):
        began_s = time.perf_counter()
        state = network(frame, state).state
        costs.append(time.perf_counter() - began_s)
    return float(np.median(costs))


def _model(path: Path) -> Iterator[Finding]:
    from app.example import golden_input

    check, again = f"model {path.stem}", "install the program again; the file is not what it was"
    try:
        network = Network(path, "cpu")
        estimate = network(golden_input(network), network.initial_state())
    except ModelError as error:
        yield Finding(check, FAILURE, f"{error}.", again)
        return
    facts: dict[str, Any] = {"version": network.spec.version, "path": str(path)}
    try:
        golden = np.load(path.parent / "golden" / f"{path.stem}.npy").astype(np.float32)
    except (OSError, ValueError):
        yield Finding(
            check,
            WARNING,
            f"{path.stem} opens, but there is nothing to compare its answer with.",
            again,
            facts,
        )
        return
    if golden.shape != estimate.gain.shape:
        far = float("inf")
    else:
        far = float(np.abs(golden - estimate.gain).max())
        facts["farthest"] = round(far, 6)
    in_8_bits = network.spec.training.get("weights") == "int8"
    if far > (_GOLDEN_TOLERANCE_8_BITS if in_8_bits else _GOLDEN_TOLERANCE):
        yield Finding(
            check,
            FAILURE,
            f"{path.stem} answers otherwise than when it was shipped, by {far:.2g} of a gain.",
            again,
            facts,
        )
    else:
        yield Finding(
            check,
            OK,
            f"{path.stem} {network.spec.version} opens and answers as when it was shipped.",
            facts=facts,
        )


# What runs


def _session() -> Iterator[Finding]:
    try:
        with ControlClient() as client:
            told = client.ask(do="status")
    except ControlError as error:
        yield _no_session(error)
    else:
        problem = told.get("problem") or told.get("fault")
        state = told.get("state", "starting")
        ill = bool(problem) or state == "stalled"
        yield Finding(
            "session",
            WARNING if ill else OK,
            f"A session runs, {state}, on {told.get('input', 'no input yet')}"
            + (f"; {problem}." if problem else "."),
            f"see its log ({log.path()}), or start it again" if ill else "",
            {"running": True, **told},
        )
    yield from _leftovers()


def _no_session(error: ControlError) -> Finding:
    """Nobody answers: because nobody is there, or because somebody died or hangs."""
    facts = {"running": False}
    with contextlib.suppress(ControlError):
        if (folder() / "control").exists():
            return Finding(
                "session",
                WARNING,
                f"A session left its socket behind, or does not answer ({error}).",
                "end its process if there is one; the next start removes the rest",
                facts,
            )
    return Finding("session", OK, "No session runs.", facts=facts)


def _leftovers() -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        return
    from engine.sound_server import SoundServer

    with contextlib.suppress(DeviceError), SoundServer() as server:
        n = server.leftovers()
        if n:
            yield Finding(
                "leftovers",
                WARNING,
                f"A session that ended badly left {n} module(s) in the sound server.",
                "start denoise-app --device once: it removes them",
                {"modules": n},
            )


def _self_test() -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        return
    problem: Exception | None = None
    made = None
    tries = 0
    while made is None and tries < _TRIES:
        tries += 1
        try:
            from app.loopback import loop_back

            made = loop_back(Network(models.FOLDER / f"{models.DEFAULT}.onnx"))
        except (DeviceError, ModelError) as error:
            problem = error
    if made is None:
        says = f"The self-test did not come through: {problem}."
        yield Finding("self-test", FAILURE, says, _SEE_ABOVE, {"tries": tries})
        return
    yield judged(made, tries)


def judged(made: LoopBack, tries: int) -> Finding:
    """What a self-test says that came through, at the last of so many tries."""
    facts = {name: _rounded(value) for name, value in made._asdict().items()} | {"tries": tries}
    says = (
        f"A voice in rain went through in {made.delay_ms:.0f} ms with {made.drops} drop(s); the "
        f"rain came out {made.suppression_db:.0f} dB quieter."
    )
    if made.uncleaned_s:
        says += f" For {made.uncleaned_s:.2f} s the machine was too busy to clean."
    if made.fault or made.suppression_db < _SUPPRESSION_DB:
        advice = f"it went through uncleaned: {made.fault}" if made.fault else _SEE_ABOVE
        return Finding("self-test", FAILURE, says, advice, facts)
    if made.drops or made.uncleaned_s or made.delay_ms > _LONG_MS or tries > 1:
        advice = "the machine was busy: end other work and try again"
        return Finding("self-test", WARNING, says, advice, facts)
    return Finding("self-test", OK, says, facts=facts)


def _rounded(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value
