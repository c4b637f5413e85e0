"""From folders of sound to an evaluated model file, as the README shows it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import soundfile

from app.cli import main
from engine.network import Network

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "app" / "clips"


def test_four_commands_make_a_model(folders, tmp_path, capsys):
    commands = re.findall(
        r"^denoise-app (dataset build|train|export|evaluate)\b", (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )  # fmt: skip
    assert commands == ["dataset build", "train", "export", "evaluate"]

    dataset, run, model = tmp_path / "mine.h5", tmp_path / "run", tmp_path / "mine.onnx"
    sound = [f"--{kind}={folder}" for kind, folder in folders.items()]
    shares = ("--held-out=0.3", "--test=0", "--workers=1")
    assert main(["dataset", "build", *sound, f"--out={dataset}", *shares]) == 0
    small = ("--preset=tiny", "--clips=4", "--frames=24", "--steps=10", "--validation-batches=1")
    quick = ("--set=data.simulated_rooms=0", "--set=run.statistics_batches=2")
    assert main(["train", f"--dataset={dataset}", f"--out={run}", *small, *quick]) == 0
    assert main(["export", str(run), str(model)]) == 0
    assert Network(model, provider="cpu").spec.training["steps"] == 10

    write_test_set(tmp_path / "testset")
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(model), str(tmp_path / "testset"), f"--json={scores}"]) == 0
    systems = json.loads(scores.read_text())["systems"]
    # The bundled voice in rain, as it is: what a listener would call bad.
    assert 1.0 < systems["unprocessed"]["mean"]["pesq_nb"] < 3.0
    assert systems["mine"]["mean"]["pesq_nb"] != systems["unprocessed"]["mean"]["pesq_nb"]
    assert "| mine |" in capsys.readouterr().out


def write_test_set(folder: Path) -> None:
    """One clip: the demo's voice, and the same in its rain."""
    voice, rate = soundfile.read(CLIPS / "voice.flac", dtype="float32")
    rain, _ = soundfile.read(CLIPS / "rain.flac", dtype="float32")
    n = min(len(voice), len(rain), 5 * rate)
    for kind, made in (("clean", voice[:n]), ("noisy", voice[:n] + rain[:n])):
        (folder / kind).mkdir(parents=True)
        soundfile.write(folder / kind / "000.flac", 0.5 * made, rate)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "snr_db"], ["000", "5"]])
