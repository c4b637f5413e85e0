"""Noises from a table of named recordings, fetched by yt-dlp from wherever they lie.

Not here: the tables' own noises (``noises.toml``), corpora of noise (``corpus``).
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from acquisition import corpus
from acquisition.catalogue import OK, Catalogue
from acquisition.errors import AcquisitionError
from acquisition.tables import rows_of
from acquisition.tracks import enter, read_track, stored_path

log = logging.getLogger("acquisition")

TABLE = Path(__file__).with_name("noises.toml")

# What libsndfile reads as well, by FFmpeg's name of the codec: kept as it is.
_KEPT = {"flac": ".flac", "mp3": ".mp3", "mp3float": ".mp3", "opus": ".opus", "vorbis": ".ogg"}


@dataclass(frozen=True, slots=True)
class Noise:
    """A line of a table."""

    name: str
    url: str
    licence: str | None = None
    note: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="of the table; none: all of them")
    add("--table", type=Path, metavar="TOML", help="noises of your own, as in acquisition/")
    add("--list", action="store_true", help="tell what the table has, and fetch nothing")
    add("--open", action="store_true", help="tell which corpora of noise are freely licensed")
    add(
        "--minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="keep no more of each than its beginning (default: %(default)s)",
    )


def run(args: argparse.Namespace, catalogue: Path, tell: Callable[[str], object]) -> None:
    """Fetch noises; see ``acquire.run``."""
    if args.open:
        for line in corpus.described(corpus.read_tables(None), kind="noise"):
            tell(line)
        return
    chosen = choose(read_tables(args.table), args.names)
    if args.list:
        for noise in chosen:
            tell(f"{noise.name}  {noise.url}  {noise.licence or 'no licence known'} {noise.note}")
        return
    if not args.minutes > 0.0:
        raise AcquisitionError(f"--minutes should be more than 0, got {args.minutes:g}")
    failed = []
    with Catalogue(catalogue) as opened:
        for noise in chosen:
            try:
                tell(f"{noise.name}: {gather(opened, noise, args.into / 'noise', args.minutes)}")
            except AcquisitionError as error:
                failed.append(noise.name)
                note = f" ({noise.note})" if noise.note else ""
                log.warning("%s: %s%s", noise.name, error, note)
    if failed:
        raise AcquisitionError(
            f"{len(failed)} of {len(chosen)} noises could not be had: {', '.join(failed)}; "
            "call again to go on with them"
        )


def read_tables(own: Path | None, table: Path = TABLE) -> dict[str, Noise]:
    """All noises by name, those of the user's own table in place of ours of that name.

    Raises AcquisitionError for a table that cannot be read or has a wrong line.
    """
    found: dict[str, Noise] = {}
    for path in (table, own) if own else (table,):
        for row in rows_of(path, "noise"):
            try:
                noise = Noise(**row)
            except TypeError as error:
                raise AcquisitionError(f"{path}: a noise has name, url, licence, note") from error
            found[noise.name] = noise
    return found


def choose(table: dict[str, Noise], names: Sequence[str]) -> list[Noise]:
    """Those of a table that are named, or all."""
    unknown = [name for name in names if name not in table]
    if unknown:
        raise AcquisitionError(
            f"there is no noise {', '.join(unknown)}, but {', '.join(sorted(table))}"
        )
    return [table[name] for name in names] or list(table.values())


def gather(catalogue: Catalogue, noise: Noise, folder: Path, minutes: float) -> str:
    """Fetch one noise and enter it, unless it is there; returns what came of it.

    Parameters
    ----------
    folder : of all noises; what is not whole yet lies in its ``unfinished``
    minutes : of its beginning are kept [min]

    Raises
    ------
    AcquisitionError : it is not to be had, holds no sound, or cannot be stored
    """
    for row in catalogue.find("noise_files", name=noise.name, url=noise.url, status=OK):
        if (catalogue.path.parent / row["path"]).is_file():
            return "is there already"
    fetched, told = _fetch(noise, folder / "unfinished")
    try:
        path = keep(fetched, folder / noise.name, 60.0 * minutes)
    finally:
        fetched.unlink(missing_ok=True)
    track = read_track(path)
    licence = noise.licence or told.get("license")
    with catalogue.transaction():
        # The table may name another recording now, whose file is of another kind.
        for row in catalogue.find("noise_files", name=noise.name, status=OK):
            if row["path"] != stored_path(catalogue, path):
                catalogue.change("noise_files", {"id": row["id"]}, status="DELETED")
        enter(
            catalogue,
            "noise",
            track,
            noise.name,
            url=noise.url,
            licence=licence,
            source=_origin(told),
        )
    return f"{track.duration_s / 60.0:.1f} min, {licence or 'no licence known'}"


def _origin(told: dict[str, Any]) -> str:
    by = told.get("uploader")
    return f"{told.get('extractor')}: {told.get('title')}" + (f", by {by}" if by else "")


def _fetch(noise: Noise, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The best sound there is, and what is told of it; goes on where it was broken off."""
    import yt_dlp

    options = {
        "format": "bestaudio/best",
        "outtmpl": {"default": str(folder / f"{noise.name}.%(ext)s")},
        "noplaylist": True,
        "continuedl": True,
        "overwrites": True,
        "retries": 5,
        "sleep_interval_requests": 1,
        "quiet": True,
        "noprogress": True,
        "no_color": True,
        "cachedir": False,
        "logger": _Quiet(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with yt_dlp.YoutubeDL(options) as program:
            told = program.extract_info(noise.url)
    except (yt_dlp.utils.YoutubeDLError, OSError) as error:
        raise AcquisitionError(_reason(error)) from error
    if not told or told.get("_type") == "playlist" or not told.get("requested_downloads"):
        raise AcquisitionError(f"{noise.url}: is not one recording")
    return Path(told["requested_downloads"][0]["filepath"]), told


class _Quiet:
    """yt-dlp's own lines: errors come as exceptions as well."""

    def debug(self, text: str) -> None:
        log.debug("yt-dlp: %s", text)

    info = warning = error = debug


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).removeprefix("ERROR: ")
    text = text.partition("; please report this issue")[0]
    return text if len(text) < 300 else f"{text[:300]}…"


def keep(source: Path, stem: Path, longest_s: float) -> Path:
    """Write the sound of a file, of video too, as training can read it.

    Sound that libsndfile reads is copied, other is decoded to FLAC: nothing is lost twice.

    Parameters
    ----------
    stem : path of the new file without its suffix; it is not there before it is whole
    longest_s : of its beginning [s]

    Returns
    -------
    the new file

    Raises
    ------
    AcquisitionError : it holds no sound, or cannot be written
    """
    part = stem.with_name(f"{stem.name}.part")
    try:
        with av.open(str(source)) as reader:
            if not reader.streams.audio:
                raise AcquisitionError("holds no sound")
            stream = reader.streams.audio[0]
            suffix = _KEPT.get(stream.codec_context.name, ".flac")
            copied = stream.codec_context.name in _KEPT
            kind = {".opus": "ogg", ".ogg": "ogg"}.get(suffix, suffix[1:])
            with av.open(str(part), "w", format=kind) as writer:
                if copied:
                    out = writer.add_stream_from_template(stream)
                    packets = _copied(reader, stream, out, longest_s)
                else:
                    out = writer.add_stream("flac", rate=stream.rate, layout=stream.layout.name)
                    packets = _encoded(reader, stream, out, longest_s)
                for packet in packets:
                    writer.mux(packet)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        path = stem.with_name(f"{stem.name}{suffix}")
        part.replace(path)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise AcquisitionError(f"{stem.name}: cannot be kept: {reason}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _copied(reader: Any, stream: Any, out: Any, longest_s: float) -> Iterable[Any]:
    for packet in reader.demux(stream):
        if packet.dts is None:  # the flush at the end
            continue
        if float(packet.dts * stream.time_base) > longest_s:
            return
        packet.stream = out
        yield packet


def _encoded(reader: Any, stream: Any, out: Any, longest_s: float) -> Iterable[Any]:
    for frame in reader.decode(stream):
        if frame.time is not None and frame.time > longest_s:
            break
        frame.pts = None
        yield from out.encode(frame)
    yield from out.encode(None)
