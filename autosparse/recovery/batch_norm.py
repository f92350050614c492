"""Batch norms that were folded come back for the training, and are folded again behind it.

A folded network trains badly: nothing keeps the spread of its activations while weights change
(Ioffe & Szegedy 2015, arXiv:1502.03167). The original statistics are gone, but any will do: a norm
that subtracts the mean and divides by the spread that its layer has on calibration rows, and whose
own scale and shift undo just that, changes nothing at first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own documentation calls it F)
from torch import Tensor, nn

EPSILON = 1e-5
_MOMENTUM = 0.1


@dataclass
class ChannelSums:
    """Sums over batches, in float64, that give the mean and the variance of every channel."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    """(channels,) from the first batch on."""
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, values: Tensor) -> None:
        """Take in one batch, (rows, channels, ...)."""
        others = [axis for axis in range(values.ndim) if axis != 1]
        wide = values.detach().to(torch.float64)
        self.count += values.numel() // values.shape[1]
        self.total = self.total + wide.sum(dim=others)
        self.squares = self.squares + wide.square().sum(dim=others)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of every channel, (channels,) float32."""
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_(min=0.0)
        return mean.float(), variance.float()


class BatchNorm(nn.Module):
    """A batch norm behind a layer: statistics of the batch in training, else those it has kept.

    It changes nothing at first, but for adding the layer's bias.

    Args:
        mean: (channels,) of what the layer computes without its bias.
        variance: the same.
        bias: the layer's bias, which is taken over; 0 without one.
        factor: what the layer's weights were multiplied with since; undone behind the norm.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor, bias: Tensor, factor: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", mean * factor)
        self.register_buffer("variance", variance * factor**2)
        self.gamma = nn.Parameter((self.variance + EPSILON).sqrt() / factor)
        self.beta = nn.Parameter(mean + bias)
        self.sums: ChannelSums | None = None
        """Where given, takes in what the layer computes."""

    def forward(self, values: Tensor) -> Tensor:
        """(rows, channels, ...) in the same shape."""
        if self.sums is not None:
            self.sums.add(values)
        return F.batch_norm(
            values, self.mean, self.variance, self.gamma, self.beta, self.training, _MOMENTUM,
            EPSILON,
        )  # fmt: skip

    def keep_sums(self) -> None:
        """Take the statistics of everything that came since `sums` was set."""
        if self.sums is not None:
            mean, variance = self.sums.moments()
            self.mean.copy_(mean)
            self.variance.copy_(variance)
            self.sums = None

    def folded(self) -> tuple[Tensor, Tensor]:
        """(channels,) twice: what the layer's rows are multiplied with, and its bias."""
        with torch.no_grad():
            scale = self.gamma / (self.variance + EPSILON).sqrt()
            return scale, self.beta - scale * self.mean
