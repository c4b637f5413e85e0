"""What was gathered and what was made of it: the project's SQLite catalogue.

Five tables, named as in the thesis that this project continues, with columns added and
none renamed, one of rooms and one of books that are known of. Not here: where sound comes
from, and what training does with it.

Several processes may write at once. The file is in WAL mode, which needs a local disk: on
a network share two machines would damage it.
"""

from __future__ import annotations

import getpass
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from acquisition.errors import AcquisitionError

OK, DELETED = "OK", "DELETED"
"""Status of a row. Rows stay when a file goes: it was still learnt from."""

APPLICATION_ID = 0x444E4F49
"""Marks a SQLite file as ours ("DNOI"), so that no other program's is written into."""

# Taken as it is needed. A catalogue of 100,000 tracks has 80 MB, SQLite's own bound is 2 MB.
_CACHE_KIB = 64 * 1024

# No transaction of ours takes nearly as long, on a busy machine either.
_TIMEOUT_S = 60.0

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: the thesis's tables
        """CREATE TABLE audio_books_tracks (
            id INTEGER PRIMARY KEY,
            book_dummy_name TEXT, book_name TEXT, book_author TEXT, book_url TEXT,
            book_language TEXT, book_path TEXT, book_n_tracks INTEGER,
            track_name TEXT NOT NULL, track_path TEXT, track_channels INTEGER,
            track_sample_rate INTEGER, track_duration REAL,
            track_status TEXT NOT NULL DEFAULT 'OK' CHECK (track_status IN ('OK', 'DELETED')),
            track_insert_datetime TEXT NOT NULL)""",
        """CREATE TABLE noise_files (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL, url TEXT, path TEXT, channels INTEGER, sample_rate INTEGER,
            duration REAL,
            status TEXT NOT NULL DEFAULT 'OK' CHECK (status IN ('OK', 'DELETED')),
            insert_datetime TEXT NOT NULL)""",
        """CREATE TABLE model_info (
            name TEXT NOT NULL, version TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'OK' CHECK (status IN ('OK', 'DELETED')),
            path TEXT,
            PRIMARY KEY (name, version))""",
        """CREATE TABLE model_checkpoint (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            datetime TEXT NOT NULL, user TEXT, machine TEXT,
            model_name TEXT NOT NULL, model_version TEXT NOT NULL,
            checkpoint_status TEXT NOT NULL DEFAULT 'OK'
                CHECK (checkpoint_status IN ('OK', 'DELETED')),
            checkpoint_path TEXT,
            FOREIGN KEY (model_name, model_version) REFERENCES model_info (name, version))""",
        """CREATE TABLE training_track (
            id INTEGER PRIMARY KEY,
            model_name TEXT NOT NULL, model_version TEXT NOT NULL,
            start_checkpoint_id INTEGER REFERENCES model_checkpoint (id),
            end_checkpoint_id INTEGER REFERENCES model_checkpoint (id),
            audio_book_track_id INTEGER NOT NULL REFERENCES audio_books_tracks (id),
            noise_id INTEGER NOT NULL REFERENCES noise_files (id),
            epoch INTEGER,
            status TEXT NOT NULL DEFAULT 'OK' CHECK (status IN ('OK', 'DELETED')),
            insert_datetime TEXT NOT NULL,
            FOREIGN KEY (model_name, model_version) REFERENCES model_info (name, version))""",
    ),
    (  # 2: provenance, and what a checkpoint had reached
        *(
            f"ALTER TABLE audio_books_tracks ADD COLUMN {column} TEXT"
            for column in ("speaker", "licence", "sha256", "split", "source")
        ),
        *(
            f"ALTER TABLE noise_files ADD COLUMN {column} TEXT"
            for column in ("licence", "sha256", "split", "source")
        ),
        "ALTER TABLE model_info ADD COLUMN licence TEXT",
        "ALTER TABLE model_checkpoint ADD COLUMN step INTEGER",
        "ALTER TABLE model_checkpoint ADD COLUMN held_out_loss REAL",
        "ALTER TABLE training_track ADD COLUMN times INTEGER NOT NULL DEFAULT 1",
        "CREATE INDEX tracks_by_name ON audio_books_tracks (track_name)",
        "CREATE INDEX noises_by_name ON noise_files (name)",
        "CREATE INDEX training_by_end ON training_track (end_checkpoint_id)",
    ),
    (  # 3: how good a recording is, rooms, and which books a listing has shown
        *(
            f"ALTER TABLE audio_books_tracks ADD COLUMN track_{column} REAL"
            for column in ("snr", "clipped", "bandwidth", "silence")
        ),
        *(
            f"ALTER TABLE noise_files ADD COLUMN {column} REAL"
            for column in ("clipped", "bandwidth", "silence")
        ),
        """CREATE TABLE room_responses (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL, url TEXT, path TEXT, channels INTEGER, sample_rate INTEGER,
            duration REAL,
            status TEXT NOT NULL DEFAULT 'OK' CHECK (status IN ('OK', 'DELETED')),
            insert_datetime TEXT NOT NULL,
            licence TEXT, sha256 TEXT, split TEXT, source TEXT)""",
        """CREATE TABLE listed_books (
            id INTEGER PRIMARY KEY,
            source TEXT NOT NULL, language TEXT NOT NULL, page INTEGER NOT NULL,
            title TEXT NOT NULL, author TEXT, url TEXT NOT NULL, zip_url TEXT,
            state TEXT NOT NULL DEFAULT 'LISTED'
                CHECK (state IN ('LISTED', 'GATHERED', 'FAILED', 'NOTHING')),
            reason TEXT,
            insert_datetime TEXT NOT NULL,
            UNIQUE (source, language, url))""",
        "CREATE INDEX tracks_by_path ON audio_books_tracks (track_path)",
        "CREATE INDEX noises_by_path ON noise_files (path)",
        "CREATE INDEX rooms_by_path ON room_responses (path)",
    ),
    (  # 4: which recordings met, counted without sorting all that was learnt from
        """CREATE INDEX training_by_pair
            ON training_track (audio_book_track_id, noise_id, status, times)""",
    ),
    (  # 5: the same by rate, by noise and by model, and what is in several books
        "DROP INDEX tracks_by_path",
        "CREATE INDEX tracks_by_path ON audio_books_tracks (track_path, track_status)",
        "CREATE INDEX tracks_by_content ON audio_books_tracks (coalesce(sha256, track_path))",
        "CREATE INDEX tracks_by_rate ON audio_books_tracks (track_sample_rate, track_status)",
        """CREATE INDEX training_by_noise
            ON training_track (noise_id, audio_book_track_id) WHERE status = 'OK'""",
        """CREATE INDEX training_by_model
            ON training_track (model_name, model_version, audio_book_track_id, noise_id, times)
            WHERE status = 'OK'""",
    ),
)
"""What brings a file from each version to the next; its version is ``user_version``."""

VERSION = len(MIGRATIONS)

# When a row of each table came to be; filled in where the caller does not.
_INSERTED = {
    "audio_books_tracks": "track_insert_datetime",
    "noise_files": "insert_datetime",
    "model_info": None,
    "model_checkpoint": "datetime",
    "training_track": "insert_datetime",
    "room_responses": "insert_datetime",
    "listed_books": "insert_datetime",
}


class CatalogueError(AcquisitionError):
    """A catalogue that cannot be used, or a row that it does not take."""


class Catalogue:
    """A catalogue file, made if it is not there, brought to this version if it is older.

    A context manager: leaving it closes the file. Use in the thread that opened it.

    Raises
    ------
    CatalogueError : the file is damaged, of another program or of a newer version, or
        cannot be written
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._telling():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are begun by hand: the module would begin them without IMMEDIATE.
            self._connection = sqlite3.connect(path, _TIMEOUT_S, isolation_level=None)
        try:
            with self._telling():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing else works afterwards."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written inside or, after an exception, nothing of it.

        Waits until no other process writes.
        """
        with self._telling():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._telling():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def add(self, table: str, **columns: Any) -> int:
        """Add a row and return its id; the time of it is filled in.

        Raises CatalogueError for a table or column that is not there, and for a row that
        breaks a rule of the table.
        """
        (row_id,) = self.add_all(table, [columns])
        return row_id

    def add_all(self, table: str, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Add rows that have the same columns, and return their ids; raises as ``add``.

        Call it inside ``transaction`` for more than a few: a row alone waits for the disk.
        """
        inserted, made, now = self._inserted(table), [], _now()
        for row in rows:
            given = {inserted: now, **row} if inserted else dict(row)
            self._check(table, given)
            names, marks = ", ".join(given), ", ".join("?" * len(given))
            statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
            with self._telling():
                cursor = self._connection.execute(statement, tuple(given.values()))
            made.append(cursor.lastrowid or 0)  # never 0 after an INSERT
        return made

    def find(self, table: str, **columns: Any) -> list[sqlite3.Row]:
        """Rows whose columns have these values, oldest first; raises as ``add``."""
        self._check(table, columns)
        where = " AND ".join(f"{name} IS ?" for name in columns) or "1"
        statement = f"SELECT * FROM {table} WHERE {where} ORDER BY rowid"
        with self._telling():
            return self._connection.execute(statement, tuple(columns.values())).fetchall()

    def ask(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Rows that a SELECT gives, for what ``find`` cannot tell: sums, groups, joins.

        Parameters
        ----------
        statement : ``?`` in it stand for the values, ``?1`` for the first wherever it is

        Raises
        ------
        CatalogueError : it is wrong, is no SELECT, or would change anything
        """
        if statement.split(None, 1)[:1] not in (["SELECT"], ["WITH"]):
            raise CatalogueError(f"{self.path}: only a SELECT can be asked, found {statement!r}")
        with self._telling():
            self._connection.execute("PRAGMA query_only = ON")
            try:
                return self._connection.execute(statement, values).fetchall()
            finally:
                self._connection.execute("PRAGMA query_only = OFF")

    def change(self, table: str, where: Mapping[str, Any], **columns: Any) -> int:
        """Give other values to the rows that have those of ``where``, and count them.

        Raises as ``add``.
        """
        self._check(table, {**where, **columns})
        changes = ", ".join(f"{name} = ?" for name in columns)
        chosen = " AND ".join(f"{name} IS ?" for name in where) or "1"
        statement = f"UPDATE {table} SET {changes} WHERE {chosen}"
        with self._telling():
            values = (*columns.values(), *where.values())
            return self._connection.execute(statement, values).rowcount

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns; raises CatalogueError when there is no such table."""
        self._inserted(table)
        with self._telling():
            return [row["name"] for row in self._connection.execute(f"PRAGMA table_info({table})")]

    def _open(self) -> None:
        execute = self._connection.execute
        self._connection.row_factory = sqlite3.Row
        execute("PRAGMA foreign_keys = ON")
        execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
        (mark,), (version,) = (
            execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark != APPLICATION_ID and (tables or version):
            raise CatalogueError(f"{self.path}: is a SQLite file of another program")
        self._write_ahead()
        with self.transaction():
            # Read again: another process may have brought it forward while this one waited.
            (version,) = execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise CatalogueError(
                    f"{self.path}: was made by a newer denoise-app (catalogue version {version}, "
                    f"this one knows {VERSION}): update the program"
                )
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    execute(statement)
                execute(f"PRAGMA user_version = {number}")
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
        (found,) = execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise CatalogueError(f"{self.path}: is damaged: {' '.join(found.split())}")
        self._names = {table: set(self.columns(table)) for table in _INSERTED}

    def _write_ahead(self) -> None:
        """Readers do not wait for writers. SQLite's own waiting leaves this change out."""
        until = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _inserted(self, table: str) -> str | None:
        if table not in _INSERTED:
            raise CatalogueError(f"there is no table {table}, but {', '.join(_INSERTED)}")
        return _INSERTED[table]

    def _check(self, table: str, columns: Mapping[str, Any]) -> None:
        """Names go into the statement itself, so none but the tables' own may pass."""
        self._inserted(table)
        unknown = sorted(set(columns) - self._names[table])
        if unknown:
            raise CatalogueError(f"{table} has no column {', '.join(unknown)}")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """One line in place of SQLite's and the system's own."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CatalogueError(f"{self.path}: {error}") from error


def maker() -> dict[str, str]:
    """Who is at work here, for ``model_checkpoint``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        user = ""
    return {"user": user, "machine": platform.node()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
