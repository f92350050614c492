"""Backends: what lowers a recipe to files and runs them. One file each, one line here."""

from autosparse.evaluation import Backend
from autosparse.registry import Registry

BACKENDS: Registry[Backend] = Registry(
    "backend",
    {
        "onnxruntime": "backends.onnxruntime_backend:OnnxRuntimeBackend",
        "tvm": "backends.tvm_backend:TvmBackend",
    },
    expected=Backend,  # type: ignore[type-abstract]
    group="autosparse.backends",
)

__all__ = ["BACKENDS"]
