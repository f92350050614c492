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
from autosparse.recovery.row_lengths import RowLengths

# Rows kept apart to see whether the training helps: a tenth, but no more than these.
_HELD_OUT_SHARE, MOST_HELD_OUT = 10, 512
_FEWEST_ROWS = 20
# Rows of so many batches are sorted by length: batches of one length, and still drawn at random.
_SORTED_BATCHES = 16
Array = npt.NDArray[np.generic]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Some rows: inputs, and labels where there are any."""

    inputs: Mapping[str, Tensor]
    labels: Tensor | None
    """(rows,) int64 class indices."""

    def first(self, count: int) -> Rows:
        """No more than so many of them."""
        labels = None if self.labels is None else self.labels[:count]
        return Rows({name: own[:count] for name, own in self.inputs.items()}, labels)


def learned_inputs(data: Dataset) -> dict[str, Array]:
    """Input name -> (rows, ...): the two halves of pairs are rows like any other.

    The dense model has an answer to each.
    """
    if data.pair_inputs is None:
        return dict(data.inputs)
    return {n: np.concatenate([a, data.pair_inputs[n]]) for n, a in data.inputs.items()}


class TrainingData:
    """Rows to learn from, and rows held out that only tell how it goes.

    Args:
        data: what the user gave.
        batch_size: rows in a step.
        seed: of the order and of what is held out.
        order: number of the order among those with the same rows held out.
        lengths: where rows end, if batches may be cut there: rows of about one length are then in
            one batch.

    Raises:
        DataError: too few rows.
    """

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        seed: int,
        order: int = 0,
        lengths: RowLengths | None = None,
    ) -> None:
        inputs = learned_inputs(data)
        rows = len(next(iter(inputs.values())))
        if rows < _FEWEST_ROWS:
            raise DataError(
                f"the train file has {rows} rows; a training needs at least {_FEWEST_ROWS}",
                hint="give some hundreds of rows, better some thousands",
            )
        self._inputs, self._lengths = inputs, lengths
        self._labels = None if data.pair_inputs is not None else data.labels
        self._seed, self._order = seed, order
        drawn = np.random.default_rng(seed).permutation(rows)
        apart = min(rows // _HELD_OUT_SHARE, MOST_HELD_OUT)
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

    @property
    def held_out_batches(self) -> int:
        """Batches that the rows held out make."""
        return -(-len(self._held_out) // self.batch_size)

    def batch(self, step: int) -> Rows:
        """The rows of one step: the same for the same seed, however the step is reached."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng((self._seed, 1 + self._order, epoch))
        order = rng.permutation(self._learned)
        if self._lengths is not None:
            order = self._by_length(order[: self.steps_per_epoch * self.batch_size])
            place = int(rng.permutation(self.steps_per_epoch)[place])
        return self._rows(order[place * self.batch_size : (place + 1) * self.batch_size])

    def first_batches(self, count: int) -> list[Rows]:
        """Some batches for statistics, each full."""
        return [self.batch(step) for step in range(min(count, self.steps_per_epoch))]

    def held_out(self, batches: int | None = None) -> list[Rows]:
        """The rows that were held out, in batches; the last is filled up where it is short.

        Args:
            batches: some of them only, drawn at random once and for all.
        """
        size = self.batch_size
        kept = self._held_out if batches is None else self._held_out[: batches * size]
        starts = range(0, len(kept), size)
        padded = self._by_length(np.resize(kept, len(starts) * size))
        return [self._rows(padded[start : start + size]) for start in starts]

    def digest(self) -> str:
        """Digest of every value, and of how it is divided and ordered."""
        cut = "" if self._lengths is None else f" cut {sorted(self._lengths.inputs)}"
        found = hashlib.sha256(f"{self._seed} {self._order} {self.batch_size}{cut}".encode())
        for name in sorted(self._inputs):
            found.update(name.encode() + np.ascontiguousarray(self._inputs[name]).tobytes())
        if self._labels is not None:
            found.update(np.ascontiguousarray(self._labels).tobytes())
        return found.hexdigest()

    def _by_length(self, order: Ints) -> Ints:
        """Rows of some batches sorted by their length, and so on; as they are where none is known.

        Equal lengths keep the order that was drawn.
        """
        if self._lengths is None:
            return order
        window = _SORTED_BATCHES * self.batch_size
        return np.concatenate(
            [
                part[np.argsort(self._lengths.of_rows[part], kind="stable")]
                for part in (order[i : i + window] for i in range(0, len(order), window))
            ]
        )

    def _rows(self, chosen: Ints) -> Rows:
        arrays = (
            {name: array[chosen] for name, array in self._inputs.items()}
            if self._lengths is None
            else self._lengths.cut(self._inputs, chosen)
        )
        # a cross-entropy takes class indices of this type only
        labels = (
            None
            if self._labels is None
            else torch.from_numpy(self._labels[chosen].astype(np.int64))
        )
        return Rows({name: torch.from_numpy(array) for name, array in arrays.items()}, labels)
