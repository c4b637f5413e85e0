"""Pieces of a catalogue's recordings to look at: voices, noises, and both at once.

Not here: how they are drawn (``explore_figures``), and mixtures to learn from (``mixing``).
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from acquisition.catalogue import Catalogue
from engine.stft import Float
from training.mixing import active_level_db, mix
from training.signals import rms_db

log = logging.getLogger("training")

SNR_DB = 5.0
"""Of the mixtures that are shown [dB]."""

LONGEST_S = 8.0
"""Of a piece [s]: more could not be told apart in a picture."""

# A voice pauses, at the start of a chapter for long: of so many places the loudest is shown.
_PLACES = 4

# What is quieter is a pause that was recorded as a file of its own, and below a model's floor.
_QUIETEST_DB = -70.0

_PATHS = {
    "speech": "SELECT track_name AS name, track_path AS path FROM audio_books_tracks "
    "WHERE track_status = 'OK' AND track_path IS NOT NULL ORDER BY id",
    "noise": "SELECT name, path FROM noise_files "
    "WHERE status = 'OK' AND path IS NOT NULL ORDER BY id",
}


class Piece(NamedTuple):
    """Some seconds of a recording."""

    name: str
    """As the catalogue has it: anybody's text."""
    start_s: float
    """Where it begins in the recording [s]."""
    sound: Float
    """(n_samples,) at the model's rate, of at least −70 dB."""


class Pieces(NamedTuple):
    """What was drawn of one kind."""

    drawn: list[Piece]
    missing: int
    """Files that were asked for and are not there, or cannot be read."""


def draw(
    catalogue: Catalogue, kind: str, n: int, sample_rate: int, rng: np.random.Generator
) -> Pieces:
    """Pieces of ``n`` recordings drawn among those with status OK; fewer if there are no more.

    Parameters
    ----------
    kind : ``speech`` or ``noise``
    sample_rate : pieces are converted to it [Hz]

    Raises
    ------
    acquisition.catalogue.CatalogueError : the catalogue cannot be read
    """
    rows = catalogue.ask(_PATHS[kind])
    folder = catalogue.path.resolve().parent
    drawn: list[Piece] = []
    missing = 0
    for k in rng.permutation(len(rows)):
        if len(drawn) == n:
            break
        path = folder / rows[k]["path"]
        try:
            if path.is_file():
                drawn.append(_piece(path, rows[k]["name"], sample_rate, rng))
                continue
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            log.warning("%s", " ".join(f"not shown: {path}: {error}".split()))
        missing += 1
    return Pieces(drawn, missing)


def together(voice: Float, noise: Float, sample_rate: int) -> dict[str, Float]:
    """A voice and a noise at ``SNR_DB``, and their mixture, by these names.

    Parameters
    ----------
    voice, noise : not silent; the noise is repeated or cut to the voice's length

    Returns
    -------
    (n_samples,) each; all turned down alike where the mixture would exceed full scale
    """
    mixture = mix(voice, np.resize(noise, len(voice)), SNR_DB, sample_rate)
    gain = np.float32(min(1.0, 0.99 / float(np.abs(mixture).max())))
    return {"voice": gain * voice, "noise": gain * (mixture - voice), "mixture": gain * mixture}


def _piece(path: Path, name: str, sample_rate: int, rng: np.random.Generator) -> Piece:
    """The loudest of some places; raises ValueError where all are silent."""
    with soundfile.SoundFile(path) as file:
        size = round(LONGEST_S * file.samplerate)
        room = max(0, file.frames - size)
        starts = sorted({int(rng.uniform(0.0, 1.0) * room) for _ in range(_PLACES)})
        best, loudest_db, found = 0, -math.inf, np.zeros(0, np.float32)
        for start in starts:
            file.seek(start)
            sound = file.read(size, dtype="float32", always_2d=True).mean(axis=1)
            if not np.isfinite(sound).all():
                raise ValueError("is not finite")
            level_db = rms_db(sound) if len(sound) else -math.inf
            if level_db > loudest_db:
                best, loudest_db, found = start, level_db, sound
        rate = file.samplerate
    made = soxr.resample(found, rate, sample_rate).astype(np.float32) if len(found) else found
    if len(made) < 0.1 * sample_rate or active_level_db(made, sample_rate) < _QUIETEST_DB:
        raise ValueError("is silent or too short")
    return Piece(name, best / rate, made)
