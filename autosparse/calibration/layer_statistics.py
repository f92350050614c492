"""From observed activations to the statistics that methods read, in one pass.

Memory is bounded by the model, not by the data: per layer (groups, K) sums, and (groups, K, K)
where a Hessian is asked for; where these have no room together, each of several passes has some of
them. Large feature maps hold far more rows than a Hessian of that size needs, and neighbouring rows
say nearly the same: at most `rows_per_sample` rows for every entry of the batch axis are drawn,
uniformly and without replacement over the whole batch. What a batch adds is scaled by rows / drawn
rows, so every mean is an unbiased estimate of the mean over all rows, whatever the sizes of the
batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from autosparse.calibration.finite import finite_extremes
from autosparse.calibration.statistics import LayerStatistics
from autosparse.calibration.windows import InputRows, Window, window_of
from autosparse.errors import DataError
from autosparse.model_graph import Layer, ModelGraph

Floats = npt.NDArray[np.float32]
_ReadRows = tuple[str, Window, int]

ROWS_PER_SAMPLE = 64
# Floats gathered at once: 64 MiB, whatever the batch.
_GATHERED_AT_ONCE = 1 << 24


class LayerStatisticsAccumulator:
    """Sums up what one layer reads, batch by batch.

    Args:
        layer: whose input is observed.
        window: how the layer slides over it; `window_of` its node.
        hessian: whether to sum outer products too, the costly part.
        rows_per_sample: most rows drawn per entry of the batch axis, on average over a batch;
            None takes every row.
        seed: of the draw. The same batches in the same order give the same statistics.
    """

    def __init__(
        self,
        layer: Layer,
        window: Window,
        *,
        hessian: bool = False,
        rows_per_sample: int | None = ROWS_PER_SAMPLE,
        seed: int = 0,
    ) -> None:
        self._layer = layer
        self._window = window
        self._rows_per_sample = rows_per_sample
        self._draw = np.random.default_rng(seed)
        self._rows = 0
        shape = (layer.groups, layer.reduction)
        self._sums = np.zeros(shape)
        self._squares = np.zeros(shape)
        # Float32 halves the largest arrays of the pass. Its rounding moves eigenvalues by about
        # 1e-7 of the trace, far less than the damping that every solver adds.
        self._products: Floats | None = (
            np.zeros((*shape, layer.reduction), dtype=np.float32) if hessian else None
        )

    def observe(self, activations: Floats) -> None:
        """Take in one batch of the layer's input, as the graph computes it.

        Raises:
            DataError: the model computes NaN or infinity on the calibration data.
        """
        if activations.size == 0:
            return
        finite_extremes(self._layer.input, activations)
        rows = InputRows(activations, self._window, self._layer.groups)
        chosen = self._choose(len(rows), activations.shape[0])
        share = len(rows) / max(len(chosen), 1)
        at_once = max(_GATHERED_AT_ONCE // (self._layer.groups * self._layer.reduction), 1)
        for start in range(0, len(chosen), at_once):
            self._add(rows.take(chosen[start : start + at_once]), share)
        self._rows += len(rows)

    def statistics(self) -> LayerStatistics:
        """Everything seen so far.

        Raises:
            DataError: activations are so large that their squares overflow.
        """
        count = max(self._rows, 1)
        norms = np.sqrt(self._squares).astype(np.float32)
        hessian = None if self._products is None else self._products / np.float32(count)
        if not np.isfinite(norms).all() or (hessian is not None and not np.isfinite(hessian).all()):
            raise DataError(
                f"on the calibration data, the model's tensor {self._layer.input!r} is too large "
                "to be squared",
                hint="check the preprocessing of the calibration file",
            )
        return LayerStatistics(
            rows=self._rows,
            input_norms=norms,
            hessian=hessian,
            input_means=(self._sums / count).astype(np.float32),
        )

    def drop_hessian(self) -> None:
        """Give its memory back; what the other statistics tell stays."""
        self._products = None

    def _choose(self, rows: int, samples: int) -> npt.NDArray[np.int64]:
        most = rows if self._rows_per_sample is None else self._rows_per_sample * samples
        if rows <= most:
            return np.arange(rows)
        # sorted, so that the gather walks through memory in order
        return np.sort(self._draw.choice(rows, size=most, replace=False, shuffle=False))

    def _add(self, rows: Floats, share: float) -> None:
        """Sum up (groups, rows, K), every row counted `share` times."""
        self._sums += share * rows.sum(axis=1, dtype=np.float64)
        self._squares += share * np.einsum("grk,grk->gk", rows, rows, dtype=np.float64)
        if self._products is not None:
            # an overflow is reported by `statistics`, with the tensor's name
            with np.errstate(over="ignore", invalid="ignore"):
                products = rows.transpose(0, 2, 1) @ rows
                products *= np.float32(share)
                self._products += products


def hessian_bytes(graph: ModelGraph, layers: Iterable[Layer]) -> dict[tuple[str, ...], int]:
    """Names of the layers that share one Hessian -> the bytes that it takes, in graph order.

    Args:
        graph: the model.
        layers: those whose Hessian is asked for.
    """
    layers = tuple(layers)
    keys = _read_rows(graph, layers)
    sharing: dict[_ReadRows, list[Layer]] = {}
    for layer in layers:
        sharing.setdefault(keys[layer.name], []).append(layer)
    itemsize = np.dtype(np.float32).itemsize
    return {
        tuple(layer.name for layer in own): own[0].groups * own[0].reduction ** 2 * itemsize
        for own in sharing.values()
    }


def _read_rows(graph: ModelGraph, layers: Collection[Layer]) -> dict[str, _ReadRows]:
    """Layer -> what tells its rows from those of other layers."""
    wanted = {layer.node for layer in layers}
    windows = {str(node.name): window_of(node) for node in graph.model.graph if node.name in wanted}
    return {layer.name: (layer.input, windows[layer.node], layer.groups) for layer in layers}


class StatisticsObserver:
    """Statistics of many layers of one model; layers that read the same rows share one sum.

    Args:
        graph: the model.
        layers: whose inputs are observed.
        hessians: names of the layers that need a Hessian.
        rows_per_sample: as for `LayerStatisticsAccumulator`.
        seed: of the draw.
    """

    def __init__(
        self,
        graph: ModelGraph,
        layers: Iterable[Layer],
        *,
        hessians: Collection[str] = (),
        rows_per_sample: int | None = ROWS_PER_SAMPLE,
        seed: int = 0,
    ) -> None:
        layers = tuple(layers)
        keys = _read_rows(graph, layers)
        with_hessian = {keys[name] for name in hessians}
        shared: dict[_ReadRows, LayerStatisticsAccumulator] = {}
        self._by_tensor: dict[str, list[LayerStatisticsAccumulator]] = {}
        self._by_layer: dict[str, LayerStatisticsAccumulator] = {}
        for layer in layers:
            key = keys[layer.name]
            if key not in shared:
                shared[key] = LayerStatisticsAccumulator(
                    layer,
                    key[1],
                    hessian=key in with_hessian,
                    rows_per_sample=rows_per_sample,
                    seed=seed,
                )
                self._by_tensor.setdefault(layer.input, []).append(shared[key])
            self._by_layer[layer.name] = shared[key]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activation tensors to observe."""
        return tuple(self._by_tensor)

    def drop_hessians(self) -> None:
        """Give the memory of all Hessians back; what the other statistics tell stays."""
        for accumulator in self._by_layer.values():
            accumulator.drop_hessian()

    def observe(self, name: str, values: Floats) -> None:
        """Take in one batch of one tensor.

        Raises:
            DataError: the model computes NaN or infinity on the calibration data.
        """
        for accumulator in self._by_tensor.get(name, ()):
            accumulator.observe(values)

    def statistics(self, layer: str) -> LayerStatistics:
        """Everything seen so far of one layer's input.

        Raises:
            DataError: activations are so large that their squares overflow.
        """
        return self._by_layer[layer].statistics()
