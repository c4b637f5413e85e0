"""The recordings that come with the program: a voice in rain, to show and to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.measure import level_dbfs
from engine.network import Network
from engine.resample import Resampler
from engine.stft import Float, heard, stft, to_db

CLIPS = Path(__file__).parent / "clips"
SAMPLE_RATE = 48_000
"""Of all of them [Hz]."""
NOISE_ONLY_S = 3.0
"""Rain does not begin when a call does: the model has heard it for a while by then."""

_SNR_DB = 5.0


def noisy_voice() -> tuple[Float, Float]:
    """The bundled voice and its mixture with rain.

    Returns
    -------
    voice, noisy : (n,) float32 at 48 kHz; the first three seconds hold noise only
    """
    import soundfile

    voice, _ = soundfile.read(CLIPS / "voice.flac", dtype="float32")
    rain, _ = soundfile.read(CLIPS / "rain.flac", dtype="float32")
    before = round(NOISE_ONLY_S * SAMPLE_RATE)
    gain = 10 ** ((level_dbfs(voice) - _SNR_DB - level_dbfs(rain)) / 20)
    voice = np.concatenate([np.zeros(before, np.float32), voice])
    return voice, voice + np.float32(gain) * np.resize(rain, len(voice))


def golden_input(network: Network) -> Float:
    """A second of that as a network hears it, (n_frames, n_heard): what its golden answer,
    ``models/golden``, was made from.
    """
    spec = network.spec
    _, noisy = noisy_voice()
    second = noisy[4 * SAMPLE_RATE : 5 * SAMPLE_RATE]
    spectra = stft(Resampler(SAMPLE_RATE, spec.sample_rate).process(second), spec)
    return heard(to_db(spectra, spec), spectra, spec)
