"""The elementary operations that losses are made of, wherever Keras computes."""

from __future__ import annotations

from typing import Any

ops: Any
try:
    from keras import backend, ops
except ImportError:  # Keras 2.14
    from tensorflow.experimental import numpy as ops
else:
    if backend.backend() == "torch":
        from training import card_ops as ops
