"""A screen of our own, where there is none: for benchmarks, pictures and tests of the window.

Xvfb, on a number that nobody uses. Not here: what is shown.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from engine.errors import DeviceError

_GEOMETRY = "2600x2000x24"


class PrivateScreen:
    """A context manager; ``environment`` is what programs need to be shown there.

    Raises
    ------
    DeviceError : Xvfb is not installed, or does not start
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}

    def __enter__(self) -> PrivateScreen:
        program = shutil.which("Xvfb")
        if program is None:
            raise DeviceError("Xvfb is not installed; `make system` installs what is needed")
        told, tell = os.pipe()
        command = [program, "-displayfd", str(tell), "-screen", "0", _GEOMETRY]
        self._process = subprocess.Popen(
            [*command, "-nolisten", "tcp"], pass_fds=(tell,), stderr=subprocess.DEVNULL
        )
        os.close(tell)
        with os.fdopen(told) as file:
            number = file.readline().strip()  # nothing when it ends
        if not number:
            self._process.wait()
            raise DeviceError("Xvfb does not start")
        self.environment = {"DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
