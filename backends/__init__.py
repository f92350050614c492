"""Backends: what lowers a recipe to files and runs them. One file each, one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosparse.registry import Registry

if TYPE_CHECKING:
    from autosparse.evaluation import Backend

BACKENDS: Registry[Backend] = Registry(
    "backend",
    {
        "onnxruntime": "backends.onnxruntime_backend:OnnxRuntimeBackend",
        "tvm": "backends.tvm_backend:TvmBackend",
    },
    expected="autosparse.evaluation:Backend",  # whoever compiles imports this package, too
    group="autosparse.backends",
    extra="kernels",
)

__all__ = ["BACKENDS"]
