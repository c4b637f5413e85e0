"""Feeds damaged files to a reader in a process of its own, and tells what it did to that process.

``hunt`` starts ``python -m tests.fuzz.hunting TARGET FOLDER SEED`` under bounds of memory and
watches it: a case that ends the process, that does not end, that takes too much memory or that
raises anything but the reader's own error is a finding, and its file is kept. A seed makes the
same case again: ``python -m tests.fuzz.hunting TARGET FOLDER SEED 1``.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
WORK_S, PATIENCE_S = 25.0, 240.0
"""A case that takes more of the processor, or longer on a machine that is busy, hangs [s]. A trial
of a model may take 5 s, and so may the opening after it."""
MEMORY_MB = 700
"""Most that a case may add to the process, over what the first harmless one took. The files are
under 0.2 MB; a block of 8 channels takes 1 MB, ONNX Runtime's bound is 512 MB."""
ADDRESSES_MB = 8192
"""Where an allocation fails at last: what is asked for but never touched counts here."""

_LAST = 50


@dataclass
class Hunt:
    """What came of it."""

    n_cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How many were read, and how many refused, by exception."""
    findings: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    most_mb: float = 0.0
    since_s: float | None = None
    """When the first case began: loading the libraries does not count."""
    over: bool = False

    def __str__(self) -> str:
        return (
            f"{self.n_cases} cases {dict(self.outcomes)}, slowest {self.slowest_s:.1f} s, "
            f"most memory {self.most_mb:.0f} MB"
        )


def budget_s(share: float) -> float:
    """How long a target may be hunted [s]: briefly, or FUZZ_MINUTES each."""
    minutes = float(os.environ.get("FUZZ_MINUTES", "0"))
    return 60.0 * minutes if minutes else share


def hunt(target: str, folder: Path, seconds: float, seed: int = 0) -> Hunt:
    """Run cases of a target from ``seed`` on for some seconds; the files of findings are kept."""
    made = Hunt()
    while not made.over and len(made.findings) < 20:
        seed = _run(target, folder, seed, seconds, made)
    return made


def _run(target: str, folder: Path, seed: int, seconds: float, made: Hunt) -> int:
    """One process, until its end or the time's; returns the seed to go on with."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "stderr"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.hunting", target, str(folder), str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    pending, now = b"", seed
    started, ended = False, False
    since_s, worked_s = time.monotonic(), 0.0
    try:
        while not ended:
            ready, _, _ = select.select([process.stdout], [], [], 0.2)
            if ready:
                chunk = os.read(process.stdout.fileno(), 65536)
                ended = not chunk
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    word, number, *rest = line.decode().split(" ", 3)
                    if word == "case":
                        now, started, since_s = int(number), True, time.monotonic()
                        made.since_s = made.since_s or since_s
                        worked_s = _worked_s(process.pid)
                    elif word == "done":
                        started = False
                        made.n_cases += 1
                        made.outcomes[rest[0]] += 1
                        took_s, mb = map(float, rest[1].split())
                        made.slowest_s = max(made.slowest_s, took_s)
                        made.most_mb = max(made.most_mb, mb)
                        if mb > MEMORY_MB:
                            _keep(target, folder, now, f"took {mb:.0f} MB", made)
                            return now + 1  # the process would go on with all that memory
                    elif word == "wrong":
                        started = False
                        made.n_cases += 1
                        _keep(target, folder, int(number), " ".join(rest), made)
            elif started and (
                _worked_s(process.pid) - worked_s > WORK_S
                or time.monotonic() - since_s > PATIENCE_S
            ):
                _keep(target, folder, now, f"did not end within {WORK_S:.0f} s of work", made)
                return now + 1
            begun_s = made.since_s or time.monotonic()
            made.over = time.monotonic() - begun_s > seconds
            if made.over and (not started or time.monotonic() - begun_s > seconds + PATIENCE_S):
                return now + 1
        code = process.wait()
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        if started or code:
            _keep(target, folder, now, f"ended the process with {code}: {last}", made)
        return now + 1
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _keep(target: str, folder: Path, seed: int, what: str, made: Hunt) -> None:
    if any(what in found for found in made.findings):
        return  # the same again
    case = next(iter((folder / str(seed % _LAST)).glob("case*")), None)
    kept = ""
    if case is not None:
        kept = str(folder / f"found-{target}-{seed}{case.suffix}")
        shutil.copy(case, kept)
    made.findings.append(f"{target} {seed}: {what} {kept}")


def main(target_name: str, folder: Path, first: int, n_cases: int | None = None) -> None:
    """Run cases one after the other and tell of each on the standard output."""
    import resource

    from tests.fuzz.targets import TARGETS

    bound = ADDRESSES_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = TARGETS[target_name](folder)
    target.read(target.write(folder, None))  # what is whole is read, and loads the libraries
    least_mb = _most_mb()
    seed = first
    while n_cases is None or seed < first + n_cases:
        # The one who watches may still want the last few.
        place = folder / str(seed % _LAST)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        path = target.write(place, seed)
        print(f"case {seed}", flush=True)
        began_s = time.monotonic()
        try:
            target.read(path)
            outcome = "read"
        except target.refusal:
            outcome = target.refusal.__name__
        except BaseException:
            told = " | ".join(traceback.format_exc().strip().splitlines()[-3:])
            print(f"wrong {seed} {told}", flush=True)
            seed += 1
            continue
        took_s = time.monotonic() - began_s
        print(f"done {seed} {outcome} {took_s:.2f} {_most_mb() - least_mb:.0f}", flush=True)
        seed += 1


def _worked_s(process: int) -> float:
    """Processor time of a process and of those of its children that have ended [s]."""
    with contextlib.suppress(psutil.Error):
        return sum(psutil.Process(process).cpu_times()[:4])
    return 0.0


def _most_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    name, where, start, *rest = sys.argv[1:]
    main(name, Path(where), int(start), int(rest[0]) if rest else None)
