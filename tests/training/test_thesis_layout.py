from __future__ import annotations

import h5py
import numpy as np
import pytest

from engine.stft import stft, to_db
from tests.training.conftest import voice
from training.dataset_build import shard_folder
from training.mixing import Mixture
from training.thesis_layout import create_group, describe, read, write_mixture


@pytest.fixture
def mixture(rng, spec):
    clean = voice(rng, 1.0, spec.sample_rate)
    noise = 0.01 * rng.standard_normal(len(clean)).astype(np.float32)
    return Mixture(clean + noise, clean, 12.0)


@pytest.fixture
def written(tmp_path, mixture, spec):
    with h5py.File(tmp_path / "ours.h5", "w") as file:
        group = create_group(file, spec)
        write_mixture(group, 12, mixture, spec)
        write_mixture(group, 3, mixture, spec)
    return tmp_path / "ours.h5"


def test_plain_h5py_finds_the_names_shapes_and_attributes_of_the_thesis(written, mixture, spec):
    n, bins = len(mixture.clean) // spec.hop, spec.n_spectrum
    with h5py.File(written) as file:
        group = file[f"SPS{spec.sample_rate}FFT{spec.n_fft}"]
        assert dict(group.attrs) == {"SAMPLE_RATE": spec.sample_rate, "FFT_SIZE": spec.n_fft}
        assert set(group) == {"COMBINATION@ID_3", "COMBINATION@ID_12"}
        combination = group["COMBINATION@ID_3"]
        assert combination.attrs["COMBINATIONID"] == 3
        assert {"CLEAN@NAME", "NOISE@NAME"} <= set(combination.attrs)
        for side in ("CLEAN", "DIRTY"):
            assert dict(combination[side].attrs) == {
                "FFT@SIZE": spec.n_fft,
                "FFT@N_SAMPLES_OVERLAP": spec.n_fft - spec.hop,
                "FFT@WINDOW": spec.window,
            }
            shapes = {name: array.shape for name, array in combination[side].items()}
            assert shapes == {"FREQ": (bins,), "TIME": (n,), "DB": (n, 1, bins), "PHASE": (bins, n)}
            assert {array.dtype for array in combination[side].values()} == {np.dtype("f8")}


def test_what_is_written_comes_back_as_the_engine_hears_it(written, mixture, spec):
    first, second = read(written)
    assert (first.id, second.id) == (3, 12)  # in the order of numbers, not of names
    assert (first.sample_rate, first.n_fft) == (spec.sample_rate, spec.n_fft)
    assert first.frequency_hz[-1] == pytest.approx(spec.sample_rate / 2)
    assert np.diff(first.time_s) == pytest.approx(spec.hop_s)
    assert first.attributes["SNR_DB"] == 12.0
    for signal, db, phase in (
        (mixture.clean, first.clean_db, first.clean_phase),
        (mixture.noisy, first.dirty_db, first.dirty_phase),
    ):
        spectra = stft(signal, spec)
        np.testing.assert_array_equal(db, to_db(spectra, spec))
        # Where the level is above the floor, level and phase are the whole spectrum. float32's
        # decibels up to 100 are some 8e-6 apart, which is 1e-6 of a magnitude.
        above = db > spec.floor_db
        scale = np.abs(spectra[above]).max() / 10 ** (db[above].max() / 20)
        again = scale * 10 ** (db / 20) * np.exp(1j * phase)
        np.testing.assert_allclose(again[above], spectra[above], rtol=1e-5)


def test_phase_is_bins_first_where_there_are_as_many_frames(tmp_path, rng, spec):
    n = spec.n_spectrum
    clean = rng.standard_normal(n * spec.hop).astype(np.float32)
    with h5py.File(tmp_path / "square.h5", "w") as file:
        write_mixture(create_group(file, spec), 1, Mixture(clean, clean, 0.0), spec)
    (found,) = read(tmp_path / "square.h5")
    assert found.clean_phase.shape == (n, n)
    np.testing.assert_array_equal(found.clean_phase, np.angle(stft(clean, spec)))


@pytest.mark.parametrize("phase_shape", ["bins first", "as DB"])
def test_a_file_of_somebody_else_is_read(tmp_path, rng, phase_shape):
    """Bytes for text, other attributes and types, nothing of ours."""
    db, phase = rng.standard_normal((2, 20, 513))
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.attrs["made"] = "elsewhere"
        group = file.create_group("SPS11025FFT1024")
        group.attrs["SAMPLE_RATE"] = np.bytes_(b"")
        combination = group.create_group("COMBINATION@ID_7")
        combination.attrs["CLEAN@BOOK_NAME"] = np.bytes_("Emma")
        combination.attrs["NOISE@NAME"] = "coffeeShop"
        for side, offset in (("CLEAN", 0.0), ("DIRTY", 1.0)):
            combination[f"{side}/FREQ"] = np.arange(513) * 11025 / 1024
            combination[f"{side}/TIME"] = np.arange(20) * 512 / 11025
            combination[f"{side}/DB"] = (db + offset).astype(np.float32)[:, None, :]
            combination[f"{side}/PHASE"] = (
                phase.T if phase_shape == "bins first" else phase[:, None]
            )
    (found,) = read(tmp_path / "theirs.h5")
    assert (found.id, found.sample_rate, found.n_fft) == (7, 11_025, 1024)
    assert found.attributes["CLEAN@BOOK_NAME"] == "Emma"
    np.testing.assert_array_equal(found.clean_phase, phase)
    np.testing.assert_allclose(found.dirty_db - found.clean_db, 1.0, atol=1e-6)  # float32
    told = describe(tmp_path / "theirs.h5")
    assert told["splits"]["all"]["clean and dirty"]["mixtures"] == 1


def test_what_is_missing_is_named(written, tmp_path, spec):
    with h5py.File(written, "a") as file:
        del file[f"SPS{spec.sample_rate}FFT{spec.n_fft}/COMBINATION@ID_3/DIRTY/PHASE"]
    with pytest.raises(ValueError, match="COMBINATION@ID_3 lacks DIRTY/PHASE"):
        next(read(written))
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(ValueError, match="no group SPS"):
        next(read(tmp_path / "empty.h5"))


def test_a_missing_shard_is_not_read_as_zeros(tmp_path):
    path = tmp_path / "joined.h5"
    layout = h5py.VirtualLayout((5, 1, 513), "f8")
    layout[...] = h5py.VirtualSource(f"{shard_folder(path).name}/gone.h5", "x", (5, 1, 513), "f8")
    with h5py.File(path, "w") as file:
        for side in ("CLEAN", "DIRTY"):
            group = file.create_group(f"SPS11025FFT1024/COMBINATION@ID_1/{side}")
            group.create_virtual_dataset("DB", layout)
            group["FREQ"], group["TIME"], group["PHASE"] = np.zeros((3, 5))
    with pytest.raises(ValueError, match=r"gone\.h5 is missing"):
        next(read(path))
