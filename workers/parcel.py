"""A parcel: the files that a request names, for a device that does not see this machine's disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from autosparse.model_graph.external_data import check_external_data
from workers.messages import FileToOpen, MeasureRequest, ProfileRequest

_INPUTS = "inputs.npz"
_PROFILED = "profiled"


@dataclass(frozen=True)
class Parcel:
    """Contents of files by label and by their path below the label's directory."""

    inputs: bytes
    files: Mapping[str, Mapping[str, bytes]]

    @classmethod
    def of(cls, request: MeasureRequest | ProfileRequest) -> Parcel:
        """Pack what a request names, and nothing else that lies beside it."""
        return cls(
            inputs=request.inputs.read_bytes(),
            files={
                label: {name: (file.directory / name).read_bytes() for name in _names(file)}
                for label, file in _files(request).items()
            },
        )

    def unpack(
        self, request: MeasureRequest | ProfileRequest, directory: Path
    ) -> MeasureRequest | ProfileRequest:
        """Write the files into a directory, and name them there in the request."""
        (directory / _INPUTS).write_bytes(self.inputs)
        moved: dict[str, FileToOpen] = {}
        for number, (label, file) in enumerate(_files(request).items()):
            own = directory / str(number)  # labels are no paths
            for name, content in self.files[label].items():
                (own / name).parent.mkdir(parents=True, exist_ok=True)
                (own / name).write_bytes(content)
            moved[label] = file.model_copy(update={"directory": own})
        places = {"inputs": directory / _INPUTS}
        if isinstance(request, MeasureRequest):
            return request.model_copy(update={**places, "files": moved})
        return request.model_copy(update={**places, "file": moved[_PROFILED]})


def _files(request: MeasureRequest | ProfileRequest) -> Mapping[str, FileToOpen]:
    return request.files if isinstance(request, MeasureRequest) else {_PROFILED: request.file}


def _names(file: FileToOpen) -> list[str]:
    """The model, its external data, and its library."""
    proto = onnx.load(str(file.directory / file.entry), load_external_data=False)
    root = file.directory.resolve()
    data = [str(path.relative_to(root)) for path in check_external_data(proto, file.directory)]
    return [file.entry, *data, *([file.library] if file.library else [])]
