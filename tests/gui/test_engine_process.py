"""Starting the engine again and again, and knowing whose it is."""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import models
from app.window.engine_process import EngineProcess, State, options_for

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
GRUMBLER = (
    sys.executable,
    "-c",
    "import sys; sys.exit('denoise-app: no such microphone\\nALSA lib: noise')",
)


def test_it_starts_again_ever_more_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    engine = EngineProcess(tmp_path, GRUMBLER)
    starts = []
    for _ in range(2000):
        before = engine.starts
        state = engine.look(False, ())
        if engine.starts > before:
            starts.append(now[0])
            assert engine._process is not None
            engine._process.wait()
            if len(starts) == 7:
                break
        assert state in (State.STARTING, State.WAITING)
        now[0] += 0.05
    waits = [later - earlier for earlier, later in pairwise(starts)]
    for wait, expected in zip(waits, (0.1, 0.5, 1.0, 2.0, 4.0, 8.0), strict=True):
        assert wait == pytest.approx(expected, abs=0.15)
    assert engine.words == "no such microphone"


CHATTERER = (
    sys.executable,
    "-c",
    "import sys\n"
    "for number in range(40000): print('ALSA lib: unable to open slave', number, file=sys.stderr)\n"
    "sys.stdin.close(); sys.stderr.flush(); open(sys.argv[1], 'w').close()\n"
    "import time; time.sleep(1.0); sys.exit('denoise-app: no such microphone')",
)


def test_what_it_writes_does_not_grow_without_end(tmp_path: Path) -> None:
    engine, written = EngineProcess(tmp_path, CHATTERER), tmp_path / "written"
    engine.look(False, (str(written),))
    while not written.exists():
        time.sleep(0.02)
    log = tmp_path / "engine.log"
    assert log.stat().st_size > 1_000_000
    engine.look(True, ())
    assert 100_000 < log.stat().st_size < 500_000
    lines = log.read_text().splitlines()
    assert lines[0].startswith("ALSA lib: ")
    assert lines[-1].endswith(" 39999")
    assert engine._process is not None
    engine._process.wait(20)
    engine.look(False, (str(written),))
    assert engine.words == "no such microphone", "written after it was shortened"
    engine.end(lambda: None)  # the next one


def test_one_that_answers_is_left_alone(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, SLEEPER)
    assert engine.look(True, ()) is State.RUNS
    assert engine.starts == 0
    asked: list[bool] = []
    engine.end(lambda: asked.append(True))
    assert not asked, "it is somebody else's"


def test_ours_is_detached_known_again_and_ended(tmp_path: Path) -> None:
    first = EngineProcess(tmp_path, SLEEPER)
    assert first.look(False, ()) is State.STARTING
    assert first._process is not None
    process = psutil.Process(first._process.pid)
    assert os.getsid(process.pid) == process.pid, "a terminal that closes does not end it"
    (tmp_path / "lock").write_text(str(process.pid))
    assert first.look(True, ()) is State.RUNS
    assert first.look(False, ()) is State.SILENT

    second = EngineProcess(tmp_path, SLEEPER)  # of the next window
    assert second.is_ours
    second.end(process.terminate)
    first._process.wait(5)
    (tmp_path / "lock").write_text("1")
    assert not second.is_ours


def test_one_that_is_still_starting_is_ended(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, SLEEPER)
    engine.look(False, ())
    assert engine._process is not None
    engine.end(lambda: None)
    assert engine._process.poll() is not None


def test_options_are_those_of_the_command_line() -> None:
    from app.cli import build_parser

    for wished in (
        {},
        {"input": None, "output": None, "model": None, "limit_db": 100.0, "monitor": False},
        {
            "input": "-odd",
            "output": "s p",
            "model": "m.onnx",
            "limit_db": 12.5,
            "monitor": True,
            "speakers": True,
        },
    ):
        args = build_parser().parse_args(options_for(wished))
        assert (args.device or None) == wished.get("input")
        assert args.output == wished.get("output")
        assert args.model == (wished.get("model") or models.DEFAULT)
        assert args.limit == wished.get("limit_db", 100.0)
        assert args.monitor == wished.get("monitor", False)
        assert args.speakers == ("" if wished.get("speakers") else None)
        assert args.json
        assert args.command is None
