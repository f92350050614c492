"""Jobs in planted worlds: everything is real but the runtime and the clock on the wall."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autosparse.evaluation import LoweredModel
from autosparse.levels import BASELINE, Level
from autosparse.model_graph import load_model
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import CLASSES, FakeBackend, FakeRunner, Levels, Planted, is_int8
from tests.fakes.fake_lane import FakeLane
from tests.models import Net

WIDTH = 8
ROWS = 200


def layer_seconds(name: str, level: Level) -> float:
    """Every layer takes 100 us, 40 in int8."""
    return 40e-6 if is_int8(level) else 100e-6


def summed_error(errors: Mapping[str, float]) -> Callable[[Levels], float]:
    """Errors of int8 layers that add up."""
    return lambda levels: sum(errors.get(n, 0.001) for n, lv in levels.items() if is_int8(lv))


@dataclass
class World:
    """Files of a small model with its data, and the planted behaviour."""

    root: Path
    layers: tuple[str, ...]
    planted: Planted

    @classmethod
    def make(cls, root: Path, count: int, planted: Planted, width: int = WIDTH) -> World:
        net = Net(seed=1)
        value = net.input("x", "batch", width)
        for index in range(count):
            outputs = CLASSES if index == count - 1 else width
            weight = net.weight(f"layer{index}.weight", width, outputs)
            value = net.node("Gemm", value, weight, to="logits" if index == count - 1 else "")
        root.mkdir(parents=True, exist_ok=True)
        net.save(root / "model.onnx", "logits")
        rng = np.random.default_rng(3)
        rows = rng.standard_normal((ROWS, width)).astype(np.float32)
        labels = FakeRunner(0.0).run({"x": rows})["logits"].argmax(axis=1)
        np.savez(root / "calibration.npz", x=rows[:32])
        np.savez(root / "validation.npz", x=rows, labels=labels)
        names = tuple(layer.name for layer in load_model(root / "model.onnx").layers)
        return cls(root, names, planted)

    def config(self, **fields: Any) -> JobConfig:
        given = {
            "model": self.root / "model.onnx",
            "calibration": self.root / "calibration.npz",
            "validation": self.root / "validation.npz",
            "latency_budget": "70%",
            "max_drop": "5pt",
            "space": "int8",
            "output_dir": self.root / "out",
            "trials": 25,
        }
        return read_config({**given, **fields})

    def engines(
        self,
        *,
        noise: float = 0.0,
        fail: Callable[[Mapping[str, LoweredModel]], None] | None = None,
    ) -> Engines:
        lane = FakeLane(self.planted, self.layers, noise=noise)
        if fail is not None:
            lane.fail = fail
        return Engines(backend=FakeBackend(self.planted), lane=lane, progress=Silent())

    def run(self, *, resume: bool = False, engines: Engines | None = None, **fields: Any) -> Result:
        return run_job(self.config(**fields), engines or self.engines(), resume=resume)


def odd_world(root: Path, count: int) -> World:
    """Layers of odd sizes and errors, so that there are recipes at any latency."""
    rng = np.random.default_rng(0)
    names = [f"layer{index}" for index in range(count)]
    dense = dict(zip(names, rng.uniform(60e-6, 140e-6, count), strict=True))
    errors = dict(zip(names, np.exp(rng.normal(-3.5, 1.0, count)), strict=True))

    def seconds(name: str, level: Level) -> float:
        return float(dense[name] * (0.4 if is_int8(level) else 1.0))

    return World.make(root, count, Planted(seconds, summed_error(errors)))


def least_error(world: World, share: float) -> float:
    """Of all recipes that take a share of the dense model's latency at most."""
    int8 = Level.parse("dense:int8")
    every = [
        dict(zip(world.layers, chosen, strict=True))
        for chosen in itertools.product((BASELINE, int8), repeat=len(world.layers))
    ]
    bound = share * world.planted.latency(dict.fromkeys(world.layers, BASELINE))
    return min(world.planted.error(e) for e in every if world.planted.latency(e) <= bound)
