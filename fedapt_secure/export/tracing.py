"""What both tracers need: an example of pixels, and quiet."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EXAMPLE_IMAGES: Final = 2
"""Not one: tracers take that for a size that never changes."""
IMAGES_AT_ONCE: Final = 32
"""How many go through a tower at once; bounds the memory."""


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Drop what tracers say of themselves: that they are experimental, deprecated, or see constants."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
