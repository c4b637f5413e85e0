"""Shards of a dataset, made side by side on Dask and never half there.

A shard is made in memory, written under another name and renamed. Its name holds a
checksum of all that it is made of, so what lies there is what is wanted: a build that was
killed makes only what is missing, and one with other files or options makes anew only the
shards that these change. Not here: what is in a shard (``dataset_pcm``, ``thesis_layout``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py
from tqdm import tqdm

from engine.errors import TrainingError
from training.files import replace_file

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the files; written into each, and part of each shard's checksum."""

UNREAD = "unread"
"""Where a shard names files that the system withheld: their content is not in its name."""

SOUND, ROOMS = "sound.h5", "rooms"
"""Among the shards of mixtures: the recordings that they are made of, and a folder of rooms."""

# Long enough for a scheduler on the other side of a slow network.
_CONNECT_S = 10.0

T = TypeVar("T")


class Shard(Protocol):
    """One task: a file that depends on nothing but what the shard says of itself."""

    @property
    def name(self) -> str:
        """File name, with a checksum of the content's origin."""

    def fill(self, file: h5py.File) -> None:
        """Write the content."""


def shard_name(stem: str, origin: Any) -> str:
    """A file name that is another when the origin of the content is.

    Parameters
    ----------
    origin : all that decides the content, as JSON can say it

    Examples
    --------
    >>> shard_name("speech-0000", ["a.wav", 11025])
    'speech-0000-7aaa90dde923.h5'
    """
    text = json.dumps([FORMAT, origin], sort_keys=True)
    return f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.h5"


def shard_folder(path: Path) -> Path:
    """Where the shards of a dataset lie: beside it, under its own name."""
    return path.with_suffix(".shards")


def build_shards(
    folder: Path, shards: Sequence[Shard], scheduler: str | None, workers: int
) -> None:
    """Make the shards that are not there yet, or lack files that can be read by now.

    Parameters
    ----------
    scheduler : address of a Dask scheduler whose workers see the same files under the same
        paths; None starts processes here
    workers : how many processes here; 0 means one per core

    Raises
    ------
    engine.errors.TrainingError : the folder cannot be written, no scheduler answers, its
        workers run another version, or one died of a shard again and again
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write to {folder}: {error.strerror}") from error
    missing = [shard for shard in shards if not _is_whole(folder / shard.name)]
    log.info("%d of %d shards are there already", len(shards) - len(missing), len(shards))
    if not missing:
        return
    # Loaded late: half a second that reading a dataset does not need.
    from distributed import KilledWorker, as_completed

    with ExitStack() as stack:
        client = stack.enter_context(_client(stack, scheduler, workers, len(missing)))
        tasks = client.map(_write, [folder / s.name for s in missing], missing, pure=False)
        try:
            for task in _told(as_completed(tasks, loop=client.loop), len(missing), "shards"):
                task.result()
        except OSError as error:
            raise TrainingError(f"cannot write to {folder}: {error.strerror or error}") from error
        except KilledWorker as error:
            raise TrainingError(
                f"workers died while making a shard of {folder}: is there enough memory? "
                "--shard-minutes makes shards smaller"
            ) from error


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A dataset to read from, closed in the end; raises TrainingError when it is none."""
    if not path.is_file():
        raise TrainingError(f"{path}: no such file")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise TrainingError(f"{path}: is no HDF5 file, or was cut off") from error
    with file:
        yield file


@contextmanager
def opened_as(layout: str, path: Path) -> Iterator[h5py.File]:
    """The same of one of our layouts; raises TrainingError when it has another, or format."""
    with opened(path) as file:
        found, version = file.attrs.get("layout"), file.attrs.get("format")
        if found != layout or version != FORMAT:
            raise TrainingError(
                f"{path}: should be layout {layout}, format {FORMAT}; found {found}, {version}"
            )
        yield file


def size_of(path: Path) -> int:
    """A dataset with its shards [bytes]."""
    shards = (part for part in shard_folder(path).rglob("*.h5") if part.is_file())
    return sum(part.stat().st_size for part in (path, *shards))


def check_shards(path: Path, names: Iterable[str]) -> None:
    """Raise TrainingError when shards are not beside a file: HDF5 would read silence.

    Nor may one be cut off, as by a disk's failure.
    """
    for name in names:
        if not (path.parent / name).is_file():
            raise TrainingError(f"{path}: its shard {name} is missing beside it")
        with opened(path.parent / name):
            pass


def write_file(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file that is there whole or not at all.

    It is made in memory: a full disk then is an ordinary OSError, where HDF5 itself may
    leave a file that it cannot even close.
    """
    # HDF5 takes two files of one name for the same one, even in memory: a worker with
    # several threads would lose one of them.
    name = f"in memory {threading.get_ident()}"
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    replace_file(path, image)


def remove_strays(folder: Path, wanted: Iterable[str]) -> None:
    """Remove shards of other inputs or options, and what a kill left unfinished.

    Shards of ``SOUND``, and ``ROOMS``, go when these are not wanted.
    """
    keep = set(wanted)
    for path in folder.iterdir():
        if path.suffix in (".h5", ".part") and path.name not in keep:
            path.unlink(missing_ok=True)
    if SOUND not in keep:
        _remove_made(shard_folder(folder / SOUND), "*.h5", "*.part")
    if ROOMS not in keep:
        _remove_made(folder / ROOMS, "rooms-*.npz", "rooms-*.part")


def _remove_made(folder: Path, *patterns: str) -> None:
    """Remove a folder with what builds made in it; with anything else in it, it stays."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # there is none, or it is not empty
        folder.rmdir()


def _is_whole(path: Path) -> bool:
    """Whether a shard is there, not cut off, with all that the system gives."""
    try:
        with opened(path) as file:
            return not any(os.access(name, os.R_OK) for name in file.get(UNREAD, ()))
    except TrainingError:
        return False


def _write(path: Path, shard: Shard) -> None:
    """What a worker does."""
    if shard.name != path.name:
        raise TrainingError("the workers run another version of denoise-app than this one")
    write_file(path, shard.fill)


def _client(stack: ExitStack, scheduler: str | None, workers: int, n_tasks: int) -> Any:
    """A client of the cluster that was named, or of processes started here."""
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)  # it tells each connection
    if scheduler is None:
        cluster = LocalCluster(
            n_workers=min(workers or os.cpu_count() or 1, n_tasks),
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # a failed task is told once, by us
        )
        return Client(stack.enter_context(cluster), set_as_default=False)
    try:
        return Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise TrainingError(f"no Dask scheduler answers at {scheduler}") from error


def _told(done: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass things on, with a bar on a terminal and some ten lines elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(done, total=total, unit=what)
        return
    for k, thing in enumerate(done, 1):
        yield thing
        if k * 10 // total > (k - 1) * 10 // total:
            log.info("%d of %d %s", k, total, what)
