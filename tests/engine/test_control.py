"""Real sockets, real processes, and clients that mean harm."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import control
from engine.control import LONGEST, MOST_CLIENTS, ControlClient, ControlServer
from engine.errors import ControlError

ROOT = Path(__file__).parents[2]


def answer(request):
    """What a session would say, and how it fails."""
    if request.get("do") == "fail":
        raise RuntimeError("a mistake of ours")
    if request.get("do") == "refuse":
        raise ValueError("limit should be within 0…100 dB,\n got 200")
    return {"asked": request}


@pytest.fixture(params=[True, False], ids=["unix", "port"])
def at(request, tmp_path):
    with ControlServer(answer, at=tmp_path, unix=request.param):
        yield tmp_path


@pytest.fixture
def unix(tmp_path):
    with ControlServer(answer, at=tmp_path):
        yield tmp_path


def connected(at):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5.0)
    connection.connect(str(at / "control"))
    return connection


def line(connection):
    told = b""
    while not told.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            break
        told += more
    return told


def test_a_request_is_answered(at):
    with ControlClient(at) as client:
        assert client.ask(do="status", text='ñ\n"') == {"asked": {"do": "status", "text": 'ñ\n"'}}
        with pytest.raises(ControlError, match=r"^limit should be within 0…100 dB, got 200$"):
            client.ask(do="refuse")
        with pytest.raises(ControlError, match="that failed"):
            client.ask(do="fail")
        assert client.ask(do="again") == {"asked": {"do": "again"}}


def test_a_late_answer_is_not_taken_for_another(tmp_path):
    asked = threading.Event()

    def slow(request):
        if request["do"] == "wait":
            asked.wait(10)
        return {"asked": request["do"]}

    with ControlServer(slow, at=tmp_path):
        with ControlClient(tmp_path, timeout_s=0.2) as client:
            with pytest.raises(ControlError, match="does not answer"):
                client.ask(do="wait")
            asked.set()
            time.sleep(0.3)
            with pytest.raises(ControlError, match="does not answer"):
                client.ask(do="status")
        with ControlClient(tmp_path) as client:
            assert client.ask(do="status") == {"asked": "status"}


def test_nobody_else_may_read_what_lies_there(at):
    for path in at.iterdir():
        if path.name in ("control", "port.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_the_secret_a_port_says_nothing(tmp_path):
    with ControlServer(answer, at=tmp_path, unix=False):
        told = json.loads((tmp_path / "port.json").read_text())
        for secret in ("", "0" * 32, None, "geheim-é", "\ud800"):
            with socket.create_connection(("127.0.0.1", told["port"]), 5.0) as connection:
                connection.sendall(json.dumps({"do": "status", "secret": secret}).encode() + b"\n")
                assert b"the secret is missing or wrong" in line(connection)


def test_there_is_one_session(at):
    with pytest.raises(ControlError, match="already runs"):
        ControlServer(answer, at=at).start()
    with ControlClient(at) as client:
        assert client.ask(do="still") == {"asked": {"do": "still"}}


def test_pictures_come_to_who_watches(tmp_path):
    shown = iter(range(10_000))
    with ControlServer(answer, lambda: {"number": next(shown)}, at=tmp_path):
        time.sleep(0.2)
        with ControlClient(tmp_path) as client, connected(tmp_path) as sleeper:
            sleeper.sendall(b'{"do": "watch"}\n')
            seen = [one["number"] for one, _ in zip(client.watch(), range(30), strict=False)]
            # Nobody was shown anything before, and nothing twice or in another order.
            assert seen == list(range(seen[0], seen[0] + 30))
            assert seen[0] < 3
        with ControlClient(tmp_path) as client:
            assert client.ask(do="x") == {"asked": {"do": "x"}}


def test_who_does_not_look_misses_pictures_and_stays(tmp_path):
    with (
        ControlServer(answer, lambda: {"data": "a" * 30_000}, at=tmp_path),
        connected(tmp_path) as sleeper,
        ControlClient(tmp_path) as client,
    ):
        sleeper.sendall(b'{"do": "watch"}\n')
        assert len([one for one, _ in zip(client.watch(), range(60), strict=False)]) == 60
        sleeper.sendall(b'{"do": "still here"}\n')
        told = b""
        while b"still here" not in told:
            told = told[-100:] + sleeper.recv(65536)


def test_few_may_watch(tmp_path):
    with ControlServer(answer, dict, at=tmp_path):
        crowd = [ControlClient(tmp_path) for _ in range(9)]
        try:
            for one in crowd[:8]:
                one.ask(do="watch")
            with pytest.raises(ControlError, match="8 programs watch already"):
                crowd[8].ask(do="watch")
        finally:
            for one in crowd:
                one.__exit__()


def test_what_a_killed_session_left_is_no_hindrance(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from engine.control import ControlServer\n"
        f"at = Path({str(tmp_path)!r})\n"
        "ControlServer(lambda r: {}, at=at).start(); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=-1) as process:
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(ControlError, match="already runs"):
            ControlServer(answer, at=tmp_path).start()
        process.send_signal(signal.SIGKILL)
    with pytest.raises(ControlError, match="is not running"):
        ControlClient(tmp_path)
    with ControlServer(answer, at=tmp_path), ControlClient(tmp_path) as client:
        assert client.ask(do="x") == {"asked": {"do": "x"}}
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with pytest.raises(ControlError, match="is not running"):
        ControlClient(tmp_path)


@pytest.mark.parametrize("sent", [b"no json", b"[]", b"3", b"null", b"[" * 50_000, b"\xff\xfe"])
def test_a_wrong_request_gets_an_error_object(unix, sent):
    with connected(unix) as connection:
        connection.sendall(sent + b"\n")
        told = json.loads(line(connection))
        assert told["ok"] is False
        assert told["error"].startswith("a request should be")
        connection.sendall(b'{"do": "x"}\n')
        assert json.loads(line(connection)) == {"ok": True, "asked": {"do": "x"}}


def flood(connection, data, times):
    """Send until the other side ends it; whether it did."""
    try:
        for _ in range(times):
            connection.sendall(data)
    except OSError:  # a broken pipe or a reset, as it comes
        return True
    return False


def test_a_request_without_an_end_is_cut_off(unix):
    with connected(unix) as connection:
        assert flood(connection, b"a" * LONGEST, 100)
    with ControlClient(unix) as client:
        assert client.ask(do="x")


def test_half_a_request_is_not_waited_for(unix, monkeypatch):
    monkeypatch.setattr(control, "_PATIENCE_S", 0.1)
    with connected(unix) as connection:
        connection.sendall(b'{"do": ')
        assert line(connection) == b""


def test_who_asks_much_at_once_gets_all_answers_without_asking_more(tmp_path):
    """Six answers are more than a socket holds."""

    def answer(request):
        return {"said": "a" * 44_000, **request}

    with ControlServer(answer, at=tmp_path), connected(tmp_path) as connection:
        connection.sendall(b"".join(b'{"n": %d}\n' % n for n in range(6)))
        time.sleep(0.3)  # until the server has said what there is room for
        told = b""
        while told.count(b"\n") < 6:
            told += connection.recv(65536)
        assert [json.loads(one)["n"] for one in told.splitlines()] == list(range(6))


def test_who_does_not_read_is_left(unix):
    with connected(unix) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = json.dumps({"do": "a" * 30_000}).encode() + b"\n"
        assert flood(connection, request, 2000)
    with ControlClient(unix) as client:
        assert client.ask(do="x")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.binary(max_size=300), st.just(b"\n"), st.just(b'{"do": "x"}\n'))))
def test_garbage_harms_nobody(unix, pieces):
    with connected(unix) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    with ControlClient(unix) as client:
        assert client.ask(do="x") == {"asked": {"do": "x"}}


def test_who_asks_much_waits_for_the_others(tmp_path):
    order = []

    def note(request):
        order.append(request["who"])
        return {}

    with (
        ControlServer(note, at=tmp_path),
        connected(tmp_path) as greedy,
        connected(tmp_path) as modest,
    ):
        greedy.sendall(b'{"who": "greedy"}\n' * 2000)
        while not order:
            time.sleep(0.001)
        modest.sendall(b'{"who": "modest"}\n')
        assert json.loads(line(modest)) == {"ok": True}
        assert order.count("greedy") < 2000
        told = b""
        while told.count(b"\n") < 2000:
            told += greedy.recv(65536)
    assert order.count("greedy") == 2000


def test_who_asks_and_hangs_up_is_answered(unix):
    with connected(unix) as connection:
        connection.sendall(b'{"do": 1}\n\n{"do": 2}\n{"do": 3}\nhalf')
        connection.shutdown(socket.SHUT_WR)
        told = b""
        while more := connection.recv(4096):
            told += more
    assert [json.loads(one)["asked"]["do"] for one in told.splitlines()] == [1, 2, 3]


def test_many_clients_are_served_and_too_many_are_told_so(unix):
    crowd = [connected(unix) for _ in range(200)]
    try:
        for k, one in enumerate(crowd):
            one.sendall(json.dumps({"do": k}).encode() + b"\n")
        for k, one in enumerate(crowd):
            assert json.loads(line(one))["asked"] == {"do": k}
        crowd += [connected(unix) for _ in range(MOST_CLIENTS - 200)]
        for one in crowd[200:]:
            one.sendall(b"{}\n")
            assert json.loads(line(one))["ok"]
        with connected(unix) as late:
            assert b"too many" in line(late)
    finally:
        for one in crowd:
            one.close()
    time.sleep(0.3)
    with ControlClient(unix) as client:
        assert client.ask(do="x")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="takes another user")
def test_another_user_cannot_connect(tmp_path):
    at = tmp_path / "run"
    at.mkdir(mode=0o700)
    program = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])\n"
        "print(c.recv(4096).decode())\n"
    )
    with ControlServer(answer, at=at):
        run = [sys.executable, "-c", program, str(at / "control")]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr
        # Even where somebody opened folder and socket for all.
        for path in (*at.parents, at, at / "control"):
            if path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(0o777)
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert "somebody else" in done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="takes another user")
def test_root_makes_no_folder_in_that_of_a_user(tmp_path, monkeypatch):
    theirs = tmp_path / "1000"
    theirs.mkdir()
    os.chown(theirs, 1000, 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(theirs))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert control.folder() == tmp_path / "denoise-app-0"
    assert not list(theirs.iterdir())


def test_a_path_too_long_for_a_socket_is_told_of(tmp_path):
    at = tmp_path / ("a" * 100)
    at.mkdir()
    with pytest.raises(ControlError, match="no control socket: AF_UNIX path too long"):
        ControlServer(answer, at=at).start()


def test_the_folder_is_ours_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert control.folder() == tmp_path / "denoise-app"
    assert stat.S_IMODE(control.folder().stat().st_mode) == 0o700
    control.folder().chmod(0o755)
    assert stat.S_IMODE(control.folder().stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert control.folder().parent == tmp_path
    (tmp_path / "denoise-app").rmdir()
    (tmp_path / "denoise-app").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ControlError):
        control.folder()
