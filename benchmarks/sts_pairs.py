"""The STS benchmark: pairs of sentences, and how alike people find the two."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.model_files import UnavailableError


class Pair(NamedTuple):
    """One line of a file."""

    first: str
    second: str
    score: float
    """0 (nothing in common) to 5 (the same)."""


def read_pairs(assets: Path, part: str) -> list[Pair]:
    """The pairs of one part, `train` or `dev`.

    Raises:
        UnavailableError: the file is not there.
    """
    path = assets / "data" / f"stsb_en_{part}.csv"
    if not path.is_file():
        raise UnavailableError(f"there is no data/{path.name} in the folder of the assets")
    with path.open(encoding="utf-8", newline="") as file:
        return [Pair(first, second, float(score)) for first, second, score in csv.reader(file)]


def sentences(pairs: Iterable[Pair]) -> list[str]:
    """Every sentence once, in the order of the pairs."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))


def pairs_without(pairs: Iterable[Pair], seen: Iterable[str], count: int) -> list[Pair]:
    """The first pairs neither sentence of which was seen."""
    known = frozenset(seen)

    def unseen() -> Iterator[Pair]:
        for pair in pairs:
            if not known & {pair.first, pair.second}:
                yield pair

    return list(itertools.islice(unseen(), count))
