"""Which arithmetic a training runs in: what is measured to be faster, on the model itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

Arithmetic = Literal["fp32", "bf16"]
# What is not clearly faster is not worth its rounding.
_WORTHWHILE = 0.85
_RUNS = 2
STEPS_TRIED = 2 * (_RUNS + 1)
"""Steps that finding out takes."""


def in_arithmetic(arithmetic: Arithmetic) -> torch.autocast:
    """A context in which products and convolutions are computed so."""
    return torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "bf16")


def faster_arithmetic(run: Callable[[], object]) -> Arithmetic:
    """Time one step forwards and backwards in each.

    Args:
        run: does the step, and leaves nothing behind that matters.
    """
    taken = {name: _seconds(run, name) for name in ("fp32", "bf16")}
    return "bf16" if taken["bf16"] < _WORTHWHILE * taken["fp32"] else "fp32"


def _seconds(run: Callable[[], object], arithmetic: Arithmetic) -> float:
    """The fastest of some runs, after one to warm up."""
    taken = []
    with in_arithmetic(arithmetic):
        for _ in range(_RUNS + 1):
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
    return min(taken[1:])
