"""The command line: what can be asked for, and what an answer's exit code means.

0 done, 1 could not do it (one line says why), 2 wrong usage, 130 interrupted. Each
command lives in its own module, imported when it is asked for. Not here: the work.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import models
from app import training, window
from engine.errors import AudioFileError, ControlError, DeviceError, ModelError, TrainingError

_EXPECTED = (
    AudioFileError,
    ControlError,
    DeviceError,
    ModelError,
    TrainingError,
    training.MissingPackages,
    training.NotGathered,
    window.NoWindow,
)
_STEERING = {
    "on": "clean the sound of the running session",
    "off": "let it through as it is, at the same delay",
    "toggle": "on if it is off, off if it is on",
    "status": "how the running session does",
}
_MODULES = dict.fromkeys(_STEERING, "steering")
"""Of commands that share one."""

# More threads than one per library would only compete with the sound callbacks.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def main(arguments: Sequence[str]) -> int:
    """Do what ``arguments`` ask for; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal has our dashes and arrows, not every file's name is text.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _do(arguments)
        print(end="", flush=True)
        return code
    except _EXPECTED as error:
        _complain(str(error))
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        _abandon_output()  # whoever read it has gone
    except OSError as error:  # a disk that is full, a place that cannot be read or written
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        with contextlib.suppress(OSError):
            print(end="", flush=True)
            return 1
        _abandon_output()
    return 1


def _do(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in training.COMMANDS:
        training.run(arguments[0], arguments[1:])
        return 0
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.minimised and not (args.command is None and args.device is None):
        parser.error("--minimised is for the window alone")
    if args.command == "bench" and args.limited and args.peers is None:
        parser.error("--limited is for bench --peers alone")
    by_window = not arguments or args.minimised
    if not by_window and args.command is None and args.device is None:
        parser.print_usage(sys.stderr)
        _complain("say what to do: --device for live sound, or one of the commands (--help)")
        return 2
    alone = "live" if args.device is not None else "window"
    module = alone if args.command is None else _MODULES.get(args.command, args.command)
    return int(importlib.import_module(f"app.{module}").run(args) or 0)


def _abandon_output() -> None:
    """Python must not complain of it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """Every option and command, with units and defaults in the help."""
    parser = argparse.ArgumentParser(
        prog="denoise-app",
        description="Takes the noise out of your microphone, while you call. "
        "All sound stays on this machine. Without arguments it opens its window.",
        epilog="Exit codes: 0 done, 1 could not do it, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="tell the version and end")
    parser.add_argument(
        "--minimised", action="store_true", help="open the window in the tray, as at log-in"
    )
    live = parser.add_argument_group("live sound, without a window")
    live.add_argument(
        "--device",
        nargs="?",
        const="",
        metavar="NAME",
        help="clean this input device (default: the system's) into the virtual microphone "
        "until Ctrl-C; a part of the name is enough",
    )
    live.add_argument(
        "--output",
        metavar="NAME",
        help="play the clean sound to this output device instead of the virtual microphone",
    )
    live.add_argument("--monitor", action="store_true", help="hear yourself as well")
    live.add_argument(
        "--speakers",
        nargs="?",
        const="",
        metavar="NAME",
        help="clean what others send as well: pick “Denoised Speakers” in the call app, and "
        "hear it from this output device (default: the system's)",
    )
    _add_model_options(live)
    live.add_argument(
        "--keep-model",
        action="store_true",
        help="never let a cheaper model clean for a while when this machine cannot keep up: "
        "sound then goes through uncleaned",
    )
    live.add_argument(
        "--idle",
        action=argparse.BooleanOptionalAction,
        help="close the microphone while nobody listens, after 5 s, or keep it open (default: "
        "close it; on PipeWire, where a call would wait for it then, not while the machine is "
        "full)",
    )
    live.add_argument("--json", action="store_true", help="one JSON object a second, for programs")

    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    file = commands.add_parser(
        "file",
        help="clean an audio or video file",
        description="Clean an audio or video file of any length. Rate, channels and length "
        "stay, and so does the picture stream of a video.",
    )
    file.add_argument("input", type=Path, metavar="IN", help="wav, flac, ogg, opus, mp3, mp4, mkv…")
    file.add_argument("output", type=Path, metavar="OUT", help="its extension is the format")
    _add_model_options(file)
    file.add_argument("--picture", type=Path, metavar="PNG", help="draw spectrograms and gain")
    file.add_argument("--json", action="store_true", help="print one JSON object at the end")

    for name, what in _STEERING.items():
        steered = _add_listing(commands, name, what)
        if name == "on":
            steered.add_argument(
                "--limit",
                type=_limit_db,
                metavar="DB",
                help="turn no frequency down by more than this [dB], 0…100",
            )
        else:
            steered.set_defaults(limit=None)
    _add_listing(commands, "devices", "list inputs and outputs")
    _add_listing(commands, "models", "list the models that come with the program")

    doctor = commands.add_parser(
        "doctor",
        help="what is well on this machine, what is not, and what to do",
        description="Look at the sound server, devices, permissions, packages, models and what "
        "runs, and try the whole path for ten seconds beside it. Exit code 1 when something fails.",
    )
    doctor.add_argument("--no-sound", action="store_true", help="leave out the ten seconds")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")

    bench = commands.add_parser(
        "bench",
        help="measure cost, latency and drops on this machine",
        description="Measure what the engine costs on this machine and print a Markdown table.",
    )
    bench.add_argument(
        "--model",
        default=models.DEFAULT,
        metavar="NAME|PATH",
        help=f"default: {models.DEFAULT}",
    )
    bench.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="length of each paced measurement [s] (default: 10)",
    )
    bench.add_argument(
        "--peers",
        nargs="?",
        const="",
        metavar="DIR",
        help="how every shipped model and RNNoise and DeepFilterNet3, as far as they are "
        "installed, are heard and what they cost: on a test set (noisy/, clean/, manifest.csv) "
        "or the bundled voice in rain",
    )
    bench.add_argument(
        "--limited",
        action="store_true",
        help="with --peers: also what each makes of sources of 8000 and 16000 Hz, as headsets are",
    )
    bench.add_argument(
        "--window",
        action="store_true",
        help="how soon the window shows something and what it costs, on a private screen (Xvfb)",
    )
    bench.add_argument("--no-live", action="store_true", help="leave out the live measurement")
    bench.add_argument("--json", action="store_true", help="print one JSON object")

    demo = commands.add_parser(
        "demo",
        help="a live session and what it did, with or without sound hardware",
        description="With a microphone and a desktop: clean that microphone. Without: start a "
        "private sound server whose microphone plays a noisy voice, run "
        "denoise-app --device on it, record the virtual microphone as a call app would, and "
        "show what came of it.",
    )
    demo.add_argument(
        "--folder",
        type=Path,
        default=Path("demo-output"),
        metavar="DIR",
        help="where recordings and the picture go (default: demo-output)",
    )
    demo.add_argument(
        "--server",
        choices=("pulseaudio", "pipewire"),
        default="pulseaudio",
        help="which to start (default: pulseaudio)",
    )
    demo.add_argument(
        "--recorded",
        action="store_true",
        help="use the recorded voice even where there is a microphone and a desktop",
    )
    _add_model_options(demo)
    demo.set_defaults(
        output=None, monitor=False, speakers=None, json=False, keep_model=False, idle=False
    )

    for name, what in training.COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)  # listed here, parsed there
    return parser


def _add_model_options(to: argparse._ActionsContainer) -> None:
    to.add_argument(
        "--model",
        default=models.DEFAULT,
        metavar="NAME|PATH",
        help=f"a shipped model's name or an .onnx file (default: {models.DEFAULT})",
    )
    to.add_argument(
        "--limit",
        type=_limit_db,
        default=100.0,
        metavar="DB",
        help="turn no frequency down by more than this [dB], 0…100; 0 changes nothing "
        "(default: 100, no limit)",
    )
    to.add_argument(
        "--provider",
        choices=("auto", "cpu", "migraphx", "rocm", "cuda"),
        default="auto",
        help="what runs the model (default: auto, the fastest installed)",
    )


def _add_listing(
    commands: argparse._SubParsersAction, name: str, what: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"{what.capitalize()}."
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def _limit_db(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"should be 0…100 dB, got {text}")
    return value


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes 40 ms."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {_version()}")
        parser.exit()


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("denoise-app")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _complain(text: str) -> None:
    print(f"denoise-app: {' '.join(text.split())}", file=sys.stderr)
