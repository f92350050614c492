"""Sessions that come and go leave nothing behind, whatever a layer is packed into.

Weights are megabytes, and so wide that an array with a number for each output is told from noise.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import psutil
import pytest

from autosparse.heap import return_freed_memory
from autosparse.levels.bf16 import bf16_bits
from backends.kernels.operators import SparseOperator, store_runs
from tests.kernels.changed_models import with_attribute
from tests.kernels.test_custom_ops import CONVOLUTION, INTEGER, LINEAR, opened
from tests.kernels.test_hostile_models import INTEGER_CONVOLUTION
from tests.kernels.test_operators import constant_tensor, one_node_model

FIRST, TIMES = 10, 25
"""Sessions until what is made once is made; sessions that must not grow the process."""
Weight = npt.NDArray[np.int64]


def half(places: Weight) -> Weight:
    """Every other place, and not the same ones in each row."""
    kept: Weight = places[(places + places // 7) % 2 == 0]
    return kept


def two_of_four(places: Weight) -> Weight:
    """N:M."""
    return places[places % 4 < 2]


def all_of_them(places: Weight) -> Weight:
    """No zeros."""
    return places


@dataclass(frozen=True)
class Case:
    """A layer, and which of its runs hold a non-zero."""

    operator: SparseOperator
    shape: tuple[int, ...]
    """(outputs, K), or (outputs, height, width, channels)."""
    run: int = 1
    kept: Callable[[Weight], Weight] = half
    plan: tuple[int, ...] = ()
    group: int = 0

    def model(self) -> tuple[onnx.ModelProto, int]:
        """The operator alone, and the bytes of its values."""
        made = one_node_model(self.operator)
        outputs, all_runs = self.shape[0], int(np.prod(self.shape)) // self.run
        positions = self.kept(np.arange(all_runs))
        values = np.ones((len(positions), self.run), np.float32)
        numbers = (
            values.astype(np.int8) if self.operator.integer_input
            else bf16_bits(values) if self.operator.bf16 else values
        )  # fmt: skip
        stored = store_runs(positions, numbers)
        constants = {
            "values": stored.values, "gaps": stored.gaps,
            "runs_shape": np.array([all_runs, self.run], np.int64),
            "weight_shape": np.array(self.shape, np.int64),
            **{
                name: np.ones(outputs, np.float32)
                for name in ("bias", "weight_steps", "norm_scale", "norm_shift")
            },
        }  # fmt: skip
        for old in made.graph.initializer:
            if old.name in constants:
                old.CopyFrom(constant_tensor(old.name, constants[old.name]))
        if self.plan:
            with_attribute(made, "plan", list(self.plan))
        if self.group:
            with_attribute(made, "nm_group", self.group)
        return made, stored.values.nbytes

    @property
    def x(self) -> npt.NDArray[np.generic]:
        """A small input."""
        shape = (1, self.shape[-1], 4, 5) if self.operator.convolution else (1, 3, self.shape[-1])
        return np.ones(shape, np.uint8 if self.operator.integer_input else np.float32)


NORMALIZES = SparseOperator(False, False, False, False, normalizes=True)
BF16 = SparseOperator(False, False, False, False, bf16=True)
WIDE, WIDE_WORDS = (1 << 15, 32), (1 << 15, 64)
WIDE_WINDOW, WIDE_WINDOW_OF_WORDS = (1 << 15, 3, 3, 4), (1 << 15, 3, 3, 8)
CASES = {
    "fp32, both families": Case(LINEAR, WIDE),
    "fp32, broadcast": Case(LINEAR, WIDE, plan=(1, 0, 0, 0)),
    "fp32, permute": Case(LINEAR, WIDE, plan=(2, 0, 0, 0)),
    "fp32, dense": Case(LINEAR, (1 << 15, 16), kept=all_of_them),
    "fp32, normalized": Case(NORMALIZES, WIDE),
    "bf16": Case(BF16, WIDE, 2),
    "int8, blocks": Case(INTEGER, WIDE_WORDS, 4),
    "int8, blocks, broadcast": Case(INTEGER, WIDE_WORDS, 4, plan=(1, 0, 0, 0)),
    "int8, N:M": Case(INTEGER, WIDE_WORDS, kept=two_of_four, group=4),
    "int8, dense": Case(INTEGER, WIDE_WORDS, 4, all_of_them),
    "fp32, convolution": Case(CONVOLUTION, WIDE_WINDOW),
    "fp32, dense convolution": Case(CONVOLUTION, (1 << 15, 3, 3, 2), kept=all_of_them),
    "int8, convolution": Case(INTEGER_CONVOLUTION, WIDE_WINDOW_OF_WORDS, 4),
    "int8, convolution of N:M": Case(
        INTEGER_CONVOLUTION, WIDE_WINDOW_OF_WORDS, kept=two_of_four, group=4
    ),
}

IN_THE_GATE = ("int8, blocks",)
"""The others are slow together; this one packs and frees what most do."""


def held() -> int:
    """Bytes that the process has."""
    gc.collect()
    return_freed_memory()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in IN_THE_GATE else pytest.mark.slow) for n in CASES]
)
def test_sessions_leave_nothing_behind(name: str, kernel_path: Path) -> None:
    case = CASES[name]
    model, weight = case.model()
    assert weight > 1_000_000

    def held_after(times: int) -> int:
        for _ in range(times):
            opened(model, kernel_path).run(None, {"x": case.x})
        return held()

    held_after(FIRST)
    before = held_after(TIMES)
    grown = held_after(TIMES) - before
    assert grown < weight, f"{TIMES} sessions more hold {grown / 1e6:.1f} MB"


def test_what_stays_is_seen(kernel_path: Path) -> None:
    model, weight = CASES["fp32, broadcast"].model()
    kept: list[ort.InferenceSession] = [opened(model, kernel_path)]
    before = held()
    kept += [opened(model, kernel_path) for _ in range(3)]
    assert held() - before > 3 * weight
