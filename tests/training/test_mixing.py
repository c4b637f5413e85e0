from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.measure import delay_between
from tests.training.conftest import voice
from training import mixing
from training.mixing import Mixer, Recipe, active_level_db, mix
from training.recordings import Collection, Recording

RATE = 11_025

NO_CALL = dict.fromkeys(("band_limited", "telephone", "coded", "lost_packets"), 0.0)


def collection(kind: str, sounds: list[np.ndarray]) -> Collection:
    scaled = [(s / np.abs(s).max() * 30_000).astype(np.int16) for s in sounds]
    return Collection(
        RATE, tuple(Recording(f"{kind}{k}", f"{kind}{k}", s) for k, s in enumerate(scaled)), ()
    )


@pytest.fixture
def speech(rng):
    return collection("voice", [voice(rng, 4.0, RATE) for _ in range(3)])


@pytest.fixture
def noise(rng):
    return collection("noise", [rng.standard_normal(n) for n in (60_000, 9_000)])


def rms_db(signal):
    return 10 * math.log10(np.mean(np.square(signal, dtype=np.float64)))


def test_level_of_a_steady_sound_is_its_rms(rng):
    noise = rng.standard_normal(RATE)
    assert active_level_db(noise, RATE) == pytest.approx(rms_db(noise), abs=0.05)


def test_pauses_do_not_lower_the_level(rng):
    sound = rng.standard_normal(RATE).astype(np.float32)
    with_pause = np.concatenate([sound, 1e-4 * sound, np.zeros(5 * RATE, np.float32)])
    # One frame may straddle the edge of the pause.
    assert active_level_db(with_pause, RATE) == pytest.approx(active_level_db(sound, RATE), abs=0.1)


@given(gain_db=st.floats(-90, 20))
@settings(max_examples=20, deadline=None)
def test_level_follows_gain(gain_db):
    sound = voice(np.random.default_rng(3), 1.0, RATE)
    louder = sound.astype(np.float64) * 10 ** (gain_db / 20)
    assert active_level_db(louder, RATE) == pytest.approx(
        active_level_db(sound, RATE) + gain_db, abs=1e-6
    )


def test_silence_has_no_level():
    assert active_level_db(np.zeros(RATE, np.float32), RATE) == -math.inf
    assert active_level_db(np.zeros(3, np.float32), RATE) == -math.inf


@given(snr_db=st.floats(-30, 60), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_mix_reaches_its_ratio(snr_db, seed):
    rng = np.random.default_rng(seed)
    speech = voice(rng, 2.0, RATE)
    noise = (10.0 ** rng.uniform(-3, 1) * rng.standard_normal(len(speech))).astype(np.float32)
    noisy = mix(speech, noise, snr_db, RATE)
    # float32 sums: the noise is recovered to 1e-7 of the louder of the two.
    added = noisy.astype(np.float64) - speech
    tolerance = 1e-3 if snr_db < 40 else 0.02
    assert active_level_db(speech, RATE) - rms_db(added) == pytest.approx(snr_db, abs=tolerance)


def test_mix_refuses_what_has_no_ratio(rng):
    sound, silence = rng.standard_normal(RATE).astype(np.float32), np.zeros(RATE, np.float32)
    for speech, noise in ((sound, silence), (silence, sound)):
        with pytest.raises(ValueError, match="silent"):
            mix(speech, noise, 0.0, RATE)
    with pytest.raises(ValueError, match="length"):
        mix(sound, sound[:-1], 0.0, RATE)


def test_a_seed_gives_the_same_sound_again(speech, noise):
    mixer = Mixer(speech, noise)
    first, second, other = (mixer.draw(np.random.default_rng(seed), 40_000) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.noisy, second.noisy)
    np.testing.assert_array_equal(first.clean, second.clean)
    assert not np.array_equal(first.noisy, other.noisy)


def test_draws_keep_their_promises(speech, noise, rng):
    mixer = Mixer(speech, noise, recipe=Recipe(clipped=0.0, room=0.0, muted=0.0, **NO_CALL))
    kinds = {"clean": 0, "noise": 0, "mixed": 0}
    for _ in range(150):
        made = mixer.draw(rng, 30_000)
        assert made.noisy.shape == made.clean.shape == (30_000,)
        assert made.noisy.dtype == made.clean.dtype == np.float32
        assert np.abs(made.noisy).max() <= 1.0
        level_db = active_level_db(made.clean, RATE)
        if made.snr_db == -math.inf:
            kinds["noise"] += 1
            assert not made.clean.any()
            assert made.noisy.any()
            continue
        assert level_db < -4.2  # the highest is -5, and a rumble adds up to 0.7
        added = made.noisy.astype(np.float64) - made.clean
        if made.snr_db == math.inf:
            kinds["clean"] += 1
            assert not added.any()
            continue
        kinds["clean" if made.snr_db >= 30 else "mixed"] += 1
        # The scaled signals are rounded to float32 once more, at most 50 dB above the noise.
        assert level_db - rms_db(added) == pytest.approx(made.snr_db, abs=0.02)
    # 5 % and 30 % of 150; a binomial count leaves these bounds once in a thousand.
    assert 1 <= kinds["noise"] <= 20
    assert 27 <= kinds["clean"] <= 64


def test_a_voice_keeps_its_own_rumble(speech, noise):
    def lows_db(made):
        power = np.abs(np.fft.rfft(made.clean)) ** 2
        hz = np.fft.rfftfreq(len(made.clean), 1 / RATE)
        return 10 * np.log10(power[(hz > 10) & (hz < 40)].sum() / power.sum())

    shares = {**NO_CALL, "clean": 1.0, "noise_only": 0.0, "room": 0.0, "clipped": 0.0, "muted": 0.0}
    lows = {0.0: [], 1.0: []}
    for rumble, seed in itertools.product(lows, range(10)):
        mixer = Mixer(speech, noise, recipe=Recipe(rumble=rumble, rumble_db=(-20, -20), **shares))
        made = mixer.draw(np.random.default_rng(seed), 60_000)
        lows[rumble].append(lows_db(made))
        if made.snr_db == math.inf:
            np.testing.assert_array_equal(made.noisy, made.clean)
    # A corner of 30 to 90 Hz leaves between all and a quarter of it in there.
    assert np.median(lows[0.0]) < -32
    assert min(lows[1.0]) > -32


def test_who_met_whom_is_told(speech, noise):
    mixer, pairs = Mixer(speech, noise, recipe=Recipe(synthetic=0.0, babble=0.0)), []
    mixer.on_draw = lambda *pair: pairs.append(pair)
    for seed in range(20):
        pairs.clear()
        made = mixer.draw(np.random.default_rng(seed), 60_000)
        assert bool(pairs) == math.isfinite(made.snr_db)
        assert len(set(pairs)) == len(pairs)
        assert {name for name, _ in pairs} <= {"voice0", "voice1", "voice2"}
        assert {name for _, name in pairs} <= {"noise0", "noise1"}


def test_listening_changes_nothing(speech, noise):
    made = []
    for listener in (None, lambda *_: None):
        mixer = Mixer(speech, noise)
        mixer.on_draw = listener
        made.append(mixer.draw(np.random.default_rng(4), 30_000).noisy)
    np.testing.assert_array_equal(*made)


def test_muted_stretches_are_silent_in_what_is_heard_and_wanted(speech, noise, rng):
    # The seed is drawn from in the same order, so the clip is the same but for the silence.
    for seed in range(10):
        whole, muted = (
            Mixer(speech, noise, recipe=Recipe(muted=share)).draw(
                np.random.default_rng(seed), 60_000
            )
            for share in (0.0, 1.0)
        )
        silent = (muted.noisy == 0.0) & (whole.noisy != 0.0)
        assert silent.any()
        assert not muted.clean[silent].any()
        np.testing.assert_array_equal(muted.noisy[~silent], whole.noisy[~silent])


def test_a_room_is_in_what_is_heard_and_only_its_early_part_in_the_target(speech, noise, rng):
    recipe = Recipe(room=1.0, clean=1.0, noise_only=0.0, clipped=0.0, muted=0.0, **NO_CALL)
    made = Mixer(speech, noise, recipe=recipe).draw(rng, 60_000)
    late = made.noisy - made.clean
    assert -45 < rms_db(late) - rms_db(made.clean) < 3


def test_rooms_too_large_for_a_call_are_left_out(speech, noise, rng):
    def decaying(time_s):
        t = np.arange(int(1.5 * time_s * RATE)) / RATE
        return rng.standard_normal(len(t)) * 10 ** (-3 * t / time_s)

    dry, church = decaying(0.3), decaying(3.0)
    mixer = Mixer(speech, noise, collection("room", [dry, church]))
    assert len(mixer._rooms) == 1


def test_no_voice_is_drawn_more_often_than_its_share(rng):
    long = Recording("long", "long", np.ones(RATE * 1000, np.int16))
    short = [Recording(f"short{k}", f"short{k}", np.ones(RATE * 50, np.int16)) for k in range(4)]
    heard = Collection(RATE, (long, *short), ())
    mixer = Mixer(heard, heard, recipe=Recipe(voice_s=200.0))
    np.testing.assert_allclose(mixer._chance, [0.5, 0.625, 0.75, 0.875, 1.0])


def test_a_pause_with_hiss_is_not_made_a_voice(noise, rng):
    """Ten seconds of hiss 50 dB under 8 s of a voice: alone it is never a target."""
    sound = np.concatenate([3e-4 * rng.standard_normal(10 * RATE), voice(rng, 8.0, RATE)])
    recipe = Recipe(noise_only=0.0, muted=0.0, room=0.0, no_lows=0.0, equaliser_db=1e-3, **NO_CALL)
    mixer, heard = Mixer(collection("voice", [sound]), noise, recipe=recipe), 0
    for _ in range(30):
        made = mixer.draw(rng, 20_000)
        power = np.abs(np.fft.rfft(made.clean)) ** 2
        # A quarter of the hiss is above 4 kHz, and next to nothing of the voice.
        assert power[len(power) * 8 // 11 :].sum() <= 0.05 * power.sum()
        heard += made.clean.any()
    assert 2 < heard < 25


def test_what_a_call_does_keeps_heard_and_wanted_in_step(speech, noise):
    """Every clip through everything that a line does, of voices without noise."""
    calls = Recipe(clean=1.0, noise_only=0.0, room=0.0, muted=0.0, clipped=0.0)
    calls = replace(calls, **dict.fromkeys(NO_CALL, 1.0))
    mixer = Mixer(speech, noise, recipe=calls)
    for seed in range(6):
        made = mixer.draw(np.random.default_rng(seed), 30_000)
        assert np.isfinite(made.noisy).all()
        assert np.abs(made.noisy).max() <= 1.0
        delay, likeness = delay_between(made.clean, made.noisy)
        # Voice coders keep no waveform, but they keep the time.
        assert abs(delay) <= 1
        assert likeness > 0.4


def test_simulated_rooms_are_those_handed_in(speech, noise, rng):
    echo = np.zeros(3000, np.float32)
    echo[[0, 2500]] = 1.0, 0.5
    recipe = Recipe(room=1.0, clean=1.0, noise_only=0.0, clipped=0.0, muted=0.0, **NO_CALL)
    mixer = Mixer(speech, noise, recipe=recipe, simulated=[echo])
    made = next(m for m in (mixer.draw(rng, 30_000) for _ in range(20)) if m.snr_db == math.inf)
    # The echo comes 227 ms later: what is late is no part of the target. float32 transforms.
    np.testing.assert_allclose(
        made.noisy[2500:] - made.clean[2500:], 0.5 * made.clean[:-2500], atol=1e-5
    )


def test_widening_keeps_a_noise_a_noise(speech, noise, rng):
    every = Recipe(resonant=1.0, swelling=1.0, reversed=1.0, noise_room=1.0, synthetic=0.0)
    for recipe in (every, replace(every, events=1.0)):
        mixer = Mixer(speech, noise, recipe=recipe)
        for _ in range(5):
            made = mixer._noises(rng, 20_000, [])
            assert np.isfinite(made).all()
            assert rms_db(made) == pytest.approx(0.0, abs=1e-3)  # float32


@pytest.mark.parametrize("end", [0, -1])
def test_what_a_recipe_may_say_can_be_mixed(speech, noise, rng, end):
    """Every share at its end, and the narrowest ranges: none is refused, none fails."""
    found = asdict(Recipe())
    shares = dict.fromkeys(
        (n for n in found if n not in mixing._LIMITS and n != "coded"), 1.0 + end
    )
    ranges = {"level_db": (-20.0, -20.0), "speed": (1.0, 1.0), "rumble_db": (-9.0, -9.0)}
    recipe = Recipe(
        **shares,
        **ranges,
        snr_db=(0.0, 0.0, 1e-3),
        longest_room_s=math.inf,
        equaliser_db=1e-6,
        longest_mute_s=0.02,
        voice_s=math.inf,
    )
    made = Mixer(speech, noise, recipe=recipe).draw(rng, 20_000)
    assert np.isfinite(made.noisy).all()


def test_rates_may_not_differ(speech, noise):
    with pytest.raises(ValueError, match="rates differ"):
        Mixer(speech, Collection(16_000, noise.recordings, ()))
