"""Models that describe themselves, one card each."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the shipped ``.onnx`` files lie."""

DEFAULT = "fullband"
"""The model that cleans unless another is chosen."""
