"""Speech that a synthesiser on this machine reads from a text.

An engine is a command line: espeak-ng and others that are common are known, any other is told.
Not here: what is told of each file (``tracks``).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from acquisition.tracks import enter_files

ENGINES: dict[str, tuple[str, ...]] = {
    "espeak-ng": ("espeak-ng", "-v", "{voice}", "-w", "{out}", "-f", "{text}"),
    "flite": ("flite", "-voice", "{voice}", "-f", "{text}", "-o", "{out}"),
    "piper": ("piper", "--model", "{voice}", "--input-file", "{text}", "--output-file", "{out}"),
    "text2wave": ("text2wave", "-eval", "(voice_{voice})", "-o", "{out}", "{text}"),
}
"""Commands that read the file ``{text}`` with ``{voice}`` into the WAV file ``{out}``."""

# A sentence is long enough for its melody, and short enough that little is lost to a kill.
_LONGEST = 400

_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+")

# A long sentence takes a slow engine seconds.
_TIMEOUT_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("--text", type=Path, required=True, metavar="FILE", help="what is read: UTF-8")
    add(
        "--voices",
        nargs="+",
        required=True,
        metavar="VOICE",
        help="by the engine's names, as en-gb de es+f3; each reads all of the text",
    )
    add(
        "--engine",
        choices=tuple(ENGINES),
        default="espeak-ng",
        help="one that is installed (default: %(default)s)",
    )
    add(
        "--command",
        metavar="LINE",
        help="another engine: a command with {text}, {voice} and {out}, as "
        "'mytts --speaker {voice} --from {text} --wav {out}'",
    )
    add("--language", help="as english")
    add("--licence", help="of the text and the voices, as CC0-1.0")


def run(args: argparse.Namespace, catalogue: Path, tell: Callable[[str], object]) -> None:
    """Let voices read a text; see ``acquire.run``."""
    command = tuple(shlex.split(args.command)) if args.command else ENGINES[args.engine]
    name = Path(command[0]).name
    for needed in ("{text}", "{out}"):
        if not any(needed in word for word in command):
            raise AcquisitionError(f"--command should have {needed}: {args.command}")
    if shutil.which(command[0]) is None:
        raise AcquisitionError(f"{command[0]}: is not installed")
    said = list(dict.fromkeys(sentences(args.text)))
    with Catalogue(catalogue) as opened:
        for voice in args.voices:
            folder = args.into / "synthetic" / name / _safe(voice)
            paths = [
                speak(command, voice, sentence, folder)
                for sentence in tqdm(said, desc=voice, unit="sentence", disable=None)
            ]
            columns = {
                "speaker": f"{name}/{voice}",
                "book_language": args.language,
                "book_name": args.text.name,
                "licence": args.licence,
                "source": f"synthetic: {name}",
            }
            tell(f"{voice}: {enter_files(opened, 'speech', paths, partial(_named, columns))}")


def sentences(path: Path) -> Iterator[str]:
    """Sentences of a text, the long ones parted at spaces.

    Raises AcquisitionError when it cannot be read or has no letters.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AcquisitionError(f"{path}: is no text: {error}") from error
    found = False
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            for piece in _pieces(sentence):
                if any(letter.isalnum() for letter in piece):
                    found = True
                    yield piece
    if not found:
        raise AcquisitionError(f"{path}: has nothing to read")


def speak(command: Sequence[str], voice: str, sentence: str, folder: Path) -> Path:
    """Let a voice say a sentence, unless it has; returns the WAV file.

    Raises AcquisitionError when the engine fails, takes too long, or says nothing.
    """
    key = hashlib.sha256("\n".join((*command, voice, sentence)).encode()).hexdigest()[:16]
    path = folder / f"{key}.wav"
    if path.is_file():
        return path
    text, part = folder / f"{key}.txt", folder / f"{key}.part.wav"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text.write_text(sentence, "utf-8")
        line = [word.format(text=text, voice=voice, out=part) for word in command]
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            told = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise AcquisitionError(f"{command[0]} failed with {voice}: {told or done.returncode}")
        if not part.is_file() or not part.stat().st_size:
            raise AcquisitionError(f"{command[0]} said nothing with {voice}")
        part.replace(path)
    except subprocess.TimeoutExpired as error:
        raise AcquisitionError(f"{command[0]} took longer than {_TIMEOUT_S:g} s") from error
    except (KeyError, IndexError, ValueError) as error:
        raise AcquisitionError("--command should have only {text}, {voice}, {out}") from error
    except OSError as error:
        raise AcquisitionError(f"{folder}: {error.strerror or error}") from error
    finally:
        text.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return path


def _named(columns: Mapping[str, Any], path: Path) -> dict[str, Any]:
    return {"name": f"{path.parent.name}/{path.name}", **columns}


def _pieces(sentence: str) -> Iterator[str]:
    while len(sentence) > _LONGEST:
        cut = sentence.rfind(" ", 1, _LONGEST)
        cut = cut if cut > 0 else _LONGEST
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def _safe(voice: str) -> str:
    """A voice's name, fit for a folder: some are paths of model files."""
    return re.sub(r"[^\w+.-]", "_", voice).lstrip(".") or "voice"
