"""Weights that a recovery training made: stored under their digest, which a recipe names."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from autosparse.errors import StorageError
from autosparse.journal import stored_safely
from autosparse.levels.weights import CompressedWeight

_NAMES = "layers.yaml"


class RecoveredWeights:
    """Sets of weights in one directory, each whole or not there at all.

    Args:
        directory: is made when the first set is stored.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, weights: Mapping[str, CompressedWeight]) -> str:
        """Store the weights of a whole recipe.

        Returns:
            Their digest: the same weights have the same one.

        Raises:
            StorageError: they cannot be written.
        """
        digest = _digest(weights)
        path = self._directory / digest
        with stored_safely(path):
            if path.exists():
                return digest
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            # layer names come from the model file: never let them become paths
            names = dict(enumerate(weights))
            for number, name in names.items():
                weights[name].save(partial / f"{number}.npz")
            (partial / _NAMES).write_text(yaml.safe_dump(names), encoding="utf-8")
            partial.replace(path)
        return digest

    def load(self, digest: str) -> dict[str, CompressedWeight]:
        """Weights by layer name.

        Raises:
            StorageError: there are none of that digest.
        """
        path = self._directory / digest
        try:
            names: dict[int, str] = yaml.safe_load((path / _NAMES).read_text(encoding="utf-8"))
            return {
                name: CompressedWeight.load(path / f"{number}.npz")
                for number, name in names.items()
            }
        except FileNotFoundError as error:
            raise StorageError(
                f"the recovered weights {digest} are not in {self._directory}",
                hint="train again: run the job with --recover",
            ) from error


def _digest(weights: Mapping[str, CompressedWeight]) -> str:
    found = hashlib.sha256()
    for name, weight in weights.items():
        found.update(name.encode())
        for array in (weight.values, weight.integers, weight.scales, weight.bias):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
