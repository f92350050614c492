"""A planted world with sparse kernels, for the atlas."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autosparse.evaluation import Capability, ExecutedLayer, LoweredModel, Target
from autosparse.levels import BASELINE, Level
from autosparse.model_graph import Layer, ModelGraph
from autosparse.pipeline.config import ProfileConfig, read_profile_config
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import FakeBackend, Levels, Planted, is_int8, read_levels
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World

FP32, INT8 = 100e-6, 40e-6


def planted_seconds(name: str, level: Level) -> float:
    """Unstructured fp32 meets INT8 at 75 % zeros, N:M int8 always wins, blocks never do."""
    if level.sparsity == 0:
        return INT8 if is_int8(level) else FP32
    if level.pattern.kind == "block":
        return 60e-6
    return 160e-6 * (1 - level.sparsity) if not is_int8(level) else 30e-6


def planted(broken: str = "") -> Planted:
    def why(levels: Levels) -> str:
        return "the kernel does not compile" if broken in map(str, levels.values()) else ""

    return Planted(planted_seconds, lambda levels: 0.0, broken=why if broken else lambda lv: "")


@dataclass
class SparseBackend(FakeBackend):
    """Runs every level, but those that it is told to refuse or to execute densely."""

    refused: set[str] = field(default_factory=set)
    densely: set[str] = field(default_factory=set)

    def capability(self, layer: Layer, level: Level, target: Target) -> Capability:
        if str(level.without_method()) in self.refused:
            return Capability.no(f"{layer.name}: refused by plan")
        return Capability.wins()

    def executed_layers(self, model: LoweredModel, graph: ModelGraph) -> dict[str, ExecutedLayer]:
        levels = read_levels(model)
        found = super().executed_layers(model, graph)
        for layer in graph.layers:
            level = levels.get(layer.name, BASELINE)
            skips = level.sparsity > 0 and str(level.without_method()) not in self.densely
            update = {
                "skips_zeros": skips,
                "kernel": "Sparse" if skips else "Gemm",
                "precision": level.precision.value,
            }
            found[layer.name] = found[layer.name].model_copy(update=update)
        return found


class Notes(Silent):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


@dataclass
class SparseWorld:
    """The files of a world, and engines for it."""

    world: World
    backend: SparseBackend
    lane: FakeLane
    progress: Notes = field(default_factory=Notes)

    @classmethod
    def make(cls, root: Path, broken: str = "", count: int = 3) -> SparseWorld:
        plan = planted(broken)
        world = World.make(root, count, plan)
        return cls(world, SparseBackend(plan), FakeLane(plan, world.layers))

    @property
    def engines(self) -> Engines:
        return Engines(backend=self.backend, lane=self.lane, progress=self.progress)

    def config(self, **fields: Any) -> ProfileConfig:
        given = {"model": self.world.root / "model.onnx", **fields}
        return read_profile_config(given)

    def atlas_config(self, **fields: Any) -> ProfileConfig:
        given = {"atlas": True, "output_dir": self.world.root / "atlas", **fields}
        return self.config(**given)
