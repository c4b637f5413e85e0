"""What can go wrong while gathering, one line each."""

from __future__ import annotations


class AcquisitionError(Exception):
    """Something that cannot be gathered: a server, a file, or a place to put it.

    Its text is one line, whoever made a part of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))
