"""Devices of a planted world, and jobs for several of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autosparse.errors import CandidateError
from autosparse.evaluation import Environment, read_environment
from autosparse.levels import Level
from autosparse.pipeline.config import OF_A_LADDER, JobConfig, read_configs
from autosparse.pipeline.job import Engines
from autosparse.pipeline.ladder import Ladder, run_ladder
from autosparse.pipeline.pool import A, InProcess, K, Task
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import Notes
from tests.pipeline.worlds import World, layer_seconds, summed_error

ERRORS = {f"layer{i}": e for i, e in enumerate((0.01, 0.2, 0.03, 0.15))}


def seconds_of_board(name: str, level: Level) -> float:
    """Another device: three times as slow, and `layer0` is no faster in int8."""
    return 300e-6 if name == "layer0" else 3 * layer_seconds(name, level)


DEVICES = {
    "desk": Planted(layer_seconds, summed_error(ERRORS)),
    "board": Planted(seconds_of_board, summed_error(ERRORS)),
}


@dataclass
class DeviceLane(FakeLane):
    """The lane of a device with an environment of its own."""

    device: str = ""

    def environment(self) -> Environment:
        return read_environment().model_copy(update={"cpu": self.device})


@dataclass
class CountingPool(InProcess):
    """Remembers what it was asked to do."""

    tasks: list[Any] = field(default_factory=list)

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        asked = list(tasks)
        self.tasks.extend(asked)
        return super().run(kit, asked)


@dataclass
class DeviceBench:
    """A world, its devices, and what each job did."""

    world: World
    fail: dict[str, Any] = field(default_factory=dict)
    """Name of a job -> called before its measurements."""
    lanes: dict[str, DeviceLane] = field(default_factory=dict)
    pools: dict[str, CountingPool] = field(default_factory=dict)
    told: Notes = field(default_factory=Notes)

    @contextmanager
    def engines_on(self, config: JobConfig) -> Iterator[Engines]:
        name = config.output_dir.name
        device = Path(config.target).stem if config.target else "desk"
        planted = DEVICES[device]
        lane = DeviceLane(planted, self.world.layers, device=device)
        lane.fail = self.fail.get(name, lane.fail)
        self.lanes[name], self.pools[name] = lane, CountingPool()
        yield Engines(FakeBackend(planted), lane, self.told, self.pools[name])

    def run(self, *, resume: bool = False, **fields: Any) -> Ladder:
        given = self.world.config(max_drop="50pt", trials=8, **fields_of_one(fields))
        lists = {name: fields[name] for name in OF_A_LADDER if name in fields}
        configs = read_configs({**given.model_dump(mode="json", exclude_unset=True), **lists})
        return run_ladder(configs, self.engines_on, self.told, resume=resume)

    def target(self, name: str) -> str:
        path = self.world.root / f"{name}.yaml"
        path.write_text(f"name: {name}\n", encoding="utf-8")
        return str(path)


def fields_of_one(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in fields.items() if name not in OF_A_LADDER}
