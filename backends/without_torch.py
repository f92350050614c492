"""Import TVM's libraries without torch, which they would otherwise load where it is installed.

They take two seconds and two hundred megabytes for it, which neither measuring nor compiling needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keeping_torch_out() -> Iterator[None]:
    """While this lasts, importing torch fails, unless it was imported before."""
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules["torch"]
