"""The elementary operations that losses are made of, wherever Keras computes."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _module() -> Any:
    try:
        from keras import backend, ops
    except ImportError:  # Keras 2.14
        return import_module("tensorflow.experimental.numpy")
    return import_module("training.card_ops") if backend.backend() == "torch" else ops


ops = _module()
