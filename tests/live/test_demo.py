"""``make run``'s job, and the benchmark, from the command to what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

import models
from app.example import noisy_voice
from engine.devices import SAMPLE_RATE

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]


def test_demo_shows_the_difference(tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    for _ in range(3):  # a busy machine lets a moment through uncleaned
        done = command("demo", "--recorded", "--folder", str(folder))
        assert done.returncode == 0, done.stderr
        figures = {
            line[:38].strip(): [float(word) for word in line[38:].split()]
            for line in done.stdout.splitlines()
            if line.startswith(("level", "SI-SDR"))
        }
        before, after = figures["level while nobody speaks [dBFS]"]
        if after < before - 6:
            break
    assert after < before - 6, "rain at half its loudness at most"
    before, after = figures["SI-SDR against the clean voice [dB]"]
    assert after > before
    assert "drops" in done.stdout
    for name in ("microphone.wav", "call.wav"):
        assert sf.info(folder / name).duration > 8
    assert (folder / "spectrogram.png").read_bytes().startswith(b"\x89PNG")


def test_bench_prints_what_it_measured() -> None:
    done = command("bench", "--seconds", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours = found["costs"][0]
    assert ours["name"] == models.DEFAULT
    assert 0 < ours["tight_p50_ms"] <= ours["tight_p99_ms"]
    assert ours["real_time_factor"] > 0
    assert found["live"]["memory_mb"] > 20
    assert found["live"]["start_up_s"] > 0
    assert {cost["name"] for cost in found["costs"]} == {models.DEFAULT, "RNNoise"}
    table = command("bench", "--seconds", "1", "--no-live").stdout
    assert f"| {models.DEFAULT} | 10.0 |" in table


def test_bench_puts_peers_beside_us() -> None:
    """Quality and cost of every shipped model and of the real peers, on the bundled voice."""
    done = command("bench", "--peers", "--seconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["missing"] == []
    systems = found["systems"]
    peers = {"RNNoise", "DeepFilterNet3", "DeepFilterNet3 low-latency"}
    assert set(systems) == {"unprocessed", *peers, *(m.stem for m in models.FOLDER.glob("*.onnx"))}
    for name, of_system in systems.items():
        assert set(of_system["by_snr"]) == {"0", "5", "10"}
        if name != "unprocessed":
            assert of_system["cost"]["paced_p50_ms"] > 0
            assert of_system["mean"]["si_sdr"] > systems["unprocessed"]["mean"]["si_sdr"]
    waits_ms = {name: systems[name]["wait_ms"] for name in (*peers, "classic")}
    assert waits_ms == pytest.approx(
        {"RNNoise": 30, "DeepFilterNet3": 40, "DeepFilterNet3 low-latency": 20, "classic": 92.9},
        abs=0.1,
    )


def test_bench_tells_what_narrow_sources_lose(tmp_path: Path) -> None:
    voice, noisy = (sound[3 * SAMPLE_RATE : 7 * SAMPLE_RATE] for sound in noisy_voice())
    for kind, sound in (("clean", voice), ("noisy", noisy)):
        (tmp_path / kind).mkdir()
        sf.write(tmp_path / kind / "rain.flac", sound, SAMPLE_RATE)
    (tmp_path / "manifest.csv").write_text("id,snr_db\nrain,4\n")
    done = command("bench", "--peers", str(tmp_path), "--limited", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["limited"]) == set(found["systems"]) - {"unprocessed"}
    for name, by_rate in found["limited"].items():
        telephone, headset = (by_rate[rate][0] for rate in ("8000", "16000"))
        # The clip as it is was heard as in the first table.
        wanted = pytest.approx(found["systems"][name]["mean"]["pesq_wb"], abs=1e-3)
        assert telephone["whole"] == headset["whole"] == wanted
        assert 1.0 < telephone["limited"] < telephone["limit"] < 4.2
        assert 1.0 < headset["limited"] < 4.5 < headset["limit"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
