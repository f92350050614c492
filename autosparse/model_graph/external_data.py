"""External data of an ONNX file: it must exist, be long enough, and lie beside the model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx

from autosparse.errors import ModelError

_OFFSET = re.compile(r"[0-9]{1,19}")  # what fits into 64 bits


def check_external_data(proto: onnx.ModelProto, directory: Path) -> tuple[Path, ...]:
    """Return the files that the model's tensors point to, each once, in order of first use.

    Raises:
        ModelError: a file is missing, too short, or outside `directory` (also through a link).
    """
    files: dict[Path, None] = {}
    root = directory.resolve()
    for tensor in _external_tensors(proto):
        entries = {str(entry.key): str(entry.value) for entry in tensor.external_data}
        location = entries.get("location", "")
        path = _resolve(root, location)
        if path is None:
            raise ModelError(
                f"tensor {tensor.name!r} points to external data outside the model's directory: "
                f"{location!r}",
                hint="save the model with its data file beside it",
            )
        if not path.is_file():
            raise ModelError(
                f"the external data file {location!r} of tensor {tensor.name!r} is missing",
                hint="put it beside the model file",
            )
        end = _integer(entries, "offset", tensor) + _integer(entries, "length", tensor)
        if end > path.stat().st_size:
            raise ModelError(
                f"the external data file {location!r} is truncated: tensor {tensor.name!r} "
                f"ends at byte {end}, the file has {path.stat().st_size}",
                hint="copy the file again",
            )
        files[path] = None
    return tuple(files)


def copy_model(path: Path, copy: Path) -> None:
    """Copy an ONNX file that was taken in, and its data files as they lie beside it.

    Args:
        path: the file.
        copy: where its copy shall lie, alone in its directory.

    Raises:
        ModelError: a data file has the name that the copy shall have.
    """
    proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    entries = [entry for tensor in _external_tensors(proto) for entry in tensor.external_data]
    shutil.copyfile(path, copy)
    for location in sorted({str(e.value) for e in entries if e.key == "location"}):
        target = copy.parent / location
        if target == copy:
            raise ModelError(
                f"the external data file of {path.name} is called {location!r}, like the model "
                "that is delivered",
                hint="save the model with its data under another name",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / location, target)


def _resolve(root: Path, location: str) -> Path | None:
    """The file that is meant; None where it lies outside `root` or is no possible path."""
    try:
        path = (root / location).resolve()
        path.is_file()  # complains about names that no file system takes
    except (OSError, ValueError):
        return None
    return path if location and path.is_relative_to(root) else None


def _integer(entries: dict[str, str], key: str, tensor: onnx.TensorProto) -> int:
    text = entries.get(key, "0")
    if not _OFFSET.fullmatch(text):
        raise ModelError(f"tensor {tensor.name!r} has an impossible {key} {text!r}")
    return int(text)


def _external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from (t for t in graph.initializer if t.data_location == t.EXTERNAL)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            tensors = [attribute.t, *attribute.tensors]
            yield from (t for t in tensors if t.data_location == t.EXTERNAL)
            graphs.extend((attribute.g, *attribute.graphs))
