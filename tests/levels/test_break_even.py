"""From how many zeros on a family of levels is faster than the best dense one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autosparse.levels import Level
from autosparse.levels.atlas import LayerShape
from autosparse.levels.break_even import AtlasEntry, BreakEven, LevelTime, family_of

SHAPE = LayerShape(operator="Gemm", weight_shape=(8, 8), input_shape=(1, 8))


def timed(spelling: str, microseconds: float | None) -> LevelTime:
    level = Level.parse(spelling)
    seconds = None if microseconds is None else microseconds * 1e-6
    return LevelTime(level=level, sparsity=level.sparsity, seconds=seconds)


def concluded(times: Sequence[LevelTime]) -> dict[str, BreakEven]:
    return {b.family: b for b in AtlasEntry.of(SHAPE, ["fc"], times).break_evens}


DENSE = (timed("dense:fp32", 50), timed("dense:int8", 20))


@pytest.mark.parametrize(
    ("spelling", "family"),
    [
        ("unstructured@0.9:fp32", "unstructured:fp32"),
        ("unstructured@0.5:fp32+wanda", "unstructured:fp32"),
        ("2:4:int8", "N:4:int8"),
        ("1:4:int8", "N:4:int8"),
        ("4:8:int8", "N:8:int8"),
        ("block1x4@0.75:int8", "block1x4:int8"),
        ("block4x1@0.75:int8", "block4x1:int8"),
    ],
)
def test_a_family_differs_in_its_sparsity_only(spelling: str, family: str) -> None:
    assert family_of(Level.parse(spelling)) == family


def test_it_lies_between_the_measured_sparsities() -> None:
    times = [timed("unstructured@0.5:fp32", 60), timed("unstructured@0.7:fp32", 30)]
    found = concluded([*DENSE, *times, timed("unstructured@0.9:fp32", 10)])
    assert found["unstructured:fp32"].verdict == "from"
    # from 30 us at 70 % to 10 us at 90 %, the best dense level's 20 us lie halfway
    assert found["unstructured:fp32"].sparsity == pytest.approx(0.8)


def test_the_best_dense_level_is_the_opponent() -> None:
    entry = AtlasEntry.of(SHAPE, ["fc"], [*DENSE, timed("dense:int4", None)])
    assert entry.best_dense == DENSE[1]
    fast_fp32 = AtlasEntry.of(SHAPE, ["fc"], [timed("dense:fp32", 5), DENSE[1]])
    assert fast_fp32.best_dense is not None
    assert str(fast_fp32.best_dense.level) == "dense:fp32"


def test_never_and_always() -> None:
    found = concluded(
        [*DENSE, timed("2:4:int8", 21), timed("1:4:int8", 20), timed("4:8:int8", 19.9)]
    )
    assert found["N:4:int8"].verdict == "never"  # as fast is not faster
    assert found["N:4:int8"].sparsity is None
    assert found["N:8:int8"].verdict == "always"
    assert found["N:8:int8"].sparsity == 0.5


def test_what_was_not_measured_is_neither() -> None:
    failed = timed("2:4:int8", None)
    assert concluded([*DENSE, failed])["N:4:int8"].verdict == "unmeasured"
    no_dense = concluded([timed("dense:fp32", None), timed("2:4:int8", 5)])
    assert no_dense["N:4:int8"].verdict == "unmeasured"


def test_times_out_of_order_count_from_the_last_crossing() -> None:
    times = [
        timed("block1x4@0.25:int8", 19),
        timed("block1x4@0.5:int8", 30),
        timed("block1x4@0.75:int8", 10),
    ]
    found = concluded([*DENSE, *times])["block1x4:int8"]
    assert found.verdict == "from"
    assert found.sparsity == pytest.approx(0.625)


def test_two_formats_of_one_sparsity_do_not_mix() -> None:
    found = concluded([*DENSE, timed("2:4:int8", 30), timed("4:8:int8", 10)])
    assert (found["N:4:int8"].verdict, found["N:8:int8"].verdict) == ("never", "always")
