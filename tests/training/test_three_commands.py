"""From a folder of recordings to a catalogue, a dataset and a page, as the documents show it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from app.cli import main
from tests.training.conftest import dataset_command

DOCUMENT = Path(__file__).parents[2] / "docs" / "exploration.md"


def test_three_commands_make_a_page(folders, tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    acquire, build, explore = (shlex.split(line)[1:] for line in block.splitlines())
    assert (acquire[0], build[:2], explore[0]) == ("acquire", ["dataset", "build"], "explore")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    for folder in folders.values():
        folder.rename(tmp_path / "recordings" / folder.name)

    assert main(acquire) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in told] == [
        "recordings/speech: speech, 12 new",
        "recordings/noise: noise, 6 new",
        "recordings/rir: rir, 1 new",
    ]
    assert main([*build, "--held-out=0.3", "--test=0", "--workers=1"]) == 0
    sides = json.loads(dataset_command("info", build[-1], "--json"))["splits"]
    assert sum(side["speech"]["voices"] for side in sides.values()) == 6
    assert sum(side["noise"]["recordings"] for side in sides.values()) == 6
    assert main(explore) == 0
    page = Path(explore[-1]).read_text()
    assert page.count("data:image/png;base64,") == 9
