"""Which recovery suits a recipe, where the user names none."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.levels import Level

DEFAULT = "fine_tune"


def automatic_recovery(levels: Mapping[str, Level]) -> str:
    """The name of the recovery.

    Args:
        levels: the recipe's.
    """
    return DEFAULT
