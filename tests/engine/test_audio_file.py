"""Sound and video files: what is read is what players show, what is written is whole."""

from __future__ import annotations

import os
import socket
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from engine.audio_file import BLOCK, PartFile, Source, open_sink, open_source
from engine.errors import AudioFileError
from engine.stft import Float


def noise(n_samples: int, channels: int, seed: int = 0) -> Float:
    """Bursts of noise, so that any shift shows: (n_samples, channels) within ±1."""
    rng = np.random.default_rng(seed)
    bursts = np.sin(np.arange(n_samples) / 2000)[:, np.newaxis] ** 2
    return (0.2 * bursts * rng.uniform(-1, 1, (n_samples, channels))).astype(np.float32)


def copy(source_path: Path, sink_path: Path) -> None:
    """Everything from one file to the other, as it is."""
    with open_source(source_path) as source, open_sink(sink_path, source) as sink:
        for block in source:
            sink.write(block)


def read(path: Path) -> Float:
    """All samples (n, channels), as we read them."""
    with open_source(path) as source:
        return np.concatenate(list(source))


def lag(signal: Float, other: Float) -> int:
    """How many samples ``other`` is behind ``signal``, both (n,), by cross-correlation."""
    size = 1 << (len(signal) + len(other)).bit_length()
    product = np.conj(np.fft.rfft(signal, size)) * np.fft.rfft(other, size)
    peak = int(np.argmax(np.fft.irfft(product)))
    return peak if peak < size // 2 else peak - size


def test_blocks_are_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    sound = noise(2 * BLOCK + 17, 2)
    sf.write(path, sound, 8000, "FLOAT")
    with open_source(path) as source:
        assert (source.sample_rate, source.channels) == (8000, 2)
        assert (source.n_samples, source.encoding) == (2 * BLOCK + 17, "FLOAT")
        blocks = list(source)
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 17]
    np.testing.assert_array_equal(np.concatenate(blocks), sound)


@pytest.mark.parametrize("encoding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW"])
@pytest.mark.parametrize("n_samples", [1, 1000, BLOCK + 1])
def test_wav_keeps_encoding_and_every_bit(tmp_path: Path, encoding: str, n_samples: int) -> None:
    sf.write(tmp_path / "in.wav", noise(n_samples, 3), 11025, encoding)
    copy(tmp_path / "in.wav", tmp_path / "out.wav")
    assert sf.info(tmp_path / "out.wav").subtype == encoding
    before, after = (sf.read(tmp_path / f"{name}.wav", dtype="float64") for name in ("in", "out"))
    assert after[1] == 11025
    # Blocks are float32: of 32 bits, the lowest 8 may round.
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=2**-24)


@pytest.mark.parametrize(
    ("encoding", "kept"),
    [("PCM_16", "PCM_16"), ("PCM_24", "PCM_24"), ("FLOAT", "PCM_24"), ("ULAW", "PCM_16")],
)
def test_flac_takes_the_closest_encoding(tmp_path: Path, encoding: str, kept: str) -> None:
    sf.write(tmp_path / "in.wav", noise(5000, 2), 44100, encoding)
    copy(tmp_path / "in.wav", tmp_path / "out.flac")
    assert sf.info(tmp_path / "out.flac").subtype == kept
    step = 2.0**-15 if kept == "PCM_16" else 2.0**-23
    np.testing.assert_allclose(
        read(tmp_path / "out.flac"), read(tmp_path / "in.wav"), rtol=0, atol=step
    )


def test_lossy_sound_becomes_plain_wav(tmp_path: Path) -> None:
    for extension in ("mp3", "ogg"):
        sf.write(tmp_path / f"in.{extension}", noise(5000, 1), 44100)
        copy(tmp_path / f"in.{extension}", tmp_path / "out.wav")
        assert sf.info(tmp_path / "out.wav").subtype == "PCM_16"


def test_opus_in_ogg_stays_opus(tmp_path: Path) -> None:
    sf.write(tmp_path / "in.opus", noise(5000, 1), 48000, "OPUS", format="OGG")
    copy(tmp_path / "in.opus", tmp_path / "out.ogg")
    assert sf.info(tmp_path / "out.ogg").subtype == "OPUS"


@pytest.mark.parametrize("extension", [".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("n_samples", [1, 1000, 30_123])
def test_lossy_formats_keep_length_and_place(
    tmp_path: Path, extension: str, rate: int, n_samples: int
) -> None:
    sound = noise(n_samples, 2)
    sf.write(tmp_path / "in.wav", sound, rate)
    copy(tmp_path / "in.wav", tmp_path / f"out{extension}")
    decoded = read(tmp_path / f"out{extension}")
    assert sf.info(tmp_path / f"out{extension}").samplerate == rate
    assert decoded.shape == sound.shape
    if n_samples > 10_000:  # too little noise has no clear peak after encoding
        assert lag(sound[:, 0], decoded[:, 0]) == 0


def test_integers_are_limited_and_floats_are_not(tmp_path: Path) -> None:
    sf.write(tmp_path / "in.wav", np.float32([[1.5], [-1.5], [0.25]]), 8000, "FLOAT")
    copy(tmp_path / "in.wav", tmp_path / "out.wav")
    copy(tmp_path / "in.wav", tmp_path / "out.flac")
    assert read(tmp_path / "out.wav")[:, 0].tolist() == [1.5, -1.5, 0.25]
    # 1 has no 24-bit code; the code below it is taken.
    assert read(tmp_path / "out.flac")[:, 0].tolist() == [1 - 2.0**-23, -1.0, 0.25]


def test_title_and_artist_go_along(tmp_path: Path) -> None:
    with sf.SoundFile(tmp_path / "in.flac", "w", 8000, 1) as file:
        file.title, file.artist = "Über den Lärm", "N. N."
        file.write(noise(1000, 1))
    for name in ("out.flac", "out.ogg", "out.wav"):
        copy(tmp_path / "in.flac", tmp_path / name)
        with sf.SoundFile(tmp_path / name) as file:
            assert (file.title, file.artist) == ("Über den Lärm", "N. N.")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 20_000.0])
def test_samples_that_are_no_sound_are_refused(tmp_path: Path, bad: float) -> None:
    sound = noise(BLOCK + 8000, 2)
    sound[BLOCK + 4000 :, 1] = bad
    sf.write(tmp_path / "in.wav", sound, 8000, "FLOAT")
    with pytest.raises(AudioFileError, match=r"is not sound at 4\.596 s: found") as caught:
        read(tmp_path / "in.wav")  # (32768 + 4000) / 8000 s
    assert f"{bad:g}" in str(caught.value)


def write_text(path: Path) -> None:
    path.write_text("This is no sound.\n" * 100)


def write_no_samples(path: Path) -> None:
    sf.write(path, np.zeros((0, 1)), 8000, format="WAV")


def write_damaged_flac(path: Path) -> None:
    sf.write(path, noise(100_000, 1), 8000, format="FLAC")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 :] = os.urandom(1000)
    path.write_bytes(whole)


def write_picture_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        film_pictures(declare_picture(container, "mpeg4"), n_pictures=5)


BAD_INPUTS = {
    "missing": ("No such file", lambda path: None),
    "empty": ("is empty", lambda path: path.touch()),
    "folder": ("is a folder", lambda path: path.mkdir()),
    "pipe": ("not a regular file", lambda path: os.mkfifo(path)),
    "text": ("not a sound or video file", write_text),
    "no samples": ("holds no sound", write_no_samples),
    "damaged": ("is damaged", write_damaged_flac),
    "silent film": ("no sound in it", write_picture_only),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
@pytest.mark.parametrize("extension", [".wav", ".mp3", ".mp4"])
def test_bad_inputs_say_what_they_are(tmp_path: Path, case: str, extension: str) -> None:
    message, write = BAD_INPUTS[case]
    path = tmp_path / f"in{extension}"
    write(path)
    with pytest.raises(AudioFileError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    """No sound leaves the machine, and no file fetches any."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/sound.ts"
        path = tmp_path / "in.m3u8"
        path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(AudioFileError):
            read(path)
        with pytest.raises(TimeoutError):
            server.accept()


# Outputs


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    sf.write(path, noise(3000, 1), 44100)
    return path


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xyz", r"files named \.xyz; use one of \.wav"),
        ("out", "without an extension"),
        ("in.wav", "is .*in.wav itself"),
        ("soft.wav", "itself"),
        ("hard.wav", "itself"),
        ("folder.wav", "not a regular file"),
        ("nowhere/out.wav", "cannot be created: No such file"),
        ("in.wav/out.wav", "cannot be created: Not a directory"),
        ("x" * 252 + ".wav", "cannot be created: File name too long"),
        ("out.opus", "OGG OPUS does not hold 44100 Hz"),
        ("out.webm", "opus does not hold 44100 Hz"),
    ],
)
def test_bad_outputs_are_refused_before_work(
    tmp_path: Path, wav: Path, name: str, message: str
) -> None:
    (tmp_path / "soft.wav").symlink_to(wav)
    (tmp_path / "hard.wav").hardlink_to(wav)
    (tmp_path / "folder.wav").mkdir()
    before = left_over(tmp_path), wav.read_bytes()
    with open_source(wav) as source, pytest.raises(AudioFileError, match=message):
        open_sink(tmp_path / name, source)
    assert (left_over(tmp_path), wav.read_bytes()) == before


def test_devices_are_not_replaced(wav: Path) -> None:
    with pytest.raises(AudioFileError, match="not a regular file"):
        PartFile(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def write_and_stop(path: Path, source: Source) -> None:
    with open_sink(path, source) as sink:
        sink.write(noise(1000, 1))
        raise KeyboardInterrupt


@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3", ".mkv"])
def test_output_appears_only_when_complete(tmp_path: Path, wav: Path, extension: str) -> None:
    output = tmp_path / f"out{extension}"
    output.write_text("precious")
    with open_source(wav) as source:
        with pytest.raises(KeyboardInterrupt):
            write_and_stop(output, source)
        assert left_over(tmp_path) == ["in.wav", output.name]
        assert output.read_text() == "precious"
        with open_sink(output, source) as sink:
            sink.write(noise(1000, 1))
            assert output.read_text() == "precious"
    assert left_over(tmp_path) == ["in.wav", output.name]
    assert len(read(output)) == 1000


def test_a_name_as_long_as_names_can_be(tmp_path: Path, wav: Path) -> None:
    long = tmp_path / ("é" * 125 + ".wav")  # 254 bytes of 255
    copy(wav, long)
    assert [path.name for path in tmp_path.iterdir() if path != wav] == [long.name]
    np.testing.assert_array_equal(read(long), read(wav))


def test_a_link_to_itself_is_replaced(tmp_path: Path, wav: Path) -> None:
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    copy(wav, loop)
    np.testing.assert_array_equal(read(loop), read(wav))


def test_sound_of_any_name_is_known_by_what_it_is(tmp_path: Path, wav: Path) -> None:
    flac, raw = tmp_path / "out.flac", tmp_path / "in.raw"
    copy(wav, flac)
    flac.rename(raw)
    assert len(read(raw)) == len(read(wav))
    raw.write_bytes(bytes(10_000))
    with pytest.raises(AudioFileError):
        open_source(raw)


def test_a_link_stays_a_link(tmp_path: Path, wav: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out.wav").symlink_to(tmp_path / "far" / "real.wav")
    copy(wav, tmp_path / "out.wav")
    assert (tmp_path / "out.wav").is_symlink()
    assert left_over(tmp_path / "far") == ["real.wav"]


def test_others_may_read_the_output_as_the_system_says(tmp_path: Path, wav: Path) -> None:
    copy(wav, tmp_path / "out.wav")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Videos


def declare_picture(container: av.container.OutputContainer, codec: str) -> av.VideoStream:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return stream


def declare_sound(
    container: av.container.OutputContainer, codec: str, rate: int, channels: int
) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate)
    stream.layout, stream.bit_rate = f"{channels}c", 192_000
    return stream


def film_pictures(stream: av.VideoStream, n_pictures: int) -> None:
    """Noisy pictures at 25 per second."""
    rng = np.random.default_rng(1)
    for k in range(n_pictures):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts, picture.time_base = k, Fraction(1, 25)
        stream.container.mux(stream.encode(picture))
    stream.container.mux(stream.encode(None))


def film_sound(stream: av.AudioStream, sound: Float, starts: dict[int, float]) -> None:
    """The samples (n, channels); ``starts`` says which one comes when [s]."""
    edges = [*sorted(starts), len(sound)]
    for first, end in pairwise(edges):
        frame = av.AudioFrame.from_ndarray(
            sound[first:end].reshape(1, -1), format="flt", layout=stream.layout.name
        )
        frame.sample_rate, frame.time_base = stream.rate, Fraction(1, stream.rate)
        frame.pts = round(starts[first] * stream.rate)
        stream.container.mux(stream.encode(frame))
    stream.container.mux(stream.encode(None))


def write_film(
    path: Path,
    picture: str,
    codec: str,
    rate: int,
    sound: Float,
    starts: dict[int, float] | None = None,
) -> None:
    with av.open(str(path), "w") as container:
        video = declare_picture(container, picture)
        audio = declare_sound(container, codec, rate, sound.shape[1])
        film_pictures(video, n_pictures=int(25 * len(sound) / rate) + 1)
        film_sound(audio, sound, starts or {0: 0.0})


def pictures(path: Path) -> list[tuple[float, bytes]]:
    """When each picture is shown [s, to the millisecond of Matroska], and its packet."""
    with av.open(str(path)) as container:
        return [
            (round(float(packet.pts * packet.time_base), 3), bytes(packet))
            for packet in container.demux(video=0)
            if packet.size
        ]


def heard(path: Path, rate: int) -> Float:
    """What a player plays from time 0 on, (n,) of the first channel."""
    with av.open(str(path)) as container:
        first = next(container.decode(audio=0))
        late = round(float(first.pts * first.time_base) * rate)
    sound = read(path)[:, 0]
    return np.concatenate([np.zeros(late, np.float32), sound])


@pytest.mark.parametrize(
    ("film", "picture", "codec", "rate", "outputs"),
    [
        ("film.mp4", "mpeg4", "aac", 48000, (".mp4", ".mkv", ".mov")),
        ("film.mkv", "libx264", "aac", 44100, (".mkv", ".mp4")),  # pictures out of order
        ("film.mkv", "libx264", "libmp3lame", 44100, (".mkv", ".mp4")),
        ("film.webm", "libvpx", "libopus", 48000, (".webm", ".mkv")),
        ("film.mov", "mpeg4", "pcm_s16le", 44100, (".mov", ".mkv", ".mp4")),
    ],
)
@pytest.mark.parametrize("start_s", [0.0, 0.4])
def test_a_film_keeps_its_pictures_and_its_sound_in_time(
    tmp_path: Path,
    film: str,
    picture: str,
    codec: str,
    rate: int,
    outputs: tuple[str, ...],
    start_s: float,
) -> None:
    write_film(tmp_path / film, picture, codec, rate, noise(2 * rate, 2), {0: start_s})
    for extension in outputs:
        copy(tmp_path / film, tmp_path / f"out{extension}")
        assert pictures(tmp_path / f"out{extension}") == pictures(tmp_path / film)
        before, after = heard(tmp_path / film, rate), heard(tmp_path / f"out{extension}", rate)
        # Matroska's clock has steps of 1 ms, so that a late start may round by half of one
        # in each file; the coders' own delays are 6 ms (Opus) and more.
        by_ms = start_s > 0 and {Path(film).suffix, extension} & {".mkv", ".webm"}
        rounding = rate // 1000 + 1 if by_ms else 0
        assert abs(lag(before, after)) <= rounding


@pytest.mark.parametrize("extension", [".m4a", ".mka", ".mkv"])
def test_lossless_sound_through_ffmpeg_is_exact(tmp_path: Path, extension: str) -> None:
    codec = "alac" if extension == ".m4a" else "flac"
    with av.open(str(tmp_path / f"in{extension}"), "w") as container:
        film_sound(declare_sound(container, codec, 44100, 2), noise(100_000, 2), {0: 0.0})
    copy(tmp_path / f"in{extension}", tmp_path / f"out{extension}")
    sound = read(tmp_path / f"out{extension}")
    np.testing.assert_array_equal(sound, read(tmp_path / f"in{extension}"))
    assert len(sound) == 100_000
    copy(tmp_path / f"in{extension}", tmp_path / "out.wav")
    np.testing.assert_array_equal(read(tmp_path / "out.wav"), sound)


def test_the_sound_of_a_film_alone(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", "mpeg4", "aac", 48000, noise(48000, 1))
    for name in ("out.m4a", "out.flac"):
        copy(tmp_path / "film.mp4", tmp_path / name)
        assert lag(read(tmp_path / "film.mp4")[:, 0], read(tmp_path / name)[:, 0]) == 0
    with av.open(str(tmp_path / "out.m4a")) as container:
        assert [stream.type for stream in container.streams] == ["audio"]


def test_holes_in_the_sound_are_silence(tmp_path: Path) -> None:
    sound = noise(24000, 1)
    write_film(
        tmp_path / "film.mkv", "mpeg4", "pcm_s16le", 8000, sound, {0: 0.0, 8000: 1.5, 16000: 2.5}
    )
    found = read(tmp_path / "film.mkv")
    expected = np.concatenate([sound[:8000], np.zeros((4000, 1), np.float32), sound[8000:]])
    np.testing.assert_allclose(found, expected, atol=2**-15)  # one step of 16 bits


def test_overlapping_sound_is_cut(tmp_path: Path) -> None:
    sound = noise(24000, 1)
    write_film(tmp_path / "film.mkv", "mpeg4", "pcm_s16le", 8000, sound, {0: 0.0, 16000: 1.5})
    found = read(tmp_path / "film.mkv")
    expected = np.concatenate([sound[:16000], sound[20000:]])
    np.testing.assert_allclose(found, expected, atol=2**-15)  # one step of 16 bits


def test_a_picture_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    write_film(tmp_path / "film.webm", "libvpx", "libopus", 48000, noise(4800, 1))
    refused = pytest.raises(AudioFileError, match=r"cannot keep the picture .* use \.mkv")
    with open_source(tmp_path / "film.webm") as source, refused:
        open_sink(tmp_path / "out.mp4", source)
    assert left_over(tmp_path) == ["film.webm"]


def test_other_streams_go_along(tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container, av.open(str(tmp_path / "words.srt")) as words:
        subtitles = container.add_stream_from_template(words.streams[0], opaque=True)
        video = declare_picture(container, "mpeg4")
        audio = declare_sound(container, "flac", 8000, 2)
        container.metadata["title"] = "Film"
        film_pictures(video, 25)
        container.mux([_on(subtitles, packet) for packet in words.demux() if packet.size])
        film_sound(audio, noise(8000, 2), {0: 0.0})
    copy(film, tmp_path / "out.mkv")
    copy(film, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["subtitle", "video", "audio"]
        assert container.metadata["title"] == "Film"
        shown = [bytes(packet) for packet in container.demux(subtitles=0) if packet.size]
    assert shown == [b"hello"]
    with av.open(str(tmp_path / "out.mp4")) as container:  # which has no such subtitles
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def _on(stream: av.stream.Stream, packet: av.Packet) -> av.Packet:
    packet.stream = stream
    return packet


def test_six_channels_keep_their_places(tmp_path: Path) -> None:
    sound = noise(20_000, 6)
    sf.write(tmp_path / "in.wav", sound, 48000)
    copy(tmp_path / "in.wav", tmp_path / "out.mkv")
    np.testing.assert_array_equal(read(tmp_path / "out.mkv"), read(tmp_path / "in.wav"))
