"""What is freed is kept: in a process of its own, since it holds until that ends."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training import memory

_FREES = """
import ctypes, json, resource, sys
from training import memory

told = memory.keep() if sys.argv[1] == "kept" else False
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
with open("/proc/self/smaps") as maps:
    flags = [word for line in maps if line.startswith("VmFlags") for word in line.split()[1:]]
print(json.dumps({"told": told, "faults": faults, "huge": "hg" in flags}))
"""

with_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")


def _frees(how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _FREES, how],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@with_glibc
def test_memory_that_is_freed_is_not_cleared_again() -> None:
    handed_back, kept = _frees("handed back"), _frees("kept")
    assert kept["told"]
    # 64 MB are 16,384 pages of 4 KB, or 32 of 2 MB.
    assert min(handed_back["faults"]) >= 32
    assert sum(kept["faults"][1:]) < 32


@with_glibc
def test_what_is_kept_may_lie_in_huge_pages() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no huge pages to hand out")
    assert _frees("kept")["huge"]
    assert not _frees("handed back")["huge"]


@pytest.mark.parametrize("library", [object(), OSError(), TypeError()])
def test_other_c_libraries_are_left_alone(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_name: None) -> object:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr("ctypes.CDLL", opened)
    assert not memory.keep()
