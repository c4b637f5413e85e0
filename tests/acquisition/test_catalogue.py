from __future__ import annotations

import multiprocessing
import sqlite3

import pytest

from acquisition import catalogue
from acquisition.catalogue import Catalogue, CatalogueError

THESIS = {
    "audio_books_tracks": "id book_dummy_name book_name book_author book_url book_language "
    "book_path book_n_tracks track_name track_path track_channels track_sample_rate "
    "track_duration track_status track_insert_datetime",
    "noise_files": "id name url path channels sample_rate duration status insert_datetime",
    "model_info": "name version status path",
    "model_checkpoint": "id datetime user machine model_name model_version checkpoint_status "
    "checkpoint_path",
    "training_track": "id model_name model_version start_checkpoint_id end_checkpoint_id "
    "audio_book_track_id noise_id epoch status insert_datetime",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "catalogue.sqlite"


def older(path, version):
    """A file as an older program left it, with a row in it."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    for statements in catalogue.MIGRATIONS[:version]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {catalogue.APPLICATION_ID}")
    connection.execute("INSERT INTO noise_files (name, insert_datetime) VALUES ('rain', '')")
    connection.commit()
    connection.close()


def test_the_thesis_s_tables_and_columns_are_there(path):
    with Catalogue(path) as opened:
        for table, names in THESIS.items():
            columns = opened.columns(table)
            assert columns[: len(names.split())] == names.split()
        assert {"licence", "sha256", "speaker", "split"} <= set(
            opened.columns("audio_books_tracks")
        )


def test_rows_come_back_after_closing(path):
    with Catalogue(path) as opened:
        first = opened.add("noise_files", name="rain", duration=1.5)
        opened.add("noise_files", name="Robert'); DROP TABLE noise_files;--")
    with Catalogue(path) as opened:
        (row,) = opened.find("noise_files", name="rain")
        assert (row["id"], row["duration"], row["status"]) == (first, 1.5, "OK")
        assert row["insert_datetime"].endswith("+00:00")
        assert opened.change("noise_files", {"id": first}, status=catalogue.DELETED) == 1
        assert [r["name"][:6] for r in opened.find("noise_files", status="OK")] == ["Robert"]
        assert len(opened.find("noise_files", url=None)) == 2


def test_what_is_asked_only_reads(path):
    hostile = "Robert'); DROP TABLE noise_files;--"
    with Catalogue(path) as opened:
        opened.add_all("noise_files", [{"name": hostile, "duration": k} for k in (1.0, 2.0)])
        (row,) = opened.ask(
            "SELECT count(*) AS n, total(duration) AS s FROM noise_files WHERE name = ?1", hostile
        )
        assert (row["n"], row["s"]) == (2, 3.0)
        for statement, message in (
            ("DELETE FROM noise_files", "only a SELECT"),
            ("", "only a SELECT"),
            ("WITH x AS (SELECT 1) DELETE FROM noise_files", "readonly"),
            ("SELECT 1; DELETE FROM noise_files", "one statement"),
            ("SELECT gone FROM noise_files", "no such column"),
        ):
            with pytest.raises(CatalogueError, match=message):
                opened.ask(statement)
        assert opened.change("noise_files", {"duration": 1.0}, duration=4.0) == 1


def test_a_transaction_is_all_or_nothing(path):
    with Catalogue(path) as opened:
        with pytest.raises(CatalogueError), opened.transaction():
            opened.add_all("noise_files", [{"name": "rain"}, {"name": None}])
        assert not opened.find("noise_files")
        with opened.transaction():
            assert opened.add_all("noise_files", [{"name": "a"}, {"name": "b"}]) == [1, 2]


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ("noises", {}, "no table noises, but audio_books"),
        ("noise_files", {"name": "x", "lisence": "MIT"}, "no column lisence"),
        ("noise_files", {"name) VALUES (1);--": "x"}, "no column"),
        ("noise_files", {"name": "x", "status": "GONE"}, "CHECK constraint"),
        ("noise_files", {}, "NOT NULL"),
        ("model_checkpoint", {"model_name": "x", "model_version": "1"}, "FOREIGN KEY"),
    ],
)
def test_a_wrong_row_is_told(path, table, columns, message):
    with Catalogue(path) as opened, pytest.raises(CatalogueError, match=message):
        opened.add(table, **columns)


@pytest.mark.parametrize("version", range(1, catalogue.VERSION))
def test_an_older_file_is_brought_forward_with_its_rows(path, version):
    older(path, version)
    with Catalogue(path) as opened:
        (row,) = opened.find("noise_files")
        assert (row["name"], row["licence"]) == ("rain", None)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (catalogue.VERSION,)
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    older(path, 1)
    broken = (catalogue.MIGRATIONS[0], (*catalogue.MIGRATIONS[1], "CREATE TABLE noise_files (x)"))
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "MIGRATIONS", broken)
        with pytest.raises(CatalogueError, match="already exists"):
            Catalogue(path)
    with Catalogue(path) as opened:
        assert opened.find("noise_files")[0]["name"] == "rain"


def test_a_newer_file_is_refused_and_left_alone(path):
    older(path, 2)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CatalogueError, match=r"newer denoise-app \(catalogue version 99") as told:
        Catalogue(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None, "folder"])
def test_what_is_no_catalogue_is_one_line(path, content):
    path.parent.mkdir()
    if content == "folder":
        path.mkdir()
    elif content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(CatalogueError, match=r"catalogue\.sqlite: ") as told:
        Catalogue(path)
    assert "\n" not in str(told.value)


def test_a_damaged_page_is_told(path):
    with Catalogue(path) as opened:
        opened.add_all("noise_files", [{"name": f"noise {k}"} for k in range(500)])
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xa5" * len(content[4096 * 3 :])
    path.write_bytes(bytes(content))
    with pytest.raises(CatalogueError, match=r"damaged|malformed") as told:
        Catalogue(path)
    assert "\n" not in str(told.value)


def write_many(path, name):
    for k in range(20):
        with Catalogue(path) as opened, opened.transaction():
            known = len(opened.find("noise_files"))
            opened.add("noise_files", name=f"{name}{k}", duration=float(known))


def test_two_processes_write_at_once_from_the_very_first(path):
    """Each row tells how many there were: a lost or doubled number would be a lost write."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    with Catalogue(path) as opened:
        assert [row["duration"] for row in opened.find("noise_files")] == list(range(40))


def test_who_is_at_work_is_known():
    assert set(catalogue.maker()) == {"user", "machine"}
