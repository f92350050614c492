"""Jobs of small real models, opened and not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autosparse.evaluation import Backend
from autosparse.pipeline.config import read_config
from autosparse.pipeline.job import Engines, Job, prepare_job
from autosparse.pipeline.progress import Progress
from autosparse.pipeline.workspace import open_workspace
from tests.fakes.fake_backend import Planted
from tests.fakes.fake_lane import FakeLane
from tests.models import Net, images

PLANTED = Planted(lambda name, level: 1e-4, lambda levels: 0.1 * len(levels))


def opened_jobs(root: Path, net: Net, backend: Backend, progress: Progress) -> Iterator[Job]:
    """One job, as long as it is asked for."""
    net.save(root / "model.onnx", "logits")
    np.savez(root / "calibration.npz", image=images(64))
    np.savez(root / "validation.npz", image=images(64, seed=2))
    config = read_config(
        {
            "model": root / "model.onnx",
            "calibration": root / "calibration.npz",
            "validation": root / "validation.npz",
            "latency_budget": "70%",
            "max_drop": "0.1",
            "output_dir": root / "out",
        }
    )
    engines = Engines(backend, FakeLane(PLANTED, ()), progress)
    with open_workspace(config, resume=False) as workspace:
        yield prepare_job(config, workspace, engines)
