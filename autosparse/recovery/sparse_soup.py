"""Idea: train the same zeros several times with other orders of rows, and average the weights.

Source: seed TR12, Sparse Model Soups: Zimmer et al. 2023, "Sparse Model Soups: A Recipe for
Improved Pruning via Model Averaging" (arXiv:2306.16788).
Helps when: there is time for several whole trainings: their mean lies deeper in the valley, and
generalizes better.
Does nothing when: the time is short: then one training three times as long is better.
Cost: three trainings within the time of one.
"""

from __future__ import annotations

from autosparse.recovery.recovery import Recovery


class SparseSoup(Recovery):
    """Three trainings from the compressed weights."""

    name = "sparse_soup"
    summary = "three trainings with the same zeros and other orders of rows, averaged"
    source = "TR12: Sparse Model Soups, Zimmer et al. 2023, arXiv:2306.16788"
    family = "averaging"
    cost = "three trainings within the time of one"
    members = 3
