"""A finished job, and answers from what it measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autosparse.evaluation import Verdict
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.resolve import run_resolve
from autosparse.pipeline.resolve_config import read_resolve_config
from tests.fakes.fake_backend import Planted
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World, layer_seconds, summed_error

ERRORS = {f"layer{i}": e for i, e in enumerate((0.01, 0.2, 0.03, 0.15, 0.02, 0.08))}
PLANTED = Planted(layer_seconds, summed_error(ERRORS))


def finished_world(root: Path) -> World:
    """A finished job with a budget of 80 %."""
    made = World.make(root, 6, PLANTED)
    assert made.run(latency_budget="80%", max_drop="50pt", trials=12).verdict is Verdict.MET
    return made


def copied(finished: World, root: Path) -> World:
    """The same in a place of its own."""
    shutil.copytree(finished.root, root, dirs_exist_ok=True)
    for name in ("job/config.json", "bundle/manifest.json"):
        path = root / "out" / name
        path.write_text(path.read_text().replace(str(finished.root), str(root)))
    return World(root, finished.layers, PLANTED)


def resolve(world: World, *, engines: Engines | None = None, resume: bool = False,
            **fields: Any) -> Result:  # fmt: skip
    given = {"source": world.root / "out", "output_dir": world.root / "new", **fields}
    used = engines or world.engines()
    return run_resolve(read_resolve_config(given), lambda backend: used, resume=resume)


def lane(engines: Engines) -> FakeLane:
    assert isinstance(engines.lane, FakeLane)
    return engines.lane
