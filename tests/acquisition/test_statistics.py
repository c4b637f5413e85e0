"""Small catalogues whose numbers can be counted on fingers."""

from __future__ import annotations

import json

import pytest

from acquisition import statistics
from acquisition.catalogue import DELETED, Catalogue
from acquisition.errors import AcquisitionError

HOSTILE = 'Robert\'); DROP TABLE noise_files;-- <script>"alert"</script>\n日本'


@pytest.fixture
def catalogue(tmp_path):
    with Catalogue(tmp_path / "catalogue.sqlite") as opened:
        yield opened


def add_speech(catalogue, name, rate, **columns):
    return catalogue.add(
        "audio_books_tracks",
        track_name=name,
        track_sample_rate=rate,
        **{"track_path": f"{name}.flac", "track_duration": 3600.0, **columns},
    )


def add_noise(catalogue, name, rate, **columns):
    return catalogue.add(
        "noise_files", name=name, path=f"{name}.flac", sample_rate=rate, duration=1800.0, **columns
    )


def learn(catalogue, track, noise, times=1, version="1", **columns):
    if not catalogue.find("model_info", name="classic", version=version):
        catalogue.add("model_info", name="classic", version=version)
    catalogue.add(
        "training_track",
        model_name="classic",
        model_version=version,
        audio_book_track_id=track,
        noise_id=noise,
        times=times,
        **columns,
    )


def test_an_empty_catalogue_has_empty_statistics(catalogue):
    found = statistics.describe(catalogue, 11025)
    assert [(row["kind"], row["tracks"], row["hours"]) for row in found["kinds"]] == [
        ("speech", 0, 0.0),
        ("noise", 0, 0.0),
        ("rooms", 0, 0.0),
    ]
    assert found["rates"] == found["languages"] == []
    assert found["speakers"] == found["books"] == {"count": 0, "longest": []}
    assert found["combinations"] == {
        **dict.fromkeys(("pairs", "compatible", "learnt", "compatible_learnt"), 0),
        "compatible_not_learnt": 0,
        **{name: [] for name in ("rates", "models", "most_learnt", "not_learnt")},
    }
    json.dumps(found)


def test_a_file_in_two_books_counts_once_and_is_told(catalogue):
    book = {"book_url": "https://a.example", "book_name": "A", "book_language": "german"}
    other = {"book_url": "https://b.example", "book_name": HOSTILE, "book_language": "german"}
    content = {"sha256": "1" * 64, "track_path": "zip/one.mp3", "speaker": "ann"}
    add_speech(catalogue, "one.mp3", 22050, **book, **content)
    add_speech(catalogue, "one.mp3", 22050, **other, **content)
    add_speech(catalogue, "two.mp3", 22050, **book, sha256="2" * 64, speaker="ben")
    # Of another content, but of the first's name; and one that is in no book at all.
    add_speech(catalogue, "two.mp3", 22050, **other, sha256="3" * 64, track_path="x", speaker="ben")
    add_speech(catalogue, HOSTILE, 44100, track_path=None, speaker=HOSTILE)
    add_speech(catalogue, "gone.mp3", 8000, track_status=DELETED, **book)
    found = statistics.describe(catalogue, 11025)
    assert found["kinds"][0] == {
        "kind": "speech",
        "tracks": 5,
        "deleted": 1,
        "files": 4,
        "hours": 4.0,
    }
    german, none = found["languages"]
    assert german == {"language": "german", "files": 3, "hours": 3.0, "speakers": 2, "books": 2}
    assert (none["language"], none["books"]) == (None, 0)
    assert found["speakers"]["count"] == 3
    assert [row["speaker"] for row in found["speakers"]["longest"]] == ["ben", HOSTILE, "ann"]
    assert found["books"]["count"] == 2
    assert [row["hours"] for row in found["books"]["longest"]] == [2.0, 2.0]
    several = found["several_books"]
    assert several["by_name"]["count"] == 2
    assert [row["track"] for row in several["by_name"]["tracks"]] == ["one.mp3", "two.mp3"]
    (same,) = several["by_content"]["tracks"]
    assert (same["track"], same["tracks"], same["books"]) == ("one.mp3", 2, 2)
    assert {same["one"], same["another"]} == {"A", HOSTILE}
    assert len(statistics.describe(catalogue, 11025, listed=1)["speakers"]["longest"]) == 1
    json.dumps(found)


def test_compatible_is_at_least_the_model_s_rate(catalogue):
    for k, rate in enumerate((8000, 11025, 16000, 22050, 33075, None)):
        add_speech(catalogue, f"{k}", rate)
    rates = {row["sample_rate"]: row for row in statistics.describe(catalogue, 11025)["rates"]}
    assert {rate for rate, row in rates.items() if row["compatible"]} == {
        11025,
        16000,
        22050,
        33075,
    }
    assert {rate for rate, row in rates.items() if row["whole_ratio"]} == {11025, 22050, 33075}


def test_classes_of_quality(catalogue):
    measured = [
        (-10.0, 0.0, 0.0, 0.0),
        (4.99, 1e-6, 3999.0, 0.15),
        (5.0, 2e-6, 4000.0, 0.1499),
        (80.0, 0.5, 96_000.0, 1.0),
        (None, None, None, None),
    ]
    names = ("track_snr", "track_clipped", "track_bandwidth", "track_silence")
    for k, values in enumerate(measured):
        add_speech(catalogue, f"{k}", 48_000, **dict(zip(names, values, strict=True)))
    add_noise(catalogue, "rain", 48_000, bandwidth=500.0)
    quality = statistics.describe(catalogue, 48_000)["quality"]

    def heads(name, kind="speech"):
        told = quality[name][kind]
        assert told["unmeasured"] == (kind == "speech" or name != "bandwidth")
        return {row["from"]: row["files"] for row in told["classes"] if row["files"]}

    assert heads("snr") == {-10.0: 1, 0.0: 1, 5.0: 1, 75.0: 1}
    assert heads("clipped") == {-7.0: 2, -6.0: 1, -1.0: 1}
    assert heads("bandwidth") == {0.0: 1, 3000.0: 1, 4000.0: 1, 23000.0: 1}
    assert heads("silence") == {0.0: 1, 0.1: 1, 0.15: 1, 0.95: 1}
    assert heads("bandwidth", "noise") == {0.0: 1}
    assert len(quality["snr"]["speech"]["classes"]) == 18
    assert quality["snr"]["speech"]["classes"][-1]["to"] == 80.0


def test_pairs_are_counted_without_being_made(catalogue):
    tracks = [add_speech(catalogue, f"t{k}", rate) for k, rate in enumerate((8000, 48000, 48000))]
    noises = [add_noise(catalogue, f"n{k}", rate) for k, rate in enumerate((48000, 16000, 48000))]
    gone = add_speech(catalogue, "gone", 48000, track_status=DELETED)
    learn(catalogue, tracks[1], noises[0], times=3)
    learn(catalogue, tracks[1], noises[0], times=2, version="2")
    learn(catalogue, tracks[0], noises[0])
    learn(catalogue, tracks[1], noises[1])
    learn(catalogue, tracks[2], noises[2], status=DELETED)
    learn(catalogue, gone, noises[0])
    found = statistics.combinations(catalogue, 48_000)
    assert {name: n for name, n in found.items() if isinstance(n, int)} == {
        "pairs": 9,
        "compatible": 4,
        "learnt": 3,
        "compatible_learnt": 1,
        "compatible_not_learnt": 3,
    }
    assert found["rates"][0] == {
        "speech_rate": 48000,
        "noise_rate": 48000,
        "pairs": 4,
        "learnt": 1,
        "compatible": True,
    }
    assert sum(row["pairs"] for row in found["rates"]) == 9
    assert [(row["model"], row["version"], row["times"]) for row in found["models"]] == [
        ("classic", "1", 6),
        ("classic", "2", 2),
    ]
    assert found["most_learnt"][0] == {"track": "t1", "noise": "n0", "times": 5}
    # The track that met the fewest comes first, with the noise that met the fewest.
    assert found["not_learnt"] == [
        {"track": "t2", "noise": "n2", "noises_met": 0},
        {"track": "t1", "noise": "n2", "noises_met": 1},
    ]


def test_what_is_not_learnt_is_found_where_nearly_all_is(catalogue):
    tracks = [add_speech(catalogue, f"t{k}", 48_000) for k in range(5)]
    noises = [add_noise(catalogue, f"n{k}", 48_000) for k in range(4)]
    for track in tracks:
        for noise in noises:
            if (track, noise) != (tracks[3], noises[2]):
                learn(catalogue, track, noise)
    only = [{"track": "t3", "noise": "n2", "noises_met": 3}]
    assert statistics.not_learnt(catalogue, 48_000, listed=1) == only
    assert statistics.not_learnt(catalogue, 48_000) == only
    learn(catalogue, tracks[3], noises[2])
    assert statistics.not_learnt(catalogue, 48_000) == []
    assert statistics.combinations(catalogue, 48_000)["compatible_not_learnt"] == 0


def test_a_name_that_is_no_text_is_a_line(catalogue):
    catalogue.ask("SELECT 1")
    track = add_speech(catalogue, "x", 48_000)
    catalogue._connection.execute(
        "UPDATE audio_books_tracks SET speaker = CAST(x'ff' AS TEXT) WHERE id = ?", (track,)
    )
    with pytest.raises(AcquisitionError, match="UTF-8") as told:
        statistics.describe(catalogue, 48_000)
    assert "\n" not in str(told.value)
