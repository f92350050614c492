"""Resize: every output element is a weighted sum of a few input elements along each axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView, UnsupportedNodeError
from autosparse.model_graph.torch_executor.operator import Kernel, Operator

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}
_POLICIES = ("stretch", "not_larger", "not_smaller")


@dataclass(frozen=True)
class _Interpolation:
    mode: str
    coordinates: str
    nearest: str
    cubic_a: float
    exclude_outside: bool

    def source(self, size: int, target: int, scale: float) -> Tensor:
        """Where, (target,), each output element lies between the `size` input elements."""
        # float32, as ONNX Runtime has it: where an element lies in the middle, rounding decides
        position = torch.arange(target, dtype=torch.float32)
        exact = math.isclose(size * scale, target, rel_tol=1e-5)
        if self.coordinates == "align_corners":
            if not exact:
                # the standard divides by the fractional size, ONNX Runtime by the whole one
                raise UnsupportedNodeError("Resize with align_corners to a fractional size")
            return position * (size - 1) / (target - 1) if target > 1 else position
        if self.coordinates == "asymmetric":
            return position / scale
        if self.coordinates == "pytorch_half_pixel" and target == 1:
            return torch.zeros(1)
        centred = (position + 0.5) / scale - 0.5
        if self.coordinates == "half_pixel_symmetric":
            centred = centred + size / 2 * (1 - target / (size * scale))
        return centred

    def taps(self, source: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Positions and weights, both (taps, target), of what is summed."""
        if self.mode == "nearest":
            chosen = _NEAREST[self.nearest](source).unsqueeze(0)
            return chosen.long().clamp(0, size - 1), torch.ones_like(chosen)
        left = torch.floor(source)
        offset = source - left
        if self.mode == "linear":
            positions = torch.stack((left, left + 1))
            weights = torch.stack((1 - offset, offset))
        else:
            positions = torch.stack([left + i for i in (-1, 0, 1, 2)])
            weights = _cubic((source - positions).abs(), self.cubic_a)
        if self.exclude_outside:
            weights = weights * ((positions >= 0) & (positions < size))
            weights = weights / weights.sum(0)
        return positions.long().clamp(0, size - 1), weights

    def resize(self, x: Tensor, axis: int, target: int, scale: float) -> Tensor:
        """Change the size of one axis."""
        size = x.shape[axis]
        if (size, scale) == (target, 1.0):
            return x
        positions, weights = self.taps(self.source(size, target, scale), size)
        positions = positions.to(x.device)
        if self.mode == "nearest":
            return x.index_select(axis, positions[0])
        weights = weights.to(x.device, x.dtype).view(len(weights), -1, *(1,) * (x.ndim - axis - 1))
        terms = [x.index_select(axis, p) * w for p, w in zip(positions, weights, strict=True)]
        return torch.stack(terms).sum(0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, far)


def _build_resize(node: NodeView) -> Kernel:
    interpolation = _Interpolation(
        mode=node.choice("mode", "nearest", ("nearest", "linear", "cubic")),
        coordinates=node.choice("coordinate_transformation_mode", "half_pixel", _COORDINATES),
        nearest=node.choice("nearest_mode", "round_prefer_floor", _NEAREST),
        cubic_a=node.number("cubic_coeff_a", -0.75),
        exclude_outside=node.flag("exclude_outside"),
    )
    policy = node.choice("keep_aspect_ratio_policy", "stretch", _POLICIES)
    fixed_axes = node.integers("axes")
    node.ignore("extrapolation_value")  # of tf_crop_and_resize, which is refused
    if node.flag("antialias"):
        node.refuse("antialias")

    def resize(
        x: Tensor,
        region: Tensor | None = None,
        scales: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> Tensor:
        if interpolation.mode != "nearest" and not x.is_floating_point():
            raise UnsupportedNodeError(f"Resize with mode {interpolation.mode!r} of integers")
        axes = [axis % x.ndim for axis in fixed_axes or range(x.ndim)]
        lengths = [x.shape[axis] for axis in axes]
        # exporters write an empty tensor for the one of the two that does not count
        if scales is not None and scales.numel():
            # the product, too, is float32 in ONNX Runtime: 7 * (11 / 7) is 11 there, not below
            targets = (scales * torch.tensor(lengths)).floor().long().tolist()
            factors = scales.tolist()
        elif sizes is not None:
            targets, factors = _fit(lengths, sizes.tolist(), policy)
        else:
            raise UnsupportedNodeError("Resize with neither scales nor sizes")
        for axis, target, factor in zip(axes, targets, factors, strict=True):
            x = interpolation.resize(x, axis, target, factor)
        return x

    return resize


def _fit(
    lengths: Sequence[int], sizes: Sequence[int], policy: str
) -> tuple[list[int], list[float]]:
    """Sizes and scales that are reached; one scale for all axes where the ratio is kept."""
    scales = [size / length for size, length in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return list(sizes), scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [math.floor(scale * length + 0.5) for length in lengths], [scale] * len(scales)


OPERATORS: Mapping[str, Operator] = {
    "Resize": Operator(_build_resize, host_inputs=frozenset({1, 2, 3})),
}
