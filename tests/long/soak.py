"""An hour of a call, minute by minute: delay, losses, memory, processor time.

    python -m tests.long.soak --server pulseaudio --minutes 60

The same world as in ``faults``, in which nothing goes wrong. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from engine.errors import DeviceError
from tests.long.faults import Resources, World

MINUTE_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("pulseaudio", "pipewire"), default="pulseaudio")
    parser.add_argument("--minutes", type=int, default=60)
    args = parser.parse_args()
    print(
        "| minute | delay told [ms] | drops | clean windows | processor [%] | memory [MB] "
        "| threads | files | machine's load |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        World(args.server, Path(folder)) as world,
    ):
        if world.wait(time.monotonic()) is None:
            raise DeviceError(f"no clean sound to begin with: {world.status()}")
        begin_s, before_s = time.monotonic(), _processor_s(world)
        for minute in range(1, args.minutes + 1):
            delays = []
            end_s = begin_s + minute * MINUTE_S
            while time.monotonic() < end_s:
                time.sleep(min(5.0, max(0.0, end_s - time.monotonic())))
                delays.append(world.status().get("delay_ms"))
            held, told = Resources.of(world), world.status()
            now_s = _processor_s(world)
            busy, before_s = (now_s - before_s) / MINUTE_S, now_s
            known = [one for one in delays if one is not None]
            clean = world.call.share_of_clean(end_s - MINUTE_S)
            print(
                f"| {minute} | {statistics.median(known) if known else float('nan'):.0f} "
                f"({min(known, default=0):.0f}…{max(known, default=0):.0f}) "
                f"| {told.get('drops')} | {100 * clean:.2f} % | {100 * busy:.1f} "
                f"| {held.rss_mb:.1f} | {held.threads} | {held.files} "
                f"| {os.getloadavg()[0]:.1f} |",
                flush=True,
            )
        print(f"\nAt the end: {world.status()}")
    return 0


def _processor_s(world: World) -> float:
    """Processor time of the session so far [s]."""
    fields = Path(f"/proc/{world.session.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
