"""Geometry of the sliding windows of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView

Padding = tuple[tuple[int, int], ...]
"""Elements added before and after, per spatial axis; negative ones are cut off."""

_AUTO_PAD = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Window:
    """How a kernel moves over its input, as the node's attributes say."""

    auto_pad: str
    pads: tuple[int, ...] | None
    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None

    @classmethod
    def of(cls, node: NodeView) -> Window:
        """Read the attributes that convolution and pooling have in common."""
        return cls(
            auto_pad=node.choice("auto_pad", "NOTSET", _AUTO_PAD),
            pads=node.integers("pads"),
            strides=node.integers("strides"),
            dilations=node.integers("dilations"),
        )

    def stride(self, rank: int) -> tuple[int, ...]:
        """Step per spatial axis."""
        return self.strides or (1,) * rank

    def dilation(self, rank: int) -> tuple[int, ...]:
        """Distance between two elements of the kernel, per spatial axis."""
        return self.dilations or (1,) * rank

    def extents(self, kernel: Sequence[int]) -> tuple[int, ...]:
        """Elements that a kernel of these sizes spans."""
        dilation = self.dilation(len(kernel))
        return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))

    def explicit_padding(self, rank: int) -> Padding:
        """Return what the node itself asks for; zero with VALID."""
        if self.auto_pad == "VALID" or self.pads is None:
            return ((0, 0),) * rank
        return tuple(zip(self.pads[:rank], self.pads[rank:], strict=True))

    def padding(self, sizes: Sequence[int], kernel: Sequence[int]) -> Padding:
        """Return the padding for an input of spatial `sizes`."""
        rank = len(sizes)
        if not self.auto_pad.startswith("SAME"):
            return self.explicit_padding(rank)
        totals = []
        for size, extent, step in zip(sizes, self.extents(kernel), self.stride(rank), strict=True):
            windows = -(-size // step)
            totals.append(max((windows - 1) * step + extent - size, 0))
        return self.split(totals)

    def split(self, totals: Sequence[int]) -> Padding:
        """Divide each axis' padding in two; the odd one goes where auto_pad says.

        What a transposed convolution is to grow by, a negative total, comes at the end.
        """
        halves = [(min(total, 0), max(total, 0)) for total in totals]
        if self.auto_pad == "SAME_UPPER":
            return tuple((cut // 2, grow + cut - cut // 2) for grow, cut in halves)
        return tuple((cut - cut // 2, grow + cut // 2) for grow, cut in halves)


def pad_spatial(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Pad or cut the last axes of (batch, channels, *spatial)."""
    if not any(before or after for before, after in padding):
        return x
    flat = [amount for pair in reversed(padding) for amount in pair]
    return F.pad(x, flat, value=value)
