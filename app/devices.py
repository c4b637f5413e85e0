"""``denoise-app devices``: which inputs and outputs there are."""

from __future__ import annotations

import argparse
import json

from engine import devices


def run(args: argparse.Namespace) -> int:
    """Print every device; raises DeviceError."""
    found = devices.devices()
    if args.json:
        print(json.dumps({"devices": [device.as_dict() for device in found]}))
        return 0
    for kind in ("input", "output"):
        print(f"{kind}s (* is the system's default, ~ is virtual):")
        for device in found:
            if device.kind == kind:
                marks = ("*" if device.default else " ") + ("~" if device.virtual else " ")
                print(f"  {marks} {device.name}\n       {device.description}")
    return 0
