"""An artifact that is opened again and again: nothing is left behind, and nothing is shared."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from autosparse.heap import return_freed_memory
from autosparse.levels import Level
from backends.tvm_backend import TvmBackend
from tests.lowering import Subject, request
from tests.models import images

pytestmark = pytest.mark.slow

LEVELS = ("unstructured@0.9:fp32", "block1x4@0.75:int8")
MEGABYTE = 1 << 20


@pytest.mark.parametrize("level", LEVELS)
def test_a_thousand_openings_leave_nothing_behind(
    residual: Subject, level: str, tmp_path: Path
) -> None:
    backend, wanted = TvmBackend(), Level.parse(level)
    chosen = {la.name: wanted for la in residual.graph.layers if la.name != "stem"}
    model = backend.lower(request(residual, chosen), tmp_path)
    given, process = {"image": images(1)}, psutil.Process()

    def held_after(times: int) -> int:
        for _ in range(times):
            backend.open(model, threads=1).run(given)
        gc.collect()
        return_freed_memory()
        return int(process.memory_info().rss)

    held_after(400)  # what is made once, is made
    before = held_after(300)
    grown = held_after(300) - before
    assert grown < 2 * MEGABYTE, f"300 openings more hold {grown / MEGABYTE:.1f} MB"


def test_artifacts_in_several_threads_do_not_disturb_each_other(
    residual: Subject, tmp_path: Path
) -> None:
    backend = TvmBackend()
    models = [
        backend.lower(request(residual, {"block1.a": Level.parse(level)}), tmp_path / level[:5])
        for level in LEVELS
    ]
    given = {"image": images(3)}
    expected = [backend.open(model, threads=1).run(given)["logits"].copy() for model in models]

    def many(which: int) -> None:
        runner = backend.open(models[which], threads=2)
        for _ in range(100):
            np.testing.assert_array_equal(runner.run(given)["logits"], expected[which])

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(many, (0, 1, 0, 1)))
