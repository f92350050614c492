"""Idea: leave zeros and integers as they are, and train the steps of their grids.

Source: the second stage of Zeng et al. 2024, "GQSA: Group Quantization and Sparsity for
Accelerating Large Language Model Inference" (seed QU1, arXiv:2412.17560), which follows the first
one, the method `gqsa`: once blocks and integers are chosen, only what they are multiplied with is
fitted, through the whole model. A layer has a step for each output channel here, so that is one
number for each of them, and its bias; where a convolution got its norm back, the norm's scale is
that number. Layers without zeros, and those without integers, are trained as by `fine_tune`.
Helps when: the integers must stay as they are to the bit, and steps that were right layer by layer
are wrong for the whole. It is no remedy for few rows: see the figures in docs/recovery.md.
Does nothing when: integers are wrong: no step makes up for a weight that should not be zero.
Cost: a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autosparse.levels import Level
from autosparse.levels.integer_grid import GRIDS
from autosparse.recovery.recovery import Recovery
from autosparse.recovery.trained_layer import TrainedLayer


class GqsaSteps(Recovery):
    """Fixed zeros and integers; steps that are learned."""

    name = "gqsa_steps"
    summary = "zeros and integers stay as they are; the steps of their grids are trained"
    source = "QU1: the second stage of GQSA, Zeng et al. 2024, arXiv:2412.17560"
    family = "steps"

    def why_not(self, levels: Mapping[str, Level]) -> str:
        """It needs a layer that has zeros and a grid."""
        if any(level.sparsity > 0 and level.precision in GRIDS for level in levels.values()):
            return ""
        found = ", ".join(f"{name} is at {level}" for name, level in levels.items())
        return f"gqsa_steps needs a layer with zeros and integers, and has none: {found}"

    def prepare(self, layers: Sequence[TrainedLayer]) -> None:
        """Hold the integers."""
        super().prepare(layers)
        for layer in layers:
            if layer.steps is not None:
                layer.learn_steps()
