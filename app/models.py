"""``denoise-app models``: which models come with the program, and their numbers."""

from __future__ import annotations

import argparse
import json

import models
from engine.network import Network


def run(args: argparse.Namespace) -> int:
    """Print every shipped model; raises ModelError when one is damaged."""
    found = []
    for path in sorted(models.FOLDER.glob("*.onnx")):
        spec = Network(path, "cpu").spec
        found.append(
            {
                "name": path.stem,
                "version": spec.version,
                "sample_rate": spec.sample_rate,
                "latency_ms": round(1000 * spec.total_latency_s, 1),
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "licence": spec.licence,
                "description": spec.description,
            }
        )
    if args.json:
        print(json.dumps({"models": found}))
        return 0
    for model in found:
        print(
            f"{model['name']} {model['version']}: {model['description']}\n"
            f"  {model['sample_rate']} Hz, {model['latency_ms']} ms, {model['megabytes']} MB, "
            f"licence {model['licence']}"
        )
    return 0
