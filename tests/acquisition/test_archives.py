"""Archives as strangers make them: broken, hostile, and now and then a good one."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acquisition.archives import Bounds, unpack
from acquisition.errors import AcquisitionError

HOSTILE = [
    "../evil.mp3",
    "a/../../evil.mp3",
    "/etc/evil.mp3",
    "//server/evil.mp3",
    "..\\evil.mp3",
    "C:\\evil.mp3",
    "C:evil.mp3",
    "a/\x01b",
    "new\nline.mp3",
    "x" * 300,
]


def packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                info = zipfile.ZipInfo("x")
                info.filename = name  # as it is: ZipInfo itself would cut at a zero byte
                file.writestr(info, content, zipfile.ZIP_DEFLATED)
        return path
    with tarfile.open(path, "w:" + path.suffix[1:].replace("tar", "")) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def header(name: str, kind: bytes, size: int) -> bytes:
    """A tar's, for so many bytes that follow."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("suffix", ["zip", "tar", "gz", "bz2", "xz"])
def test_a_good_archive_is_unpacked_whole(tmp_path: Path, rng: np.random.Generator, suffix) -> None:
    files = {"b/one.mp3": rng.bytes(3000), "b/two.mp3": b"", "read me.txt": b"words"}
    archive = packed(tmp_path / f"book.{suffix}", files)
    found = unpack(archive, tmp_path / "book", wanted=lambda name: name.endswith(".mp3"))
    assert [str(path.relative_to(tmp_path / "book")) for path in found] == [
        "b/one.mp3",
        "b/two.mp3",
    ]
    assert found[0].read_bytes() == files["b/one.mp3"]
    assert left(tmp_path) == {archive.name, "book", "book/b", "book/b/one.mp3", "book/b/two.mp3"}
    # Unpacked already: nothing is done, and nothing asked of the archive.
    archive.unlink()
    assert unpack(archive, tmp_path / "book") == found


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    inside = tmp_path / "deep" / "down"
    inside.mkdir(parents=True)
    archive = packed(inside / f"book.{suffix}", {"good.mp3": b"sound", name: b"evil"})
    before = left(tmp_path)
    with pytest.raises(AcquisitionError, match=r"outside of its folder|too long a name") as error:
        unpack(archive, inside / "book")
    assert "\n" not in str(error.value)
    assert left(tmp_path) == before
    assert not Path("/etc/evil.mp3").exists()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        archive = tmp_path / "a.tar"
        with tarfile.open(archive, "w") as tar:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        with pytest.raises(AcquisitionError, match="a link or a device"):
            unpack(archive, tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(AcquisitionError, match="a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert left(tmp_path) == {"a.tar", "a.zip"}


def test_a_bomb_of_ten_gigabytes_costs_next_to_nothing(tmp_path: Path) -> None:
    """Ten gigabytes of zeros: 45 MB packed."""
    archive = tmp_path / "bomb.zip"
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("0.mp3", "w", force_zip64=True) as member,
    ):
        for _ in range(10 * 1024):
            member.write(zeros)
    assert archive.stat().st_size < 60 * 2**20
    before = time.monotonic()
    with pytest.raises(AcquisitionError, match="more than a recording would"):
        unpack(archive, tmp_path / "bomb")
    assert time.monotonic() - before < 60.0
    assert left(tmp_path) == {"bomb.zip"}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize(("n", "times"), [(64 * 2**20, 1), (2**18, 300)])
def test_names_and_headers_of_a_tar_take_no_memory(
    tmp_path: Path, kind: bytes, n: int, times: int
) -> None:
    """64 MiB of them, in one or one before the other: 0.1 MB packed."""
    text = b"%d a=%s\n" % (n, b"a" * (n - len(str(n)) - 4))
    with gzip.open(tmp_path / "a.tar", "wb", compresslevel=1) as file:
        for _ in range(times):
            file.write(header("x", kind, n) + text)
        file.write(header("a.mp3", tarfile.REGTYPE, 0) + bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(AcquisitionError, match=r"a header of 67108864 bytes|more than a rec"):
            unpack(tmp_path / "a.tar", tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert left(tmp_path) == {"a.tar"}


def test_what_a_tar_says_of_its_files_is_not_kept(tmp_path: Path) -> None:
    """40 MiB of headers in a tar that is whole, and all of which are allowed."""
    n = 2**17
    with (tmp_path / "a.tar").open("wb") as file:
        for k in range(160):
            kind = tarfile.XGLTYPE if k % 2 else tarfile.XHDTYPE
            for _ in range(2):
                text = b"%d %06d=%s\n" % (n, file.tell() % 1_000_003, b"a" * (n - 15))
                file.write(header("x", kind, n) + text)
            file.write(header(f"{k}.mp3", tarfile.REGTYPE, 0))
        file.write(bytes(1024))
    tracemalloc.start()
    try:
        assert len(unpack(tmp_path / "a.tar", tmp_path / "a")) == 160
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_a_tar_is_not_skipped_through_without_an_end(tmp_path: Path) -> None:
    """What is not wanted is read all the same; 40 MiB are more than such an archive may hold."""
    archive = packed(tmp_path / "a.bz2", {"a.txt": bytes(40 * 2**20), "a.mp3": b"sound"})
    with pytest.raises(AcquisitionError, match="more than a recording"):
        unpack(archive, tmp_path / "a", wanted=lambda name: name.endswith(".mp3"))
    assert left(tmp_path) == {"a.bz2"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_large_files_and_long_names_of_any_tar_are_unpacked(
    tmp_path: Path, rng: np.random.Generator, form: int
) -> None:
    folder = "/".join(["é" * 20] * 4 if form == tarfile.USTAR_FORMAT else ["é" * 100] * 9)
    files = {f"{folder}/a.mp3": rng.bytes(3 * 2**20 + 7), f"{folder}/b.mp3": rng.bytes(600)}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as tar:
        tar.pax_headers = {"comment": "of all of them"}
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            if form == tarfile.USTAR_FORMAT:
                info.mtime = 1
            tar.addfile(info, io.BytesIO(content))
    found = unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    assert {str(p.relative_to(tmp_path / "a")): p.read_bytes() for p in found} == files


def test_what_an_archive_says_of_its_size_is_not_believed(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"a.mp3": bytes(3_000_000)})
    raw = bytearray(archive.read_bytes())
    directory = raw.rindex(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = (100).to_bytes(4, "little")  # told: 100 bytes
    archive.write_bytes(raw)
    small = Bounds(least_bytes=1000)
    with pytest.raises(AcquisitionError, match=r"more than a recording|no whole archive"):
        unpack(archive, tmp_path / "a", bounds=small)
    assert left(tmp_path) == {"a.zip"}


def test_too_many_files_and_too_many_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    archive = packed(tmp_path / "a.zip", {f"{k}.mp3": rng.bytes(100) for k in range(50)})
    with pytest.raises(AcquisitionError, match="more than 49 files"):
        unpack(archive, tmp_path / "a", bounds=Bounds(most_files=49))
    with pytest.raises(AcquisitionError, match="more than a recording"):
        unpack(archive, tmp_path / "a", bounds=Bounds(most_bytes=4999))
    assert len(unpack(archive, tmp_path / "a", bounds=Bounds(most_bytes=5000))) == 50


@pytest.mark.parametrize("suffix", ["zip", "gz"])
def test_damaged_archives_leave_nothing(tmp_path: Path, rng: np.random.Generator, suffix) -> None:
    archive = packed(tmp_path / f"a.{suffix}", {"a.mp3": rng.bytes(50_000), "b.mp3": b"b" * 5000})
    whole = archive.read_bytes()
    for broken in (b"", b"no archive at all", whole[: len(whole) // 2], whole[:-30]):
        archive.write_bytes(broken)
        with pytest.raises(AcquisitionError) as error:
            unpack(archive, tmp_path / "a")
        assert str(archive) in str(error.value)
        assert "\n" not in str(error.value)
        assert left(tmp_path) == {archive.name}
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    archive.write_bytes(flipped)
    with pytest.raises(AcquisitionError):
        unpack(archive, tmp_path / "a")
    archive.unlink()
    with pytest.raises(AcquisitionError, match="No such file"):
        unpack(archive, tmp_path / "a")
    assert left(tmp_path) == set()


@example(damage=[(399, 0)])  # a file without a name
@given(damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_any_damage_is_an_error_of_ours_or_none(tmp_path_factory, damage) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    archive = packed(folder / "a.zip", {"a.mp3": b"sound" * 20, "b/c.mp3": b"more"})
    raw = bytearray(archive.read_bytes())
    for place, value in damage:
        raw[place % len(raw)] = value
    archive.write_bytes(raw)
    with suppress(AcquisitionError):
        unpack(archive, folder / "in")
        return
    assert left(folder) == {"a.zip"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_full_disk_leaves_nothing_half_unpacked(tmp_path: Path, rng: np.random.Generator) -> None:
    archive = packed(tmp_path / "a.zip", {f"{k}.mp3": rng.bytes(60_000) for k in range(10)})
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], check=True)
    try:
        with pytest.raises(AcquisitionError, match="the disk is full"):
            unpack(archive, disk / "a")
        assert left(disk) == set()
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        assert len(unpack(archive, disk / "a")) == 10
    finally:
        subprocess.run(["umount", str(disk)], check=True)
