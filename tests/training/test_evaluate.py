from __future__ import annotations

import argparse
import csv
import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr

from engine.errors import ModelError, TrainingError
from engine.measure import si_sdr_db
from engine.network import Network
from engine.stft import Float
from tests import onnx_models
from tests.training.conftest import voice
from training import evaluate, score_tables
from training.evaluate import aligned, delay
from training.mixing import mix
from training.score_tables import Clip
from training.scores import (
    LOWEST_PESQ,
    LOWEST_SI_SDR_DB,
    Scores,
    octave_losses_db,
    score,
    thesis_figures,
    word_start_losses_db,
    word_starts,
)
from training.systems import (
    Item,
    Oracle,
    Passthrough,
    Processed,
    Unprocessed,
    frames,
    items,
    through,
)

ROOT = Path(__file__).parents[2]
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


def test_silence_has_no_delay(rng):
    sound, silence = rng.standard_normal(9000).astype(np.float32), np.zeros(9000, np.float32)
    for pair in ((sound, silence), (silence, sound), (silence, silence)):
        assert delay(*pair, 1000) is None


@dataclass(frozen=True)
class Late:
    """Everything as it is, 20 ms late."""

    def __call__(self, item: Item) -> Processed:
        sound = Unprocessed()(item).sound
        return Processed(aligned(sound, -RATE // 50))


@pytest.mark.parametrize("n_silent", [1, 2])
def test_silent_clips_do_not_move_the_delay(test_set, n_silent):
    """Nor do they where half of all or more are silent, or each of them is."""
    for name in ("000", "001")[:n_silent]:
        soundfile.write(test_set / "clean" / f"{name}.flac", np.zeros(RATE), RATE)
        soundfile.write(test_set / "noisy" / f"{name}.flac", np.zeros(RATE), RATE)
    scored = evaluate.evaluate({"late": (Late(), None)}, items(test_set), 1)
    assert {clip.lag for clip in scored["late"]} == {RATE // 50 if n_silent == 1 else 0}


def test_the_pipeline_with_gain_1_keeps_what_is_in_its_band(rng):
    t = np.arange(2 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    heard = through(Passthrough(replace(onnx_models.CLASSIC, above="zero")), tone, RATE).sound
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


def test_models_and_others_are_scored_through_the_engine(test_set):
    """The real scores of real files: PESQ, STOI and DNSMOS all run."""
    model = onnx_models.write_identity(test_set / "m.onnx", replace(onnx_models.CLASSIC, name="m"))
    peer = test_set / "peer"
    peer.mkdir()
    files = (("000.flac", 48_000), ("001.wav", 16_000))
    for item, (name, rate) in zip(items(test_set), files, strict=True):
        noisy = soxr.resample(soundfile.read(item.noisy)[0], RATE, rate)
        soundfile.write(peer / name, np.concatenate([np.zeros(rate // 50), noisy]), rate)
    told: list[str] = []
    wanted = ["--workers=1", "--record", "--oracle", f"--processed=peer={peer}"]
    wanted += [f"--{kind}={test_set / kind}" for kind in ("json", "markdown", "pictures")]
    evaluate.run(parsed(model, test_set, *wanted), told.append)
    written = json.loads((test_set / "json").read_text())
    found = written["systems"]
    before, after, others, oracle = (
        found[name] for name in ("unprocessed", "m", "peer", "oracle of m")
    )
    assert [clip["id"] for clip in after["clips"]] == ["000", "001"]
    for system in (before, after, oracle):
        assert 1.0 <= system["mean"]["pesq_nb"] <= 4.6
        assert all(1.0 <= system["mean"][name] <= 5.0 for name in ("sig", "bak", "ovrl", "p808"))
        assert system["clips"][0]["si_sdr"] < system["clips"][1]["si_sdr"]
        assert system["by_snr"]["0"]["si_sdr"] == system["clips"][0]["si_sdr"]
        assert 0.0 <= system["mean"]["accuracy"] <= 1.0
    # White noise lies mostly above the band, which a model that stops at 2.7 kHz takes away.
    assert after["mean"]["si_sdr"] > before["mean"]["si_sdr"] + 2
    assert oracle["mean"]["si_sdr"] > after["mean"]["si_sdr"] + 2
    assert oracle["mean"]["accuracy"] > after["mean"]["accuracy"]
    assert oracle["mean"]["mse"] < 0.2 * after["mean"]["mse"]
    # A gain of 1 estimates the noisy levels; nothing but the processing costs time.
    assert after["mean"]["accuracy"] == before["mean"]["accuracy"]
    assert 0.0 < after["mean"]["real_time"] < 10.0
    assert before["mean"]["real_time"] is None
    # The other program did nothing but come 20 ms late, which is taken from it. Its file is
    # as long as the noisy one, so the clip's end is lost.
    for clip, same in zip(others["clips"], before["clips"], strict=True):
        assert clip["si_sdr"] == pytest.approx(same["si_sdr"], abs=0.1)
        assert clip["pesq_wb"] == pytest.approx(same["pesq_wb"], abs=0.05)
    assert "| m |" in told[0]
    assert "**SI-SDR** by SNR" in told[0]
    assert (test_set / "markdown").read_text() == told[0]
    scores = Network(model).spec.training["scores"]
    assert scores == pytest.approx({k: v for k, v in after["mean"].items() if k != "real_time"})
    # Clean speech through a gain of 1 loses nothing; PESQ-NB ends at 4.55.
    assert written["clean"]["m"]["mean"]["lost_at_worst"] == pytest.approx(0.0, abs=1e-9)
    assert "| 0.00 | 0.00 | 4.55 | 4.55 | 4.64 | 4.64 |" in told[0]
    pictures = sorted(path.name for path in (test_set / "pictures").iterdir())
    assert len(pictures) == 9
    assert {name.split("-")[-2] for name in pictures} == {"best", "median", "worst"}
    assert all((test_set / "pictures" / name).read_bytes()[:4] == b"\x89PNG" for name in pictures)


def test_clean_clips_alone(test_set):
    model = onnx_models.write_identity(test_set / "identity.onnx", onnx_models.CLASSIC)
    told: list[str] = []
    evaluate.run(parsed(model, test_set, "--clean", "--workers=1"), told.append)
    assert told[0].startswith("| clean speech |")
    octaves = "0.0 / 0.0 | " * 5 + "– | – | – |"  # of what the band of 2.7 kHz lets through
    assert told[0].endswith(f"| identity | {octaves}\n")


def test_narrow_sources_lose_what_their_limit_takes(test_set):
    """A gain of 1 at 48 kHz adds nothing to what the source lost itself."""
    model = onnx_models.write_identity(test_set / "identity.onnx", onnx_models.FULLBAND)
    told: list[str] = []
    wanted = ("--clean", "--limited", "8000", "16000", "--workers=1", f"--json={test_set / 'j'}")
    evaluate.run(parsed(model, test_set, *wanted), told.append)
    lines = told[0].split("| PESQ-WB | source [Hz] |")[1].splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["8000", "16000"]
    found = json.loads((test_set / "j").read_text())["limited"]["identity"]
    for rate in ("8000", "16000"):
        for clip in found[rate]:
            assert set(clip) == {"whole", "limited", "limit"}
            assert clip["whole"] - clip["limited"] < 4.64 - clip["limit"] + 0.05
    # This voice has next to nothing above 4 kHz to lose.
    assert min(clip["limit"] for clip in found["8000"]) > 4.0
    with pytest.raises(SystemExit):
        parsed(model, test_set, "--limited", "3000")


@dataclass(frozen=True)
class Counting:
    """Hands on what it hears, and notes it: systems work in other processes."""

    notes: Path

    def __call__(self, item: Item) -> Processed:
        with self.notes.open("a") as file:
            file.write(f"{item.noisy.stem}\n")
        return Unprocessed()(item)


@pytest.mark.parametrize("known", [True, False])
def test_a_clip_is_heard_whole_once(test_set, known):
    """What narrow sources lose is told beside the first table's figure where there is one."""
    found, system = items(test_set), Counting(test_set / "heard")
    scored = evaluate.evaluate({"it": (system, None)}, found, 1) if known else {}
    system.notes.unlink(missing_ok=True)
    limited = evaluate.evaluate_limited({"it": system}, found, (8_000, 16_000), scored, 1)["it"]
    heard = system.notes.read_text().split()
    assert heard.count("narrow") == 2 * len(found)
    assert len(heard) == (2 if known else 3) * len(found)
    told = [clip.scores.pesq_wb for clip in scored.get("it", [])]
    for clips in limited.values():
        assert [clip.whole for clip in clips] == (told or [clip.whole for clip in limited[16_000]])
    assert evaluate.evaluate_limited({}, found, (8_000,), scored, 1) == {}


def test_silence_does_not_end_an_evaluation(rng):
    clean = voice(rng, 3.0, 16_000)
    scores, problems = score(clean, np.zeros_like(clean), 16_000)
    assert (scores.pesq_wb, scores.pesq_nb) == (LOWEST_PESQ["wb"], LOWEST_PESQ["nb"])
    assert scores.si_sdr == LOWEST_SI_SDR_DB
    assert len(problems) == 3
    assert all(math.isfinite(value) for value in scores[:9])
    # A clean clip in which PESQ hears no utterance is the test set's fault, and is told.
    hiss = (1e-6 * rng.standard_normal(48_000)).astype(np.float32)
    scores, problems = score(np.zeros_like(hiss), hiss, 16_000)
    assert any("utterance" in problem.lower() for problem in problems)


def test_word_starts_are_found_and_what_they_lose(rng):
    """Two words of a voice, each after a pause; a gate eats the first 25 ms of the second."""
    clean = (1e-4 * rng.standard_normal(2 * RATE)).astype(np.float32)
    for start_s in (0.5, 1.4):
        start = round(start_s * RATE)
        clean[start : start + RATE // 3] += 0.1 * rng.standard_normal(RATE // 3).astype(np.float32)
    assert word_starts(clean, RATE) == pytest.approx([0.5 * RATE, 1.4 * RATE], abs=RATE // 100)
    eaten = clean.copy()
    eaten[round(1.4 * RATE) : round(1.425 * RATE)] = 0.0
    noise = 0.05 * rng.standard_normal(len(clean)).astype(np.float32)
    # Noise that stays is no voice: it must not make up for what is lost.
    for processed in (eaten, eaten + noise):
        losses_db = word_start_losses_db(clean, processed, RATE)
        assert losses_db == pytest.approx([0.0, 6.0], abs=1.0)
    assert word_start_losses_db(clean, np.zeros_like(clean), RATE) == [40.0, 40.0]
    assert word_start_losses_db(np.zeros_like(clean), clean, RATE) == []


def test_octaves_tell_where_energy_went(rng):
    clean = rng.standard_normal(RATE).astype(np.float32)
    halved = soxr.resample(soxr.resample(clean, RATE, 16_000), 16_000, RATE)  # up to 7.5 kHz
    losses_db = octave_losses_db(clean, halved, RATE)
    assert losses_db[:6] == pytest.approx([0.0] * 6, abs=0.2)
    assert losses_db[6] == pytest.approx(4.9, abs=0.5)  # 1.8 of 5.7 kHz are left
    assert losses_db[7] > 40
    # What was not there cannot be lost.
    assert math.isnan(octave_losses_db(halved, halved, RATE)[7])


def test_the_oracle_is_the_ratio_mask_of_its_setting(test_set):
    spec = onnx_models.CLASSIC
    item = items(test_set)[0]
    made = Oracle(spec)(item)
    clean, rate = soundfile.read(item.clean, dtype="float32")
    noisy, _ = soundfile.read(item.noisy, dtype="float32")
    # The noisy file of the test set is at half of the level of the clean one; the noise
    # correlates a little with the speech, which the fit of that level notices.
    speech_db = frames(spec, 0.5 * clean, rate)[:, : spec.n_bins]
    noise_db = frames(spec, noisy - 0.5 * clean, rate)[:, : spec.n_bins]
    gain = 1.0 / np.sqrt(1.0 + 10.0 ** ((noise_db - speech_db) / 10.0))
    np.testing.assert_allclose(made.gain[:, : spec.n_bins], gain, atol=0.05)
    of_phases = Oracle(replace(spec, phase_bins=40))(item)
    np.testing.assert_array_equal(of_phases.gain, made.gain)
    voiced = speech_db > noise_db + 10.0
    assert voiced.any()
    assert made.gain[:, : spec.n_bins][voiced].min() > 0.9


def test_thesis_figures_ignore_pauses():
    rng = np.random.default_rng(1)
    clean_db = rng.uniform(-60.0, -20.0, (50, 30))
    clean_db[40:] = -100.0
    estimate_db = clean_db.copy()
    estimate_db[40:] = 0.0
    assert thesis_figures(estimate_db, clean_db) == (1.0, 0.0)
    estimate_db[:20] = clean_db[:20] + 3.0
    assert thesis_figures(estimate_db, clean_db) == pytest.approx((1.0, 4.5))
    estimate_db[:10, 0] = 10.0
    assert thesis_figures(estimate_db, clean_db)[0] == pytest.approx(0.75)


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def test_table_has_means_and_steps_of_snr():
    def scored(value: float, real_time: float) -> list[Clip]:
        found = [Item(str(k), snr, None, None) for k, snr in enumerate((-5.0, -5.0, 10.0))]
        return [
            Clip(
                item,
                Scores(*[value + k] * 9, starts=math.nan, real_time=real_time),
                ("no PESQ-WB of silence",) * (k == 2),
                starts_db=(1.0, 2.0, 40.0)[: k + 1],
            )
            for k, item in enumerate(found)
        ]

    clips = {"before": scored(1.0, math.nan), "after": scored(2.0, 0.5)}
    text = score_tables.table(clips)
    lines = text.splitlines()
    assert lines[2].startswith("| before | 2.00 | 2.00 | 2.000 |")
    assert lines[2].endswith("| – |")
    assert lines[3].endswith("| 0.500 |")
    start = lines.index("**BAK** by SNR [dB]")
    assert lines[start + 2] == "| system | -5 | 10 |"
    assert lines[start + 5] == "| after | 2.50 | 4.00 |"
    # Of word starts the median of all, so that one that is lost does not hide the others.
    start = lines.index("**word starts [dB]** by SNR [dB]")
    assert lines[start + 5] == "| after | 1.0 | 2.0 |"
    assert score_tables.means(clips["after"]).starts == 1.5
    assert "before: 1 of 3 clips could not be scored in full" in text
    assert "- 2: no PESQ-WB of silence" in lines
    found = score_tables.told(clips, {})["systems"]
    assert found["before"]["mean"]["real_time"] is None
    assert found["after"]["by_snr"]["-5"]["bak"] == 2.5
    assert found["after"]["clips"][2]["problems"] == ["no PESQ-WB of silence"]


def test_what_is_no_test_set_or_no_model_is_told(tmp_path, test_set):
    def refuses(error, match, *arguments):
        with pytest.raises(error, match=match):
            evaluate.run(parsed(*arguments, "--workers=1"), lambda text: None)

    (test_set / "model.onnx").write_text("no")
    peer = test_set / "peer"
    peer.mkdir()
    soundfile.write(peer / "000.wav", _silence(), RATE)
    refuses(TrainingError, "manifest", tmp_path / "nowhere")
    refuses(ModelError, "model.onnx", test_set / "model.onnx", test_set)
    other = f"--processed=p={peer}"
    refuses(TrainingError, "1 of 2 clips are missing, first: 001", test_set, other)
    refuses(TrainingError, "need a model", test_set, "--oracle")
    soundfile.write(peer / "001.wav", _silence(), RATE)
    refuses(TrainingError, "two rows have one name", test_set, other, other)
    with pytest.raises(SystemExit):
        parsed(test_set, "--processed=nothing")
    (test_set / "clean" / "001.flac").unlink()
    refuses(TrainingError, "1 files are missing", test_set)


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_what_is_read_is_not_written_over(test_set, option, monkeypatch):
    """Found out before anything is scored, and whatever the file is called."""
    model = onnx_models.write_identity(test_set / "m.onnx", onnx_models.CLASSIC)
    peer = test_set / "peer"
    peer.mkdir()
    for name in ("000", "001"):
        soundfile.write(peer / f"{name}.wav", _silence(), RATE)
    (test_set / "link.onnx").symlink_to(model)
    monkeypatch.chdir(test_set)
    inputs = ("m.onnx", "manifest.csv", "noisy/000.flac", "clean/001.flac", "peer/001.wav")
    before = {name: (test_set / name).read_bytes() for name in inputs}
    told: list[str] = []
    for name in (*inputs, "link.onnx"):
        given = parsed(model, test_set, f"--processed=p={peer}", f"{option}={name}", "--workers=1")
        with pytest.raises(TrainingError, match=f"^{name} is a file that is evaluated; name"):
            evaluate.run(given, told.append)
    with pytest.raises(TrainingError, match="peer is a folder; name a file"):
        evaluate.run(parsed(model, test_set, f"{option}=peer", "--workers=1"), told.append)
    assert not told
    assert {name: (test_set / name).read_bytes() for name in inputs} == before


@pytest.mark.parametrize(
    ("option", "name", "reason"),
    [
        ("--json", "nowhere/x.json", "No such file or directory"),
        ("--markdown", "manifest.csv/x.md", "Not a directory"),
        ("--pictures", "manifest.csv", "File exists"),
        ("--pictures", "manifest.csv/seen", "Not a directory"),
    ],
)
def test_what_cannot_be_written_is_told_before_all_the_work(test_set, option, name, reason):
    model = onnx_models.write_identity(test_set / "m.onnx", onnx_models.CLASSIC)
    path, told = test_set / name, []
    with pytest.raises(TrainingError, match=f"^cannot write {path}: {reason}$"):
        evaluate.run(parsed(model, test_set, f"{option}={path}", "--workers=1"), told.append)
    assert not told
    assert not (test_set / "nowhere").exists()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("000,0\n001", "line 3 is too short"),
        ('000,"0\n001,10\n', "unexpected end of data"),
        ('000,0,"nobody\n001,10,nobody\n', "unexpected end of data"),
        ("000,0\n001,nan", "line 3: snr_db should be finite, found nan"),
        ("000,inf\n001,10", "line 2: snr_db should be finite, found inf"),
        ("000,loud\n001,10", "could not convert string to float: 'loud'"),
    ],
)
def test_a_wrong_row_of_a_manifest_is_told_in_one_line(test_set, rows, reason):
    (test_set / "manifest.csv").write_text(f"id,snr_db,speech\n{rows}")
    with pytest.raises(TrainingError, match=f": no manifest.csv with id and snr_db: {reason}$"):
        items(test_set)


@pytest.mark.parametrize(
    ("n_noisy", "n_clean", "clean_rate", "reason"),
    [
        (RATE, RATE, 16_000, "001.flac: is at 16000 Hz, the noisy clip at 48000 Hz"),
        (RATE, RATE - 1, RATE, "001.flac: has 47999 samples, the noisy clip 48000"),
        (1, 1, RATE, "001.flac: is shorter than 0.05 s"),
        (RATE // 20 - 1, RATE // 20 - 1, RATE, "001.flac: is shorter than 0.05 s"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_told(test_set, n_noisy, n_clean, clean_rate, reason):
    soundfile.write(test_set / "noisy" / "001.flac", np.zeros(n_noisy), RATE)
    soundfile.write(test_set / "clean" / "001.flac", np.zeros(n_clean), clean_rate)
    with pytest.raises(TrainingError, match=f"{reason}$"):
        items(test_set)
    (test_set / "clean" / "001.flac").write_bytes(b"no sound")
    with pytest.raises(TrainingError, match=r"clean/001\.flac: "):
        items(test_set)


def test_the_shortest_clip_is_scored(test_set, rng):
    """What a test set may hold ends no evaluation; pairs may differ in rate from each other."""
    for kind in ("noisy", "clean"):
        sound = 0.1 * rng.standard_normal(800)
        soundfile.write(test_set / kind / "001.flac", sound, 16_000)
    model = onnx_models.write_identity(test_set / "m.onnx", onnx_models.CLASSIC)
    told: list[str] = []
    evaluate.run(parsed(model, test_set, "--workers=1"), told.append)
    assert "- 001: no PESQ-WB: Buffer needs to be at least 1/4 of a second long" in told[0]


@pytest.mark.parametrize("text", ["-1", "1.5", "all"])
def test_a_number_of_workers_that_is_none_is_told_in_one_line(text, capsys):
    with pytest.raises(SystemExit):
        parsed("testset", f"--workers={text}")
    line = f"argument --workers: should be a whole number, 0 or more, found {text!r}"
    assert capsys.readouterr().err.splitlines()[-1].endswith(line)
    assert parsed("testset", "--workers=0").workers == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_evaluation_leaves_no_workers(how):
    program = (
        "import os, time\n"
        "from training import evaluate\n"
        "with evaluate._pool(2) as pool:\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600.0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=-1) as process:
        assert process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=20.0)
    for worker in alive:
        worker.kill()
    assert not alive


def _silence() -> Float:
    return np.zeros(RATE, np.float32)
