"""`gpu`: the kernels for GPUs against cuBLAS and cuSPARSELt, where there is a GPU.

What measures is a script of its own (`gpu_process.py`), which needs less than AutoSparse does and
runs alone on a machine that has no more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autosparse.evaluation import read_environment
from benchmarks.benchmark import Request
from benchmarks.gpu_process import NO_GPU
from benchmarks.rows import Row, failed_row, ratio_of

_SCRIPT = Path(__file__).with_name("gpu_process.py")
_OURS, _DENSE, _SPARSE = "ours 2:4", "cuBLAS", "cuSPARSELt"
_LEAST_OF_CUSPARSELT = 0.9
_LARGEST_ERROR = {"fp16": 2e-3, "bf16": 1.6e-2, "int8": 1e-6}
"""Of the sum of the absolute products: the last digit of the output and what adding up loses."""

Document = dict[str, Any]


class GpuBenchmark:
    """Implements `Benchmark`."""

    name = "gpu"
    summary = "kernels for GPUs against cuBLAS and cuSPARSELt; needs a GPU, PyTorch with CUDA, nvcc"

    def rows(self, request: Request) -> Iterator[Row]:
        """Every product; or one row that says that there is no GPU, and does not hold."""
        environment = read_environment().id
        command = [sys.executable, "-I", str(_SCRIPT), *(["--quick"] if request.quick else [])]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        documents = [json.loads(line) for line in child.stdout.splitlines()]
        if child.returncode == NO_GPU:
            yield failed_row(
                "kernels for GPUs",
                "no GPU: nothing was measured. Run it on a machine with an NVIDIA GPU, PyTorch "
                "with CUDA and nvcc; `python3 benchmarks/gpu_process.py` needs no more there",
                environment,
            )
            return
        yield from product_rows(documents, environment)
        if child.returncode and not any(one["problem"] for one in documents):
            reason = f"the process ended with code {child.returncode}"
            yield failed_row("kernels for GPUs", reason, environment)


def product_rows(documents: Iterable[Document], environment: str) -> Iterator[Row]:
    """Rows of what the script told: of each kernel, and of each product beside both libraries."""
    products: dict[tuple[Any, ...], list[Document]] = defaultdict(list)
    for one in documents:
        if "check" in one:
            yield _check(one, environment)
            continue
        products[one["element"], one["outputs"], one["depth"], one["rows"]].append(one)
    for (element, outputs, depth, count), found in products.items():
        what = f"{element} {outputs}x{depth}, {count} rows"
        for one in found:
            if one["problem"]:
                yield failed_row(f"{what}, {one['contestant']}", one["problem"], environment)
        measured = [one for one in found if one["microseconds"] is not None]
        ours = [one for one in measured if one["contestant"] == _OURS and one["is_chosen"]]
        for mine in ours:
            for opponent in measured:
                if opponent["contestant"] in (_DENSE, _SPARSE):
                    yield _duel(what, mine, opponent, environment)
            yield _numerics(what, mine, environment)


def _check(one: Document, environment: str) -> Row:
    return Row(
        what=f"{one['check']} at odd sizes, largest error", figure=one["error"],
        unit="of the absolute products", bar="right", holds=not one["problem"],
        environment=environment, note=one["problem"],
    )  # fmt: skip


def _duel(what: str, mine: Document, opponent: Document, environment: str) -> Row:
    # a speed-up: above 1 where ours is the faster one
    ratio = ratio_of(opponent["microseconds"], mine["microseconds"])
    has_bar = opponent["contestant"] == _SPARSE
    return Row(
        what=f"{what}, 2:4", figure=mine["microseconds"], unit="us",
        opponent=opponent["contestant"], opponent_figure=opponent["microseconds"], ratio=ratio,
        bar=f"speed >= {_LEAST_OF_CUSPARSELT} of it" if has_bar else "",
        holds=(ratio or 0.0) >= _LEAST_OF_CUSPARSELT if has_bar else None,
        environment=environment, note=f"{mine['device']}, tile {mine['tile']}, weights cold; the "
        "ratio is the opponent's time over ours",
    )  # fmt: skip


def _numerics(what: str, mine: Document, environment: str) -> Row:
    most = _LARGEST_ERROR[mine["element"]]
    return Row(
        what=f"{what}, 2:4, largest error", figure=mine["error"], unit="of the absolute products",
        bar=f"<= {most}", holds=mine["error"] <= most, environment=environment,
    )  # fmt: skip
