"""Every shipped model still does what its card says, on the recordings that come with us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import models
from app.example import golden_input, noisy_voice
from engine.denoiser import Denoiser
from engine.measure import level_dbfs, si_sdr_db
from engine.network import Network
from engine.pipeline import Pipeline
from engine.stft import Float

GOLDEN = models.FOLDER / "golden"
CLIPS = Path(__file__).parents[1] / "app" / "clips"
RATE = 48_000

# Least SI-SDR of a clean voice after each model whose pipeline alone would change less. Full
# band, more is there to be lost, and fullband is young (its card has the octaves).
KEPT_DB = {"classic": 20.0, "fullband": 15.0}


@pytest.fixture(params=sorted(models.FOLDER.glob("*.onnx")), ids=lambda path: path.stem)
def network(request: pytest.FixtureRequest) -> Network:
    return Network(request.param, "cpu")


def cleaned(network: Network, sound: Float) -> Float:
    pipeline = Pipeline(Denoiser(network), RATE)
    return np.concatenate([pipeline.process(sound), pipeline.flush()])


def test_the_mask_is_the_one_that_was_shipped(network: Network) -> None:
    # Written by write_golden() below, with the model that the card describes.
    golden = np.load(GOLDEN / f"{network.path.stem}.npy")
    estimate = network(golden_input(network), network.initial_state())
    # Float16 in the file: half of 2^-11 of a gain of 1, and ONNX Runtime's own versions. Where
    # weights have 8 bits, what differs in the last bit may be rounded a step further.
    tolerance = 0.02 if network.spec.training.get("weights") == "int8" else 5e-4
    assert np.abs(estimate.gain - golden.astype(np.float32)).max() < tolerance


def write_golden(path: Path) -> None:
    """Keep the mask of a new model: ``python -c`` this once when one is shipped."""
    network = Network(path, "cpu")
    estimate = network(golden_input(network), network.initial_state())
    np.save(GOLDEN / f"{path.stem}.npy", estimate.gain.astype(np.float16))


def test_noise_goes_and_the_voice_stays(network: Network) -> None:
    voice, noisy = noisy_voice()
    clean = cleaned(network, noisy)
    assert si_sdr_db(voice, clean) > si_sdr_db(voice, noisy) + 2.0
    pause = slice(2 * RATE, 3 * RATE)  # it has heard the rain for two seconds by then
    assert level_dbfs(clean[pause]) < level_dbfs(noisy[pause]) - 6.0


def test_another_noise(network: Network) -> None:
    voice, _ = sf.read(CLIPS / "voice.flac", dtype="float32")
    noise, _ = sf.read(CLIPS / "helicopter.flac", dtype="float32")
    n = min(len(voice), len(noise))
    noise = noise[:n] * 10 ** ((level_dbfs(voice[:n]) - level_dbfs(noise[:n])) / 20)
    noisy = voice[:n] + noise
    assert si_sdr_db(voice[:n], cleaned(network, noisy)) > si_sdr_db(voice[:n], noisy) + 2.0


def test_a_clean_voice_stays_clean(network: Network) -> None:
    voice, _ = sf.read(CLIPS / "voice.flac", dtype="float32")
    straight = Pipeline(Denoiser(Open(network)), RATE)
    passed = np.concatenate([straight.process(voice), straight.flush()])
    kept_db = si_sdr_db(voice, cleaned(network, voice))
    assert kept_db > min(KEPT_DB[network.path.stem], si_sdr_db(voice, passed) - 0.5)


class Open:
    """A network's setting with every gain 1: what the pipeline alone does to a sound."""

    def __init__(self, network: Network) -> None:
        self.spec = network.spec
        self.initial_state = network.initial_state
        self._network = network

    def __call__(self, noisy_db, state):
        estimate = self._network(noisy_db, state)
        return estimate._replace(gain=np.ones_like(estimate.gain), filter=None)


@pytest.mark.parametrize("silent_s", [0.1, 2.0, 60.0])
def test_noise_after_a_muted_microphone_goes(network: Network, silent_s: float) -> None:
    # A network that has met digital silence in clean speech alone takes it for a promise.
    _, noisy = noisy_voice()
    rain = noisy[: 3 * RATE]
    muted = np.zeros(round(silent_s * RATE), np.float32)
    pipeline = Pipeline(Denoiser(network), RATE)
    sound = np.concatenate([muted, rain])
    clean = np.concatenate([pipeline.process(sound), pipeline.flush()])[len(muted) :]
    assert level_dbfs(clean[2 * RATE :]) < level_dbfs(rain[2 * RATE :]) - 15.0
