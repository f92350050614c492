"""Shares of what a core can do, zeros not counted, and the pictures of a run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.errors import MeasurementError
from benchmarks import kernel_roofs
from benchmarks.kernel_bars import (
    BLOCKS,
    DEEPSPARSE,
    FP32_90,
    ONE_THREAD,
    ORT_FP32,
    ORT_INT8,
    UNSTRUCTURED,
    Case,
    Finding,
)
from benchmarks.kernel_plots import speedup_lines, write_plots
from benchmarks.kernel_roofs import ROOFS, Roofs, roof_row
from benchmarks.kernel_shapes import ConvShape, LayerShape, LinearShape
from benchmarks.speed_ratios import Speedup
from benchmarks.vnni_peak import peak_operations_per_second

LINEAR = LinearShape(1024, 1024)
EIGHTY = UNSTRUCTURED[0]
FMA, VNNI = ROOFS
WORK = 2 * 128 * 2**20
"""Multiplications and additions of the dense layer at 128 rows."""


def finding(
    shape: LayerShape, rows: int, level: str, opponent: str = ORT_FP32, *, seconds: float = 1e-3,
    ratio: float = 3.0, threads: int = 1, group: str = "square",
) -> Finding:  # fmt: skip
    speedup = Speedup(seconds, ratio * seconds, ratio, ratio, ratio, 8)
    return Finding(Case(group, shape, rows), level, opponent, speedup, threads)


def test_zeros_are_no_work() -> None:
    row = roof_row(FMA, [finding(LINEAR, 128, EIGHTY)], 100e9, "e")
    assert row.what == "share of the roofline: best large product at 80 % zeros, fp32"
    assert row.figure == pytest.approx(100 * 0.2 * WORK / 1e-3 / 100e9)
    assert (row.bar, row.holds) == (">= 55 %", False)
    assert row.note.endswith(FMA.how)


def test_the_best_large_product_stands_under_the_roof() -> None:
    row = roof_row(
        FMA,
        [
            finding(LINEAR, 128, EIGHTY, seconds=1e-3),
            finding(LINEAR, 512, EIGHTY, seconds=2e-3),
            finding(LINEAR, 512, UNSTRUCTURED[1], seconds=1e-6),
            finding(LINEAR, 512, EIGHTY, seconds=1e-6, threads=2),
            finding(LINEAR, 512, EIGHTY, DEEPSPARSE, seconds=1e-6),
            finding(LinearShape(64, 64), 512, EIGHTY, seconds=1e-9),
        ], 100e9, "e",
    )  # fmt: skip
    assert row.note.startswith("square 1024x1024, 512 rows")
    assert row.holds is True


def test_int8_has_a_roof_of_its_own_and_no_bar() -> None:
    row = roof_row(VNNI, [finding(LINEAR, 128, BLOCKS[1], ORT_INT8)], 1e12, "e")
    assert row.figure == pytest.approx(100 * 0.25 * WORK / 1e-3 / 1e12)
    assert (row.bar, row.holds) == ("", None)


def test_without_a_large_product_there_is_no_share() -> None:
    assert roof_row(FMA, [], 1.0, "e").note.startswith("skipped")


def measured_by(*found: Callable[[], float]) -> tuple[kernel_roofs.Roof, ...]:
    return tuple(replace(roof, measure=one) for roof, one in zip(ROOFS, found, strict=True))


def test_a_throttled_look_lowers_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter((100e9, 40e9))

    def no_vnni() -> float:
        raise MeasurementError("no such instruction")

    monkeypatch.setattr(kernel_roofs, "ROOFS", measured_by(lambda: next(peaks), no_vnni))
    roofs = Roofs()
    one = finding(LINEAR, 128, EIGHTY)
    assert roofs.words(one) == ""
    roofs.look()
    roofs.look()
    assert roofs.words(one) == f"{100 * 0.2 * WORK / 1e-3 / 100e9:.0f} % of the FMA roof"
    # the peak is one core's
    assert roofs.words(finding(LINEAR, 128, EIGHTY, ONE_THREAD, threads=2)) == ""
    assert roofs.words(finding(LINEAR, 128, BLOCKS[1], ORT_INT8)) == ""
    fp32, int8 = roofs.rows([one], "e")
    assert fp32.figure == pytest.approx(100 * 0.2 * WORK / 1e-3 / 100e9)
    assert int8.note == "skipped: no such instruction"


def test_the_peak_of_bytes_is_that_of_some_processor_or_a_sentence() -> None:
    processor = Path("/proc/cpuinfo")
    flags = set(processor.read_text(encoding="utf-8").split()) if processor.exists() else set()
    if flags & {"avx512_vnni", "avx_vnni"}:
        assert 1e9 < peak_operations_per_second() < 1e14
    else:
        with pytest.raises(MeasurementError, match="vpdpbusd"):
            peak_operations_per_second()


def test_a_line_is_the_mean_over_shapes_of_one_kind_of_zeros_and_rows() -> None:
    lines = speedup_lines(
        [
            finding(LINEAR, 16, EIGHTY, ratio=2.0),
            finding(LinearShape(64, 64), 16, EIGHTY, ratio=8.0),
            finding(LINEAR, 16, FP32_90, ratio=5.0),
            finding(LINEAR, 128, EIGHTY, ratio=3.0),
            finding(LINEAR, 128, EIGHTY, ratio=9.0, threads=2),
            finding(LINEAR, 128, EIGHTY, DEEPSPARSE, ratio=9.0),
            finding(LINEAR, 16, "2:4:int8", ORT_INT8, ratio=1.5),
            finding(LINEAR, 16, "dense:int8", ratio=3.0),
        ]
    )
    found = {name: [f"{zeros}: {ratio:.3f}" for zeros, ratio in at] for name, at in lines.items()}
    assert found == {
        "unstructured fp32, 16 rows": ["0.8: 4.000", "0.9: 5.000"],
        "unstructured fp32, 128 rows": ["0.8: 3.000"],
        "N:M int8, 16 rows": ["0.5: 1.500"],
    }


def test_every_group_that_was_measured_has_a_picture(tmp_path: Path) -> None:
    conv = ConvShape(64, 64, 3, 56)
    found = [
        finding(LINEAR, 16, EIGHTY), finding(LINEAR, 16, FP32_90, ratio=4.0),
        finding(conv, 1, BLOCKS[0], ORT_INT8, group="resnet50"),
        finding(LINEAR, 16, EIGHTY, DEEPSPARSE, group="bert"),
    ]  # fmt: skip
    write_plots(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "kernels-square.svg", "kernels-resnet50.svg"
    }  # fmt: skip
    root = ET.parse(tmp_path / "kernels-square.svg").getroot()
    words = {element.text.strip() for element in root.iter() if element.text}
    assert {"unstructured fp32, 16 rows", "as fast", "zeros"} <= words
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 2]
