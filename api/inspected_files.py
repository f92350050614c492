"""Reading what was uploaded, within bounds. Runs only in the inspecting process."""

from __future__ import annotations

import math
import re
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from api.file_store import MODEL_FILE, too_large
from autosparse.errors import DataError, ModelError
from autosparse.tensor_spec import TensorSpec

_MOST_MEMBERS = 4096
_PIECE = 1 << 20
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,200}")
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


def tensor_infos(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    """Inputs or outputs, as they are told."""
    return [
        {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)} for spec in specs
    ]


def unpack_model(upload: Path, directory: Path, most_bytes: int) -> str:
    """Put an uploaded model into its own directory: one ONNX file, or a zip with its data.

    Returns:
        Name of the ONNX file in the directory.

    Raises:
        ModelError: a zip that is damaged, holds no or several models, or names that leave it.
        TooLargeError: it unpacks to more than is allowed.
    """
    directory.mkdir()
    if not zipfile.is_zipfile(upload):
        (directory / MODEL_FILE).hardlink_to(upload)
        return MODEL_FILE
    try:
        with zipfile.ZipFile(upload) as archive:
            members = _members(archive, most_bytes)
            left = most_bytes
            for name, member in members.items():
                left -= _extract(archive, member, directory / name, left)
    except _BROKEN_ZIP as error:
        raise ModelError(
            f"the zip file is damaged: {error}", hint="pack it again, without encryption"
        ) from error
    models = [name for name in members if name.endswith(".onnx")]
    if len(models) != 1:
        raise ModelError(
            f"the zip file holds {len(models)} ONNX files",
            hint="pack exactly one .onnx file, and beside it the data files that it names",
        )
    return models[0]


def _members(archive: zipfile.ZipFile, most_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Files of the archive by safe relative path; folders are left out."""
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise ModelError(f"the zip file has {len(infos)} members, more than {_MOST_MEMBERS}")
    if sum(info.file_size for info in infos) > most_bytes:
        raise too_large("what the zip file unpacks to", most_bytes)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.is_dir():
            continue
        name = _safe_name(info)
        if name in found:
            raise ModelError(f"the zip file has two members called {name!r}")
        found[name] = info
    return found


def _safe_name(info: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(info.filename).parts
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ModelError(f"the member {info.filename!r} of the zip file is no plain file")
    if not parts or not all(_SAFE_PART.fullmatch(part) for part in parts):
        raise ModelError(
            f"the zip file has a member with an impossible name: {info.filename!r}",
            hint="use letters, digits and -_+. in the names, and no path that leaves the zip",
        )
    return "/".join(parts)


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, most_bytes: int) -> int:
    """Unpack one member, however long it says it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(info) as source, path.open("xb") as file:
        while piece := source.read(_PIECE):
            written += len(piece)
            if written > most_bytes:
                raise too_large("what the zip file unpacks to", most_bytes)
            file.write(piece)
    return written


def array_infos(path: Path, most_bytes: int) -> list[dict[str, Any]]:
    """Names, types and shapes of an npz file's arrays, without reading the arrays.

    Raises:
        DataError: no npz file, or one with objects, or with arrays that are not all there.
        TooLargeError: it unpacks to more than is allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > _MOST_MEMBERS:
                raise DataError(f"the npz file has more than {_MOST_MEMBERS} members")
            if sum(info.file_size for info in infos) > most_bytes:
                raise too_large("what the npz file unpacks to", most_bytes)
            found = [_array_info(archive, info) for info in infos]
    except (*_BROKEN_ZIP, ValueError, OSError) as error:
        raise DataError(
            f"the upload is no npz file of plain arrays: {error}",
            hint="save it with numpy.savez(path, input=..., labels=...), without objects",
        ) from error
    if not found:
        raise DataError("the npz file holds no arrays")
    return found


def _array_info(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any]:
    with archive.open(info) as member:
        shape, dtype = _read_header(member)
    if dtype.hasobject:
        raise DataError(f"the array {info.filename!r} holds Python objects, which are not read")
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise DataError(f"the array {info.filename!r} is not whole")
    return {
        "name": info.filename.removesuffix(".npy"), "dtype": str(dtype), "shape": list(shape),
    }  # fmt: skip


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    return shape, dtype
