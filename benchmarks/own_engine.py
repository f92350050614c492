"""Our side of a duel: files opened as the product opens them, and canaries on the same cores."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from autosparse.evaluation import Backend, LoweredModel
from autosparse.evaluation.canaries import Canaries
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.tvm_backend import TvmBackend
from benchmarks.engine_server import Run, serve


def _open(request: dict[str, Any], inputs: dict[str, Any]) -> tuple[Run, str]:
    path = Path(request["path"])
    backend: Backend = OnnxRuntimeBackend() if path.suffix == ".onnx" else TvmBackend()
    model = LoweredModel(path.parent, path.name, library=request["library"])
    runner = backend.open(model, threads=request["threads"])
    return partial(runner.run, inputs), backend.name


def main() -> None:
    """Stay on the cores given as the only argument, and serve."""
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
    canaries = Canaries()
    serve(_open, lambda: canaries.read().model_dump())


if __name__ == "__main__":
    main()
