"""A parcel: the files that a request names, for a device that does not see this machine's disk.

Labels are no paths: within a parcel, the files of a request lie in numbered directories, in the
order of their labels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autosparse.errors import RequestError
from autosparse.evaluation.artifact_files import needed_files
from workers.messages import FileToOpen, MeasureRequest, ProfileRequest

_INPUTS = "inputs.npz"
_PROFILED = "profiled"


@dataclass(frozen=True)
class Parcel:
    """Contents of files by their path within the parcel."""

    files: Mapping[str, bytes]

    @classmethod
    def of(cls, request: MeasureRequest | ProfileRequest) -> Parcel:
        """Pack what a request names, and nothing else that lies beside it."""
        return cls({name: path.read_bytes() for name, path in contents(request).items()})

    def unpack(
        self, request: MeasureRequest | ProfileRequest, directory: Path
    ) -> MeasureRequest | ProfileRequest:
        """Write the files into a directory, and name them there in the request."""
        for name, content in self.files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        return unpacked(request, directory)


def contents(request: MeasureRequest | ProfileRequest) -> dict[str, Path]:
    """Path within the parcel -> where the file lies now."""
    named = {_INPUTS: request.inputs}
    for number, file in enumerate(_files(request).values()):
        names = needed_files(file.to_model())
        named.update({f"{number}/{name}": file.directory / name for name in names})
    return named


def unpacked(
    request: MeasureRequest | ProfileRequest, directory: Path
) -> MeasureRequest | ProfileRequest:
    """The request, with its files in a directory that holds the contents of its parcel."""
    moved = {
        label: file.model_copy(update={"directory": directory / str(number)})
        for number, (label, file) in enumerate(_files(request).items())
    }
    places = {"inputs": directory / _INPUTS}
    if isinstance(request, MeasureRequest):
        return request.model_copy(update={**places, "files": moved})
    return request.model_copy(update={**places, "file": moved[_PROFILED]})


def on_device(request: MeasureRequest | ProfileRequest) -> MeasureRequest | ProfileRequest:
    """The request as a device of another architecture is asked it."""
    files = {label: file.on_device for label, file in _files(request).items()}
    if isinstance(request, MeasureRequest):
        return request.model_copy(update={"files": files})
    return request.model_copy(update={"file": files[_PROFILED]})


def check_names(request: MeasureRequest | ProfileRequest, names: Collection[str]) -> None:
    """Check what a peer sent before anything is written or opened.

    Args:
        request: what it asks.
        names: paths within its parcel.

    Raises:
        RequestError: a path would leave the parcel, or the request names what is not in it.
    """
    for name in names:
        parts = PurePosixPath(name).parts
        plain = parts and not {".", "..", "/"} & set(parts) and "\0" not in name
        if not plain or str(PurePosixPath(name)) != name or "\\" in name:
            raise RequestError(f"the parcel has a file of the name {name!r}")
    needed = [_INPUTS] + [
        f"{number}/{name}"
        for number, file in enumerate(_files(request).values())
        for name in (file.entry, file.library)
        if name
    ]
    missing = [name for name in needed if name not in names]
    if missing:
        raise RequestError(f"the request names {missing[0]!r}, which is not in its parcel")


def _files(request: MeasureRequest | ProfileRequest) -> Mapping[str, FileToOpen]:
    return request.files if isinstance(request, MeasureRequest) else {_PROFILED: request.file}
