"""What the driver and whatever measures say to each other: JSON documents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation import LoweredModel, Measurement, Target, TimingSettings
from autosparse.evaluation.backend import NodeTime
from autosparse.evaluation.quiet_state import QuietState


class FileToOpen(BaseModel):
    """Where a lowered model lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path
    entry: str
    graph_level: Literal["disabled", "basic", "extended", "all"]
    library: str
    device_library: str = ""

    @classmethod
    def of(cls, model: LoweredModel) -> FileToOpen:
        """Absolute, since the measuring process has a working directory of its own."""
        return cls(
            directory=model.directory.resolve(),
            entry=model.entry,
            graph_level=model.graph_level,
            library=model.library,
            device_library=model.device_library,
        )

    def to_model(self) -> LoweredModel:
        """Back again."""
        return LoweredModel(
            self.directory, self.entry, self.graph_level, self.library, self.device_library
        )

    @property
    def on_device(self) -> FileToOpen:
        """As another device opens it: with the library that is made for it."""
        library = self.device_library or self.library
        return self.model_copy(update={"library": library, "device_library": ""})


class MeasureRequest(BaseModel):
    """Time these files interleaved. `quiet` is the state to hold the machine to, where known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["measure"] = "measure"
    files: dict[str, FileToOpen]
    inputs: Path
    target: Target
    settings: TimingSettings
    quiet: QuietState | None = None


class ProfileRequest(BaseModel):
    """Time every node of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["profile"] = "profile"
    file: FileToOpen
    inputs: Path
    target: Target
    runs: int


class Reply(BaseModel):
    """Measurements or node times, or the sentence that says why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    measurements: dict[str, Measurement] | None = None
    node_times: tuple[NodeTime, ...] | None = None
    quiet: QuietState | None = None
    """The canaries at their best while it was measured; None where there are none to read."""
    error: str = ""
    no_room: bool = False
    """Whether the reason is a full disk, which is no fault of the files."""
    killed: bool = False
    """Whether what measured was killed from outside, which is no fault of the files either."""
