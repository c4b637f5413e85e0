"""``denoise-app demo``: the whole program on a recorded noisy voice, and what it did.

Where there is a real microphone and a desktop the session runs on that instead, unless
``--recorded`` asks for the recording. Not here: the parts; this only plays them together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.example import NOISE_ONLY_S, noisy_voice
from app.private_server import PrivateServer
from engine import devices
from engine.denoiser import Frame
from engine.devices import SAMPLE_RATE
from engine.errors import DeviceError
from engine.measure import delay_between, followed, level_dbfs, si_sdr_db, usual_dbfs
from engine.spec import ModelSpec
from engine.stft import Float, stft, to_db

_START_S = 20.0
_TOP_HZ = 8000.0  # where voices end


def run(args: argparse.Namespace) -> int:
    """Run the demo; raises DeviceError or ModelError when a part is missing."""
    if not args.recorded and _has_microphone_and_desktop():
        from app import live

        print("Found a microphone: cleaning it. (--recorded plays a recorded voice instead.)")
        return live.run(args)
    voice, noisy = noisy_voice()
    with PrivateServer(args.server) as server:
        server.add_microphone("demo_room", "Demo microphone in a noisy room")
        print(f"A private {args.server} plays {len(noisy) / SAMPLE_RATE:.0f} s of a voice in rain.")
        said, heard, delay_ms, statuses = _call(server, noisy, args)
    # Both in line with the clip, also where a busy machine stopped the recorder or the player.
    said = followed(noisy, said)
    return _show(args.folder, voice, said, followed(said, heard), delay_ms, statuses)


def _call(
    server: PrivateServer, noisy: Float, args: argparse.Namespace
) -> tuple[Float, Float, float, list[dict[str, Any]]]:
    """Run the real program between a microphone and a recording call app.

    Returns what the microphone heard, what the call heard, how much later [ms], and the
    program's own status lines.
    """
    options = ("--model", args.model, "--limit", str(args.limit), "--provider", args.provider)
    statuses: list[dict[str, Any]] = []
    running = threading.Event()
    with server.clean("demo_room.monitor", *options) as session:
        reader = threading.Thread(target=_read, args=(session, statuses, running), daemon=True)
        reader.start()
        try:
            if not running.wait(_START_S) or session.poll() is not None:
                session.kill()
                reader.join()
                raise DeviceError(_last_words(session))
            microphone = server.record("demo_room.monitor")
            call = server.record("denoise_app_microphone")
            time.sleep(0.5)
            server.play(noisy, "demo_room").wait()
            time.sleep(0.5)
            said, heard = microphone.stop(), call.stop()
        finally:
            session.terminate()
            reader.join()
    delay, _ = delay_between(said, heard)
    delay_ms = 1000 * (delay / SAMPLE_RATE + call.origin_s - microphone.origin_s)
    return said, heard, delay_ms, [line for line in statuses if line["state"] == "running"]


def _read(
    session: subprocess.Popen[str], statuses: list[dict[str, Any]], running: threading.Event
) -> None:
    assert session.stdout is not None
    for line in session.stdout:
        statuses.append(json.loads(line))
        if statuses[-1]["state"] == "running":
            running.set()
    running.set()  # it ended: nothing more to wait for


def _last_words(session: subprocess.Popen[str]) -> str:
    assert session.stderr is not None
    return session.stderr.read().strip() or "the session did not start"


def _show(
    folder: Path,
    voice: Float,
    said: Float,
    heard: Float,
    delay_ms: float,
    statuses: list[dict[str, Any]],
) -> int:
    """Print the figures; write recordings and picture into ``folder``."""
    noise_only = slice(round((NOISE_ONLY_S - 1.0) * SAMPLE_RATE), round(NOISE_ONLY_S * SAMPLE_RATE))
    spoken = slice(round(NOISE_ONLY_S * SAMPLE_RATE), None)
    cpu = float(np.median([status["cpu_percent"] for status in statuses]))
    told = float(np.median([status["delay_ms"] for status in statuses if status["delay_ms"]]))
    rows = [
        (
            "level while nobody speaks [dBFS]",
            usual_dbfs(said[noise_only]),
            usual_dbfs(heard[noise_only]),
        ),
        ("level while somebody speaks [dBFS]", level_dbfs(said[spoken]), level_dbfs(heard[spoken])),
        ("SI-SDR against the clean voice [dB]", si_sdr_db(voice, said), si_sdr_db(voice, heard)),
    ]
    print(f"\n{'':38}{'microphone':>12}{'call hears':>12}")
    for name, before, after in rows:
        print(f"{name:38}{before:12.1f}{after:12.1f}")
    print(
        f"\ndelay {delay_ms:.0f} ms measured ({told:.0f} ms reported), "
        f"CPU {cpu:.1f} % of one core, drops {statuses[-1]['drops']}"
    )
    _write(folder, said, heard)
    print(f"Listen: {folder}/microphone.wav, {folder}/call.wav   Look: {folder}/spectrogram.png")
    return 0


def _write(folder: Path, said: Float, heard: Float) -> None:
    import soundfile

    from app.picture import SpectrogramCollector, draw

    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in (("microphone", said), ("call", heard)):
        soundfile.write(folder / f"{name}.wav", np.clip(sound, -1, 1), SAMPLE_RATE)
    shown = ModelSpec("shown", "1", SAMPLE_RATE, n_fft=2048, hop=512, n_bins=1025)
    collector = SpectrogramCollector(shown)
    watch = collector.channel()
    for noisy_db, clean_db in zip(
        to_db(stft(said, shown), shown), to_db(stft(heard, shown), shown), strict=True
    ):
        gain = np.clip(10 ** ((clean_db - noisy_db) / 20), 0, 1)
        watch(Frame(noisy_db, gain, 0.0))
    title = "What the microphone heard, what the call heard"
    draw(folder / "spectrogram.png", collector, len(said) / SAMPLE_RATE, title, _TOP_HZ)


def _has_microphone_and_desktop() -> bool:
    """Whether a person with a microphone sits in front of this."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    with contextlib.suppress(DeviceError):
        return any(d.kind == "input" and not d.virtual for d in devices.devices())
    return False
