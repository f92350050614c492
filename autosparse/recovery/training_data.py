"""The rows that a training sees, in an order that depends on the seed and the step only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autosparse.datasets import Dataset
from autosparse.errors import DataError

# Rows kept apart to see whether the training helps: a tenth, but no more than these.
_HELD_OUT_SHARE, _MOST_HELD_OUT = 10, 512
_FEWEST_ROWS = 20


@dataclass(frozen=True)
class Rows:
    """Some rows: inputs, and labels where there are any."""

    inputs: Mapping[str, Tensor]
    labels: Tensor | None


class TrainingData:
    """Rows to learn from, and rows held out that only tell how it goes.

    The two halves of pairs are rows like any other: the dense model has an answer to each.

    Args:
        data: what the user gave.
        batch_size: rows in a step.
        seed: of the order and of what is held out.
        order: number of the order among those with the same rows held out.

    Raises:
        DataError: too few rows.
    """

    def __init__(self, data: Dataset, batch_size: int, seed: int, order: int = 0) -> None:
        inputs = dict(data.inputs)
        if data.pair_inputs is not None:
            inputs = {n: np.concatenate([a, data.pair_inputs[n]]) for n, a in inputs.items()}
        rows = len(next(iter(inputs.values())))
        if rows < _FEWEST_ROWS:
            raise DataError(
                f"the train file has {rows} rows; a training needs at least {_FEWEST_ROWS}",
                hint="give some hundreds of rows, better some thousands",
            )
        self._inputs = inputs
        self._labels = None if data.pair_inputs is not None else data.labels
        self._seed, self._order = seed, order
        drawn = np.random.default_rng(seed).permutation(rows)
        apart = min(rows // _HELD_OUT_SHARE, _MOST_HELD_OUT)
        self._held_out, self._learned = drawn[:apart], drawn[apart:]
        self.batch_size = min(batch_size, len(self._learned))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every row is seen once."""
        return max(len(self._learned) // self.batch_size, 1)

    @property
    def rows(self) -> int:
        """Rows that are learned from."""
        return len(self._learned)

    def batch(self, step: int) -> Rows:
        """The rows of one step: the same for the same seed, however the step is reached."""
        epoch, place = divmod(step, self.steps_per_epoch)
        drawn = np.random.default_rng((self._seed, 1 + self._order, epoch))
        order = drawn.permutation(self._learned)
        return self._rows(order[place * self.batch_size : (place + 1) * self.batch_size])

    def first_batches(self, count: int) -> list[Rows]:
        """Some batches for statistics, each full."""
        return [self.batch(step) for step in range(min(count, self.steps_per_epoch))]

    def held_out(self) -> list[Rows]:
        """The rows that were held out, in batches; the last is filled up where it is short."""
        size = self.batch_size
        starts = range(0, len(self._held_out), size)
        padded = np.resize(self._held_out, len(starts) * size)
        return [self._rows(padded[start : start + size]) for start in starts]

    def digest(self) -> str:
        """Digest of every value, and of how it is divided and ordered."""
        found = hashlib.sha256(f"{self._seed} {self._order} {self.batch_size}".encode())
        for name in sorted(self._inputs):
            found.update(name.encode() + np.ascontiguousarray(self._inputs[name]).tobytes())
        if self._labels is not None:
            found.update(np.ascontiguousarray(self._labels).tobytes())
        return found.hexdigest()

    def _rows(self, chosen: npt.NDArray[np.int64]) -> Rows:
        labels = None if self._labels is None else torch.from_numpy(self._labels[chosen])
        return Rows(
            {name: torch.from_numpy(array[chosen]) for name, array in self._inputs.items()}, labels
        )
