"""What a device needs of a model: its files, and how large they are together."""

from __future__ import annotations

from pathlib import Path

import onnx

from autosparse.evaluation.backend import LoweredModel
from autosparse.model_graph.external_data import check_external_data


def needed_files(model: LoweredModel) -> list[str]:
    """Paths, relative to the model's directory, of everything that opening it may read.

    Raises:
        ModelError: external data that the model points to are not there.
    """
    root = model.directory.resolve()
    if not model.entry.endswith(".onnx"):
        return _compiled_files(model, root)
    proto = onnx.load(str(model.path), load_external_data=False)
    data = [str(path.relative_to(root)) for path in check_external_data(proto, model.directory)]
    return [model.entry, *data, *([model.library] if model.library else [])]


def given_bytes(model: LoweredModel) -> int:
    """Size of a model as it came, its external data included; other files may lie beside it.

    Raises:
        ModelError: external data that the model points to are not there.
    """
    return sum((model.directory / name).stat().st_size for name in needed_files(model))


def lowered_bytes(model: LoweredModel) -> int:
    """Size of what a device needs to run a lowered model: the file, its data, its kernels.

    The directory holds nothing else. Kernels for a device of another architecture count in place
    of this machine's, which are there for evaluating quality.
    """
    every = sum(path.stat().st_size for path in model.directory.rglob("*") if path.is_file())
    idle = model.library if model.device_library else ""
    return every - (_bytes_of(model, idle) if idle else 0)


def library_bytes(model: LoweredModel) -> int:
    """Size of the library that a device loads with a lowered model; 0 where it needs none."""
    library = model.device_library or model.library
    return _bytes_of(model, library) if library else 0


def _compiled_files(model: LoweredModel, root: Path) -> list[str]:
    """Files of an artifact that is no ONNX model.

    One that names its library is the two of them: what else lies there may be a whole bundle, or a
    library for another machine. One that names none is all of its directory.
    """
    if model.library:
        return [model.entry, model.library]
    inside = (path for path in sorted(root.rglob("*")) if path.is_file())
    return [path.relative_to(root).as_posix() for path in inside]


def _bytes_of(model: LoweredModel, name: str) -> int:
    return (model.directory / name).stat().st_size
