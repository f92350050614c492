"""Idea: keep the zeros where they are and train the other weights.

Source: the retraining of Han et al. 2015, "Learning both Weights and Connections for Efficient
Neural Networks" (arXiv:1506.02626), with the dense model as teacher (Hinton et al. 2015,
arXiv:1503.02531).
Helps when: the zeros were chosen well, or there is little time: it starts from the compressed
weights and is never far from a model that can be delivered.
Does nothing when: nothing was lost. It cannot repair a bad choice of zeros.
Cost: a training.
"""

from __future__ import annotations

from autosparse.recovery.recovery import Recovery


class FineTune(Recovery):
    """The control arm of every other recovery: all its hooks are the default ones."""

    name = "fine_tune"
    summary = "train the weights that are left, their zeros fixed"
    source = "Han et al. 2015, arXiv:1506.02626"
    family = "fixed zeros"
