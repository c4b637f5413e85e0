"""How one processed clip is heard, in figures: against its clean speech, in step with it.

Not here: processing (``systems``), many clips (``evaluate``), tables (``score_tables``).
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import soxr

from engine.measure import si_sdr_db
from engine.stft import Float

# PESQ's scale ends at a raw −0.5, mapped by ITU-T P.862.2 and P.862.1. What it cannot
# score, silence above all, gets these.
LOWEST_PESQ = {"wb": 1.04, "nb": 1.02}

# The SI-SDR of silence would be minus infinity, and so would a mean with it.
LOWEST_SI_SDR_DB = -40.0

# A frame this far under the speech's mean power holds no voice worth the name.
_VOICE_DB = 25.0

_START_FRAME_S, _PAUSE_S, _START_S = 0.01, 0.2, 0.05

# A breath is no word: what is at least this near to the speech's mean power begins one.
_START_DB = 15.0
_GONE = 1e-2
"""What is left of a word start that cannot be found: 40 dB lost are as bad as all."""

OCTAVES_HZ = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
"""Centres; the last ends at 16 kHz, where the table of an octave would go on to 22.6 kHz."""

_TOP_HZ = 16_000.0

# An octave that holds less of a recording than this is its hiss, not its voice.
_LEAST_OCTAVE_DB = -55.0


class Scores(NamedTuple):
    """What is measured of one processed clip; NaN where it does not apply."""

    pesq_wb: float
    """ITU-T P.862.2, 1…4.64, at 16 kHz."""
    pesq_nb: float
    """ITU-T P.862.1, 1…4.55, at 8 kHz."""
    stoi: float
    """Taal et al. 2011, 0…1."""
    estoi: float
    """Jensen & Taal 2016, 0…1."""
    si_sdr: float
    """Le Roux et al. 2019 [dB], at 16 kHz."""
    sig: float
    """DNSMOS P.835, speech, 1…5."""
    bak: float
    """DNSMOS P.835, background, 1…5."""
    ovrl: float
    """DNSMOS P.835, overall, 1…5."""
    p808: float
    """DNSMOS P.808, 1…5."""
    starts: float = math.nan
    """What word starts lose: the median of ``word_start_losses_db`` [dB]; of several clips, of
    all of their starts."""
    accuracy: float = math.nan
    """The thesis's: share of the frames with voice whose loudest bin is that of the clean
    speech, 0…1, at a model's setting."""
    mse: float = math.nan
    """The thesis's: mean square of what the levels of those frames are off [dB²]."""
    real_time: float = math.nan
    """Processor time over the length of the sound, one thread."""


HEADINGS = (
    "PESQ-WB",
    "PESQ-NB",
    "STOI",
    "ESTOI",
    "SI-SDR",
    "SIG",
    "BAK",
    "OVRL",
    "P.808",
    "word starts [dB]",
    "accuracy",
    "MSE [dB²]",
    "real time",
)
DECIMALS = (2, 2, 3, 3, 1, 2, 2, 2, 2, 1, 3, 0, 3)


def score(clean: Float, processed: Float, rate: int) -> tuple[Scores, tuple[str, ...]]:
    """Measure a clip against its clean speech, both (n_samples,) at ``rate`` and in step.

    Returns
    -------
    scores : without the thesis's figures and the processor time
    problems : what could not be measured and counts as lowest, one line each
    """
    from pystoi import stoi
    from speechmos import dnsmos

    clean_16k, processed_16k = at_rate(clean, rate, 16_000), at_rate(processed, rate, 16_000)
    wide, no_wide = pesq_or_lowest(clean, processed, rate, "wb")
    narrow, no_narrow = pesq_or_lowest(clean, processed, rate, "nb")
    distortion, no_distortion = si_sdr_or_lowest(clean_16k, processed_16k)
    mos = dnsmos.run(np.clip(processed_16k, -1.0, 1.0), 16_000)
    with warnings.catch_warnings():
        # A clip with too little voice: pystoi warns and returns its lowest, 1e-5.
        warnings.simplefilter("ignore", RuntimeWarning)
        intelligible = stoi(clean_16k, processed_16k, 16_000)
        extended = stoi(clean_16k, processed_16k, 16_000, extended=True)
    scores = Scores(
        pesq_wb=wide,
        pesq_nb=narrow,
        stoi=float(intelligible),
        estoi=float(extended),
        si_sdr=distortion,
        sig=float(mos["sig_mos"]),
        bak=float(mos["bak_mos"]),
        ovrl=float(mos["ovrl_mos"]),
        p808=float(mos["p808_mos"]),
    )
    return scores, tuple(filter(None, (no_wide, no_narrow, no_distortion)))


def pesq_or_lowest(clean: Float, processed: Float, rate: int, mode: str) -> tuple[float, str]:
    """PESQ, ``wb`` or ``nb``, and why it is only the lowest of its scale, or nothing."""
    from pesq import PesqError, pesq

    wanted = 16_000 if mode == "wb" else 8_000
    pair = at_rate(clean, rate, wanted), at_rate(processed, rate, wanted)
    if not pair[1].any():
        return LOWEST_PESQ[mode], f"no PESQ-{mode.upper()} of silence"
    try:
        return float(pesq(wanted, *pair, mode)), ""
    except PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode() if isinstance(reason, bytes) else reason
        return LOWEST_PESQ[mode], f"no PESQ-{mode.upper()}: {reason}"


def si_sdr_or_lowest(clean: Float, processed: Float) -> tuple[float, str]:
    """SI-SDR [dB], and why it is only the lowest that counts here, or nothing."""
    try:
        return max(si_sdr_db(clean, processed), LOWEST_SI_SDR_DB), ""
    except ValueError as error:
        return LOWEST_SI_SDR_DB, f"no SI-SDR: {error}"


def word_starts(clean: Float, rate: int) -> list[int]:
    """Where words begin after a pause of 0.2 s or more [samples]."""
    size = round(_START_FRAME_S * rate)
    frames = clean[: len(clean) // size * size].reshape(-1, size)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    if not power.any():
        return []
    voiced = power > power.mean() * 10.0 ** (-_START_DB / 10.0)
    pause = round(_PAUSE_S / _START_FRAME_S)
    starts = np.flatnonzero(voiced).tolist()
    return [k * size for k in starts if k >= pause and not voiced[k - pause : k].any()]


def word_start_losses_db(clean: Float, processed: Float, rate: int) -> list[float]:
    """What the first 50 ms of each word after a pause lost [dB], 0 when they are all there.

    Of the processed sound only what is in phase with the clean one counts: noise that is left
    is no voice that is kept. Both (n_samples,) in step, and at one level.
    """
    length = round(_START_S * rate)
    losses = []
    for start in word_starts(clean, rate):
        wanted, found = clean[start : start + length], processed[start : start + length]
        kept = float(np.dot(found, wanted)) / max(float(np.dot(wanted, wanted)), 1e-12)
        losses.append(-20.0 * math.log10(max(kept, _GONE)))
    return losses


def octave_losses_db(clean: Float, processed: Float, rate: int) -> list[float]:
    """Energy lost in each of ``OCTAVES_HZ`` over the frames with voice [dB].

    NaN for an octave in which the clean recording has next to nothing. Both (n_samples,) in
    step, and at one level.
    """
    size = 2 * round(_START_FRAME_S * rate)
    window = np.hanning(size)
    powers = []
    for sound in (clean, processed):
        frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2]
        powers.append(np.square(np.abs(np.fft.rfft(frames * window))))
    of_frame = powers[0].sum(axis=1)
    voiced = of_frame > of_frame.mean() * 10.0 ** (-_VOICE_DB / 10.0)
    before, after = (power[voiced].sum(axis=0) for power in powers)
    hz = np.fft.rfftfreq(size, 1.0 / rate)
    losses = []
    for centre in OCTAVES_HZ:
        inside = (hz >= centre / math.sqrt(2.0)) & (hz < min(centre * math.sqrt(2.0), _TOP_HZ))
        share_db = 10.0 * math.log10(max(before[inside].sum() / max(before.sum(), 1e-12), 1e-12))
        kept = after[inside].sum() / max(before[inside].sum(), 1e-12)
        is_voice = share_db > _LEAST_OCTAVE_DB
        losses.append(-10.0 * math.log10(max(kept, 1e-6)) if is_voice else math.nan)
    return losses


def thesis_figures(estimated_db: Float, clean_db: Float) -> tuple[float, float]:
    """Accuracy and mean square error as the thesis counts them, in frames with voice.

    Parameters
    ----------
    estimated_db, clean_db : (n_frames, n_bins) levels of the same frames [dB]

    Returns
    -------
    accuracy : share of frames whose loudest bin is the same in both, 0…1
    mse : mean of the squared differences [dB²]

    NaN both where no frame holds a voice.

    Examples
    --------
    >>> clean_db = np.array([[-20.0, -40.0], [-40.0, -20.0], [-90.0, -80.0]])
    >>> thesis_figures(np.array([[-22.0, -40.0], [-20.0, -20.0], [0.0, 0.0]]), clean_db)
    (0.5, 101.0)
    """
    power = np.sum(10.0 ** (clean_db / 10.0), axis=1)
    voiced = power > power.mean() * 10.0 ** (-_VOICE_DB / 10.0)
    if not voiced.any():
        return math.nan, math.nan
    estimated, clean = estimated_db[voiced], clean_db[voiced]
    accuracy = np.mean(np.argmax(estimated, axis=1) == np.argmax(clean, axis=1))
    mse = np.mean(np.square(estimated - clean, dtype=np.float64))
    return float(accuracy), float(mse)


def at_rate(signal: Float, rate: int, wanted: int) -> Float:
    """The signal at another sample rate."""
    # DNSMOS hears the last kilohertz: scipy's resample_poly moves its means by 0.04.
    return soxr.resample(signal, rate, wanted)
