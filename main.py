"""The door: hands the command line to the application."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from app.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
