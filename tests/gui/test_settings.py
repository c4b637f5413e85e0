"""What is remembered: it survives versions, garbage and full disks, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.window.settings import (
    FIRST_PROFILES,
    MOST_PROFILES,
    VERSION,
    Profile,
    Settings,
    as_dict,
    from_dict,
)
from app.window.settings_file import FILE, SettingsFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=6,
)
KNOWN = sorted(as_dict(Settings())) + sorted(as_dict(Settings())["profiles"][0])


def test_what_was_chosen_is_there_at_the_next_start(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "new" / "folder")
    assert file.now == Settings()
    file.take(file.now.with_wishes({"input": "yeti", "limit_db": 12.0, "unknown": 1}))
    file.change(theme="dark", was_muted=True)
    assert file.save()
    again = SettingsFile(tmp_path / "new" / "folder")
    assert again.now == file.now
    assert again.now.current.input == "yeti"
    assert again.now.current.limit_db == 12.0
    assert not again.problems
    assert again.path.stat().st_mode & 0o077 == 0, "for nobody else"
    assert [path.name for path in again.path.parent.iterdir()] == [FILE], "nothing is left over"


def test_it_is_written_once_nothing_changes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    file = SettingsFile(tmp_path)
    for limit in range(10):  # a slider that is dragged
        file.take(file.now.with_wishes({"limit_db": float(limit)}))
        now[0] += 0.1
        file.save_when_calm()
    assert not file.path.exists()
    now[0] += 0.5
    file.save_when_calm()
    assert json.loads(file.path.read_text())["profiles"][0]["limit_db"] == 9.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b'{"version": "two"}',
        b'{"version": true}',
        b'{"version": -1}',
        b"[" * 100_000,
        b" " * 2_000_000,
        b'{"version": 1, "profiles": [' + b'{"name": "x"},' * 5,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_corrupt_file_is_put_aside_and_told_once(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    file = SettingsFile(tmp_path)
    assert file.now == Settings()
    assert len(file.problems) == 1
    assert "\n" not in file.problems[0]
    assert file.damaged is not None
    assert file.damaged.read_bytes() == data
    assert not file.path.exists()
    again = SettingsFile(tmp_path)
    assert not again.problems
    again.change(theme="dark")
    assert again.save()
    assert file.damaged.read_bytes() == data


def test_few_corrupt_files_are_kept(tmp_path: Path) -> None:
    for round_ in range(12):
        (tmp_path / FILE).write_text(f"garbage {round_}")
        SettingsFile(tmp_path)
    kept = sorted(path.read_text() for path in tmp_path.iterdir())
    assert kept == sorted(f"garbage {round_}" for round_ in range(7, 12))


def test_one_wrong_value_costs_no_other(tmp_path: Path) -> None:
    told = as_dict(Settings(theme="dark").with_wishes({"input": "yeti"}))
    told["start_on"], told["profiles"][0]["limit_db"] = "sometimes", 1000
    told["profiles"].append({"name": "home"})
    (tmp_path / FILE).write_text(json.dumps(told))
    file = SettingsFile(tmp_path)
    assert file.now.theme == "dark"
    assert file.now.current.input == "yeti"
    assert (file.now.start_on, file.now.current.limit_db) == ("last", 100.0)
    assert len(file.problems) == 3
    assert file.damaged is not None
    assert json.loads(file.damaged.read_text()) == told, "what was written by hand is not lost"


@pytest.mark.parametrize("limit_db", ["NaN", "Infinity", "1" + "0" * 400, "-1"])
def test_a_limit_that_is_none_costs_no_other_value(tmp_path: Path, limit_db: str) -> None:
    text = json.dumps(as_dict(Settings(theme="dark")).copy()).replace("100.0", limit_db)
    assert limit_db in text
    (tmp_path / FILE).write_text(text)
    file = SettingsFile(tmp_path)
    assert (file.now.theme, file.now.current.limit_db) == ("dark", 100.0)
    assert file.problems


def test_what_was_mended_is_told_and_put_aside_once(tmp_path: Path) -> None:
    old = tmp_path / "settings.damaged-1.json"
    old.write_text("worth more")
    (tmp_path / FILE).write_text(json.dumps(as_dict(Settings()) | {"theme": "pink"}))
    file = SettingsFile(tmp_path)
    assert len(file.problems) == 1
    file.save_when_calm()
    again = SettingsFile(tmp_path)
    assert (again.problems, again.damaged) == ([], None)
    newer = as_dict(Settings()) | {"version": VERSION + 1, "written_by": VERSION + 1}
    (tmp_path / FILE).write_text(json.dumps(newer))
    for _ in range(7):
        SettingsFile(tmp_path)
    assert len(list(tmp_path.glob(f"settings.version-{VERSION + 1}-*.json"))) == 1
    assert len(list(tmp_path.glob("settings.damaged-*.json"))) == 2
    assert old.read_text() == "worth more"


def test_a_newer_version_loses_nothing(tmp_path: Path) -> None:
    told = as_dict(Settings(theme="dark"))
    told.update(version=VERSION + 3, hologram={"depth": 3}, start_on="when I speak", written_by=9)
    told["profiles"][1]["echo"] = [1, 2]
    text = json.dumps(told)
    (tmp_path / FILE).write_text(text)
    for theme in ("light", "system"):
        file = SettingsFile(tmp_path)
        assert not file.problems
        file.change(theme=theme)
        assert file.save()
    found = json.loads((tmp_path / FILE).read_text())
    assert found["theme"] == "system"
    assert found["version"] == VERSION + 3
    assert found["hologram"] == {"depth": 3}
    assert found["profiles"][1]["echo"] == [1, 2]
    (copy,) = tmp_path.glob(f"settings.version-{VERSION + 3}-*.json")
    assert copy.read_text() == text, "a value that this version does not take is in the copy"


def test_what_the_first_window_remembered_is_taken_over(tmp_path: Path) -> None:
    assert not SettingsFile(tmp_path).now.help_seen
    (tmp_path / "window.ini").write_text("[help]\nseen=true\n")
    assert SettingsFile(tmp_path).now.help_seen
    (tmp_path / FILE).write_text('{"help/seen": true, "theme": "dark"}')  # of version 0
    file = SettingsFile(tmp_path)
    assert (file.now.help_seen, file.now.theme, file.now.version) == (True, "dark", VERSION)
    (tmp_path / FILE).unlink()
    (tmp_path / "window.ini").write_bytes(b"\xff\x00[")
    assert not SettingsFile(tmp_path).now.help_seen


def test_a_disk_that_is_full_costs_nothing(tmp_path: Path) -> None:
    """Writing really fails, at a limit of the process; the file of before stays whole."""
    program = f"""
import resource, signal, sys
from pathlib import Path
from app.window.settings_file import SettingsFile
file = SettingsFile(Path({str(tmp_path)!r}))
file.change(theme="dark")
assert file.save()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
file.change(theme="light")
assert not file.save()
assert file.now.theme == "light"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert SettingsFile(Path({str(tmp_path)!r})).now.theme == "dark"
assert [path.name for path in Path({str(tmp_path)!r}).iterdir()] == ["{FILE}"]
assert file.save(), "it is tried again"
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
    assert SettingsFile(tmp_path).now.theme == "light"


def test_a_file_that_cannot_be_read_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()  # neither read nor, being a folder, taken for ours
    (tmp_path / FILE / "precious").touch()
    file = SettingsFile(tmp_path)
    assert file.now == Settings()
    assert file.problems
    assert file.damaged is not None
    assert (file.damaged / "precious").exists()
    file.change(theme="dark")
    assert file.save()


def test_a_folder_that_is_none_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = SettingsFile(tmp_path / "file" / "folder")
    file.change(theme="dark")
    assert not file.save()
    assert file.now.theme == "dark"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=8), JSON))
def test_whatever_lies_in_the_file_makes_settings(told: dict[str, object]) -> None:
    found, _ = from_dict(told)
    assert found.current in found.profiles
    assert 0.0 <= found.current.limit_db <= 100.0
    again, wrong = from_dict(json.loads(json.dumps(as_dict(found))))
    assert not wrong
    assert json.dumps(as_dict(again)) == json.dumps(as_dict(found))


# Profiles


def test_a_profile_remembers_what_was_chosen_in_it() -> None:
    now = Settings().with_wishes({"input": "yeti"}).in_use("train")
    assert now.current.input is None
    now = now.with_wishes({"input": "headset", "model": "fullband", "speakers": True})
    assert now.current.wishes()["model"] == "fullband"
    assert now.in_use("home").current.input == "yeti"
    assert now.in_use("train").current.speakers
    with pytest.raises(ValueError, match="no profile 'boat'"):
        now.in_use("boat")


def test_profiles_are_added_renamed_and_deleted() -> None:
    now = Settings().with_wishes({"input": "yeti"}).added("  My   boat ")
    assert now.profile == "My boat"
    assert now.current.input == "yeti", "it begins as what is in use"
    now = now.renamed("home", "den").renamed("My boat", "ship").renamed("ship", "Ship")
    assert [one.name for one in now.profiles] == ["den", "office", "train", "Ship"]
    assert now.current.name == "Ship"
    now = now.without("Ship")
    assert now.profile == "den"
    for name in ("office", "den"):
        now = now.without(name)
    assert now.profile == "train"
    with pytest.raises(ValueError, match="the last"):
        now.without("train")


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "tab\x07", "HOME"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="profile"):
        Settings().added(name)


def test_there_are_not_endlessly_many_profiles() -> None:
    now = Settings()
    for at in range(MOST_PROFILES - len(FIRST_PROFILES)):
        now = now.added(f"place {at}")
    with pytest.raises(ValueError, match="already"):
        now.added("one more")
    assert len(from_dict(as_dict(replace(now, profiles=(*now.profiles, Profile("z")))))[0].profiles)


def test_how_a_new_engine_starts() -> None:
    left = Settings(was_on=False, was_muted=True)
    assert not left.starts_on()
    assert not left.starts_muted(), "nobody is muted by surprise"
    assert replace(left, start_on="on", start_muted="last").starts_on()
    assert replace(left, start_muted="last").starts_muted()
