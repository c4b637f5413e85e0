"""The real programs of others, on real noisy speech."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile

from app.example import noisy_voice
from engine.errors import TrainingError
from engine.measure import si_sdr_db
from training import peers
from training.evaluate import aligned, delay
from training.peers import PEERS, Peer
from training.systems import Item, PeerProgram, items

RATE = 48_000


@pytest.fixture(scope="module")
def item(tmp_path_factory) -> Item:
    folder = tmp_path_factory.mktemp("set")
    voice, noisy = noisy_voice()
    for kind, sound in (("noisy", noisy), ("clean", voice)):
        (folder / kind).mkdir()
        soundfile.write(folder / kind / "rain.flac", 0.5 * sound, RATE)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "snr_db"], ["rain", 5.0]])
    return items(folder)[0]


@pytest.mark.parametrize(
    ("name", "delay_ms"),
    [("RNNoise", 20), ("DeepFilterNet3", 30), ("DeepFilterNet3 low-latency", 10)],
)
def test_peers_clean_with_the_delay_they_are_known_for(item, name, delay_ms):
    made = PeerProgram(name)(item)
    clean, _ = soundfile.read(item.clean, dtype="float32")
    noisy, _ = soundfile.read(item.noisy, dtype="float32")
    assert made.sound.shape == noisy.shape
    assert made.seconds > 0
    lag = delay(clean, made.sound, RATE // 10)
    assert lag == delay_ms * RATE // 1000
    heard = aligned(made.sound, lag)
    assert si_sdr_db(clean, heard) > si_sdr_db(clean, noisy) + 3
    # A second stream knows nothing of the first.
    np.testing.assert_array_equal(PeerProgram(name)(item).sound, made.sound)


def test_a_peer_that_is_not_there_is_told(item, monkeypatch):
    def missing() -> peers.Clean:
        raise ImportError("No module named 'nobody'")

    monkeypatch.setattr(peers, "PEERS", {**PEERS, "Nobody": Peer("Nobody", "nobody_here", missing)})
    assert peers.installed() == list(PEERS)
    with pytest.raises(TrainingError, match=r"Nobody cannot run, see requirements/peers\.txt"):
        PeerProgram("Nobody")(item)
