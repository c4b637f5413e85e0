"""What a session answers, what the command makes of it, and the picture for who watches."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from app.cli import main
from app.columns import ROWS, rows_of
from app.idle import Idleness, Rest
from app.service import Service, Wishes
from app.speakers import SpeakerSide, SpeakerWishes
from app.steering import describe
from engine.control import ControlServer
from engine.denoiser import Denoiser, Knobs
from engine.errors import DeviceError, ModelError
from engine.live import LiveSession, Status
from engine.pipeline import Pipeline
from tests.estimators import Steady
from tests.onnx_models import CLASSIC, FULLBAND, write_identity

ABOUT = {"input": "yeti", "output": "Denoised", "model": "classic", "provider": "cpu"}
STATUS = Status("running", -30.0, -40.0, 144.4, 7.25, 2, 0.9, 12.0, None)


@pytest.fixture
def service():
    """One whose devices are said to be open."""
    service = Service(Wishes("classic", "cpu"), Knobs(limit_db=20.0))
    service._about, service._status = ABOUT, STATUS
    return service


def test_requests_turn_the_knobs(service):
    told = service.answer({"do": "status"})
    assert (told["on"], told["limit_db"], told["delay_ms"]) == (True, 20.0, 144.4)
    assert service.answer({"do": "toggle"})["on"] is False
    assert service._knobs == Knobs(limit_db=20.0, bypass=True)
    told = service.answer({"do": "set", "on": True, "limit_db": 6, "muted": True})
    assert service._knobs == Knobs(limit_db=6.0, muted=True)
    assert (told["limit_db"], told["muted"]) == (6.0, True)
    assert "classic" in service.answer({"do": "models"})["models"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"do": "explode"},
        {"do": ["status"]},
        {"do": {}},
        {"do": "status", "more": 1},
        {"do": "toggle", "on": True},
        {"do": "set", "on": 1},
        {"do": "set", "on": "false"},
        {"do": "set", "muted": None},
        {"do": "set", "limit_db": "20"},
        {"do": "set", "limit_db": True},
        {"do": "set", "limit_db": -1},
        {"do": "set", "limit_db": 1e9},
        {"do": "set", "limit_db": float("nan")},
        {"do": "set", "gain": 3},
        {"do": "set", "muted": True, "gain": 3},
        {"do": "set", "input": 3},
        {"do": "set", "speakers": 1},
        {"do": "set", "speakers": True, "speakers_output": 3},
        {"do": "set", "speakers": True, "speakers_model": "no such model"},
        {"do": "set", "speakers_model": 5},
        {"do": "set", "model": None},
        {"do": "set", "model": "no such model"},
        {"do": "set", "model": "no/such/model.onnx"},
    ],
)
def test_a_wrong_request_turns_nothing(service, request_):
    before = service._knobs, service._wishes, service.speakers.wishes
    with pytest.raises(ValueError, match=r"ask for status|should be|there is no|no model|such"):
        service.answer(request_)
    assert (service._knobs, service._wishes, service.speakers.wishes) == before


def test_the_speakers_are_asked_for_beside_the_rest(service, monkeypatch):
    assert service.answer({"do": "status"})["speakers"] == {
        "on": False,
        "state": "off",
        "output": None,
        "model": None,
        "delay_ms": None,
        "cpu_percent": None,
        "drops": None,
        "fault": None,
        "problem": None,
    }
    monkeypatch.setattr("engine.devices.find", lambda kind, name: f"{name}.{kind}")
    told = service.answer(
        {"do": "set", "speakers": True, "speakers_output": "ears", "speakers_model": "fullband"}
    )
    assert (told["speakers"]["on"], told["speakers"]["state"]) == (True, "starting")
    assert service.speakers.wishes == SpeakerWishes(True, "ears", "fullband")
    assert service._wishes == Wishes("classic", "cpu"), "the microphone's side is left alone"
    monkeypatch.setattr("engine.devices.find", lambda kind, name: "denoise_app_sink")
    with pytest.raises(ValueError, match="is no loudspeaker"):
        service.answer({"do": "set", "speakers_output": "denoise"})
    service.answer({"do": "set", "speakers_output": None, "speakers_model": None})
    assert service.speakers.wishes == SpeakerWishes(True)


def test_a_speaker_side_that_fails_says_so_and_tries_again(service, monkeypatch):
    tries = []

    def fail(*_):
        tries.append(time.monotonic())
        raise (DeviceError("no loudspeaker"), RuntimeError("a mistake of ours"))[len(tries) > 2]

    monkeypatch.setattr("app.speakers._speakers", fail)
    monkeypatch.setattr("engine.devices.Census.devices", lambda self: [])
    service.speakers.start()
    service.answer({"do": "set", "speakers": True})
    try:
        for words, n in (("no loudspeaker", 1), ("RuntimeError: a mistake of ours", 5)):
            deadline = time.monotonic() + 20
            while words != (told := service.speakers.told())["problem"] or len(tries) < n:
                assert time.monotonic() < deadline, told
                time.sleep(0.01)
            assert told["state"] == "waiting"
        assert service.answer({"do": "status"})["problem"] is None
        service.answer({"do": "set", "speakers": False})
        deadline = time.monotonic() + 20
        while service.speakers.told()["problem"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert service.speakers.told()["state"] == "off"
    finally:
        service.speakers.stop()
    assert not service.speakers._thread.is_alive()


def test_the_provider_that_serves_now_is_told(service, tmp_path, monkeypatch, capsys):
    """Not the one that served when the devices were opened."""
    choice = service._network._choice
    choice.serving = choice.serving._replace(name="cuda")
    assert service.answer({"do": "status"})["provider"] == "cuda"
    choice.serving = choice.serving._replace(name="cpu")
    choice.note = "cuda failed while it ran, the CPU goes on: an illegal memory access"
    told = service.answer({"do": "status"})
    assert (told["provider"], told["provider_note"]) == ("cpu", choice.note)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ControlServer(service.answer, service.picture):
        assert main(["status"]) == 0
    assert choice.note in capsys.readouterr().out.splitlines()


def test_commands_reach_the_session(service, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ControlServer(service.answer, service.picture):
        assert main(["status"]) == 0
        assert capsys.readouterr().out == (
            "on, turning nothing down by more than 20 dB (classic on cpu)\n"
            "running for 12 s: yeti to Denoised, delay 144 ms, CPU 7.2 %, drops 2\n"
            "threads run with normal priority (not asked for)\n"
        )
        service.speakers.want(SpeakerWishes(True, "ears"))
        service.speakers._status = STATUS
        assert main(["status"]) == 0
        assert capsys.readouterr().out.endswith(
            "what others send to ears: running, delay 144 ms, drops 2\n"
        )
        assert main(["off"]) == 0
        assert capsys.readouterr().out.startswith("off: your voice goes through as it is")
        assert main(["toggle", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["on"] is True
        assert told["drops"] == 2
        assert main(["on", "--limit", "12"]) == 0
        assert service._knobs == Knobs(limit_db=12.0)
    capsys.readouterr()
    assert main(["status"]) == 1
    assert capsys.readouterr().err == (
        "denoise-app: denoise-app is not running: start denoise-app --device\n"
    )


@pytest.mark.parametrize("spec", [CLASSIC, FULLBAND], ids=["classic", "fullband"])
def test_rows_rise_and_reach_the_top(spec):
    starts = rows_of(spec)
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    assert starts[-1] < spec.n_spectrum
    assert starts[-1] > 0.95 * spec.n_spectrum


def test_a_tone_is_seen_where_it_is(service):
    spec = service._network.spec
    rate, hz = spec.sample_rate, 1000.0
    gain = np.full(spec.n_bins, 0.1, np.float32)
    pipeline = Pipeline(Denoiser(Steady(spec, gain)), rate, service._frames.append)
    pipeline.process(0.5 * np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32))
    n_frames = len(service._frames)
    told = service.picture()
    assert (told["columns"], told["rows"], told["top_hz"]) == (n_frames, ROWS, rate / 2)
    levels = np.frombuffer(base64.b64decode(told["levels"]), np.uint8).reshape(-1, 2, ROWS)
    noisy, clean = levels[-1] / 2.55 - 100.0
    row = noisy.argmax()
    bins = rows_of(spec)
    assert bins[row] <= hz / spec.sample_rate * spec.n_fft <= bins[row + 1] + 1
    assert noisy[row] == pytest.approx(-6.0, abs=0.7)
    assert clean[row] == pytest.approx(-26.0, abs=0.7)
    curve = np.frombuffer(base64.b64decode(told["gain"]), np.uint8) / 255
    assert curve[row] == pytest.approx(0.1, abs=0.01)
    # Nothing is shown twice.
    assert service.picture()["columns"] == 0


class Overloaded:
    """A session whose machine has as much room as it is told; its models take over at once."""

    def __init__(self, service, monkeypatch, efforts):
        self.service, self.network = service, service._network
        self.busy, self.now_s, self.uncleaned_s, self.changes = False, 1000.0, 0.0, 0
        service._spare._effort = efforts.get
        service._session, service._opened = self, service._wishes
        service._name_models()
        monkeypatch.setattr("app.service.time", self)
        self.knobs = None

    def monotonic(self):
        return self.now_s

    def wait_until_running(self, timeout_s):
        return True

    def replace(self, network):
        self.network = network
        self.changes += 1

    def status(self):
        late = self.busy and self.network.spec.name == "fullband"
        self.uncleaned_s += 0.5 * late
        return replace(STATUS, load=0.1, effort=0.04, uncleaned_s=self.uncleaned_s)

    def run(self, seconds):
        for _ in range(seconds):
            self.now_s += 1.0
            self.service._look(self, lambda status: None)
        return self.service.answer({"do": "status"})


@pytest.fixture
def overloaded(monkeypatch):
    service = Service(Wishes("fullband", "cpu"), Knobs())
    service._about = {**ABOUT, "model": "fullband"}
    return Overloaded(service, monkeypatch, {"fullband": 0.04, "classic": 0.018})


def models_of(told):
    return told["model"], told["model_wanted"], told["overload"]


def test_a_cheaper_model_cleans_until_the_machine_is_calm(overloaded, caplog):
    service = overloaded.service
    assert models_of(overloaded.run(20)) == ("fullband", "fullband", None)
    overloaded.busy = True
    told = overloaded.run(5)
    assert models_of(told) == ("classic", "fullband", "machine")
    assert overloaded.network.spec.name == "classic"
    assert describe(told).splitlines()[-1] == (
        "classic cleans in place of fullband: the machine is too busy at the moment"
    )
    assert "classic cleans instead of fullband: a second of sound takes 100 ms" in caplog.text
    assert service._wishes.model == "fullband", "what is wished for stays"
    overloaded.busy = False
    assert models_of(overloaded.run(60)) == ("fullband", "fullband", None)
    assert overloaded.changes == 2


def test_a_pick_of_the_user_ends_it_without_a_gap(overloaded):
    service = overloaded.service
    overloaded.busy = True
    assert overloaded.run(10)["overload"] == "machine"
    # The same model again is a pick as well.
    service.answer({"do": "set", "model": "fullband"})
    service._open_or_say_why()
    assert models_of(service.answer({"do": "status"})) == ("fullband", "fullband", None)
    assert overloaded.network.spec.name == "fullband"
    overloaded.run(10)
    service.answer({"do": "set", "model": "classic"})
    service._open_or_say_why()
    assert models_of(overloaded.run(100)) == ("classic", "classic", None)
    assert service._session is overloaded, "no device was opened anew"


def test_who_wants_one_model_keeps_it(overloaded):
    overloaded.service._wishes = Wishes("fullband", "cpu", keep_model=True)
    overloaded.busy = True
    assert models_of(overloaded.run(60)) == ("fullband", "fullband", None)
    assert overloaded.changes == 0


def test_a_spare_model_that_cannot_be_opened_is_left(overloaded, monkeypatch, caplog):
    def refuse(*_, **__):
        raise ModelError("classic.onnx: is damaged")

    monkeypatch.setattr("app.service.open_network", refuse)
    overloaded.busy = True
    assert models_of(overloaded.run(60)) == ("fullband", "fullband", None)
    assert caplog.text.count("classic cannot take over from fullband") == 1


def test_a_stranger_s_model_is_tried_for_the_speakers_too(tmp_path, monkeypatch):
    """As for the microphone: what it may do to us is found out in a process of its own."""
    path = write_identity(tmp_path / "strange.onnx", FULLBAND)
    tried = []
    monkeypatch.setattr("engine.trial.prove", lambda content, path: tried.append(path))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")  # no further than the model
    side = SpeakerSide(SpeakerWishes(on=True, model=str(path)), 100.0, lambda: "classic", "cpu")
    with pytest.raises(DeviceError):
        side._open()
    assert tried == [path]


def test_a_model_that_takes_long_to_open_is_no_hung_server(service, monkeypatch):
    """Neither does the status say so, nor is a connection cut that the call is heard over."""
    service._session, service._opened = LiveSession(service._network, "a", ["b"]), service._wishes
    service._ticked_s = begun_s = time.monotonic()

    def slow(*_, **__):
        while service._ticked_s <= begun_s + 0.2:
            time.sleep(0.01)
            assert time.monotonic() < begun_s + 10.0
        raise ModelError("too slow")

    monkeypatch.setattr("app.service.open_network", slow)
    service.answer({"do": "set", "model": "fullband"})
    service._open_or_say_why()
    assert service.answer({"do": "status"})["problem"] == "too slow"


def test_a_refused_model_is_told_of_and_not_for_good(service, monkeypatch, tmp_path):
    now_s = [1000.0]
    monkeypatch.setattr("app.service.time.monotonic", lambda: now_s[0])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    service._session, service._opened = LiveSession(service._network, "a", ["b"]), service._wishes

    def pick(model):
        service.answer({"do": "set", "model": str(model)})
        service._open_or_say_why()
        return service.answer({"do": "status"})

    told = pick(damaged)
    assert "damaged.onnx" in told["problem"]
    assert (told["model"], service._wishes.model) == ("classic", "classic")
    assert pick("fullband")["problem"] is None, "another could be had"
    assert pick(damaged)["problem"] is not None
    now_s[0] += 10.1
    assert service.answer({"do": "status"})["problem"] is None


class Resting:
    """A service whose session is closed after five seconds without listeners, on its own clock."""

    def __init__(self, monkeypatch, **wishes):
        self.now_s, self.closed = 1000.0, 0
        monkeypatch.setattr("app.service.time", self)
        self.service = Service(Wishes("classic", "cpu", **wishes), Knobs())
        self.service._idleness = Idleness(self.monotonic)
        self.service._listeners.count = 0
        self.service._about = ABOUT
        self.service._sound.callback(self._close)

    def monotonic(self):
        return self.now_s

    def _close(self):
        self.closed += 1

    def passes(self, seconds):
        for _ in range(round(10 * seconds)):
            self.now_s += 0.1
            self.service._rest_or_wake()
        return self.service.answer({"do": "status"})["idle"]


def test_the_sound_is_closed_when_nobody_listens(monkeypatch, caplog):
    caplog.set_level("INFO")
    resting = Resting(monkeypatch)
    assert not resting.passes(4.5)
    assert resting.passes(1.0)
    assert resting.closed == 1
    assert "nobody listens: the microphone is closed" in caplog.text
    resting.service._wake.clear()
    resting.service.picture()
    assert resting.service._wake.is_set(), "who looks waits for no tick"
    assert not resting.passes(0.1)
    assert "somebody listens: the microphone is opened" in caplog.text
    for _ in range(10):
        resting.service.picture()
        assert not resting.passes(0.9)
    assert resting.passes(6.5)


@pytest.mark.parametrize("wishes", [{"monitor": True}, {"output": "a loudspeaker"}])
def test_who_hears_it_elsewhere_listens(monkeypatch, wishes):
    assert not Resting(monkeypatch, **wishes).passes(60.0)


@pytest.mark.parametrize(
    ("idle", "pipewire", "closed"),
    [(None, False, True), (None, True, False), (True, True, True), (True, False, True)],
)
def test_on_a_full_machine_it_stays_open_on_pipewire_unless_asked_for(
    monkeypatch, caplog, idle, pipewire, closed
):
    """A call would wait for seconds until it is open again."""
    caplog.set_level("INFO")
    full = [1.0]
    monkeypatch.setattr("app.fullness.Fullness.share", lambda self: full[0])
    monkeypatch.setattr("engine.devices.Census.is_pipewire", lambda self: pipewire)
    monkeypatch.setattr("engine.devices.has_sound_server", lambda: True)
    started = []
    monkeypatch.setattr("engine.listeners.Listeners.start", lambda self: started.append(self))
    resting = Resting(monkeypatch, idle=idle)
    idleness = resting.service._idleness
    resting.service._listen()
    resting.service._idleness = idleness
    assert len(started) == 1
    assert resting.passes(10.0) == closed
    if not closed:
        full[0] = 0.3
        assert not resting.passes(4.5)
        assert resting.passes(1.0)
        full[0] = 0.9
        assert not resting.passes(0.1)
        assert "it may take long later: the microphone is opened" in caplog.text


def test_it_is_not_asked_who_listens_where_it_is_to_stay_open(monkeypatch):
    monkeypatch.setattr("engine.devices.has_sound_server", lambda: True)
    started = []
    monkeypatch.setattr("engine.listeners.Listeners.start", lambda self: started.append(self))
    Service(Wishes("classic", "cpu", idle=False), Knobs())._listen()
    assert not started


def test_nothing_is_closed_while_the_sound_is_away(monkeypatch):
    resting = Resting(monkeypatch)
    resting.service._lose("no microphone")
    resting.closed = 0
    assert not resting.passes(60.0)
    assert resting.closed == 0


def test_an_idle_session_says_so(service):
    service._rest = Rest()
    service._status = service._rest.status()
    told = service.answer({"do": "status"})
    assert (told["idle"], told["state"], told["delay_ms"]) == (True, "idle", None)
    assert describe(told).splitlines() == [
        "on, turning nothing down by more than 20 dB (classic on cpu)",
        "idle: nobody listens, so the microphone is closed; yeti to Denoised",
    ]
