"""The benchmark of the kernels for GPUs: where there is none, and what becomes of its figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.benchmark import Request
from benchmarks.gpu import GpuBenchmark, product_rows
from benchmarks.gpu_process import NO_GPU
from benchmarks.rows import all_hold

SCRIPT = Path(gpu.__file__).with_name("gpu_process.py")
ON_A_BARE_MACHINE = """
import runpy, sys
for name in ("pydantic", "onnx", "onnx_ir", "onnxruntime", "scipy", "optuna", "tvm", "torch"):
    sys.modules[name] = None  # importing it fails
import ctypes
def missing(name, *more): raise OSError("no such library")
ctypes.CDLL = missing
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_without_a_gpu_the_script_says_so_and_needs_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ON_A_BARE_MACHINE, str(SCRIPT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == NO_GPU, done.stderr
    assert done.stderr.startswith("no GPU: ")
    assert done.stdout == ""


def test_without_a_gpu_the_benchmark_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.exit({NO_GPU})\n")
    monkeypatch.setattr(gpu, "_SCRIPT", script)
    rows = list(GpuBenchmark().rows(Request(quick=True, assets=tmp_path, directory=tmp_path)))
    assert not all_hold(rows)
    assert "no GPU" in rows[0].note


def document(contestant: str, microseconds: float | None, **more: Any) -> dict[str, Any]:
    return {
        "element": "fp16", "outputs": 4096, "depth": 4096, "rows": 16, "contestant": contestant,
        "microseconds": microseconds, "error": 1e-4, "problem": "", "device": "H", "tile": "",
        "is_chosen": False, **more,
    }  # fmt: skip


@pytest.mark.parametrize(("theirs", "holds"), [(9.1, True), (8.9, False)])
def test_a_bar_stands_against_cusparselt(theirs: float, holds: bool) -> None:
    told = [
        document("ours 2:4", 10.0, tile="few", is_chosen=True),
        document("ours 2:4", 1.0, tile="many"),
        document("cuBLAS", 20.0), document("cuSPARSELt", theirs),
    ]  # fmt: skip
    dense, sparse, error = product_rows(told, "e")
    assert (dense.opponent, dense.ratio, dense.holds) == ("cuBLAS", 2.0, None)
    assert (sparse.figure, sparse.holds) == (10.0, holds)
    assert error.holds


def test_what_failed_and_what_is_wrong_do_not_hold() -> None:
    told = [
        {"check": "as_fp16_dense_few", "error": 1e-7, "problem": ""},
        {"check": "as_fp16_dense_many", "error": 0.3, "problem": "wrong"},
        document("ours 2:4", 10.0, is_chosen=True, error=0.1),
        document("cuSPARSELt", None, problem="RuntimeError: not there"),
    ]
    right, wrong, failed, error = product_rows(told, "e")
    assert (right.holds, wrong.holds) == (True, False)
    assert (failed.holds, failed.note) == (False, "RuntimeError: not there")
    assert error.holds is False
