"""Sound files, block by block: read, and written whole or not at all.

libsndfile's room. What it does not know, videos above all, is ``media_file``'s, which is
loaded only then. Sample k that is read is sample k as any player shows it: what encoders
put before the sound is skipped on reading and declared on writing. Not here: cleaning
(``pipeline``), and showing how far it got.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np
import soundfile as sf

from engine.errors import AudioFileError
from engine.stft import Float

BLOCK = 32_768
"""About how many samples of each channel make a block: under a second, 1 MB for eight."""

# Full scale is 1. A file this far above it holds integers stored as floats, or garbage;
# the engine would take it for a broken driver and play silence.
_ABSURD = 1e4

# What sound is stored at [Hz]. Outside of it a header lies: at 1 Hz a second's block would
# become hours.
_LEAST_RATE, _MOST_RATE = 1_000, 1_000_000
# Each is cleaned by a denoiser of its own; the widest recordings of rooms have 64.
_MOST_CHANNELS = 64

SOUND_EXTENSIONS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What libsndfile writes: container and default encoding."""

MEDIA_EXTENSIONS = (".m4a", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".webm")
"""What FFmpeg writes."""

# Encodings that are kept when the output's container knows them. ADPCM and GSM are not
# among them: they pad the last block, so that the length would change. Nor is mp3, which
# libsndfile would put into a wav file that few can read.
_KEPT = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
_KEPT |= {"VORBIS", "OPUS"}
_FINER_THAN_24_BITS = {"PCM_32", "FLOAT", "DOUBLE"}

# A wav file counts its bytes in 32 bits; RF64 is the same with 64. Lengths are estimates.
_MAX_WAV_BYTES = 0.9 * 2**32
_BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


class Source(Protocol):
    """A file being read: iterate once for blocks of about (BLOCK, channels) float32."""

    path: Path
    sample_rate: int
    """[Hz]"""
    channels: int
    n_samples: int
    """Samples of each channel as the header has it, often an estimate; 0 if unknown."""
    encoding: str
    """libsndfile's name of what it was stored as (``PCM_16``, ``VORBIS``…), or empty."""
    tags: dict[str, str]
    """Title, artist and the like, by libsndfile's names."""

    def __iter__(self) -> Iterator[Float]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *reason: object) -> None: ...


class Sink(Protocol):
    """A file being written: ``write`` blocks of (n, channels) float32, inside ``with``.

    The file appears under its name when the ``with`` ends well, and not at all otherwise.
    """

    def write(self, block: Float) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_source(path: Path) -> Source:
    """Open a sound or video file for reading.

    Raises
    ------
    AudioFileError : missing, not readable, not sound, or without any sample; iterating
        raises it for damage, and for samples that are not sound (NaN, infinite, absurd)
    """
    file = open_regular(path)
    try:
        source: Source
        try:
            source = SoundSource(path, file)
        except (sf.LibsndfileError, TypeError):  # of a name in .raw it wants to be told more
            from engine.media_file import MediaSource

            file.seek(0)
            source = MediaSource(path, file)
        if not _LEAST_RATE <= source.sample_rate <= _MOST_RATE:
            raise AudioFileError(
                f"{path}: should have a rate within {_LEAST_RATE}…{_MOST_RATE} Hz, "
                f"found {source.sample_rate} Hz; is it damaged?"
            )
        if source.channels > _MOST_CHANNELS:
            raise AudioFileError(
                f"{path}: should have {_MOST_CHANNELS} channels at most, found {source.channels}; "
                "is it damaged?"
            )
        return source
    except BaseException:
        file.close()
        raise


def open_sink(path: Path, source: Source) -> Sink:
    """Open a file for writing sound at the rate and with the channels of ``source``.

    The extension of ``path`` says the format. Sound keeps its encoding where the format
    has it; a video keeps its other streams, packet by packet, where the format has them.

    Raises
    ------
    AudioFileError : an unknown extension, a rate or number of channels the format cannot
        hold, a file that is the source itself or cannot be created; writing and the end
        of ``with`` raise it when the disk is full or fails
    """
    extension = path.suffix.lower()
    if extension not in SOUND_EXTENSIONS and extension not in MEDIA_EXTENSIONS:
        known = " ".join((*SOUND_EXTENSIONS, *MEDIA_EXTENSIONS))
        found = f"files named {extension}" if extension else "a file without an extension"
        raise AudioFileError(f"{path}: cannot write {found}; use one of {known}")
    part = PartFile(path, source.path)
    try:
        if extension in SOUND_EXTENSIONS:
            return SoundSink(part, source)
        from engine.media_file import MediaSink

        return MediaSink(part, source)
    except BaseException:
        part.discard()
        raise


class PartFile:
    """A file under a temporary name in the same folder, until ``publish`` renames it.

    For libraries that write to a file object. It never raises from ``write``: libsndfile
    forgets that writing ogg and mp3 failed (measured with 1.2.2), and an exception inside
    its callbacks would be lost. ``check`` raises what happened.

    Raises
    ------
    AudioFileError : the name is that of one of ``others`` (the input, say) or of something
        that is no regular file, or nothing can be created beside it; the end of ``with``
        raises it as ``publish`` does
    """

    def __init__(self, path: Path, *others: Path) -> None:
        self._shown = path
        self.name = str(path)
        """What it is going to be called; libraries look at its extension."""
        self._error: OSError | None = None
        try:
            # What a link points to is replaced, not the link, but for one to itself.
            self._final = Path(os.path.realpath(path))
            for other in others:
                if _same_file(self._final, other.resolve()):
                    raise AudioFileError(f"{path}: is {other} itself; choose another output name")
            if self._final.exists() and not self._final.is_file():
                raise AudioFileError(f"{path}: is not a regular file; choose another output name")
            # The whole name with more to it may be longer than a name can be.
            part = f".{self._final.name[:50]}.{secrets.token_hex(4)}.part"
            self._path = self._final.with_name(part)
            self._file = self._path.open("w+b", buffering=2**18)
        except OSError as error:
            raise AudioFileError(f"{path}: cannot be created: {error.strerror}") from error

    def write(self, data: bytes) -> int:
        """Append; returns 0 once something has failed."""
        if self._error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self._error = error
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; what was written and not stored yet is stored first, which may fail."""
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self._error = self._error or error
            return 0

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def read(self, n_bytes: int = -1) -> bytes:
        """What was written: some encoders look back at their headers."""
        return self._file.read(n_bytes)

    def flush(self) -> None:
        """Nothing: ``publish`` stores everything, and reports."""

    def check(self) -> None:
        """Raise AudioFileError if anything could not be written so far."""
        if self._error is not None:
            raise AudioFileError(
                f"{self._shown}: cannot be written: {self._error.strerror}"
            ) from self._error

    def publish(self) -> None:
        """Store all, then give it its name; raises AudioFileError and leaves nothing."""
        try:
            self.check()
            self._file.flush()
            os.fsync(self._file.fileno())  # some file systems find out only now
            self._file.close()
            self._path.replace(self._final)
        except OSError as error:
            raise AudioFileError(f"{self._shown}: cannot be written: {error.strerror}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing behind; nothing at all once published."""
        with contextlib.suppress(OSError):  # what the buffer holds need not fit any more
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.publish()
        else:
            self.discard()


class SoundSource:
    """What libsndfile reads. It trims the encoder's delay of ogg and mp3 by itself."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._file = file
        self._sound = sf.SoundFile(file)
        self.path = path
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.n_samples: int = self._sound.frames
        self.encoding: str = self._sound.subtype
        self.tags: dict[str, str] = self._sound.copy_metadata()

    def __iter__(self) -> Iterator[Float]:
        at = 0
        while True:
            try:
                block: Float = self._sound.read(BLOCK, dtype="float32", always_2d=True)
            except sf.LibsndfileError as error:
                raise AudioFileError(
                    f"{self.path}: is damaged at {at / self.sample_rate:.1f} s: "
                    f"{error.error_string}"
                ) from error
            if len(block) == 0:
                break
            expect_sound(block, at, self)
            at += len(block)
            yield block
        if at == 0:
            raise AudioFileError(f"{self.path}: holds no sound")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._sound.close()
        self._file.close()


class SoundSink:
    """What libsndfile writes.

    Measured with 1.2.2, 8…96 kHz, from 1 sample on: what is read back of flac, Vorbis,
    Opus and mp3 has the very length, and no delay; so has FFmpeg's reading of it.
    """

    def __init__(self, part: PartFile, source: Source) -> None:
        self._part = part
        container, encoding = SOUND_EXTENSIONS[Path(part.name).suffix.lower()]
        if source.encoding in _KEPT and sf.check_format(container, source.encoding):
            encoding = encoding if encoding == "OPUS" else source.encoding
        elif container == "FLAC" and source.encoding in _FINER_THAN_24_BITS:
            encoding = "PCM_24"
        n_bytes = source.n_samples * source.channels * _BYTES_PER_SAMPLE.get(encoding, 1)
        if container == "WAV" and not 0 < n_bytes < _MAX_WAV_BYTES:
            container = "RF64"
        self._limited = encoding not in ("FLOAT", "DOUBLE")
        try:
            self._sound = sf.SoundFile(
                part, "w", source.sample_rate, source.channels, encoding, format=container
            )
        except sf.LibsndfileError as error:
            part.check()
            raise AudioFileError(
                f"{part.name}: {container} {encoding} does not hold {described(source)} "
                f"({error.error_string.rstrip('.')}); .wav and .flac do"
            ) from error
        for tag, text in source.tags.items():
            setattr(self._sound, tag, text)

    def write(self, block: Float) -> None:
        if self._limited:
            block = np.clip(block, -1.0, 1.0)
        try:
            self._sound.write(block)
        # An AssertionError is how python-soundfile says that not everything was written.
        except (sf.LibsndfileError, AssertionError) as error:
            self._part.check()
            raise AudioFileError(f"{self._part.name}: cannot be written: {error}") from error
        self._part.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._sound.close()  # completes the header
        except sf.LibsndfileError as failure:
            self._part.discard()
            if kind is None:
                self._part.check()
                raise AudioFileError(
                    f"{self._part.name}: cannot be written: {failure.error_string}"
                ) from failure
        else:
            self._part.__exit__(kind, error, trace)


def open_regular(path: Path) -> BinaryIO:
    """Open what can be read again from its beginning; raises AudioFileError."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise AudioFileError(f"{path}: is a folder; name a sound or video file")
        if not stat.S_ISREG(found.st_mode):
            raise AudioFileError(f"{path}: is not a regular file; store it in one first")
        if found.st_size == 0:
            raise AudioFileError(f"{path}: is empty; a sound or video file is wanted")
        return path.open("rb")
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read: {error.strerror}") from error


def _same_file(path: Path, other: Path) -> bool:
    return path == other or (path.exists() and other.exists() and path.samefile(other))


def expect_sound(block: Float, at: int, source: Source) -> None:
    """Raise AudioFileError for the first of (n, channels) samples that cannot be sound.

    at : index in the file of the block's first sample
    """
    if np.abs(block).max() < _ABSURD:  # False as well when a NaN is among them
        return
    first = int(np.argmin((np.abs(block) < _ABSURD).all(axis=1)))
    value = block[first][~(np.abs(block[first]) < _ABSURD)][0]
    raise AudioFileError(
        f"{source.path}: is not sound at {(at + first) / source.sample_rate:.3f} s: found "
        f"{value:g} where samples should be within ±1; repair or export the file again"
    )


def described(source: Source) -> str:
    """Rate and channels, for messages."""
    return f"{source.sample_rate} Hz with {source.channels} channel(s)"
