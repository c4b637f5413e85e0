"""``denoise-app bench``: what the engine costs on this machine, as a Markdown table.

RNNoise, where it is installed (``pip install pyrnnoise``), is measured in turn with us:
machines differ and are shared, so the ratio is what can be compared. Not here: other peers,
and how all are heard (``bench_peers``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import models
from app.example import noisy_voice
from app.private_server import PrivateServer
from engine.denoiser import Denoiser
from engine.devices import BLOCK, SAMPLE_RATE
from engine.errors import DeviceError
from engine.network import Network
from engine.pipeline import Pipeline
from engine.sessions import runtime_name
from engine.stft import Float
from engine.trial import open_network

_ROUNDS = 4
_LIVE_SETTLING_S = 1.0
_START_S = 20.0


@dataclass
class Cost:
    """What it costs to clean one hop at a time."""

    name: str
    hop_ms: float
    tight_p50_ms: float
    """One hop after the other without a pause: what the machine can do."""
    tight_p99_ms: float
    paced_p50_ms: float
    """One hop when its time has come, as in a call: caches are cold by then."""
    paced_p99_ms: float
    real_time_factor: float
    """Processor time over audio time, paced."""


@dataclass
class Live:
    """One headless session on a private sound server."""

    start_up_s: float
    """From the command to the first clean sample on its way to the call app."""
    delay_ms: float
    cpu_percent: float
    memory_mb: float
    drops: int


def run(args: argparse.Namespace) -> int:
    """Measure and print; raises ModelError, or DeviceError for the live part."""
    if args.peers is not None:
        from app import bench_peers

        return bench_peers.run(args)
    if args.window:
        from app import bench_window

        return bench_window.run(args)
    network = open_network(args.model, models.FOLDER)
    _, noisy = noisy_voice()
    contenders = [ours(network), *_rnnoise()]
    costs = compare(contenders, noisy, args.seconds)
    live: Live | str = "left out"
    if not args.no_live:
        try:
            live = _live(args, noisy)
        except DeviceError as error:
            live = f"not measured: {error}"
    if args.json:
        found = {
            "machine": machine(),
            "costs": [asdict(cost) for cost in costs],
            "live": live if isinstance(live, str) else asdict(live),
        }
        print(json.dumps(found))
    else:
        print("\n".join(_markdown(network, costs, live)))
    return 0


class Contender:
    """Something that cleans hop after hop."""

    def __init__(self, name: str, hop: int, sample_rate: int, clean: Callable[[Float], Any]):
        self.name = name
        self.hop_s = hop / sample_rate
        self.clean = clean
        # Blocks as a sound card delivers them, gathered until a hop is there.
        self.block = round(self.hop_s * SAMPLE_RATE)
        self.tight_s: list[float] = []
        self.paced_s: list[float] = []
        self.cpu_s = 0.0

    def measure(self, noisy: Float, seconds: float) -> None:
        """One round: as many hops as make ``seconds`` of sound, tight and then paced."""
        n_hops = max(1, round(seconds / self.hop_s))
        starts = (np.arange(n_hops) * self.block) % (len(noisy) - self.block)
        hops = [noisy[start : start + self.block] for start in starts]
        for hop in hops:
            before = time.perf_counter()
            self.clean(hop)
            self.tight_s.append(time.perf_counter() - before)
        due = time.perf_counter()
        for hop in hops:
            due += self.hop_s
            time.sleep(max(0.0, due - time.perf_counter()))
            before, before_cpu = time.perf_counter(), time.thread_time()
            self.clean(hop)
            self.paced_s.append(time.perf_counter() - before)
            self.cpu_s += time.thread_time() - before_cpu

    def cost(self) -> Cost:
        tight = 1000 * np.percentile(self.tight_s, [50, 99])
        paced = 1000 * np.percentile(self.paced_s, [50, 99])
        audio_s = len(self.paced_s) * self.hop_s
        rest = (*map(float, tight), *map(float, paced), self.cpu_s / audio_s)
        return Cost(self.name, 1000 * self.hop_s, *rest)


def ours(network: Network) -> Contender:
    """Our engine with a model: the whole pipeline at the sound card's rate, resampling included."""
    pipeline = Pipeline(Denoiser(network), SAMPLE_RATE)
    spec = network.spec
    return Contender(spec.name, spec.hop, spec.sample_rate, pipeline.process)


def _rnnoise() -> list[Contender]:
    try:
        from pyrnnoise import rnnoise
    except ImportError:
        return []
    states = [rnnoise.create()]

    def clean(hop: Float) -> Any:
        return rnnoise.process_frame(states, (hop * 32767).astype(np.int16)[np.newaxis])

    return [Contender("RNNoise", BLOCK, SAMPLE_RATE, clean)]


def compare(contenders: list[Contender], noisy: Float, seconds: float) -> list[Cost]:
    """Take turns, so that a busy moment of the machine is shared by all."""
    for _ in range(_ROUNDS):
        for contender in contenders:
            contender.measure(noisy, seconds / _ROUNDS)
    return [contender.cost() for contender in contenders]


def _live(args: argparse.Namespace, noisy: Float) -> Live:
    with PrivateServer("pulseaudio") as server:
        server.add_microphone("bench_room", "Bench")
        repeats = 1 + int((args.seconds + _START_S) * SAMPLE_RATE / len(noisy))
        player = server.play(np.tile(noisy, repeats), "bench_room")
        time.sleep(0.5)
        started = time.perf_counter()
        with server.clean("bench_room.monitor", "--model", args.model) as session:
            try:
                return _observe(session, started, args.seconds)
            finally:
                session.terminate()
                player.kill()
                player.wait()


def _observe(session: subprocess.Popen[str], started: float, seconds: float) -> Live:
    assert session.stdout is not None
    assert session.stderr is not None
    start_up_s, statuses = 0.0, []
    for line in session.stdout:
        status = json.loads(line)
        if status["state"] != "running":
            continue
        if not start_up_s:
            start_up_s = time.perf_counter() - started
        statuses.append(status)
        if status["seconds"] > seconds + _LIVE_SETTLING_S:
            break
    else:
        raise DeviceError(session.stderr.read().strip() or "the session ended early")
    settled = [status for status in statuses if status["seconds"] > _LIVE_SETTLING_S]
    memory = psutil.Process(session.pid).memory_info().rss
    return Live(
        start_up_s=start_up_s,
        delay_ms=float(np.median([status["delay_ms"] for status in settled])),
        cpu_percent=float(np.median([status["cpu_percent"] for status in settled])),
        memory_mb=memory / 1e6,
        drops=settled[-1]["drops"] - statuses[0]["drops"],
    )


def _markdown(network: Network, costs: list[Cost], live: Live | str) -> list[str]:
    lines = [f"Measured on {machine()}, model {network.spec.name} on {network.provider}.", ""]
    lines += [
        "| | hop [ms] | tight p50 / p99 [ms] | paced p50 / p99 [ms] | CPU of one core [%] "
        "| × RNNoise |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    peer = next((cost for cost in costs if cost.name == "RNNoise"), None)
    for cost in costs:
        ratio = f"{cost.real_time_factor / peer.real_time_factor:.2f}" if peer else "–"
        lines.append(
            f"| {cost.name} | {cost.hop_ms:.1f} "
            f"| {cost.tight_p50_ms:.2f} / {cost.tight_p99_ms:.2f} "
            f"| {cost.paced_p50_ms:.2f} / {cost.paced_p99_ms:.2f} "
            f"| {100 * cost.real_time_factor:.1f} | {ratio} |"
        )
    if peer is None:
        lines += ["", "RNNoise is not installed (`pip install pyrnnoise`): no peer measured."]
    lines += ["", "| live session, headless | |", "|---|---:|"]
    if isinstance(live, str):
        return [*lines, f"| {live} | |"]
    return [
        *lines,
        f"| command to first clean sample [s] | {live.start_up_s:.2f} |",
        f"| delay, microphone to virtual microphone [ms] | {live.delay_ms:.0f} |",
        f"| CPU of one core, sound server's client side included [%] | {live.cpu_percent:.1f} |",
        f"| resident memory [MB] | {live.memory_mb:.0f} |",
        f"| drops | {live.drops} |",
    ]


def machine() -> str:
    """What this was measured on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0].partition(":")[2].strip() if named else name
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {runtime_name()}"
    )
