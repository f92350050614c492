"""How much the model's outputs move with every weight, found without labels.

A random direction is drawn for every row's outputs, and the model is differentiated along it. The
average of such gradients' outer products is the Gauss-Newton matrix of the squared error of the
outputs: what a loss against the dense model's own answers would have, of which the gradient itself
is zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autosparse.calibration.windows import InputRows, window_of
from autosparse.errors import DataError, ModelError
from autosparse.model_graph import Layer, ModelGraph
from autosparse.model_graph.torch_executor import GraphModule

Floats = npt.NDArray[np.float32]

GRADIENT_ROWS = 128
# All layers' gradients of single rows together; fewer rows are kept where that is too little.
_MOST_BYTES = 512 << 20


class GradientObserver:
    """Sums up every layer's gradients, batch by batch.

    Args:
        graph: the model.
        layers: whose weights' gradients are asked for.
        keep: names of the layers whose gradients are kept row by row, besides their norms.
        seed: of the directions. The same batches in the same order give the same gradients.

    Raises:
        ModelError: the graph needs something that the torch executor does not have.
    """

    def __init__(
        self,
        graph: ModelGraph,
        layers: Iterable[Layer],
        *,
        keep: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        self._layers = tuple(layers)
        wanted = {layer.node for layer in self._layers}
        self._windows = {
            str(node.name): window_of(node) for node in graph.model.graph if node.name in wanted
        }
        self._module = GraphModule.from_graph(graph).requires_grad_(requires_grad=False)
        self._draw = torch.Generator().manual_seed(seed)
        self._squares = {
            layer.name: np.zeros((layer.output_channels, layer.reduction)) for layer in self._layers
        }
        self._kept: dict[str, list[Floats]] = {name: [] for name in keep}
        weights = sum(layer.parameters for layer in self._layers if layer.name in self._kept)
        self._most_kept = min(GRADIENT_ROWS, _MOST_BYTES // (4 * max(weights, 1)))
        self._rows = 0

    def observe(self, batch: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Differentiate the model on one batch of its inputs.

        Raises:
            ModelError: no output of the model can be differentiated.
            DataError: the gradients are not finite.
        """
        inputs = {name: torch.tensor(np.asarray(array)) for name, array in batch.items()}
        rows = len(next(iter(inputs.values())))
        seen: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        watched = {layer.input for layer in self._layers}
        answers = self._module(
            inputs,
            observers={name: partial(_remember, seen, name) for name in watched},
            hooks={la.output: partial(_differentiable, outputs, la.output) for la in self._layers},
        )
        total = self._along_a_direction(answers)
        if not total.requires_grad:
            raise ModelError(
                "no output of the model can be differentiated by what its layers compute",
                hint="export the model with its logits, not with the classes that they mean",
            )
        slopes = torch.autograd.grad(total, list(outputs.values()), allow_unused=True)
        for name, slope in zip(outputs, slopes, strict=True):
            for layer in self._layers:
                if layer.output == name and slope is not None:
                    self._add(layer, rows, seen[layer.input].detach().numpy(), slope.numpy())
        self._rows += rows

    def gradient_norms(self, layer: str) -> Floats:
        """Root mean square, over rows, of every weight's gradient: (output channels, K)."""
        return np.sqrt(self._squares[layer] / max(self._rows, 1)).astype(np.float32)

    def row_gradients(self, layer: str) -> Floats | None:
        """(rows, output channels, K), as many rows as were kept; None where none were asked for."""
        kept = self._kept.get(layer)
        return None if kept is None else np.concatenate(kept)[: self._most_kept]

    def _along_a_direction(self, answers: Mapping[str, Tensor]) -> Tensor:
        """Every output counts the same, whatever its size."""
        total = torch.zeros(())
        for answer in answers.values():
            if answer.is_floating_point() and answer.requires_grad:
                direction = torch.randn(answer.shape, generator=self._draw)
                norm = answer.detach().norm().clamp_min(torch.finfo(answer.dtype).tiny)
                total = total + (answer * direction).sum() * (len(answer) ** 0.5 / norm)
        return total

    def _add(self, layer: Layer, rows: int, activations: Floats, slope: Floats) -> None:
        inputs = self._inputs_of(layer, activations)
        # an input that does not depend on the batch, of a position say, has one gradient for all
        entries = rows if inputs.shape[1] % rows == 0 else 1
        gradients = row_gradients(layer, entries, inputs, slope)
        if not np.isfinite(gradients).all():
            raise DataError(
                f"on the calibration data, the gradients of layer {layer.name!r} are not finite",
                hint="check the preprocessing of the calibration file",
            )
        self._squares[layer.name] += np.square(gradients, dtype=np.float64).sum(axis=0)
        kept = self._kept.get(layer.name)
        if kept is not None and sum(map(len, kept)) < self._most_kept:
            kept.append(gradients)

    def _inputs_of(self, layer: Layer, activations: Floats) -> Floats:
        inputs = InputRows(activations, self._windows[layer.node], layer.groups)
        return inputs.take(np.arange(len(inputs)))


def row_gradients(layer: Layer, rows: int, inputs: Floats, slope: Floats) -> Floats:
    """Gradient of the weight matrix for every row of the data.

    Args:
        layer: whose weight it is.
        rows: rows of the data in the batch.
        inputs: (groups, positions, K), what the weight matrix was multiplied with; the positions
            of one row of the data lie together.
        slope: derivative by the layer's output, as the graph computes it.

    Returns:
        (rows, output channels, K).
    """
    by_position = np.moveaxis(slope, 1, -1) if layer.operator == "Conv" else slope
    split = by_position.reshape(rows, -1, layer.groups, layer.output_channels // layer.groups)
    own = inputs.reshape(layer.groups, rows, -1, layer.reduction).transpose(1, 0, 2, 3)
    # what is not finite is told with its layer, and not as a warning of one processor's kernels
    with np.errstate(invalid="ignore", over="ignore"):
        gradients = split.transpose(0, 2, 3, 1) @ own
    return gradients.reshape(rows, layer.output_channels, layer.reduction)


def _remember(seen: dict[str, Tensor], name: str, values: Tensor) -> None:
    seen[name] = values


def _differentiable(outputs: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
    outputs[name] = values if values.requires_grad else values.requires_grad_()
    return outputs[name]
