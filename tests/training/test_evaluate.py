from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from engine.errors import ModelError
from engine.measure import si_sdr_db
from engine.network import Network
from engine.stft import Float
from tests import onnx_models
from tests.training.conftest import voice
from training import evaluate
from training.evaluate import Item, Passthrough, Scores, aligned, delay, through
from training.mixing import mix

RATE = 48_000


def test_si_sdr_does_not_hear_gain_or_offset(rng):
    clean, noise = rng.standard_normal((2, 4000))
    noise -= (noise @ clean) / (clean @ clean) * clean
    ratio_db = 10 * math.log10((clean @ clean) / (noise @ noise))
    for gain in (0.1, 1.0, -3.0):
        # Means of finite samples are not quite at right angles to the rest.
        assert si_sdr_db(clean, gain * (clean + 0.1 * noise)) == pytest.approx(
            ratio_db + 20, abs=0.05
        )
    assert si_sdr_db(clean, clean + 5.0 + 0.1 * noise) == pytest.approx(ratio_db + 20, abs=0.05)


@pytest.mark.parametrize("lag", [-300, -1, 0, 1, 517])
def test_delay_is_found_and_removed(rng, lag):
    clean = rng.standard_normal(9000).astype(np.float32)
    late = aligned(clean, -lag)
    noisy = late + 0.5 * rng.standard_normal(9000).astype(np.float32)
    assert delay(clean, noisy, 1000) == lag
    straight = aligned(late, delay(clean, late, 1000))
    np.testing.assert_array_equal(straight[300:-600], clean[300:-600])


def test_the_pipeline_with_gain_1_keeps_what_is_in_its_band(rng):
    t = np.arange(2 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    heard = through(Passthrough(replace(onnx_models.CLASSIC, above="zero")), tone, RATE)
    assert len(heard) == len(tone)
    assert si_sdr_db(tone[5000:-5000], heard[5000:-5000]) > 55  # the resampler's ripple
    assert delay(tone, heard, 50) == 0


@pytest.fixture
def test_set(tmp_path, rng):
    """Two clips with noise, as on disk."""
    for kind in ("noisy", "clean"):
        (tmp_path / kind).mkdir()
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "snr_db", "speech"])
        for name, snr_db in (("000", 0.0), ("001", 10.0)):
            clean = voice(rng, 4.0, RATE)
            noise = rng.standard_normal(len(clean)).astype(np.float32)
            soundfile.write(tmp_path / "clean" / f"{name}.flac", clean, RATE)
            noisy = mix(clean, noise, snr_db, RATE)
            soundfile.write(tmp_path / "noisy" / f"{name}.flac", 0.5 * noisy, RATE)
            table.writerow([name, snr_db, "nobody"])
    return tmp_path


def test_a_model_is_scored_through_the_engine(test_set):
    """The real scores of a real file: PESQ, STOI and DNSMOS all run."""
    model = onnx_models.write_identity(test_set / "m.onnx", replace(onnx_models.CLASSIC, name="m"))
    told: list[str] = []
    args = parsed(model, test_set, "--workers=1", "--record", f"--json={test_set / 'scores.json'}")
    evaluate.run(args, told.append)
    found = json.loads((test_set / "scores.json").read_text())
    before, after = found["unprocessed"], found["m"]
    assert [clip["id"] for clip in after["clips"]] == ["000", "001"]
    for system in (before, after):
        assert 1.0 <= system["mean"]["pesq_nb"] <= 4.6
        assert all(1.0 <= system["mean"][name] <= 5.0 for name in ("sig", "bak", "ovrl", "p808"))
        assert system["clips"][0]["si_sdr"] < system["clips"][1]["si_sdr"]
    # White noise lies mostly above the band, which a model that stops at 2.7 kHz takes away.
    assert after["mean"]["si_sdr"] > before["mean"]["si_sdr"] + 2
    assert "| m |" in told[0]
    assert "**SI-SDR** by SNR" in told[0]
    assert Network(model).spec.training["scores"] == pytest.approx(after["mean"])


def test_clean_speech_through_a_model_of_gain_1_loses_nothing(test_set):
    model = onnx_models.write_identity(test_set / "identity.onnx", onnx_models.CLASSIC)
    told: list[str] = []
    evaluate.run(parsed(model, test_set, "--clean", "--workers=1"), told.append)
    assert "| lost [dB] | 0.00 | 0.00 |" in told[0]
    assert "| PESQ-NB against gain 1 | 4.55 | 4.55 |" in told[0]  # the scale's upper end


def parsed(model, folder, *more):
    import argparse

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(model), str(folder), *more])


def test_table_has_means_and_steps_of_snr():
    def scored(value: float) -> list[tuple[Item, Scores]]:
        clips = [Item(str(k), snr, None, None) for k, snr in enumerate((-5.0, -5.0, 10.0))]
        return [(clip, Scores(*[value + k] * 9)) for k, clip in enumerate(clips)]

    lines = evaluate.table({"before": scored(1.0), "after": scored(2.0)}).splitlines()
    assert lines[2].startswith("| before | 2.00 | 2.00 | 2.000 |")
    start = lines.index("**BAK** by SNR [dB]")
    assert lines[start + 2] == "| system | -5 | 10 |"
    assert lines[start + 5] == "| after | 2.50 | 4.00 |"


def test_what_is_no_test_set_or_no_model_is_told(tmp_path, test_set):
    with pytest.raises(ValueError, match="manifest"):
        evaluate.items(tmp_path / "nowhere")
    (test_set / "clean" / "001.flac").unlink()
    with pytest.raises(ValueError, match="1 files are missing"):
        evaluate.items(test_set)
    (test_set / "model.onnx").write_text("no")
    soundfile.write(test_set / "clean" / "001.flac", _silence(), RATE)
    with pytest.raises(ModelError):
        evaluate.evaluate({"m": test_set / "model.onnx"}, test_set, workers=1)


def _silence() -> Float:
    return np.zeros(RATE, np.float32)
