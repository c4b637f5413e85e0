"""Files that are there whole or not at all. Not here: what is in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """A name beside ``path`` to write to; what was written takes its place in the end.

    A kill leaves the old file or the new one, an exception the old one and nothing beside it.

    Parameters
    ----------
    shared : other machines may be writing the same file: the name is then nobody else's.
        What a kill leaves under such a name, no later call overwrites
    """
    token = f".{secrets.token_hex(4)}" if shared else ""
    part = path.with_name(f"{path.name}{token}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as ``replacing`` does, on the disk before it takes its place."""
    with replacing(path, shared=True) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
