"""Sound out of videos and into them, through FFmpeg: PyAV's room.

Loaded by ``audio_file`` when libsndfile cannot serve. The picture is never decoded: its
packets are copied. Not here: formats that libsndfile knows.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from engine.audio_file import BLOCK, PartFile, Source, described, expect_sound, open_regular
from engine.errors import AudioFileError
from engine.stft import Float

# By extension, the codecs whose sound is encoded in its own codec again, each with an
# encoder that declares its delay so that the container can; any other becomes the first.
_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le")
_CODECS = {
    ".m4a": ("aac", "alac"),
    ".m4v": ("aac", "alac"),
    ".mka": ("flac", "aac", "ac3", "alac", "eac3", "mp3", "opus", *_PCM),
    ".mkv": ("flac", "aac", "ac3", "alac", "eac3", "mp3", "opus", *_PCM),
    ".mov": ("aac", "ac3", "alac", "mp3", *_PCM),
    ".mp4": ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"),
    ".webm": ("opus",),
}

# Enough for speech and music not to suffer audibly from being encoded once more.
_BIT_RATE_PER_CHANNEL = 96_000

# Pictures that H.264 and H.265 may show in another order than they come.
_MOST_REORDERED = 16

_SOUND_ONLY = (".m4a", ".mka")
_QUICKTIME = (".m4a", ".m4v", ".mov", ".mp4")

_TAGS = {"title", "artist", "album", "comment", "copyright", "date", "genre", "license"}

# Sound stamped this much off is moved to where its stamp says, by silence or a cut; less
# goes unnoticed (45 ms early, 125 ms late: ITU-R BT.1359) and is how containers round.
_LIP_SYNC_S = 0.04
_MAX_GAP_S = 3600.0


class MediaSource:
    """What FFmpeg reads: the sound of a video, or of a format libsndfile does not know.

    The best audio stream is taken. Its stamps are kept to: where they leave a hole there
    is silence, where they overlap the later sound is cut.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._container = _open(path, file)
        stream = self._container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise AudioFileError(f"{path}: has no sound in it")
        self.stream = stream
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            raise AudioFileError(f"{path}: holds no sound that can be decoded")
        self._first = first
        self.sample_rate = first.sample_rate
        self.layout = first.layout.name
        self.channels = first.layout.nb_channels
        self.start_s = _time_s(first) or Fraction(0)
        """When the first sample is heard, on the clock that all streams share [s]."""
        self.n_samples = round(_duration_s(self._container, stream) * self.sample_rate)
        self.encoding = _ENCODINGS.get(first.format.packed.name, "")
        known = {name.lower(): text for name, text in self._container.metadata.items()}
        self.tags = {name: known[name] for name in sorted(_TAGS & known.keys())}
        self._to_float = av.AudioResampler("flt", self.layout, self.sample_rate)

    def __iter__(self) -> Iterator[Float]:
        at = 0
        for block in _gathered(self._pieces()):
            expect_sound(block, at, self)
            at += len(block)
            yield block

    def _pieces(self) -> Iterator[Float]:
        """What each frame holds, and silence before it where its stamp says so: (n, channels)."""
        at = 0
        for frame in itertools.chain([self._first], self._frames):
            if (frame.sample_rate, frame.layout.name) != (self.sample_rate, self.layout):
                raise AudioFileError(
                    f"{self.path}: changes from {self.sample_rate} Hz {self.layout} to "
                    f"{frame.sample_rate} Hz {frame.layout.name} at {at / self.sample_rate:.1f} s; "
                    "cut it there"
                )
            converted = [part.to_ndarray() for part in self._to_float.resample(frame)]
            piece = np.concatenate(converted, axis=1, dtype=np.float32).reshape(-1, self.channels)
            time_s = _time_s(frame)
            stamped = at if time_s is None else round((time_s - self.start_s) * self.sample_rate)
            if abs(stamped - at) > _LIP_SYNC_S * self.sample_rate:
                yield from self._silence(stamped - at)
                piece = piece[max(0, at - stamped) :]
                at = max(at, stamped)
            at += len(piece)
            yield piece

    def _silence(self, n_samples: int) -> Iterator[Float]:
        """(n, channels) blocks of it; none if n_samples is negative."""
        if n_samples > _MAX_GAP_S * self.sample_rate:
            missing_s = n_samples / self.sample_rate
            raise AudioFileError(f"{self.path}: is damaged: {missing_s:.0f} s of sound are missing")
        for start in range(0, n_samples, BLOCK):
            yield np.zeros((min(BLOCK, n_samples - start), self.channels), np.float32)

    def _decode(self) -> Iterator[AudioFrame]:
        """Every frame of the stream."""
        time_s: Fraction | None = None
        try:
            for packet in self._container.demux(self.stream):
                try:
                    frames = self.stream.decode(packet)
                except av.FFmpegError:
                    if time_s is None:
                        continue  # a recorded broadcast may begin within a packet
                    raise
                for frame in frames:
                    time_s = _time_s(frame) or Fraction(0)
                    yield frame
        except av.FFmpegError as error:
            raise AudioFileError(
                f"{self.path}: is damaged after {float(time_s or 0):.1f} s: {_reason(error)}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._container.close()
        self._file.close()


class MediaSink:
    """What FFmpeg writes: the cleaned sound encoded, all else of a video as it was.

    The other streams come from a second reading of the source, so that none of it has to
    wait in memory. What the container cannot hold (some subtitles and data) is left out,
    but never the picture. Further audio streams are copied as they are.
    """

    def __init__(self, part: PartFile, source: Source) -> None:
        self._part = part
        self._extension = Path(part.name).suffix.lower()
        self._rate = source.sample_rate
        self._input: InputContainer | None = None
        self._copies: dict[int, Stream] = {}  # by index of the stream in the input
        # Quicktime counts a late start by its own clock, of 1 ms if nothing else is asked.
        clock = {"movie_timescale": str(self._rate)} if self._extension in _QUICKTIME else {}
        self._output = av.open(part, "w", options=clock)
        self._open_files = contextlib.ExitStack()
        try:
            self._set_up(source)
        except BaseException:
            self._close()
            raise

    def _set_up(self, source: Source) -> None:
        """Declare every stream, in the order of the source."""
        self._packets: Iterator[Packet] = iter(())
        self._shift_s = Fraction(0)
        start_s = Fraction(0)
        if isinstance(source, MediaSource):
            file = self._open_files.enter_context(open_regular(source.path))
            media = self._open_files.enter_context(_open(source.path, file))
            self._output.metadata.update(media.metadata)
            # What was cut from a broadcast begins at any time; files had better begin at 0.
            self._shift_s = Fraction(max(0, media.start_time or 0), av.time_base)
            start_s = source.start_s - self._shift_s
            for stream in media.streams:
                if stream.index == source.stream.index:
                    self._audio = self._add_audio(source)
                    self._audio.metadata.update(stream.metadata)
                    self._audio.disposition = stream.disposition
                else:
                    self._add_copy(stream)
            if self._copies:
                others = [media.streams[index] for index in self._copies]
                self._packets = _dated(media.demux(others))
        else:
            self._output.metadata.update(source.tags)
            self._audio = self._add_audio(source)
        try:
            self._output.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise AudioFileError(
                f"{self._part.name}: {self._output.format.name} does not hold what is in "
                f"{source.path} ({_reason(error)}); use .mkv"
            ) from error
        self._at = round(start_s * self._rate)
        self._waiting = next(self._packets, None)

    def _add_audio(self, source: Source) -> AudioStream:
        """The stream for the cleaned sound, in the source's codec if that is possible."""
        codecs = _CODECS[self._extension]
        name = codecs[0]
        layout = f"{source.channels}c"
        if isinstance(source, MediaSource):
            layout = source.layout
            if (own := source.stream.codec_context.codec.canonical_name) in codecs:
                name = own
        codec = av.Codec(name, "w")
        if codec.audio_rates and source.sample_rate not in codec.audio_rates:
            raise AudioFileError(
                f"{self._part.name}: {name} does not hold {described(source)}; use .mkv or .wav"
            )
        stream = self._output.add_stream(codec.name, rate=source.sample_rate)
        assert isinstance(stream, AudioStream)
        stream.layout = layout
        stream.format = _closest_format(codec, source.encoding)
        stream.bit_rate = _BIT_RATE_PER_CHANNEL * source.channels
        return stream

    def _add_copy(self, stream: Stream) -> None:
        """A stream to be copied, where the container can hold it."""
        cover = bool(stream.disposition & Disposition.attached_pic)
        if self._extension in _SOUND_ONLY and not cover:
            return
        try:
            copy = self._output.add_stream_from_template(stream, opaque=True)
        except ValueError as error:
            if stream.type == "video" and not cover:
                raise AudioFileError(
                    f"{self._part.name}: cannot keep the picture ({error}); use .mkv"
                ) from error
            return
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    def write(self, block: Float) -> None:
        if len(block) == 0:
            return
        packed = np.clip(block, -1.0, 1.0).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._audio.layout.name)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._at
        self._at += len(block)
        with self._reporting():
            self._copy_until(Fraction(self._at, self._rate))
            self._output.mux(self._audio.encode(frame))

    def _copy_until(self, time_s: Fraction | None) -> None:
        """Copy the packets that are due before a time, or all that are left."""
        while (packet := self._waiting) is not None:
            assert packet.dts is not None  # as _dated promises
            shift = round(self._shift_s / packet.time_base)
            if time_s is not None and (packet.dts - shift) * packet.time_base > time_s:
                return
            packet.dts -= shift
            if packet.pts is not None:
                packet.pts -= shift
            packet.stream = self._copies[packet.stream_index]
            self._output.mux_one(packet)
            self._waiting = next(self._packets, None)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Say as AudioFileError what FFmpeg or the disk says."""
        try:
            yield
        except (av.FFmpegError, ValueError) as error:
            self._part.check()
            raise AudioFileError(
                f"{self._part.name}: cannot be written: {_reason(error)}"
            ) from error
        self._part.check()

    def _close(self) -> None:
        with contextlib.suppress(av.FFmpegError):
            self._output.close()
        self._open_files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._reporting():
                    self._copy_until(None)
                    self._output.mux(self._audio.encode(None))
                    self._output.close()
                self._part.publish()
        finally:
            self._close()
            self._part.discard()  # nothing is left to discard once it is published


def _open(path: Path, file: BinaryIO) -> InputContainer:
    """A container of any format; raises AudioFileError."""

    def refuse(url: str, *_: object) -> NoReturn:
        # A playlist may name other files and web addresses; neither is ours to open.
        raise PermissionError(f"{url} is not the file that was named")

    try:
        return av.open(file, "r", io_open=refuse, metadata_errors="replace")
    except (av.FFmpegError, PermissionError) as error:
        raise AudioFileError(
            f"{path}: is not a sound or video file that can be read "
            f"({_reason(error)}); wanted are wav, flac, ogg, opus, mp3, mp4, mkv…"
        ) from error


def _dated(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The same packets, each with the time at which it is to be decoded.

    Matroska stores only when a picture is shown; FFmpeg tells the other time once as many
    have come as may change places, so that the first few are without.
    """
    undated: dict[int, list[Packet]] = {}
    for packet in packets:
        if packet.size == 0:  # marks the end of a stream
            continue
        waiting = undated.setdefault(packet.stream_index, [])
        if packet.dts is None and len(waiting) < _MOST_REORDERED:
            waiting.append(packet)
            continue
        first = packet.dts if packet.dts is not None else packet.pts
        packet.dts = first
        for ago, earlier in enumerate(reversed(waiting), start=1):
            earlier.dts = (first or 0) - ago * max(1, packet.duration or 0)
        yield from waiting
        waiting.clear()
        yield packet
    for waiting in undated.values():
        for packet in waiting:
            packet.dts = packet.pts
            yield packet


def _reason(error: Exception) -> str:
    """What FFmpeg has to say, without its numbers."""
    return getattr(error, "strerror", None) or str(error)


def _time_s(frame: AudioFrame) -> Fraction | None:
    """When a frame is heard [s], if it says so."""
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base


def _duration_s(container: InputContainer, stream: AudioStream) -> Fraction:
    """As declared [s], 0 if it is not."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, av.time_base)


# What the samples of a decoder are worth storing as; those of lossy codecs are floats.
_ENCODINGS = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_24"}


def _closest_format(codec: av.Codec, encoding: str) -> str:
    """Of the sample formats an encoder takes, the one that keeps ``encoding`` best."""
    names = [choice.name for choice in codec.audio_formats or ()]
    wanted = ("s16", "s32", "flt") if encoding == "PCM_16" else ("flt", "s32", "dbl", "s16")
    for start in wanted:
        for name in names:
            if name.startswith(start):
                return name
    return names[0]


def _gathered(pieces: Iterator[Float]) -> Iterator[Float]:
    """The same samples in blocks of at least BLOCK, but for the last."""
    waiting: list[Float] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting >= BLOCK:
            yield np.concatenate(waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield np.concatenate(waiting)
