"""What others send, played to the Denoised Speakers as a call app does, and what is heard."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.example import noisy_voice
from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError
from engine.measure import aligned, delay_between, level_dbfs, si_sdr_db
from engine.names import SPEAKERS_NAME
from engine.stft import Float
from tests.onnx_models import FULLBAND, write_identity, write_silence

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
SPEAKERS = "denoise_app_speakers"
LEAD_S = 2.5


class Home:
    """A sound server with a microphone (``room``), ears to hear with, and a session."""

    def __init__(self, server: PrivateServer, chosen: bool = True) -> None:
        self.server = server
        self.at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        self.session: subprocess.Popen[str] | None = None
        self.player: subprocess.Popen[bytes] | None = None
        for name in ("room", "ears", "others"):
            server.add_microphone(name, name.capitalize())
        if chosen:
            server.control("set-default-sink", "ears")
            server.control("set-default-source", "room.monitor")

    def begin(self, *options: str) -> None:
        self.session = self.server.clean("room.monitor", *options)
        # Its lines are not looked at here; a full pipe would stop it.
        threading.Thread(target=self.session.communicate, daemon=True).start()
        self.until(lambda told: told.get("state") == "running")

    def ask(self, **request: Any) -> dict[str, Any]:
        with ControlClient(self.at) as client:
            return client.ask(**request)

    def until(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 20.0) -> None:
        """Wait for a status, whoever answers by then."""
        deadline = time.monotonic() + timeout_s
        told: dict[str, Any] = {}
        while True:
            try:
                if wanted(told := self.ask(do="status")):
                    return
            except ControlError:
                pass
            assert time.monotonic() < deadline, told
            time.sleep(0.1)

    def until_heard(self, state: str = "running") -> None:
        self.until(lambda told: told["speakers"]["state"] == state)

    def play_tone(self) -> None:
        """A tone of a minute, as a call app would play it."""
        time_s = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
        tone = (0.3 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
        self.player = self.server.play(tone, SPEAKERS)

    def heard_dbfs(self, ears: str = "ears") -> float:
        recorder = self.server.record(f"{ears}.monitor")
        deadline = time.monotonic() + 10
        while recorder.seconds < 0.8 and time.monotonic() < deadline:
            time.sleep(0.02)
        return level_dbfs(recorder.stop()[SAMPLE_RATE // 2 :])

    def until_loud(self, loud: bool, ears: str = "ears") -> None:
        deadline = time.monotonic() + 15
        while ((level := self.heard_dbfs(ears)) > -40.0) is not loud:
            assert time.monotonic() < deadline, level
        if not loud:
            assert level < -80.0

    def routes(self) -> Counter[str]:
        """How many streams there are at each device."""
        found: Counter[str] = Counter()
        for devices, streams in (("sinks", "sink-inputs"), ("sources", "source-outputs")):
            lines = self.server.control("list", "short", devices).splitlines()
            names = dict(line.split()[:2] for line in lines)
            for line in self.server.control("list", "short", streams).splitlines():
                found[names[line.split()[1]]] += 1
        return found

    def until_routed(self, routes: Counter[str]) -> None:
        deadline = time.monotonic() + 15
        while (now := self.routes()) != routes:
            assert time.monotonic() < deadline, now
            time.sleep(0.1)

    def modules(self) -> list[str]:
        return self.server.control("list", "short", "modules").splitlines()

    def defaults(self) -> list[str]:
        told = self.server.control("info").splitlines()
        return [line for line in told if line.startswith(("Default Sink", "Default Source"))]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.session is not None:
            self.session.send_signal(how)
            self.session.wait(10)

    def close(self) -> None:
        if self.player is not None:
            self.player.kill()
            self.player.wait()
        if self.session is not None:
            self.session.kill()
            self.session.wait()


@pytest.fixture(params=["pulseaudio", "pipewire"])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    with PrivateServer(request.param) as server:
        home = Home(server)
        try:
            yield home
        finally:
            home.close()


def play_and_hear(home: Home, sound: Float) -> tuple[Float, Float, float, float]:
    """What was sent and what was heard, how much later [ms], and how much the status told."""
    sent = home.server.record(f"{SPEAKERS}.monitor")
    heard = home.server.record("ears.monitor")
    silence = np.zeros(round(LEAD_S * SAMPLE_RATE), np.float32)
    player = home.server.play(np.concatenate([silence, sound]), SPEAKERS)
    told = []
    while player.poll() is None:
        time.sleep(0.5)
        told.append(home.ask(do="status")["speakers"]["delay_ms"])
    time.sleep(0.5)
    first, second = sent.stop(), heard.stop()
    delay, _ = delay_between(first, second)
    measured_ms = 1000 * (delay / SAMPLE_RATE + heard.origin_s - sent.origin_s)
    settled = [one for one in told[round(2 * LEAD_S) :] if one is not None]
    return first, second, measured_ms, float(np.median(settled))


def test_noise_of_what_others_send_is_removed(home: Home) -> None:
    voice, noisy = (sound[: 9 * SAMPLE_RATE] for sound in noisy_voice())
    before, defaults = home.modules(), home.defaults()
    home.begin("--speakers", "ears")
    home.until_heard()
    assert SPEAKERS_NAME in home.server.control("list", "sinks")
    assert home.defaults() == defaults
    best_db, off_ms = -np.inf, np.inf
    for _ in range(5):  # what is promised is promised of a machine that has time
        sent, heard, measured_ms, told_ms = play_and_hear(home, noisy)
        gained_db = np.percentile(scores(voice, heard) - scores(voice, sent), 75)
        print(f"{gained_db:.1f} dB won, delay {measured_ms:.0f} ms, told {told_ms:.0f} ms")
        best_db, off_ms = max(best_db, gained_db), min(off_ms, abs(measured_ms - told_ms))
        if best_db > 2.0 and off_ms < 15.0:
            break
    # 4 dB to 7 dB measured.
    assert best_db > 2.0
    assert off_ms < 15.0
    start, _ = delay_between(noisy, sent)
    rain = slice(start + SAMPLE_RATE, start + 2 * SAMPLE_RATE)
    assert level_dbfs(heard[rain]) < level_dbfs(sent[rain]) - 10.0
    home.end()
    assert home.modules() == before
    assert home.defaults() == defaults


def scores(voice: Float, recording: Float) -> Float:
    """SI-SDR of each spoken second [dB], wherever it stands: a busy machine shifts some."""
    start, _ = delay_between(voice, recording)
    slack, found = SAMPLE_RATE // 4, []
    for at in range(3 * SAMPLE_RATE, len(voice) - SAMPLE_RATE, SAMPLE_RATE):
        second = voice[at : at + SAMPLE_RATE]
        around = recording[start + at - slack : start + at + SAMPLE_RATE + slack]
        found.append(si_sdr_db(*aligned(second, around, delay_between(second, around)[0])))
    return np.array(found)


@pytest.mark.parametrize("home", ["pulseaudio"], indirect=True)
def test_it_is_turned_on_and_off_while_a_call_runs(home: Home, tmp_path: Path) -> None:
    silence = str(write_silence(tmp_path / "s.onnx", replace(FULLBAND, name="silence")))
    identity = str(write_identity(tmp_path / "i.onnx", replace(FULLBAND, name="identity")))
    home.begin("--model", identity)
    assert home.ask(do="status")["speakers"]["state"] == "off"
    assert SPEAKERS not in home.server.control("list", "short", "sinks")
    home.ask(do="set", speakers=True)
    home.until_heard()
    home.play_tone()
    home.until_loud(True)

    # A model of its own; the microphone's stays.
    home.ask(do="set", speakers_model=silence)
    home.until(lambda told: told["speakers"]["model"] == "silence")
    home.until_loud(False)
    assert home.ask(do="status")["model"] == "identity"
    home.ask(do="set", speakers_model=None)
    home.until(lambda told: told["speakers"]["model"] == "identity")
    home.until_loud(True)

    # Elsewhere, and back.
    home.ask(do="set", speakers_output="others")
    home.until_loud(True, "others")
    home.until_loud(False)
    with pytest.raises(ControlError, match="is no loudspeaker"):
        home.ask(do="set", speakers_output=SPEAKERS)
    with pytest.raises(ControlError, match="no output device fits 'nowhere'"):
        home.ask(do="set", speakers_output="nowhere")
    home.ask(do="set", speakers_output=None)
    home.until_loud(True)

    # Off: the call app goes on where one hears, as it is; on: it is cleaned again.
    home.ask(do="set", speakers=False)
    home.until(lambda told: told["speakers"]["state"] == "off")
    assert SPEAKERS not in home.server.control("list", "short", "sinks")
    home.until_loud(True)
    home.ask(do="set", speakers=True, speakers_model=silence)
    home.until_heard()
    home.until_loud(False)
    assert home.ask(do="status")["state"] == "running"
    home.end()
    assert SPEAKERS not in home.server.control("list", "short", "sinks")


def test_what_is_the_default_changes_nothing(home: Home, tmp_path: Path) -> None:
    """Servers move what plays to the last default to the new one, ours among it."""
    home.begin("--speakers", "--model", str(write_identity(tmp_path / "i.onnx", FULLBAND)))
    home.until_heard()
    routes = home.routes()
    assert routes["ears"] == 1
    assert routes[f"{SPEAKERS}.monitor"] == 1
    for default in (SPEAKERS, "ears"):
        home.server.control("set-default-sink", default)
        time.sleep(0.5)
        home.until_routed(routes)
    home.ask(do="set", speakers_output="ears")
    home.until_heard()
    home.server.control("set-default-sink", "others")
    time.sleep(0.5)
    home.until_routed(routes)
    home.ask(do="set", speakers_output=None)
    home.play_tone()
    home.until_loud(True, "others")
    home.end()


def test_either_side_goes_on_without_the_other(home: Home, tmp_path: Path) -> None:
    home.begin("--speakers", "ears", "--model", str(write_identity(tmp_path / "i.onnx", FULLBAND)))
    home.until_heard()
    home.play_tone()
    home.until_loud(True)

    # The loudspeaker is unplugged and comes back.
    seconds = home.ask(do="status")["seconds"]
    (ears,) = (line.split()[0] for line in home.modules() if "sink_name=ears " in line)
    home.server.control("unload-module", ears)
    home.until(lambda told: told["speakers"]["problem"] is not None)
    told = home.ask(do="status")
    assert (told["state"], told["problem"]) == ("running", None)
    # Meanwhile the call is heard elsewhere, as it is.
    home.until_loud(True, home.defaults()[0].split()[-1])
    home.server.add_microphone("ears", "Ears")
    home.until_heard()
    home.until(lambda told: told["speakers"]["problem"] is None)
    home.until_loud(True)
    assert home.routes()[SPEAKERS] == 1, "the call plays to our speakers again"
    told = home.ask(do="status")
    assert told["seconds"] > seconds, "the microphone's session is still the first"

    # The microphone is unplugged: what others send is heard.
    (room,) = (line.split()[0] for line in home.modules() if "sink_name=room " in line)
    home.server.control("unload-module", room)
    home.until(lambda told: told["problem"] is not None)
    assert home.ask(do="status")["speakers"]["problem"] is None
    home.until_loud(True)
    home.end()


def test_after_a_crash_the_call_is_heard_again(home: Home, tmp_path: Path) -> None:
    model = str(write_identity(tmp_path / "identity.onnx", FULLBAND))
    before = home.modules()
    home.begin("--speakers", "--model", model)
    home.until_heard()
    home.play_tone()
    home.until_loud(True)
    home.end(signal.SIGKILL)
    assert SPEAKERS in home.server.control("list", "short", "sinks")

    home.begin("--speakers", "--model", str(write_silence(tmp_path / "silence.onnx", FULLBAND)))
    home.until_heard()
    home.until_loud(False)  # so it plays to our speakers again, and nowhere else
    home.end(signal.SIGKILL)
    home.begin("--model", model)
    home.until_loud(True)  # without them it plays to the ears
    home.end()
    assert home.modules() == before


@pytest.mark.parametrize("home", ["pulseaudio"], indirect=True)
def test_an_unknown_loudspeaker_is_named(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--device", "--speakers", "no such thing"],
        env=home.server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("denoise-app: no output device fits 'no such thing'")
    assert len(done.stderr.splitlines()) == 1


def test_defaults_that_nobody_chose_stay(tmp_path: Path) -> None:
    """Of a server that picks them by itself, as this one does on a new machine."""
    with PrivateServer("pipewire") as server:
        home = Home(server, chosen=False)
        time.sleep(0.5)  # the session manager takes a moment
        defaults = home.defaults()
        model = str(write_identity(tmp_path / "identity.onnx", FULLBAND))
        try:
            home.begin("--speakers", "--model", model)
            home.until_heard()
            for _ in range(10):
                assert home.defaults() == defaults
                time.sleep(0.1)
            home.end()
            assert home.defaults() == defaults
        finally:
            home.close()
