"""What opens the window loads nothing that it does without, and tells when it is open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDLESS = {
    *("onnxruntime", "sounddevice", "pulsectl", "scipy", "matplotlib", "av", "soundfile", "tqdm"),
    *("importlib.metadata", "app.window.hear_page", "app.window.comparison", "engine.live"),
}
"""Each takes longer to load than a picture to paint."""

PROGRAM = """
import argparse, json, sys
sys.argv = ["denoise-app"]
from app import window
from app.window import beginning

def begin():
    loaded.append(sorted(sys.modules))
    return begun()

loaded, begun, beginning.begin = [], beginning.begin, begin

def look(shown):
    from PySide6.QtCore import QTimer
    found = {"visible": shown.isVisible(), "loaded": sorted(sys.modules), "first": loaded[0]}
    print(json.dumps(found), flush=True)
    QTimer.singleShot(0, shown.quit)

sys.exit(window.run(argparse.Namespace(minimised=False), look))
"""


def test_the_window_opens_with_little_loaded(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **{
            name: str(tmp_path) for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
        },
        "QT_QPA_PLATFORM": "offscreen",
        "PULSE_SERVER": f"unix:{tmp_path}/nobody",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["visible"]
    assert "app.window.main_window" in told["loaded"]
    assert not NEEDLESS & set(told["loaded"])
    # The engine is on its way before there is anything of Qt.
    assert not [name for name in told["first"] if name.startswith("PySide6")]
    assert "numpy" not in told["first"]
