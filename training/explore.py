"""``denoise-app explore``: what a catalogue holds, in tables, and how it sounds, in figures.

The exploratory analysis of the thesis, of any catalogue. Not here: the counting
(``acquisition.statistics``), the sounds (``explore_sounds``), the figures
(``explore_figures``) and the page (``explore_page``).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acquisition import statistics
from acquisition.catalogue import Catalogue, CatalogueError
from engine.errors import TrainingError
from engine.spec import ModelSpec
from engine.stft import Float
from training import explore_bench, explore_figures
from training.explore_page import Picture, Section, page
from training.explore_sounds import SNR_DB, Pieces, draw, together
from training.explore_tables import markdown, plain, tables
from training.files import replace_file
from training.settings import SETTINGS

log = logging.getLogger("training")

# Recordings whose levels are normalised together: a mean of fewer would be that of one voice.
_SEVERAL = 12

SAYS = {
    "languages": "Hours of speech by language",
    "rates": "Hours of speech and noise by sample rate",
    "quality": "Histograms of SNR, bandwidth, silence and clipping",
    "spectrograms": "Spectrograms of a voice, a noise and their mixture",
    "spectra": "Fourier transforms of voice, noise and mixture over one another",
    "envelopes": "Time envelopes of voice, noise and mixture",
    "histogram-time": "Histogram of sample values",
    "histogram-frequency": "Histograms of level by frequency",
    "normalisation": "Levels by frequency before and after normalisation",
}
"""Every figure, by the name of its file."""


class _Shown(NamedTuple):
    """What was drawn among the recordings."""

    sounds: dict[str, Float]
    """By name, as ``explore_figures`` takes them; empty where no file could be read."""
    several: list[Float]
    """Sounds for the normalisation: mixtures where there are noises."""
    text: str
    """Which they are and what is missing."""
    told: dict[str, Any]
    """The same for programs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("catalogue", type=Path, nargs="?", metavar="CATALOGUE.sqlite", help="what is described")
    add(
        "--out",
        type=Path,
        metavar="PAGE.html",
        help="write a page with all tables and figures, and the figures as PNG files into "
        "PAGE_figures beside it (default: only print the tables)",
    )
    add(
        "--setting",
        choices=SETTINGS,
        default="classic",
        help="the model's rate and transform (default: %(default)s)",
    )
    add("--seed", type=int, default=1, help="chooses the voice and the noise (default: 1)")
    add("--json", action="store_true", help="print one JSON object")
    add(
        "--bench",
        type=int,
        nargs="?",
        const=100_000,
        metavar="N",
        help="measure how long the statistics of N tracks take, in place of a catalogue "
        "(default: %(const)s)",
    )


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Describe a catalogue; ``tell`` gets the tables, or one JSON object.

    Raises
    ------
    engine.errors.TrainingError : no such catalogue, it is damaged, or the page cannot be written
    """
    spec = SETTINGS[args.setting]
    if args.bench is not None:
        tell(explore_bench.run(args.bench, spec.sample_rate))
        return
    if args.catalogue is None:
        raise TrainingError("nothing to describe: give a catalogue, or --bench")
    if args.seed < 0:
        raise TrainingError(f"--seed should be 0 or more, found {args.seed}")
    if not args.catalogue.is_file():  # opening would make one
        raise TrainingError(f"{args.catalogue}: there is no such catalogue")
    if args.out is not None and args.out.resolve() == args.catalogue.resolve():
        raise TrainingError(f"{args.out}: is the catalogue: give the page another name")
    with _as_training_error(), Catalogue(args.catalogue) as catalogue:
        log.info("counting")
        told = statistics.describe(catalogue, spec.sample_rate)
        shown = _shown(catalogue, spec, args.seed) if args.out else None
    told = {"catalogue": str(args.catalogue), "setting": args.setting, **told}
    if shown is not None:
        sections = _sections(told, shown, spec)
        title = f"What is in {plain(args.catalogue.name)}"
        made = _write(args.out, page(title, _about(spec, args.setting), sections), sections)
        told |= {"page": str(args.out), "figures": list(map(str, made)), "shown": shown.told}
    if args.json:
        tell(f"{json.dumps(told)}\n")
    elif shown is not None:
        tell(f"wrote {args.out}, and {len(made)} figures beside it. {shown.text}\n")
    else:
        tell(markdown(tables(told).values()))


def figure_folder(path: Path) -> Path:
    """Where a page's figures are as files."""
    return path.with_name(f"{path.stem}_figures")


def _shown(catalogue: Catalogue, spec: ModelSpec, seed: int) -> _Shown:
    """Draw and read the recordings that are shown."""
    log.info("reading recordings")
    rng = np.random.default_rng(seed)
    voices, noises = (
        draw(catalogue, kind, _SEVERAL, spec.sample_rate, rng) for kind in ("speech", "noise")
    )
    sounds: dict[str, Float] = {}
    if voices.drawn and noises.drawn:
        pairs = [
            together(voice.sound, noises.drawn[k % len(noises.drawn)].sound, spec.sample_rate)
            for k, voice in enumerate(voices.drawn)
        ]
        sounds, several = pairs[0], [pair["mixture"] for pair in pairs]
    else:
        several = [piece.sound for piece in (voices.drawn or noises.drawn)]
        if several:
            sounds = {"voice" if voices.drawn else "noise": several[0]}
    told: dict[str, Any] = {"missing_files": voices.missing + noises.missing}
    texts = []
    for name, pieces in (("voice", voices), ("noise", noises)):
        told[name] = pieces.drawn[0].name if pieces.drawn else None
        texts.append(_which(name, pieces))
    if "mixture" in sounds:
        told["snr_db"] = SNR_DB
        texts.append(f"Their mixture has an SNR of {SNR_DB:g} dB.")
    return _Shown(sounds, several, " ".join(texts), told)


def _which(name: str, pieces: Pieces) -> str:
    """The recording in words, and whether others could not be read."""
    if not pieces.drawn:
        if pieces.missing:
            return f"No {name} can be shown: none of {pieces.missing:,} files has sound in it."
        return f"No {name} can be shown: the catalogue has none whose file is known."
    first = pieces.drawn[0]
    files = "file" if pieces.missing == 1 else "files"
    lacking = f" ({pieces.missing:,} other {files} could not be shown)" if pieces.missing else ""
    return f"The {name} is “{plain(first.name)}” from {first.start_s:.1f} s{lacking}."


def _about(spec: ModelSpec, setting: str) -> str:
    """What all figures of sound have in common."""
    seen = spec.n_bins * spec.sample_rate / spec.n_fft / 1000.0
    told = (
        f"As a model of setting {setting} hears it: {spec.sample_rate} Hz, a transform of "
        f"{spec.n_fft} samples every {spec.hop}, levels over those of a full-scale sine."
    )
    if spec.n_bins < spec.n_spectrum:
        told += f" A red line marks {seen:.1f} kHz, the end of what the network sees."
    return told


def _sections(told: Mapping[str, Any], shown: _Shown, spec: ModelSpec) -> list[Section]:
    """All of the page; figures are drawn here."""
    every = tables(told)

    def picked(*names: str) -> list[Any]:
        return [every[name] for name in names]

    draw = explore_figures
    rates = [row for row in told["rates"] if row["kind"] != "rooms"]
    measured = any(
        one["files"]
        for found in told["quality"].values()
        for kind in ("speech", "noise")
        for one in found.get(kind, {"classes": ()})["classes"]
    )
    languages = bool(told["languages"])
    sounds, nothing = shown.sounds, "There are no recordings to draw."
    made = [
        Section("What there is", "", (), picked("kinds")),
        _drawn(
            "Languages, speakers and books",
            "Hours of speech by language." if languages else nothing,
            {"languages": partial(draw.languages, told["languages"])} if languages else {},
            picked("languages", "speakers", "books", "same_name", "same_content"),
        ),
        _drawn(
            "Sample rates",
            "Hours by the samples that a second has." if rates else nothing,
            {"rates": partial(draw.rates, rates, spec.sample_rate)} if rates else {},
            picked("rates"),
        ),
        _drawn(
            "Quality",
            "Estimated from each recording alone when it was gathered. Recordings in which "
            "nothing is clipped are in the leftmost class of clipping."
            if measured
            else "No recording was measured.",
            {"quality": partial(draw.quality, told["quality"])} if measured else {},
            picked("quality"),
        ),
        Section("A voice and a noise", shown.text),
    ]
    if sounds:
        several = f"Mean and deviation are of all frames of {len(shown.several)} recordings"
        several += f", mixed at {SNR_DB:g} dB" if "mixture" in sounds else ""
        for title, text, name, how in (
            ("Spectrograms", "Level by time and frequency.", "spectrograms", None),
            (
                "Transforms over one another",
                "Where the voice stands out of the noise, and where it is covered.",
                "spectra",
                None,
            ),
            (
                "Envelopes in time",
                "Lowest and highest sample of every 10 ms, and the effective value as a line.",
                "envelopes",
                None,
            ),
            (
                "Histogram in time",
                "How often each sample value is met; a peak at 0 is rest.",
                "histogram-time",
                partial(draw.time_histogram, sounds),
            ),
            (
                "Histograms in frequency",
                "How often each frequency has each level; the line is the mean.",
                "histogram-frequency",
                partial(draw.frequency_histogram, sounds, spec),
            ),
            (
                "Normalisation by band",
                f"{several}. After it all bands weigh alike.",
                "normalisation",
                partial(draw.normalisation, shown.several, spec),
            ),
        ):
            how = how or partial(getattr(draw, name), sounds, spec)
            made.append(_drawn(title, text, {name: how}, []))
    names = ("pairs", "pair_rates", "models", "most_learnt", "not_learnt")
    return [*made, Section("Pairs of speech and noise", "", (), picked(*names))]


def _drawn(
    title: str, text: str, figures: Mapping[str, Callable[[], bytes]], its_tables: list[Any]
) -> Section:
    pictures = []
    for name, how in figures.items():
        log.info("drawing %s", name)
        pictures.append(Picture(name, how(), SAYS[name]))
    return Section(title, text, pictures, its_tables)


def _write(path: Path, content: str, sections: list[Section]) -> list[Path]:
    """Write the figures, then the page that holds them as well; returns the figures' paths."""
    folder = figure_folder(path)
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in (picture for section in sections for picture in section.pictures):
            made.append(folder / f"{picture.name}.png")
            replace_file(made[-1], picture.png)
        for name in SAYS:  # an earlier page of this name may have had more
            if folder / f"{name}.png" not in made:
                (folder / f"{name}.png").unlink(missing_ok=True)
        replace_file(path, content.encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror or error}") from error
    return made


@contextmanager
def _as_training_error() -> Iterator[None]:
    """The catalogue's own error is not known to the command line."""
    try:
        yield
    except CatalogueError as error:
        raise TrainingError(str(error)) from error
