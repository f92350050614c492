"""The key of a training: what makes two of them the same one, so that it is not done twice.

All of it is what the job's files hold. The correction of channel statistics is computed anew by
every process, to other last bits; which levels it is for is in the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from autosparse.datasets import Dataset
from autosparse.levels import Recipe
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.lowering import stitched_weights
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.recovery import Recovery

Array = npt.NDArray[np.generic]


def training_key(
    bench: Bench, recipe: Recipe, recovery: Recovery, plan: TrainingPlan, rows: Dataset
) -> str:
    """Digest of a recipe with its weights and grids, of the method, the plan and the rows.

    Raises:
        CompileError: a weight is not in the level table.
    """
    kinds = () if bench.correction is None else bench.correction.kinds
    parts = (
        recipe.id, recovery.name, plan.model_dump_json(), bench.ranges.model_dump_json(),
        *sorted(str(kind) for kind in kinds),
    )  # fmt: skip
    found = hashlib.sha256("\n".join(parts).encode())
    for name, array in (*_weights(bench, recipe), *_values(rows)):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _weights(bench: Bench, recipe: Recipe) -> Iterator[tuple[str, Array]]:
    for name, weight in sorted(stitched_weights(bench.table, recipe).items()):
        for part, array in (("values", weight.values), ("bias", weight.bias)):
            if array is not None:
                yield f"{name} {part}", array


def _values(rows: Dataset) -> Iterator[tuple[str, Array]]:
    for half, inputs in enumerate((rows.inputs, rows.pair_inputs or {})):
        for name in sorted(inputs):
            yield f"{half} {name}", inputs[name]
    if rows.labels is not None:
        yield "labels", rows.labels
