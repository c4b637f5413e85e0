"""What can go wrong while gathering, one line each."""

from __future__ import annotations

import errno


class AcquisitionError(Exception):
    """Something that cannot be gathered: a server, a file, or a place to put it.

    Its text is one line, whoever made a part of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


def is_full(error: BaseException) -> bool:
    """Whether a full disk is behind it: nothing else would fare better."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
