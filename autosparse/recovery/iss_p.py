"""Idea: what is unimportant just now shrinks by a small percentage, and may still come back.

Source: seed TR7, ISS-P: Wang et al. 2023, "Iterative Soft Shrinkage Learning for Efficient Image
Super-Resolution" (arXiv:2303.09650), there from random weights, here from the dense model's.
Helps when: which weights are needed is settled by the training itself; nothing ever jumps.
Does nothing when: the training is so short that shrinking is cutting.
Cost: a training; a selection in every step until the cut.
"""

from __future__ import annotations

from autosparse.recovery.shrink_then_cut import ShrinkThenCut, softly_shrunk
from autosparse.recovery.trained_layer import TrainedLayer


class IssP(ShrinkThenCut):
    """The smallest weights of the moment shrink in proportion to their size."""

    name = "iss_p"
    summary = "in every step the smallest weights shrink by a percentage, until they are cut"
    source = "TR7: ISS-P, Wang et al. 2023, arXiv:2303.09650"

    def shrink(self, layer: TrainedLayer, rate: float, part: float) -> None:
        """Choose anew, and shrink."""
        layer.remask(layer.raw.abs())
        layer.raw.copy_(softly_shrunk(layer.raw, layer.mask, rate))
