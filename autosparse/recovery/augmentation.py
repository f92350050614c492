"""Changes of images that leave their meaning: only where the user says that they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autosparse.datasets import Augmentation
from autosparse.errors import ConfigError
from autosparse.tensor_spec import TensorSpec

_IMAGE_AXES = 4
# Share of the side by which an image is moved at most: 4 pixels of 32.
_FARTHEST = 8


def check_augmentation(asked: Sequence[Augmentation], inputs: Sequence[TensorSpec]) -> None:
    """Refuse what cannot be done with a model's inputs.

    Raises:
        ConfigError: something is asked and no input is a batch of images.
    """
    if asked and not any(len(spec.shape) == _IMAGE_AXES for spec in inputs):
        raise ConfigError(
            f"--augment {','.join(asked)} is for images, but the model reads "
            f"{', '.join(map(str, inputs))}",
            hint="leave --augment away",
        )


def augmented(
    inputs: Mapping[str, Tensor], asked: Sequence[Augmentation], draw: torch.Generator
) -> dict[str, Tensor]:
    """Flip half of the images, and move each by some pixels over its own edge's values.

    Args:
        inputs: name -> tensor; images are (rows, channels, height, width), others stay.
        asked: what to do.
        draw: where the chances come from.
    """
    changed = dict(inputs)
    for name, values in inputs.items():
        if values.ndim != _IMAGE_AXES or not values.is_floating_point():
            continue
        if "flip" in asked:
            turned = torch.rand(len(values), generator=draw) < 0.5
            values = torch.where(turned[:, None, None, None], values.flip(-1), values)
        if "shift" in asked:
            values = _shifted(values, draw)
        changed[name] = values
    return changed


def _shifted(values: Tensor, draw: torch.Generator) -> Tensor:
    rows, _, height, width = values.shape
    reach = max(min(height, width) // _FARTHEST, 1)
    padded = torch.nn.functional.pad(values, (reach,) * 4, mode="replicate")
    top = torch.randint(0, 2 * reach + 1, (rows,), generator=draw)
    left = torch.randint(0, 2 * reach + 1, (rows,), generator=draw)
    down = top[:, None, None] + torch.arange(height)[None, :, None]
    right = left[:, None, None] + torch.arange(width)[None, None, :]
    return padded[torch.arange(rows)[:, None, None], :, down, right].movedim(-1, 1)
