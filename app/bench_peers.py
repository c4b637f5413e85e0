"""``denoise-app bench --peers``: our models and those of others, as heard and as they cost.

The same files, and the same clock in turn. The peers are what is installed of
``training.peers``. Not here: how either is measured (``bench``, ``training.evaluate``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from app.bench import Contender, Cost, compare, machine, ours
from app.example import noisy_voice
from app.training import MissingPackages
from engine.devices import SAMPLE_RATE
from engine.network import find
from engine.trial import open_network

if TYPE_CHECKING:
    from training.score_tables import Clip, LimitedResult

    Limited = Mapping[str, Mapping[int, Sequence[LimitedResult]]]

_COLUMNS = ("pesq_wb", "stoi", "estoi", "si_sdr", "sig", "bak", "ovrl", "p808", "starts")
_SNRS_DB = (0.0, 5.0, 10.0)

# Of telephones, and of headsets while their microphone is on.
_NARROW_HZ = (8_000, 16_000)


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Raises
    ------
    engine.errors.ModelError : a model cannot be used
    engine.errors.TrainingError : the folder is no test set
    app.training.MissingPackages : the extra ``train`` is not installed
    """
    try:
        from training.evaluate import UNPROCESSED, evaluate, evaluate_limited
        from training.peers import HOP, PEERS, installed, started
        from training.systems import ModelFile, PeerProgram, Unprocessed, items, read
    except ModuleNotFoundError as error:
        raise MissingPackages(
            f"bench --peers needs {error.name}: install denoise-app with the extra 'train'"
        ) from error

    paths = {path.stem: path for path in sorted(models.FOLDER.glob("*.onnx"))}
    asked = find(args.model, models.FOLDER)
    paths.setdefault(asked.stem, asked)
    networks = {name: open_network(str(path), models.FOLDER, "cpu") for name, path in paths.items()}
    others = installed()
    systems: dict[str, Any] = {UNPROCESSED: (Unprocessed(), None)}
    systems |= {name: (ModelFile(path), None) for name, path in paths.items()}
    systems |= {name: (PeerProgram(name), None) for name in others}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(args.peers) if args.peers else _own_test_set(Path(made))
        found = items(folder)
        scored = evaluate(systems, found)
        narrow = {name: systems[name][0] for name in [*paths, *others] if args.limited}
        limited = evaluate_limited(narrow, found, _NARROW_HZ, scored)
        rate_of = {item.name: read(item.clean)[1] for item in found}
    contenders = [ours(network) for network in networks.values()]
    contenders += [Contender(name, HOP, SAMPLE_RATE, started(name)) for name in others]
    _, noisy = noisy_voice()
    costs = dict(zip([*networks, *others], compare(contenders, noisy, args.seconds), strict=True))
    hops_ms = {name: 1000.0 * network.spec.hop_s for name, network in networks.items()}
    hops_ms |= dict.fromkeys(others, 1000.0 * HOP / SAMPLE_RATE)
    waits_ms = {
        name: hop_ms + 1000.0 * scored[name][0].lag / rate_of[scored[name][0].item.name]
        for name, hop_ms in hops_ms.items()
    }
    # Ours are taken out of what the engine gives back; a caller waits for them all the same.
    for name, network in networks.items():
        waits_ms[name] = 1000.0 * network.spec.total_latency_s
    missing = [peer for peer in PEERS if peer not in others]
    if args.json:
        print(json.dumps(_told(scored, limited, costs, waits_ms, missing)))
    else:
        print("\n".join(_markdown(scored, limited, costs, waits_ms, missing)))
    return 0


def _own_test_set(folder: Path) -> Path:
    """The bundled voice in rain at three levels, where no test set is at hand."""
    import soundfile

    voice, noisy = noisy_voice()
    rain = noisy - voice
    for kind in ("noisy", "clean"):
        (folder / kind).mkdir()
    ratio = np.sqrt(np.mean(np.square(voice)) / np.mean(np.square(rain)))
    lines = ["id,snr_db"]
    for snr_db in _SNRS_DB:
        name = f"rain{snr_db:.0f}"
        mixed = voice + np.float32(ratio * 10.0 ** (-snr_db / 20.0)) * rain
        gain = 0.9 / float(np.abs(mixed).max())
        soundfile.write(folder / "noisy" / f"{name}.flac", gain * mixed, SAMPLE_RATE)
        soundfile.write(folder / "clean" / f"{name}.flac", gain * voice, SAMPLE_RATE)
        lines.append(f"{name},{snr_db}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def _told(
    scored: Mapping[str, Sequence[Clip]],
    limited: Limited,
    costs: Mapping[str, Cost],
    waits_ms: Mapping[str, float],
    missing: Sequence[str],
) -> dict[str, Any]:
    from training.score_tables import told

    figures = told(scored, {}, limited)
    return {
        "machine": machine(),
        "missing": list(missing),
        "systems": {
            name: {
                "mean": of_system["mean"],
                "by_snr": of_system["by_snr"],
                "wait_ms": waits_ms.get(name),
                "cost": asdict(costs[name]) if name in costs else None,
            }
            for name, of_system in figures["systems"].items()
        },
        "limited": figures["limited"],
    }


def _markdown(
    scored: Mapping[str, Sequence[Clip]],
    limited: Limited,
    costs: Mapping[str, Cost],
    waits_ms: Mapping[str, float],
    missing: Sequence[str],
) -> list[str]:
    from training.score_tables import by_snr, limited_table, means, row, rule, text
    from training.scores import DECIMALS, HEADINGS, Scores

    places = [Scores._fields.index(name) for name in _COLUMNS]
    headings = [HEADINGS[k] for k in places]
    headings += ["delay + hop [ms]", "tight p50 [ms/10 ms]", "paced p50 [ms/10 ms]"]
    headings += ["CPU of one core [%]", "× RNNoise"]
    n_clips = len(next(iter(scored.values())))
    lines = [f"{n_clips} clips; measured on {machine()}.", ""]
    lines += [row("", *headings), rule(len(headings))]
    peer = costs.get("RNNoise")
    for name, clips in scored.items():
        mean = means(clips)
        cells = [text(mean[k], DECIMALS[k]) for k in places]
        if name in costs:
            cost = costs[name]
            per_10_ms = 10.0 / cost.hop_ms
            cells += [
                f"{waits_ms[name]:.0f}",
                f"{per_10_ms * cost.tight_p50_ms:.2f}",
                f"{per_10_ms * cost.paced_p50_ms:.2f}",
                f"{100 * cost.real_time_factor:.1f}",
                f"{cost.real_time_factor / peer.real_time_factor:.2f}" if peer else "–",
            ]
        else:
            cells += ["–"] * 5
        lines.append(row(name, *cells))
    if missing:
        lines += ["", f"Not installed, so not measured: {', '.join(missing)}."]
    lines += by_snr(scored)
    return [*lines, "", limited_table(limited).rstrip()] if limited else lines
