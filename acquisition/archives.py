"""Archives from strangers, unpacked into one folder and nowhere else.

Names that lead out of the folder, links, devices and bombs are refused before a byte is
written, and what an archive says of its size is not believed while it is unpacked. Not here:
where archives come from (``downloads``).
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import secrets
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from acquisition.errors import AcquisitionError

_CHUNK = 1 << 18
"""What is read at once; no header of a tar is longer [bytes]."""
_LONGEST_NAME = 240
_LONGEST_TAIL = 256
"""Of a tar after its last member, in chunks."""

# What packs a tar, by how it begins.
_PACKERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold; more is a mistake or an attack."""

    most_bytes: int = 64 * 2**30
    """Of all files together, unpacked."""
    most_files: int = 500_000
    largest_ratio: float = 20.0
    """Of unpacked to packed: sound packs to a half, zeros to a thousandth."""
    least_bytes: int = 16 * 2**20
    """So much is always allowed: a small archive may hold silence."""


def unpack(
    archive: Path,
    folder: Path,
    wanted: Callable[[str], bool] = lambda name: True,
    bounds: Bounds | None = None,
) -> list[Path]:
    """Unpack a zip or tar (plain, gzip, bzip2, xz), all of it or nothing.

    Parameters
    ----------
    folder : of the files, made by this; one that is there stays as it is
    wanted : told each name in the archive, whether to unpack that file

    Returns
    -------
    the files, in the archive's order

    Raises
    ------
    AcquisitionError : it is no such archive or a damaged one, holds names that lead elsewhere
        or more than ``bounds``, or the disk is full. Nothing is left of it then
    """
    bounds = bounds or Bounds()
    if folder.is_dir():
        return sorted(path for path in folder.rglob("*") if path.is_file())
    packed = archive.stat().st_size if archive.is_file() else 0
    part = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    made: list[PurePosixPath] = []
    with _telling(archive):
        try:
            part.mkdir(parents=True)
            most = max(bounds.least_bytes, round(packed * bounds.largest_ratio))
            with _opened(archive, most) as members:
                total = 0
                for name, opened in members:
                    place = _place(archive, name)
                    if not wanted(name):
                        continue
                    if len(made) >= bounds.most_files:
                        raise AcquisitionError(
                            f"{archive}: holds more than {bounds.most_files} files"
                        )
                    with opened() as source:
                        left = min(bounds.most_bytes, most) - total
                        total += _copy(archive, source, part / place, left)
                    made.append(place)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return [folder / place for place in made]


Member = tuple[str, Callable[[], IO[bytes]]]


@contextmanager
def _opened(archive: Path, most: int) -> Iterator[Iterator[Member]]:
    """Names of the files in an archive and how to open each; a tar is read so far at most."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(archive, zipped)
        return
    with _unpacked(archive) as file:
        spare = _Spare(archive, file, most)
        with tarfile.open(fileobj=spare, mode="r:") as tar:
            yield _of_tar(archive, tar)
        # The checksum of what packs a tar comes at its end, after the last member.
        for _ in range(_LONGEST_TAIL):
            if not spare.read(_CHUNK):
                break


def _unpacked(archive: Path) -> io.BufferedIOBase:
    """A tar without what packs it."""
    with archive.open("rb") as file:
        first = file.read(max(map(len, _PACKERS)))
    for magic, opened in _PACKERS.items():
        if first.startswith(magic):
            return opened(archive)
    return archive.open("rb")


class _Spare(io.RawIOBase):
    """A file that gives little at once and ends somewhere.

    tarfile reads a name or a header whole, however long it says that it is.
    """

    def __init__(self, archive: Path, file: io.BufferedIOBase, most: int) -> None:
        self._archive = archive
        self._file = file
        self._most = most

    def read(self, size: int = -1) -> bytes:
        """Some bytes; raises AcquisitionError where they are too many, or begin too far."""
        if not 0 <= size <= _CHUNK:
            raise AcquisitionError(
                f"{self._archive}: has a header of {size} bytes, {_CHUNK} are allowed"
            )
        self._check(self.tell())
        return self._file.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; raises AcquisitionError where it is too far."""
        self._check(position)
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def _check(self, position: int) -> None:
        if position > self._most:
            raise AcquisitionError(f"{self._archive}: unpacks to more than a recording would")


def _of_zip(archive: Path, file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        if info.is_dir():
            continue
        kind = info.external_attr >> 16
        if kind and (kind & 0o170000) not in (0, 0o100000):
            raise AcquisitionError(f"{archive}: {info.filename!r} is a link or a device")
        if info.flag_bits & 1:
            raise AcquisitionError(f"{archive}: {info.filename!r} is encrypted")
        yield info.filename, lambda info=info: file.open(info)  # type: ignore[misc]


def _of_tar(archive: Path, tar: tarfile.TarFile) -> Iterator[Member]:
    while member := tar.next():
        # All of them would be kept, and what some say of those that follow, of any length.
        tar.members = []  # type: ignore[attr-defined]
        tar.pax_headers = {}
        if member.isdir():
            continue
        if not member.isreg():
            raise AcquisitionError(
                f"{archive}: {member.name[:_LONGEST_NAME]!r} is a link or a device"
            )

        def opened(member: tarfile.TarInfo = member) -> IO[bytes]:
            file = tar.extractfile(member)
            assert file is not None  # it is a regular file
            return file

        yield member.name, opened


def _place(archive: Path, name: str) -> PurePosixPath:
    """Where a file goes within the folder; raises AcquisitionError where it would leave it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    odd = any(ord(letter) < 32 for letter in name)
    drive = ":" in (parts[0] if parts else "")
    if not parts or odd or drive or parts[0].startswith("/") or ".." in parts:
        raise AcquisitionError(
            f"{archive}: {name[:_LONGEST_NAME]!r} would lie outside of its folder"
        )
    if max(map(len, parts)) > _LONGEST_NAME:
        raise AcquisitionError(f"{archive}: {name[:40]!r}… is too long a name")
    return PurePosixPath(*parts)


def _copy(archive: Path, source: IO[bytes], path: Path, most: int) -> int:
    """Write one file of at most so many bytes; returns how many it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise AcquisitionError(f"{archive}: unpacks to more than a recording would")
            file.write(chunk)
    return size


# A name of no letters ends in an IndexError of zipfile's own; numbers out of range in others.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    ValueError,
    OverflowError,
)


@contextmanager
def _telling(archive: Path) -> Iterator[None]:
    """One line in place of each library's own errors."""
    try:
        yield
    except _DAMAGED as error:
        raise AcquisitionError(f"{archive}: is no whole archive: {_one_line(error)}") from error
    except (NotImplementedError, RuntimeError) as error:  # a method that Python does not know
        raise AcquisitionError(f"{archive}: cannot be unpacked: {_one_line(error)}") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else _one_line(error)
        raise AcquisitionError(f"{archive}: cannot be unpacked: {reason}") from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__
