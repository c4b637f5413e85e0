"""A display of our own, that nobody sees."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """Start Xvfb; yields the display's name."""
    program = shutil.which("Xvfb")
    assert program, "Xvfb is not installed; `make system` installs it"
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten"]
    with subprocess.Popen([*command, "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL) as xvfb:
        os.close(write)
        with os.fdopen(read) as told:
            number = told.readline().strip()
        try:
            yield f":{number}"
        finally:
            xvfb.terminate()
