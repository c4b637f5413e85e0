"""How well a model file is heard: through the engine, against clean speech, in figures.

``denoise-app evaluate MODEL.onnx DIR`` with ``DIR/noisy/ID.flac``,
``DIR/clean/ID.flac`` and ``DIR/manifest.csv`` (columns ``id`` and ``snr_db``). The model
runs as it is shipped, at the files' own rate. Not here: Keras.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from engine.denoiser import Denoiser
from engine.errors import TrainingError
from engine.measure import si_sdr_db
from engine.network import Estimate, Estimator, Network, State
from engine.pipeline import Pipeline
from engine.spec import ModelSpec
from engine.stft import Float
from training.export import describe

log = logging.getLogger("training")

UNPROCESSED = "unprocessed"

# The file goes through in blocks, as from a sound card: 10 ms at 48 kHz.
_BLOCK = 480

# No causal system here is later than this; a longer search finds echoes of the text.
_LONGEST_DELAY_S = 0.25


class Scores(NamedTuple):
    """What is measured of one processed clip."""

    pesq_wb: float
    """ITU-T P.862.2, 1…4.64, at 16 kHz."""
    pesq_nb: float
    """ITU-T P.862.1, 1…4.55, at 8 kHz."""
    stoi: float
    """Taal et al. 2011, 0…1."""
    estoi: float
    """Jensen & Taal 2016, 0…1."""
    si_sdr: float
    """Le Roux et al. 2019 [dB], at 16 kHz."""
    sig: float
    """DNSMOS P.835, speech, 1…5."""
    bak: float
    """DNSMOS P.835, background, 1…5."""
    ovrl: float
    """DNSMOS P.835, overall, 1…5."""
    p808: float
    """DNSMOS P.808, 1…5."""


HEADINGS = ("PESQ-WB", "PESQ-NB", "STOI", "ESTOI", "SI-SDR", "SIG", "BAK", "OVRL", "P.808")
_DECIMALS = (2, 2, 3, 3, 1, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class Item:
    """One clip of a test set."""

    name: str
    snr_db: float
    noisy: Path
    clean: Path


@dataclass(frozen=True, slots=True)
class Passthrough:
    """An estimator that turns nothing down: the pipeline itself, heard through."""

    spec: ModelSpec

    def initial_state(self) -> State:
        return ()

    def __call__(self, noisy_db: Float, state: State) -> Estimate:
        return Estimate(np.ones_like(noisy_db), np.ones(len(noisy_db), np.float32), state)


def delay(clean: Float, processed: Float, longest: int) -> int:
    """By how many samples, −longest…longest, the second lags the first: their best match."""
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


def score(clean: Float, processed: Float, rate: int) -> Scores:
    """Measure a clip against its clean speech, both (n_samples,) at ``rate`` and in step."""
    from pesq import pesq
    from pystoi import stoi
    from speechmos import dnsmos

    clean_16k, processed_16k = _at(clean, rate, 16_000), _at(processed, rate, 16_000)
    clean_8k, processed_8k = _at(clean, rate, 8_000), _at(processed, rate, 8_000)
    mos = dnsmos.run(np.clip(processed_16k, -1.0, 1.0), 16_000)
    return Scores(
        pesq_wb=pesq(16_000, clean_16k, processed_16k, "wb"),
        pesq_nb=pesq(8_000, clean_8k, processed_8k, "nb"),
        stoi=stoi(clean_16k, processed_16k, 16_000),
        estoi=stoi(clean_16k, processed_16k, 16_000, extended=True),
        si_sdr=si_sdr_db(clean_16k, processed_16k),
        sig=float(mos["sig_mos"]),
        bak=float(mos["bak_mos"]),
        ovrl=float(mos["ovrl_mos"]),
        p808=float(mos["p808_mos"]),
    )


def through(network: Estimator, sound: Float, rate: int) -> Float:
    """A whole clip through the engine, block by block: (n_samples,), delay removed by it."""
    pipeline = Pipeline(Denoiser(network), rate)
    blocks = [pipeline.process(sound[k : k + _BLOCK]) for k in range(0, len(sound), _BLOCK)]
    return np.concatenate([*blocks, pipeline.flush()])


def items(folder: Path) -> list[Item]:
    """The clips of a test set; raises TrainingError when it has no manifest or misses files."""
    try:
        with (folder / "manifest.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = [
            Item(
                row["id"],
                float(row["snr_db"]),
                folder / "noisy" / f"{row['id']}.flac",
                folder / "clean" / f"{row['id']}.flac",
            )
            for row in rows
        ]
    except (OSError, KeyError) as error:
        raise TrainingError(f"{folder}: no manifest.csv with id and snr_db: {error}") from error
    missing = [path for item in found for path in (item.noisy, item.clean) if not path.is_file()]
    if missing or not found:
        raise TrainingError(f"{folder}: {len(missing)} files are missing, first: {missing[:1]}")
    return found


Scored = list[tuple[Item, Scores]]


def evaluate(
    systems: Mapping[str, Path | None], folder: Path, workers: int = 0
) -> dict[str, Scored]:
    """Score every clip of a test set after each of some models.

    A system's delay is estimated on each clip, and its median over all clips removed.

    Parameters
    ----------
    systems : model files by name; None scores the clips as they are
    folder : of the test set
    workers : processes; 0 means one per core

    Raises
    ------
    engine.errors.TrainingError : the folder is no test set
    engine.errors.ModelError : the model cannot be used
    """
    found = items(folder)
    for path in (path for path in systems.values() if path is not None):
        Network(path, provider="cpu")  # a bad file is told of here, not by a worker
    scored = {}
    with _pool(workers) as pool:
        for name, model in systems.items():
            lag = int(np.median(list(pool.map(partial(_lag_of, model), found))))
            log.info("%s: delay %d samples", name, lag)
            scores = pool.map(partial(_score_of, model, lag), found)
            scored[name] = list(zip(found, scores, strict=True))
    return scored


class CleanResult(NamedTuple):
    """What a model does to speech that needs no cleaning."""

    name: str
    si_sdr: float
    """After the model [dB]."""
    si_sdr_of_pipeline: float
    """After the same pipeline with a gain of 1 [dB]: what the band alone costs."""
    pesq_nb: float
    """After the model, against that pipeline's output."""


def evaluate_clean(model: Path, folder: Path, workers: int = 0) -> list[CleanResult]:
    """Send the clean clips of a test set through a model; raises as ``evaluate``."""
    found = items(folder)
    Network(model, provider="cpu")
    with _pool(workers) as pool:
        return list(pool.map(partial(_clean_of, model), found))


def table(systems: Mapping[str, Scored]) -> str:
    """Markdown: the means of every system, then each figure by SNR."""
    lines = [_row("system", *HEADINGS), _rule(len(HEADINGS))]
    for name, scored in systems.items():
        mean = np.mean([scores for _, scores in scored], axis=0)
        lines.append(_row(name, *(f"{v:.{d}f}" for v, d in zip(mean, _DECIMALS, strict=True))))
    steps = sorted({item.snr_db for scored in systems.values() for item, _ in scored})
    for k, heading in enumerate(HEADINGS):
        lines += ["", f"**{heading}** by SNR [dB]", ""]
        lines += [_row("system", *(f"{snr:g}" for snr in steps)), _rule(len(steps))]
        for name, scored in systems.items():
            means = (
                np.mean([scores[k] for item, scores in scored if item.snr_db == snr])
                for snr in steps
            )
            lines.append(_row(name, *(f"{mean:.{_DECIMALS[k]}f}" for mean in means)))
    return "\n".join(lines) + "\n"


def clean_table(results: Sequence[CleanResult]) -> str:
    """Markdown: what a model does to clean speech, on average and at worst."""
    loss = [r.si_sdr_of_pipeline - r.si_sdr for r in results]
    lines = [
        _row("clean speech", "mean", "worst"),
        _rule(2),
        _row(
            "SI-SDR after the model [dB]",
            f"{np.mean([r.si_sdr for r in results]):.2f}",
            f"{min(r.si_sdr for r in results):.2f}",
        ),
        _row(
            "SI-SDR with gain 1 [dB]",
            f"{np.mean([r.si_sdr_of_pipeline for r in results]):.2f}",
            f"{min(r.si_sdr_of_pipeline for r in results):.2f}",
        ),
        _row("lost [dB]", f"{np.mean(loss):.2f}", f"{max(loss):.2f}"),
        _row(
            "PESQ-NB against gain 1",
            f"{np.mean([r.pesq_nb for r in results]):.2f}",
            f"{min(r.pesq_nb for r in results):.2f}",
        ),
    ]
    return "\n".join(lines) + "\n"


def summary(scored: Scored) -> dict[str, float]:
    """Mean of each figure over a test set, by name."""
    mean = np.mean([scores for _, scores in scored], axis=0)
    return {name: round(float(v), 3) for name, v in zip(Scores._fields, mean, strict=True)}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(n_figures: int) -> str:
    return "|---|" + "---:|" * n_figures


def _pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: ONNX Runtime's threads do not survive a fork."""
    return ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=get_context("spawn"))


def _read(path: Path) -> tuple[Float, int]:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return sound.mean(axis=1), int(rate)


def _processed(model: Path | None, item: Item) -> tuple[Float, Float, int]:
    """Clean and processed sound of an item, and their rate."""
    (noisy, rate), (clean, _) = _read(item.noisy), _read(item.clean)
    made = noisy if model is None else through(Network(model, provider="cpu"), noisy, rate)
    return clean, made, rate


def _lag_of(model: Path | None, item: Item) -> int:
    clean, made, rate = _processed(model, item)
    return delay(clean, made, round(_LONGEST_DELAY_S * rate))


def _score_of(model: Path | None, lag: int, item: Item) -> Scores:
    clean, made, rate = _processed(model, item)
    return score(clean, aligned(made, lag), rate)


def _clean_of(model: Path, item: Item) -> CleanResult:
    from pesq import pesq

    clean, rate = _read(item.clean)
    network = Network(model, provider="cpu")
    after, straight = (
        through(estimator, clean, rate) for estimator in (network, Passthrough(network.spec))
    )
    clean_16k = _at(clean, rate, 16_000)
    return CleanResult(
        item.name,
        si_sdr_db(clean_16k, _at(after, rate, 16_000)),
        si_sdr_db(clean_16k, _at(straight, rate, 16_000)),
        pesq(8_000, _at(straight, rate, 8_000), _at(after, rate, 8_000), "nb"),
    )


def _at(signal: Float, rate: int, wanted: int) -> Float:
    # DNSMOS hears the last kilohertz: scipy's resample_poly moves its means by 0.04.
    return soxr.resample(signal, rate, wanted)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("folder", type=Path, help="test set: noisy/, clean/, manifest.csv")
    parser.add_argument("--clean", action="store_true", help="send the clean clips through")
    parser.add_argument("--json", type=Path, help="write every figure of every clip here too")
    parser.add_argument("--record", action="store_true", help="keep the means in the model file")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one per core)")


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Evaluate as the arguments say; ``tell`` takes the Markdown. Raises as ``evaluate``."""
    if args.clean:
        results = evaluate_clean(args.model, args.folder, args.workers)
        tell(clean_table(results))
        if args.json:
            args.json.write_text(json.dumps([r._asdict() for r in results], indent=1))
        return
    models = {UNPROCESSED: None, args.model.stem: args.model}
    systems = evaluate(models, args.folder, args.workers)
    tell(table(systems))
    if args.json:
        told: dict[str, Any] = {
            name: {
                "mean": summary(scored),
                "clips": [
                    {"id": item.name, "snr_db": item.snr_db, **scores._asdict()}
                    for item, scores in scored
                ],
            }
            for name, scored in systems.items()
        }
        args.json.write_text(json.dumps(told, indent=1, default=float))
    if args.record:
        spec = Network(args.model, provider="cpu").spec
        scores = summary(systems[args.model.stem])
        describe(args.model, replace(spec, training={**spec.training, "scores": scores}))
