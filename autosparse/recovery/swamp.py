"""Idea: prune in rounds, each time by the mean of several trainings instead of by one.

Source: seed TR13, SWAMP: Choi et al. 2023, "Sparse Weight Averaging with Multiple Particles for
Iterative Magnitude Pruning" (arXiv:2305.14852). Every round's trainings, its particles, begin at
the same weights with the same zeros; the paper also averages along each particle's way.
Helps when: sparsity is very high, and there is much time: a mean tells better than one training
which weights are small by chance.
Does nothing when: the time of a round is too short to train anything.
Cost: two trainings in each of three rounds, within the time of one.
"""

from __future__ import annotations

from autosparse.recovery.recovery import Recovery


class Swamp(Recovery):
    """Iterative magnitude pruning of dense weights, with averaged particles."""

    name = "swamp"
    summary = "zeros come in rounds, chosen by the mean of two trainings each"
    source = "TR13: SWAMP, Choi et al. 2023, arXiv:2305.14852"
    family = "averaging"
    cost = "two trainings in each of three rounds, within the time of one"
    start = "dense"
    members = 2
    rounds = 3
