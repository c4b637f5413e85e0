"""A sound server of our own: for the demo, the benchmark and the tests.

A real PulseAudio or PipeWire in a temporary folder, which no other program sees and
which leaves the user's own alone. Not here: denoising.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from engine.devices import SAMPLE_RATE
from engine.errors import DeviceError
from engine.stft import Float

_START_S = 30.0
_ANSWER_S = 2.0
# What call apps ask for.
_CLIENT_LATENCY_MS = 20

_PIPEWIRE = """
pipewire &
until test -S "$XDG_RUNTIME_DIR/pipewire-0"; do sleep 0.05; done
wireplumber &
exec pipewire-pulse
"""

QUANTUM = 512
"""At least so many samples PipeWire makes at a time here.

The graph is woken by timers, not by a card. At 256 samples (what a client of 10 ms blocks makes
of it) a shared machine sometimes takes away a whole wake-up, and with it everybody's sound.
"""

# Devices of the machine are not ours to open here; without a login
# manager (a container) the Bluetooth part would even end the session manager.
_PIPEWIRE_CONFIG = {
    "pipewire/pipewire.conf.d/steady.conf": """
context.properties = { default.clock.min-quantum = %d }
""",
    "wireplumber/main.lua.d/51-no-hardware.lua": """
for _, monitor in ipairs({alsa_monitor or {}, v4l2_monitor or {}, libcamera_monitor or {}}) do
  monitor.enabled = false
end
""",
    "wireplumber/bluetooth.lua.d/51-no-hardware.lua": """
for _, monitor in ipairs({bluez_monitor or {}, bluez_midi_monitor or {}}) do
  monitor.enabled = false
end
""",
}


class PrivateServer:
    """``pulseaudio`` or ``pipewire``, alive inside a ``with`` block.

    Parameters
    ----------
    kind : which of both
    quantum : of PipeWire, at least [samples]

    Raises
    ------
    DeviceError : it is not installed, or does not come up
    """

    def __init__(self, kind: str, quantum: int = QUANTUM) -> None:
        self.kind = kind
        self._quantum = quantum
        self._folder = Path(tempfile.mkdtemp(prefix="denoise-app-"))
        self._folder.chmod(0o700)
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder / "config"),
            "XDG_STATE_HOME": str(self._folder / "state"),
            "PULSE_SERVER": f"unix:{self._folder}/native",
            "PULSE_RUNTIME_PATH": str(self._folder),
            "PULSE_STATE_PATH": str(self._folder),
            "PULSE_COOKIE": str(self._folder / "cookie"),
        }
        for chosen in ("PULSE_SINK", "PULSE_SOURCE"):
            self.environment.pop(chosen, None)

    def __enter__(self) -> PrivateServer:
        try:
            self._process = self._launch()
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_process"):
            _end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End it as a crash does; what was made in it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Else whoever waits for the next one's sockets would find those of the dead one.
        for left in (*self._folder.glob("*"), *self._folder.glob("pulse/*")):
            if left.is_socket():
                left.unlink()

    def restart(self) -> None:
        """Start it again after ``kill``, empty; raises DeviceError when it does not come up."""
        self._process = self._launch()
        self._wait()

    def add_microphone(self, name: str, description: str) -> str:
        """Make a microphone that hears what is played to the sink ``name``; returns its name."""
        properties = f"'device.description=\"{description}\"'"
        self.control(
            "load-module",
            "module-null-sink",
            f"sink_name={name}",
            f"rate={SAMPLE_RATE}",
            "channels=1",
            "norewinds=1",
            f"sink_properties={properties}",
        )
        return f"{name}.monitor"

    def control(self, *command: str, timeout_s: float = _START_S) -> str:
        """Run ``pactl`` on this server; raises DeviceError with what it complained about."""
        try:
            done = subprocess.run(
                [_program("pactl"), *command],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"pactl {' '.join(command)}: no answer in {timeout_s} s") from error
        if done.returncode != 0:
            raise DeviceError(f"pactl {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def play(self, sound: Float, sink: str) -> subprocess.Popen[bytes]:
        """Play (n,) float32 at SAMPLE_RATE in real time; the process ends with the sound."""
        player = subprocess.Popen(
            [_program("pacat"), "--device", sink, *_FORMAT],
            env=self.environment,
            stdin=subprocess.PIPE,
        )
        threading.Thread(target=_feed, args=(player, sound), daemon=True).start()
        return player

    def clean(self, microphone: str, *options: str, idle: bool = False) -> subprocess.Popen[str]:
        """Run the real program on ``microphone``; its status lines are JSON on stdout.

        ``idle``: let it close the microphone while nobody listens.
        """
        root = str(Path(__file__).parents[1])
        options = (*options, "--idle" if idle else "--no-idle", "--json")
        return subprocess.Popen(
            [sys.executable, "-m", "main", "--device", microphone, *options],
            env={**self.environment, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def record(self, source: str) -> Recorder:
        """Start recording as a call app would."""
        return Recorder(source, self.environment)

    def _launch(self) -> subprocess.Popen[bytes]:
        log = (self._folder / "log").open("wb")
        if self.kind == "pulseaudio":
            protocol = f"module-native-protocol-unix socket={self._folder}/native auth-anonymous=1"
            command = [
                *(_program("pulseaudio"), "-n", "--daemonize=no", "--use-pid-file=no"),
                *("--exit-idle-time=-1", "--disable-shm=yes", f"--load={protocol}"),
                "--load=module-null-sink sink_name=speakers norewinds=1",
            ]
        else:
            for program in ("pipewire", "wireplumber", "pipewire-pulse"):
                _program(program)
            for name, text in _PIPEWIRE_CONFIG.items():
                path = self._folder / "config" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("%d", str(self._quantum)))
            command = [_program("dbus-run-session"), "--", "sh", "-c", _PIPEWIRE]
        with log:
            return subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(DeviceError):
                # PipeWire answers before it has a device; a default means it is ready.
                # Who asks too early is sometimes never answered.
                if "Default Sink: @" not in self.control("info", timeout_s=_ANSWER_S):
                    return
            time.sleep(0.1)
        log = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        raise DeviceError(f"{self.kind} did not start: {log[-1] if log else 'no word from it'}")


class Recorder:
    """A recording in progress.

    ``stop()`` returns the samples. ``origin_s`` is when sample 0 was recorded on this
    process's monotonic clock, by the least delayed arrival: two recorders of the same
    settings share what is left of the delay, so they can be compared.
    """

    def __init__(self, source: str, environment: dict[str, str]) -> None:
        self.origin_s = float("inf")
        self._chunks: list[bytes] = []
        self._process = subprocess.Popen(
            [_program("parec"), "--device", source, *_FORMAT],
            env=environment,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def seconds(self) -> float:
        """Recorded so far [s]."""
        return sum(map(len, self._chunks)) / 4 / SAMPLE_RATE

    def stop(self) -> Float:
        """End it; returns (n,) float32 at SAMPLE_RATE."""
        _end(self._process)
        self._reader.join()
        return self.heard()

    def heard(self) -> Float:
        """So far, as ``stop`` returns it."""
        raw = b"".join(list(self._chunks))
        return np.frombuffer(raw[: len(raw) // 4 * 4], "<f4")

    def _read(self) -> None:
        assert self._process.stdout is not None
        n_bytes = 0
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            n_bytes += len(chunk)
            self._chunks.append(chunk)
            self.origin_s = min(self.origin_s, time.monotonic() - n_bytes / 4 / SAMPLE_RATE)
        self._process.stdout.close()


_FORMAT = (
    *("--raw", "--format=float32le", f"--rate={SAMPLE_RATE}", "--channels=1"),
    *(f"--latency-msec={_CLIENT_LATENCY_MS}", f"--process-time-msec={_CLIENT_LATENCY_MS}"),
)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise DeviceError(f"{name} is not installed; `make system` installs what is needed")
    return found


def _feed(player: subprocess.Popen[bytes], sound: Float) -> None:
    assert player.stdin is not None
    with contextlib.suppress(BrokenPipeError), player.stdin:
        player.stdin.write(sound.astype("<f4").tobytes())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and what it started, kindly first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3.0)
            return
