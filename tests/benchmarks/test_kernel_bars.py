"""Which shapes each bar is about."""

from __future__ import annotations

import pytest

from benchmarks.kernel_bars import (
    BLOCKS,
    DEEPSPARSE,
    NM_LEVELS,
    ONE_THREAD,
    ORT_FP32,
    ORT_INT8,
    UNSTRUCTURED,
    Case,
    Finding,
    kernel_bars,
    verdict_rows,
    why_absent,
)
from benchmarks.kernel_shapes import ODD, ConvShape, LayerShape, LinearShape
from benchmarks.rows import Row
from benchmarks.speed_ratios import Speedup

LINEAR, CONV = LinearShape(1024, 1024), ConvShape(64, 64, 3, 56)
NINETY = UNSTRUCTURED[1]


def finding(
    shape: LayerShape, rows: int, level: str, opponent: str, *, ratio: float = 3.0,
    group: str = "square", threads: int = 1,
) -> Finding:  # fmt: skip
    speedup = Speedup(1e-3, ratio * 1e-3, ratio, ratio, ratio, 8)
    return Finding(Case(group, shape, rows), level, opponent, speedup, threads)


def verdicts(*findings: Finding, engines: tuple[str, ...] = ()) -> dict[str, Row]:
    return {row.what: row for row in verdict_rows(findings, "e", engines) if row.figure is not None}


def test_a_mean_is_over_its_own_shapes_only() -> None:
    rows = verdicts(
        finding(LINEAR, 128, NINETY, ORT_FP32, ratio=4.0),
        finding(LINEAR, 512, NINETY, ORT_FP32, ratio=9.0),
        finding(LINEAR, 16, NINETY, ORT_FP32, ratio=2.0),
        finding(CONV, 16, NINETY, ORT_FP32, ratio=100.0, group="resnet50"),
    )
    many = rows[f"geometric mean against {ORT_FP32}: linear, from 128 rows, {NINETY}"]
    assert many.figure == pytest.approx(6.0)
    assert many.holds is True
    few = rows[f"geometric mean against {ORT_FP32}: linear, 16 rows, {NINETY}"]
    assert few.figure == pytest.approx(2.0)
    assert (few.bar, few.holds) == (">= 2.5", False)
    conv = rows[f"geometric mean against {ORT_FP32}: resnet50 convolutions, {NINETY}"]
    assert conv.figure == pytest.approx(100.0)
    assert conv.holds is None


@pytest.mark.parametrize(
    ("level", "opponent", "rows", "least"),
    [
        (UNSTRUCTURED[0], ORT_FP32, 128, 2.3), (UNSTRUCTURED[2], ORT_FP32, 512, 6.5),
        (UNSTRUCTURED[0], ORT_FP32, 16, 1.3), (UNSTRUCTURED[1], ORT_FP32, 1, 3.0),
        (BLOCKS[0], ORT_INT8, 16, 1.15), (BLOCKS[2], ORT_INT8, 128, 4.0),
        (NM_LEVELS[0], ORT_INT8, 16, 1.15), (NM_LEVELS[1], ORT_INT8, 512, 2.0),
        (UNSTRUCTURED[2], DEEPSPARSE, 16, 1.15),
    ],
)  # fmt: skip
def test_each_product_has_the_bar_that_was_asked(
    level: str, opponent: str, rows: int, least: float
) -> None:
    one = finding(LINEAR, rows, level, opponent)
    (bar,) = [b for b in kernel_bars() if b.concerns(one)]
    assert bar.bar.least == least


def test_integer_products_of_one_row_have_no_bar() -> None:
    one = finding(LINEAR, 1, BLOCKS[1], ORT_INT8)
    assert not [b for b in kernel_bars() if b.concerns(one)]


def test_odd_sizes_are_reported_and_move_no_bar() -> None:
    odd = finding(LinearShape(387, 1001), 100, NINETY, ORT_FP32, ratio=2.0, group=ODD)
    (only,) = verdicts(odd).values()
    assert only.what == f"geometric mean against {ORT_FP32}: odd sizes, {NINETY}"
    assert only.figure == pytest.approx(2.0)
    assert only.holds is None


def test_two_threads_are_held_against_one_and_else_reported() -> None:
    against_one = finding(LINEAR, 128, NINETY, ONE_THREAD, ratio=1.7, threads=2)
    each = finding(LINEAR, 128, NINETY, ORT_FP32, ratio=9.0, threads=2)
    rows = verdicts(against_one, each, finding(LINEAR, 128, NINETY, ORT_FP32, ratio=5.0))
    found = {
        what.partition(": ")[2]: (f"{row.figure:.3f}", row.holds) for what, row in rows.items()
    }
    assert found == {
        f"linear, from 128 rows, {NINETY}": ("5.000", True),
        f"linear, two threads, large, {NINETY}": ("1.700", True),
        f"linear, two threads each, large, {NINETY}": ("9.000", None),
    }


def test_an_engine_that_was_not_given_is_named() -> None:
    rows = [r for r in verdict_rows([], "e", ()) if "DeepSparse" in r.what]
    assert len(rows) == 4
    assert all("--opponent-python deepsparse=PATH" in row.note for row in rows)
    assert "--opponent-python" not in why_absent(DEEPSPARSE, ["deepsparse"])
    assert "--opponent-python" not in why_absent(ORT_FP32, [])


def test_reports_without_figures_are_left_out() -> None:
    assert all(not r.what.endswith("convolutions") for r in verdict_rows([], "e", ()))
    assert not [r for r in verdict_rows([], "e", ()) if "resnet56" in r.what]


def test_only_large_products_are_tried_on_two_threads() -> None:
    assert Case("g", LINEAR, 128).is_large_product
    assert not Case("g", LINEAR, 16).is_large_product
    assert not Case("g", CONV, 512).is_large_product


def test_a_case_reads_as_people_say_it() -> None:
    assert Case("minilm", LinearShape(384, 1536), 1).what == "minilm 384x1536, 1 row"
    assert Case("square", LINEAR, 16).what == "square 1024x1024, 16 rows"
    assert Case("resnet50", CONV, 1).what == "resnet50 64->64 3x3 at 56x56, batch 1"
