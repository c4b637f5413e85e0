"""How well model files are heard: through the engine, against clean speech, in figures.

``denoise-app evaluate MODEL.onnx… DIR`` with ``DIR/noisy/ID.flac``,
``DIR/clean/ID.flac`` and ``DIR/manifest.csv`` (columns ``id`` and ``snr_db``). A model
runs as it is shipped, at the files' own rate; what other programs made of the same clips
gets rows of its own. Not here: Keras, and what a figure means (``scores``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from acquisition.workers import end_with_parent
from engine.errors import TrainingError
from engine.network import Network
from engine.spec import ModelSpec
from engine.stft import Float
from training import spectrograms
from training.export import describe
from training.files import replace_file
from training.score_tables import (
    CleanResult,
    Clip,
    LimitedResult,
    clean_table,
    limited_table,
    summary,
    table,
    told,
)
from training.scores import (
    at_rate,
    octave_losses_db,
    pesq_or_lowest,
    score,
    si_sdr_or_lowest,
    thesis_figures,
    word_start_losses_db,
)
from training.systems import (
    Folder,
    Item,
    ModelFile,
    Narrowed,
    Oracle,
    Passthrough,
    System,
    Unprocessed,
    frames,
    items,
    narrowed,
    pair,
    read,
    through,
)

log = logging.getLogger("training")

UNPROCESSED = "unprocessed"

# No causal system here is later than this; a longer search finds echoes of the text.
_LONGEST_DELAY_S = 0.25


def delay(clean: Float, processed: Float, longest: int) -> int | None:
    """By how many samples, −longest…longest, the second lags the first: their best match.

    None where one of them is silent: nothing matches then.
    """
    if not (clean.any() and processed.any()):
        return None
    n_fft = 1 << (len(clean) + longest).bit_length()
    spectrum = np.fft.rfft(processed, n_fft) * np.conj(np.fft.rfft(clean, n_fft))
    match = np.fft.irfft(spectrum, n_fft)
    around = np.concatenate([match[-longest:], match[: longest + 1]])
    return int(np.argmax(around)) - longest


def aligned(signal: Float, lag: int) -> Float:
    """The signal ``lag`` samples earlier, as long as before, silence where nothing is known."""
    if lag >= 0:
        return np.concatenate([signal[lag:], np.zeros(lag, signal.dtype)])
    return np.concatenate([np.zeros(-lag, signal.dtype), signal[:lag]])


def evaluate(
    systems: Mapping[str, tuple[System, ModelSpec | None]], found: Sequence[Item], workers: int = 0
) -> dict[str, list[Clip]]:
    """Score every clip of a test set after each of some systems.

    A system's delay is estimated on each clip that is not silent, and the median removed of all.

    Parameters
    ----------
    systems : by name, each with the setting at which the thesis's figures are taken
    found : the test set
    workers : processes; 0 means one per core

    Raises
    ------
    engine.errors.TrainingError : a file is missing or is no sound
    engine.errors.ModelError : a model cannot be used
    """
    scored = {}
    with _pool(workers) as pool:
        for name, (system, spec) in systems.items():
            lags = [k for k in pool.map(partial(_lag_of, system), found) if k is not None]
            lag = int(np.median(lags)) if lags else 0
            log.info("%s: delay %d samples", name, lag)
            scored[name] = list(pool.map(partial(_clip_of, system, spec, lag), found))
    return scored


def evaluate_clean(model: Path, found: Sequence[Item], workers: int = 0) -> list[CleanResult]:
    """Send the clean clips of a test set through a model; raises as ``evaluate``."""
    with _pool(workers) as pool:
        return list(pool.map(partial(_clean_of, model), found))


def evaluate_limited(
    systems: Mapping[str, System],
    found: Sequence[Item],
    rates: Sequence[int],
    scored: Mapping[str, Sequence[Clip]],
    workers: int = 0,
) -> dict[str, dict[int, list[LimitedResult]]]:
    """Send the clips of a test set through sources of lower rates and some systems.

    Parameters
    ----------
    systems : by name
    found : the test set
    rates : of the sources [Hz]
    scored : what ``evaluate`` gave of the same clips; systems that are not there hear them whole
        here too, and count as not delayed
    workers : as of ``evaluate``, which raises the same
    """
    if not systems:
        return {}
    known = [
        {name: (clips[k].scores.pesq_wb, clips[k].lag) for name, clips in scored.items()}
        for k in range(len(found))
    ]
    with _pool(workers) as pool:
        of_clips = list(pool.map(partial(_limited_of, systems, rates), found, known))
    return {
        name: {rate: [of_clip[name][k] for of_clip in of_clips] for k, rate in enumerate(rates)}
        for name in systems
    }


def draw_extremes(
    folder: Path,
    name: str,
    system: System,
    spec: ModelSpec,
    clips: Sequence[Clip],
    before: Sequence[Clip],
) -> list[Path]:
    """Write pictures of the clips to which a system did most, middling, and least good.

    Parameters
    ----------
    folder : of the pictures; made where it is missing
    clips, before : the same items after the system and unprocessed; SI-SDR is compared

    Returns
    -------
    the files: ``NAME-best-ID.png``, ``NAME-median-ID.png``, ``NAME-worst-ID.png``
    """
    folder.mkdir(parents=True, exist_ok=True)
    gains_db = [a.scores.si_sdr - b.scores.si_sdr for a, b in zip(clips, before, strict=True)]
    order = np.argsort(gains_db, kind="stable")
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    written = []
    for which, k in chosen.items():
        item, made = clips[k].item, system(clips[k].item)
        (noisy, rate), (clean, _) = read(item.noisy), read(item.clean)
        lag = delay(clean, made.sound, round(_LONGEST_DELAY_S * rate)) or 0
        after = aligned(made.sound, lag)
        noisy_db, after_db, clean_db = (frames(spec, s, rate) for s in (noisy, after, clean))
        gain = 10.0 ** ((after_db - noisy_db) / 20.0) if made.gain is None else made.gain
        path = folder / f"{re.sub('[^A-Za-z0-9._]+', '-', name)}-{which}-{item.name}.png"
        title = f"{item.name} after {name}: {which}, SI-SDR {gains_db[k]:+.1f} dB"
        spectrograms.draw(path, spec, noisy_db, after_db, clean_db, gain, title)
        written.append(path)
    return written


def _pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: ONNX Runtime's threads do not survive a fork."""
    count = workers or os.cpu_count() or 1
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=end_with_parent)


def _lag_of(system: System, item: Item) -> int | None:
    clean, rate = read(item.clean)
    return delay(clean, system(item).sound, round(_LONGEST_DELAY_S * rate))


def _clip_of(system: System, spec: ModelSpec | None, lag: int, item: Item) -> Clip:
    _, clean, rate = pair(item)
    made = system(item)
    heard = aligned(made.sound, lag)
    scores, problems = score(clean, heard, rate)
    scores = scores._replace(real_time=made.seconds * rate / len(clean))
    if spec is not None:
        estimated_db = made.estimated_db
        if estimated_db is None:
            estimated_db = frames(spec, heard, rate)
        clean_db = frames(spec, clean, rate)
        accuracy, mse = thesis_figures(estimated_db[:, : spec.n_bins], clean_db[:, : spec.n_bins])
        scores = scores._replace(accuracy=accuracy, mse=mse)
    starts_db = tuple(word_start_losses_db(clean, heard, rate))
    return Clip(item, scores, problems, lag, starts_db)


def _clean_of(model: Path, item: Item) -> CleanResult:
    clean, rate = read(item.clean)
    network = Network(model, provider="cpu")
    after, straight = (
        through(estimator, clean, rate).sound for estimator in (network, Passthrough(network.spec))
    )
    clean_16k, after_16k, straight_16k = (
        at_rate(s, rate, 16_000) for s in (clean, after, straight)
    )
    return CleanResult(
        item.name,
        si_sdr_or_lowest(clean_16k, after_16k)[0],
        si_sdr_or_lowest(clean_16k, straight_16k)[0],
        pesq_or_lowest(straight, after, rate, "nb")[0],
        pesq_or_lowest(straight, after, rate, "wb")[0],
        tuple(octave_losses_db(straight, after, rate)),
    )


def _source_rate(text: str) -> int:
    rate = int(text) if text.isdigit() else 0
    if not 4000 <= rate <= 48_000:
        raise argparse.ArgumentTypeError(f"should be 4000…48000 Hz, found {text!r}")
    return rate


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"should be a whole number, 0 or more, found {text!r}")
    return int(text)


def _limited_of(
    systems: Mapping[str, System],
    rates: Sequence[int],
    item: Item,
    known: Mapping[str, tuple[float, int]],
) -> dict[str, list[LimitedResult]]:
    """Of one clip, rate by rate; ``known``: PESQ-WB of all of it after a system, and its lag."""
    _, clean, rate = pair(item)
    limits = [
        pesq_or_lowest(clean, narrowed(clean, rate, source), rate, "wb")[0] for source in rates
    ]

    def heard_by(system: System, lag: int) -> float:
        return pesq_or_lowest(clean, aligned(system(item).sound, lag), rate, "wb")[0]

    results = {}
    for name, system in systems.items():
        whole, lag = known.get(name) or (heard_by(system, 0), 0)
        results[name] = [
            LimitedResult(whole, heard_by(Narrowed(system, source), lag), limit)
            for source, limit in zip(rates, limits, strict=True)
        ]
    return results


def _named_folder(text: str) -> tuple[str, Folder]:
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise argparse.ArgumentTypeError(f"should be NAME=DIR, found {text!r}")
    return name, Folder(Path(folder))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("models", type=Path, nargs="*", metavar="MODEL", help="model files")
    add("folder", type=Path, help="test set: noisy/, clean/, manifest.csv")
    add(
        "--processed",
        type=_named_folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a row for what another program made: ID.wav or ID.flac at any rate; repeatable",
    )
    add("--oracle", action="store_true", help="a row for the ideal mask at each model's setting")
    add("--clean", action="store_true", help="send only the clean clips through")
    add(
        "--limited",
        type=_source_rate,
        nargs="+",
        default=[],
        metavar="HZ",
        help="what sources of these sample rates lose by each model, with --clean's table",
    )
    add("--json", type=Path, help="write every figure of every clip here too")
    add("--markdown", type=Path, help="write the tables here too")
    add("--pictures", type=Path, metavar="DIR", help="draw the best, median and worst clip here")
    add("--record", action="store_true", help="keep the means in the model files")
    add("--workers", type=_count, default=0, help="processes (default: one per core)")


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Evaluate as the arguments say; ``tell`` takes the Markdown.

    Raises
    ------
    engine.errors.TrainingError : the folder is no test set, a file of ``--processed`` is
        missing, two rows have one name, there is no model where one is needed, or what is to
        be written cannot be, or is read
    engine.errors.ModelError : a model cannot be used
    """
    found = items(args.folder)
    specs = {path: Network(path, provider="cpu").spec for path in args.models}
    if not specs and (args.oracle or args.clean or args.limited or args.pictures or args.record):
        raise TrainingError("--oracle, --clean, --limited, --pictures and --record need a model")
    _check_outputs(args, found)
    _check_writable(args)
    systems = {} if args.clean else _systems(specs, args.processed, args.oracle, found)
    scored = evaluate(systems, found, args.workers)
    clean = {_row_name(path, specs): evaluate_clean(path, found, args.workers) for path in specs}
    narrow = {_row_name(path, specs): ModelFile(path) for path in specs if args.limited}
    limited = evaluate_limited(narrow, found, args.limited, scored, args.workers)
    tables = [table(scored)] if scored else []
    tables += [clean_table(clean)] if clean else []
    tables += [limited_table(limited)] if limited else []
    text = "\n".join(tables)
    tell(text)
    if args.markdown:
        replace_file(args.markdown, text.encode())
    if args.json:
        replace_file(args.json, json.dumps(told(scored, clean, limited), indent=1).encode())
    if args.pictures:
        for name, (system, spec) in systems.items():
            if name != UNPROCESSED and spec is not None:
                pair = scored[name], scored[UNPROCESSED]
                draw_extremes(args.pictures, name, system, spec, *pair)
    if args.record and scored:
        for path, spec in specs.items():
            scores = summary(scored[_row_name(path, specs)])
            del scores["real_time"]  # of this machine, not of the model
            describe(path, replace(spec, training={**spec.training, "scores": scores}))


def _check_outputs(args: argparse.Namespace, found: Sequence[Item]) -> None:
    """Raise TrainingError for a file to write that is a folder, or one that is read."""
    inputs = [*args.models, args.folder / "manifest.csv"]
    inputs += [path for item in found for path in (item.noisy, item.clean)]
    made = [folder.file(item) for _, folder in args.processed for item in found]
    inputs += [path for path in made if path is not None]
    for path in filter(None, (args.json, args.markdown)):
        if path.is_dir():
            raise TrainingError(f"{path} is a folder; name a file")
        if path.exists() and any(map(path.samefile, inputs)):
            raise TrainingError(f"{path} is a file that is evaluated; name another to write")


def _check_writable(args: argparse.Namespace) -> None:
    """Raise TrainingError for what could not be written in the end, when all is scored."""
    files = [path for path in (args.json, args.markdown) if path is not None]
    places = [(path, path.parent) for path in files + (args.models if args.record else [])]
    places += [(path, path) for path in (args.pictures,) if path is not None]
    for path, folder in places:
        try:
            if folder == args.pictures:
                folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise TrainingError(f"cannot write {path}: {error.strerror or error}") from error


def _systems(
    specs: Mapping[Path, ModelSpec],
    others: Sequence[tuple[str, Folder]],
    oracle: bool,
    found: Sequence[Item],
) -> dict[str, tuple[System, ModelSpec | None]]:
    """Every row of the table, in its order; the first model's setting for what has none."""
    setting = next(iter(specs.values()), None)
    rows: list[tuple[str, System, ModelSpec | None]] = [(UNPROCESSED, Unprocessed(), setting)]
    for path, spec in specs.items():
        rows.append((_row_name(path, specs), ModelFile(path), spec))
    for name, folder in others:
        missing = [item.name for item in found if folder.file(item) is None]
        if missing:
            raise TrainingError(
                f"{folder.path}: {len(missing)} of {len(found)} clips are missing, first: "
                f"{missing[0]}.wav or .flac"
            )
        rows.append((name, folder, setting))
    if oracle:
        for path, spec in specs.items():
            rows.append((f"oracle of {_row_name(path, specs)}", Oracle(spec), spec))
    systems = {name: (system, spec) for name, system, spec in rows}
    if len(systems) < len(rows):
        raise TrainingError("two rows have one name: " + ", ".join(name for name, _, _ in rows))
    return systems


def _row_name(path: Path, paths: Mapping[Path, ModelSpec]) -> str:
    """The file's name; with its folder's where two models are called alike."""
    alike = [other for other in paths if other.stem == path.stem]
    return path.stem if len(alike) == 1 else f"{path.resolve().parent.name}/{path.stem}"
