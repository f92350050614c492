"""What a model can be rewritten by before anything is calibrated: it computes the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PreparationCard:
    """What `autosparse methods` tells of one."""

    name: str
    """As `--prepare` takes it."""
    summary: str
    """One line."""
    source: str
    """Paper or system it embodies."""
    needs: str
    """What it reads besides the weights; empty for nothing."""
    cost: str
    """In a few words."""

    family = "other weights that compute the same"


PREPARATIONS = (
    PreparationCard(
        "equalize",
        "a channel between two layers has the same range where it is made and where it is read, "
        "so that int8 wastes less",
        "Nagel et al. 2019, arXiv:1906.04721",
        needs="",
        cost="none worth naming",
    ),
    PreparationCard(
        "smooth",
        "outliers of activations behind a normalization move into the weights that read them",
        "SmoothQuant: Xiao et al. 2022, arXiv:2211.10438",
        needs="activations",
        cost="one pass over some calibration rows",
    ),
    PreparationCard(
        "permute",
        "channels are reordered so that N:M removes less",
        "Pool and Yu 2021, NeurIPS",
        needs="",
        cost="some hundred exchanges of channels for each pair of layers",
    ),
)
"""In the order in which they are applied."""
