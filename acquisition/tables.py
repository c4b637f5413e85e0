"""What may be gathered is declared in TOML tables, ours and the user's. Not here: their columns."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from acquisition.errors import AcquisitionError


def rows_of(path: Path, key: str) -> list[dict[str, Any]]:
    """The tables ``[[key]]`` of a file; each has a ``name`` fit for a file.

    Raises AcquisitionError for a file that cannot be read or has none.
    """
    try:
        rows = tomllib.loads(path.read_text("utf-8")).get(key)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AcquisitionError(f"{path}: is no table: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AcquisitionError(f"{path}: should have [[{key}]]")
    for row in rows:
        check_name(path, row.get("name"))
    return rows


def check_name(path: Path, name: Any) -> None:
    """Raise AcquisitionError for a name that would lead out of its folder, or be hidden there."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise AcquisitionError(f"{path}: {name!r} cannot be the name of a file")
