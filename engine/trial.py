"""Models of strangers are opened in a process of their own first, under bounds.

What a run alone can show is found out there: a file that ends the process, an operator that
takes for ever, one that wants all the memory. A model that passes is remembered by its
checksum, so that this happens once. Those that come with the program are not tried.
Not here: what a model should be (``network``), and what is seen without running it
(``inspection``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine import cache
from engine.errors import ModelError
from engine.network import Network, find, read
from engine.sessions import runtime_version

WORK_S = 5.0
"""Processor time of a trial [s]; a model of the thesis's size takes 0.5."""
PATIENCE_S = 90.0
"""A trial on a machine that is busy with something else [s]."""
MEMORY = 512 * 1024 * 1024
"""What a model may take besides some copies of itself [bytes]."""

# Weights as they came, as ONNX Runtime keeps them, and packed for its products.
_COPIES = 5
# Changes with what is tried: older verdicts then no longer count.
_EDITION = 1
# From digital silence to full scale, as single frames and as several.
_LEVELS_DB = (-100.0, -60.0, -20.0, 0.0)


def open_network(
    name_or_path: str, folder: Path, provider: str = "auto", background: bool = False
) -> Network:
    """Open a model by its name from ``folder`` or by its path; strangers' are tried first.

    Parameters
    ----------
    folder : of the models that come with the program
    provider, background : as Network takes them

    Raises
    ------
    ModelError : there is none, or it cannot be used
    """
    path = find(name_or_path, folder)
    content = read(path)
    if path.resolve().parent != folder.resolve():
        prove(content, path)
    return Network(path, provider, content=content, background=background)


def prove(content: bytes, path: Path) -> None:
    """Raise ModelError for a model that does harm, breaks the contract, or takes too much.

    Parameters
    ----------
    content : of the file, as it is going to be opened
    path : for messages
    """
    key = f"{hashlib.sha256(content).hexdigest()}-{runtime_version()}-{_EDITION}"
    if cache.recall("tried", key) is None:
        _try_in_a_process(content, path)
        cache.keep("tried", key, {"path": str(path)})


def _try_in_a_process(content: bytes, path: Path) -> None:
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "engine.trial", str(path), str(WORK_S)],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a crash writes is not for users
            env=environment,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{path}: did not end its trial within {PATIENCE_S:.0f} s") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be tried before it is used: {error.strerror}") from error
    raise_verdict(done.returncode, done.stdout, path)


def raise_verdict(code: int, told: bytes, path: Path) -> None:
    """Raise ModelError unless a process that ended with a code told that all went well."""
    with contextlib.suppress(ValueError):
        verdict = json.loads(told)
        if code == 0 and verdict == {"ok": True}:
            return
        if code == 0 and isinstance(verdict, dict) and "error" in verdict:
            raise ModelError(str(verdict["error"]))
    how = f"signal {-code}" if code < 0 else f"code {code}"
    why = {"signal 24": "it takes too long", "signal 9": "it takes too long or too much memory"}
    raise ModelError(
        f"{path}: did not survive its trial ({why.get(how, 'it ended the process')}, {how})"
    )


def attempt(content: bytes, path: Path, work_s: float = WORK_S) -> dict[str, object]:
    """Open a model and ask it under bounds that stay: only in a process meant for it.

    Parameters
    ----------
    work_s : processor time that it may take [s]

    Returns
    -------
    ``{"ok": True}``, or ``{"error": …}``, one line
    """
    before = _bound(len(content), work_s)
    try:
        network = Network(path, "cpu", content=content)
        state = network.initial_state()
        rng = np.random.default_rng(1)
        for level_db in _LEVELS_DB:
            for n_frames in (1, 7):
                frames = rng.uniform(level_db - 20, level_db, (n_frames, network.spec.n_heard))
                state = network(frames.astype(np.float32), state).state
    except ModelError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"{path}: takes more memory than a model may"}
    taken = _most_memory() - before
    if taken > MEMORY + _COPIES * len(content):
        return {"error": f"{path}: takes {taken >> 20} MB of memory, more than a model may"}
    return {"ok": True}


def _bound(n_bytes: int, work_s: float) -> int:
    """Bound what this process may take from now on; returns the memory it has had so far."""
    if sys.platform == "win32":
        return 0
    import resource

    def at_most(what: int, wanted: int) -> None:
        hard = resource.getrlimit(what)[1]
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):  # a system that does not bound this
            resource.setrlimit(what, (wanted, hard))

    used = resource.getrusage(resource.RUSAGE_SELF)
    at_most(resource.RLIMIT_CPU, round(used.ru_utime + used.ru_stime + work_s) + 1)
    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_FSIZE, 0)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        room = MEMORY + (_COPIES + 1) * n_bytes + MEMORY  # what is touched is counted after
        at_most(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + room)
    return _most_memory()


def _most_memory() -> int:
    """The most that this process has held at a time [bytes]; 0 where that is not told."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """In the process: a model comes in, a verdict goes out."""
    verdict = attempt(sys.stdin.buffer.read(), Path(sys.argv[1]), float(sys.argv[2]))
    sys.stdout.write(json.dumps(verdict))


if __name__ == "__main__":
    main()
