"""Threads that go first, and give it up: by the kernel, and by rtkit on a real bus.

What asks is a process of its own, for ordinary users without the right to raise anything: limits
that are lowered once stay so.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import priority
from engine.priority import NOT_ASKED, Granted, Priority, allowed

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has threads that can be raised"
)
ROOT = Path(__file__).parents[2]
_CAP_SYS_NICE = 23
RTKIT = Path("/usr/libexec/rtkit-daemon")

BUS = """<busconfig>
<listen>unix:path={folder}/bus</listen>
<policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
</policy>
</busconfig>"""

ASK = """
import hashlib, json, os, resource, sys, threading, time
from engine import priority
priority._AGAIN_S = 0.5
stop, spin = threading.Event(), threading.Semaphore(0)
def rest():
    while not stop.is_set():
        if spin.acquire(timeout=0.02):
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", {rounds})  # holds nothing, and does not rest
threads = [threading.Thread(target=rest) for _ in range(2)]
for thread in threads:
    thread.start()
def state():
    ids = [thread.native_id for thread in threads]
    policies = [os.sched_getscheduler(one) & ~os.SCHED_RESET_ON_FORK for one in ids]
    return {{
        "level": asked.granted.level,
        "note": asked.granted.note,
        "realtime": [policy == os.SCHED_RR for policy in policies],
        "priorities": [os.sched_getparam(one).sched_priority for one in ids],
        "nice": [os.getpriority(os.PRIO_PROCESS, one) for one in ids],
        "asker": os.getpriority(os.PRIO_PROCESS, threading.get_native_id()),
        "limit": resource.getrlimit(resource.RLIMIT_RTTIME)[1],
    }}
def until(wanted):
    for _ in range(1000):
        if wanted():
            return
        time.sleep(0.01)
    print("never:", state(), file=sys.stderr)
    os._exit(1)
told = []
with priority.allowed():
    asked = priority.Priority()
    asked.start(lambda: [(threads[0].native_id, 10), (threads[1].native_id, 4)], 2)
    until(lambda: asked.granted is not priority.NOT_ASKED)
    told.append(state())
    if {spins} and asked.granted.level == "real-time":
        for _ in range(2):  # the kernel moves its bound when it has told once
            spin.release()
            until(lambda: asked.granted.level == "normal")
            told.append(state())
            until(lambda: asked.granted.level == "real-time")
            told.append(state())
    asked.stop()
    stop.set()
print(json.dumps(told))
"""


def ask(bus: str | None, spins: bool = False, as_user: bool = True) -> list[dict[str, Any]]:
    """What a process says that asks for its threads, one state after the other."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["DBUS_SYSTEM_BUS_ADDRESS"] = bus or "unix:path=/nowhere"
    program = ASK.format(spins=spins, rounds=1_000_000)
    command = [sys.executable, "-c", program]
    if as_user and os.geteuid() == 0:
        drop = ("--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
        command = ["setpriv", *drop, *command]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def may_raise() -> bool:
    """Whether this process may have real time of the kernel."""
    status = Path("/proc/self/status").read_text().split()
    allowed = int(status[status.index("CapEff:") + 1], 16)
    return bool(allowed >> _CAP_SYS_NICE & 1) or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] > 9


needs_right = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not may_raise(), reason="nobody here may raise a thread"
)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Begins a system's bus with what is named on it; gives its address."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no D-Bus here")
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    address = f"unix:path={tmp_path}/bus"
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
    with contextlib.ExitStack() as ends:

        def begin(what: list[str], says: str) -> None:
            # rtkit may write no file, and is ended by the first byte to one.
            process = subprocess.Popen(
                what, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            ends.enter_context(process)
            said: list[str] = []
            begun = threading.Event()

            def read() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    said.append(line)
                    if says in line:
                        begun.set()

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            ends.callback(reader.join)
            ends.callback(process.kill)
            assert begun.wait(20.0), (what, said)

        def start(plays: str) -> str:
            configuration = f"--config-file={tmp_path}/bus.conf"
            begin(["dbus-daemon", configuration, "--nofork", "--print-address=1"], "unix:")
            script = str(Path(__file__).with_name("authority.py"))
            begin([sys.executable, script, plays], "ready")
            if plays == "polkit":
                begin([str(RTKIT), "--stderr", "--no-canary"], "Running.")
            return address

        yield start


@needs_right
def test_the_kernel_is_asked_first() -> None:
    (told,) = ask(bus=None, as_user=False)
    assert (told["level"], told["note"]) == ("real-time", "by the kernel")
    assert told["realtime"] == [True, True]
    assert told["priorities"] == [10, 4]


@needs_right
def test_who_never_rests_loses_it_and_may_try_again() -> None:
    _, lost, again, lost_again, _ = ask(bus=None, spins=True, as_user=False)
    assert lost["realtime"] == lost_again["realtime"] == [False, False]
    assert lost["note"] == "one ran for too long without a rest"
    assert again["realtime"] == [True, True]


def test_without_anybody_to_ask_threads_stay_what_they_are() -> None:
    (told,) = ask(bus=None)
    assert told["level"] == "normal"
    assert told["note"] == "the kernel does not allow it, and rtkit: there is no system bus"
    assert told["realtime"] == [False, False]


@needs_right
@pytest.mark.parametrize("plays", ["polkit", "rtkit"])
def test_rtkit_is_asked_where_the_kernel_refuses(bus: Callable[[str], str], plays: str) -> None:
    """The real one, which asks for the user's right, and one that is as strict."""
    if plays == "polkit" and not (RTKIT.exists() and os.geteuid() == 0):
        pytest.skip("rtkit is not installed, or cannot be started")
    told, lost, again, *_ = ask(bus(plays), spins=True)
    assert (told["level"], told["note"]) == ("real-time", "by rtkit")
    assert told["realtime"] == again["realtime"] == [True, True]
    assert told["priorities"] == ([10, 4] if plays == "polkit" else [8, 4])
    assert told["asker"] == -11
    assert told["limit"] <= 200_000  # µs, or the kernel would not end who goes on
    assert lost["realtime"] == [False, False]


@needs_right
def test_high_priority_is_had_where_real_time_is_not(bus: Callable[[str], str]) -> None:
    (told,) = ask(bus("refusing"))
    assert told["level"] == "high"
    assert "no real time here" in told["note"]
    assert told["nice"] == [-11, -11]
    assert told["realtime"] == [False, False]


def test_a_bus_that_does_not_answer_is_waited_for_by_nobody_else(
    bus: Callable[[str], str],
) -> None:
    (told,) = ask(bus("silent"))
    assert told["note"].endswith("rtkit: it does not answer")


def test_nothing_is_asked_for_where_nobody_allowed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGXCPU), resource.getrlimit(resource.RLIMIT_RTTIME)
    alone = Priority()
    alone.start(lambda: [(threading.get_native_id(), 4)], 1)
    alone.stop()
    monkeypatch.setenv("DENOISE_APP_REALTIME", "0")
    with allowed():
        forbidden = Priority()
        forbidden.start(lambda: [(threading.get_native_id(), 4)], 1)
        forbidden.stop()
    assert alone.granted is forbidden.granted is NOT_ASKED
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    monkeypatch.setenv("DENOISE_APP_REALTIME", "1")
    with allowed():
        assert priority._guard is not None
    assert priority._guard is None
    after = signal.getsignal(signal.SIGXCPU), resource.getrlimit(resource.RLIMIT_RTTIME)
    assert after == before
    assert Granted("high", "by rtkit").in_words() == "threads run with high priority (by rtkit)"


def test_the_end_is_heard_whenever_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the threads are looked for, for instance, just before what wakes is taken back."""
    sessions: set[Priority] = set()
    monkeypatch.setattr(priority, "_guard", SimpleNamespace(sessions=sessions))
    monkeypatch.setattr(priority, "_raise", lambda *_: Granted(priority.REALTIME, "by the test"))
    monkeypatch.setattr(priority, "_lower", lambda _: None)
    asked = Priority()
    looks = []

    def begun() -> list[tuple[int, int]]:
        looks.append(None)
        if len(looks) == 2:
            asked._ended = True  # as ``stop`` does, from another thread
            asked._wake.set()
        return [(threading.get_native_id(), priority.WORKER)]

    asked.start(begun, 1)
    assert asked._thread is not None
    asked._thread.join(5.0)
    assert not asked._thread.is_alive()
    assert not sessions
