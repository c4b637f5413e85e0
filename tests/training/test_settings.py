from __future__ import annotations

import argparse
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ModelError, TrainingError
from training import settings
from training.losses import Weights
from training.networks import Preset
from training.settings import CLASSIC, FULLBAND, SETTINGS, Data, Settings

ROOT = Path(__file__).parents[2]


def told(*options: str) -> Settings:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    return settings.settings(parser.parse_args(options))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        preset = "small"
        out = "runs/mine"
        devices = 2
        [model]
        setting = "fullband"
        n_bins = 400
        [data]
        speech = ["voices", "/other/voices"]
        noise = ["noise"]
        [mixing]
        clean = 1
        snr_db = [-5, 0, 20.5]
        [optimiser]
        rate = 0.002
        [run]
        minutes = 90
        [loss]
        eaten = 1.5
        """
    )
    return path


def test_the_file_says_it_and_options_override_it(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    more = ("--rate=0.5", "--noise", "more", "--steps=7", "--set=loss.sdr=0", "--set=preset=tiny")
    found = told(str(file), *more)
    assert found.out == tmp_path / "runs" / "mine"
    assert found.data.speech == (tmp_path / "voices", Path("/other/voices"))
    # What the command line names is where the command was given.
    assert found.data.noise == (tmp_path.parent / "more",)
    assert found.model == replace(FULLBAND, n_bins=400)
    assert found.mixing.snr_db == (-5.0, 0.0, 20.5)
    assert (found.mixing.clean, found.optimiser.rate, found.devices) == (1.0, 0.5, "2")
    assert (found.run.steps, found.run.minutes) == (7, None)
    assert (dict(found.loss), found.preset) == ({"eaten": 1.5, "sdr": 0}, "tiny")


def test_a_setting_brings_its_network():
    assert told("--out=x", "--setting=fullband").preset == "fullband"
    assert told("--out=x", "--setting=classic").preset == "classic"
    assert told("--out=x", "--setting=fullband", "--preset=small").preset == "small"
    assert told("--out=x").preset == "classic"


@pytest.mark.parametrize("name", ["classic", "fullband"])
def test_what_is_begun_with_brings_its_setting_and_network(name, tmp_path):
    model = ROOT / "models" / f"{name}.onnx"
    found = told("--out=x", f"--start={model}")
    assert found == replace(
        Settings(Path("x").absolute(), "start", start=model.absolute()), model=SETTINGS[name]
    )
    wider = told("--out=x", f"--start={model}", "--set=network.units=[9]", "--set=model.name=mine")
    assert (wider.preset, dict(wider.network)) == ("start", {"units": [9]})
    assert wider.model == replace(SETTINGS[name], name="mine")
    assert told("--out=x", f"--start={model}", "--preset=tiny").preset == "tiny"
    other = "classic" if name == "fullband" else "fullband"
    assert told("--out=x", f"--start={model}", f"--setting={other}").preset == other
    run = tmp_path / "run"
    run.mkdir()
    (run / settings.FILE).write_text(settings.to_toml(found))
    assert told("--out=y", f"--start={run}").model == SETTINGS[name]
    assert told("--out=y", f"--start={tmp_path}").preset == "classic"  # which is no run


def test_without_a_file_the_defaults_hold(tmp_path):
    found = told(f"--out={tmp_path}")
    assert found == Settings(out=tmp_path)
    assert (found.model, found.data) == (CLASSIC, Data())


def test_what_was_used_is_written_so_that_it_reads_the_same(file, tmp_path):
    awkward = 'C:\\data "raw"\t\x7f ü'
    chosen = told(str(file), "--speech", awkward, f"--set=model.description={awkward!s}")
    (tmp_path / "left.toml").write_text(settings.to_toml(chosen), encoding="utf-8")
    assert told(str(tmp_path / "left.toml")) == chosen
    # Every field of every table is there: another default tomorrow changes nothing.
    tables = tomllib.loads(settings.to_toml(chosen))
    assert set(tables["mixing"]) == set(chosen.mixing.__slots__)
    assert set(tables["optimiser"]) == set(chosen.optimiser.__slots__)


def test_the_documentation_s_example_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(text.split("```toml")[1].split("```")[0])
    found = told(str(tmp_path / "mine.toml"))
    assert (found.devices, found.run.minutes, found.run.patience) == ("all", 75.0, 20)
    assert found.optimiser == settings.Optimiser()
    assert found.model == CLASSIC


def test_resuming_takes_the_settings_that_the_run_left(file):
    chosen = told(str(file))
    chosen.out.mkdir(parents=True)
    (chosen.out / settings.FILE).write_text(settings.to_toml(chosen))
    assert told(f"--out={chosen.out}", "--resume") == chosen
    longer = told(f"--out={chosen.out}", "--resume", "--minutes=120")
    assert longer == replace(chosen, run=replace(chosen.run, minutes=120.0))


def test_another_preset_or_setting_forgets_what_the_file_says_of_the_first(tmp_path):
    left = tmp_path / "left.toml"
    left.write_text(
        settings.to_toml(replace(told(f"--out={tmp_path}"), network={"front": 9}, model=FULLBAND))
    )
    assert told(str(left)).network == {"front": 9}
    assert told(str(left), "--preset=small").network == {}
    assert told(str(left), "--seed=2").model == FULLBAND
    assert told(str(left), "--setting=classic").model == CLASSIC


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 2", "sead is no setting; there are out, preset, seed"),
        ("[optimiser]\nspeed = 2", "optimiser.speed is no setting; there are kind, rate, schedule"),
        ("[data]\nspeech = 'a'\n[datas]", "datas is no setting"),
        ("seed = 'x'", "seed should be a whole number, found 'x'"),
        ("seed = true", "seed should be a whole number, found True"),
        ("seed = -1", "seed should be within 0"),
        ("[run]\ntracks = 1", "run.tracks should be true or false, found 1"),
        ("[batch]\nclips = 1.5", "batch.clips should be a whole number, found 1.5"),
        ("[batch]\nclips = 0", "batch.clips should be within 1"),
        ("[mixing]\nsnr_db = [1, 2]", r"mixing.snr_db should be a list of 3, found \[1, 2\]"),
        ("[mixing]\nsnr_db = [1, 2, 'x']", "mixing.snr_db should be a number, found 'x'"),
        ("[mixing]\nclean = 30", r"^mixing.clean should be within 0…1, found 30\.0$"),
        ("[mixing]\nclean = -1", r"^mixing.clean should be within 0…1, found -1\.0$"),
        ("[mixing]\nroom = nan", "^mixing.room should be within 0…1, found nan$"),
        ("[mixing]\nmuted = inf", "^mixing.muted should be within 0…1, found inf$"),
        ("[mixing]\nlevel_db = [5, 1]", r"^mixing.level_db should rise, found \[5\.0, 1\.0\]$"),
        ("[mixing]\nlevel_db = [0, inf]", r"^mixing.level_db should be within -200…200, found "),
        ("[mixing]\nrumble_db = [nan, 0]", r"^mixing.rumble_db should be within -200…200, found "),
        ("[mixing]\nsnr_db = [0, -5, 9]", r"^mixing.snr_db should rise, found \[0\.0, -5\.0, 9"),
        ("[mixing]\nsnr_db = [5, 5, 5]", "^mixing.snr_db should rise, found "),
        ("[mixing]\nspeed = [0, 1]", "^mixing.speed should be within 0.1…10, found "),
        ("[mixing]\nequaliser_db = 0", "^mixing.equaliser_db should be within 1e-06…200, found 0"),
        ("[mixing]\nlongest_mute_s = inf", r"^mixing.longest_mute_s should be within 0\.02…1e\+06"),
        (
            "[mixing]\nlongest_room_s = nan",
            "^mixing.longest_room_s should be within 0…inf, found nan",
        ),
        ("[mixing]\nvoice_s = 0", r"^mixing.voice_s should be within 0\.001…inf, found 0\.0$"),
        ("[data]\nspeech = [1]", "data.speech should be a path, found 1"),
        ("[optimiser]\nschedule = 'steps'", "optimiser.schedule should be one of cosine, "),
        ("[optimiser]\nkind = 'sgd'", "optimiser.kind should be one of adam, muon, found 'sgd'"),
        ("[optimiser]\nrate = nan", "optimiser.rate should be within"),
        ("[run]\nsteps = 1\nminutes = 1", "run.steps and run.minutes cannot both"),
        ("[model]\nsetting = 'tape'", "model.setting should be one of classic, fullband"),
        ("[model]\nlookahead = 2", "model.lookahead should be 0, found 2: "),
        ("[model]\nsetting = [1]", r"model.setting should be one of .*, found \[1\]"),
        ("[model]\nsetting = {}", r"model.setting should be one of .*, found \{\}"),
        ("[model]\nhops = 3", "model.hops is no setting"),
        ("devices = 'both'", "devices should be a number or all, found 'both'"),
        ("run = 3", "run should be a table of settings, found 3"),
        ("model = 3", "model should be a table of settings, found 3"),
        ("loss = 3", "loss should be a table of settings, found 3"),
        ("seed = ", "mine.toml: "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message) as error:
        told(str(path), f"--out={tmp_path}")
    assert "\n" not in str(error.value)


def test_settings_that_no_model_can_have_are_told(tmp_path):
    with pytest.raises(ModelError, match="n_bins should be within 1…513, found 999"):
        told(f"--out={tmp_path}", "--set=model.n_bins=999")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "a\\b", "..", "a\nb", "\x07", "\x9b"])
def test_a_model_is_not_named_out_of_the_run_s_folder(tmp_path, name):
    message = re.escape(f"without /, \\, .. and control characters, found {name!r}")
    with pytest.raises(TrainingError, match=f"^model.name names a file.*{message}$"):
        told(f"--out={tmp_path}", f"--set=model.name={name}")
    assert told(f"--out={tmp_path}", "--set=model.name=Mäx 2.0 (v.1)").model.name == "Mäx 2.0 (v.1)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no folder for the run: give --out"),
        (["--out=x", "--set=optimiser.clip"], "--set wants TABLE.KEY=VALUE"),
        (["--out=x", "--set=seed.x=1", "--seed=2"], "seed should be a table of settings"),
        (["nowhere.toml"], "nowhere.toml"),
    ],
)
def test_wrong_options_are_named_in_one_line(options, message):
    with pytest.raises(TrainingError, match=message):
        told(*options)


def test_tables_of_other_modules_are_checked_alike():
    assert settings.table(Weights, {"eaten": 1}, "loss") == Weights(eaten=1.0)
    base = Preset(8, (4,))
    assert settings.table(Preset, {"units": [9, 9]}, "network", base) == Preset(8, (9, 9))
    with pytest.raises(TrainingError, match="output should be one of"):
        settings.table(Preset, {"output": "song"}, "network", base)
