"""Rows as text."""

from __future__ import annotations

import pytest

from benchmarks.rows import Row, skipped_row
from benchmarks.table import render_line, render_number, render_table

LATENCY = Row(
    what="resnet at 60%", figure=0.25, unit="ms", opponent="as it came", opponent_figure=0.5,
    ratio=0.5, bar="ratio <= 0.6", holds=True, environment="abc", note="ratio [0.49, 0.51]",
)  # fmt: skip


def test_a_line_reads_as_a_sentence() -> None:
    assert render_line(LATENCY) == (
        "resnet at 60% | 0.25 ms | against 0.5 (as it came) | ratio 0.5 | bar ratio <= 0.6: yes"
        " | ratio [0.49, 0.51]"
    )


def test_a_line_leaves_out_what_is_absent() -> None:
    assert render_line(skipped_row("vit", "no package", "abc")) == "vit | skipped: no package"


def test_a_table_is_aligned_with_notes_below() -> None:
    other = Row(what="other", figure=12, bar="none", holds=False, environment="abc")
    header, rule, first, note, second = render_table([LATENCY, other]).splitlines()
    assert note == "    ratio [0.49, 0.51]"
    assert set(rule) == {"-", " "}
    for name, cell in (("unit", "ms"), ("opponent", "as it came"), ("holds", "yes")):
        assert first[header.index(name) :].startswith(cell)
    assert second[header.index("holds") :].startswith("NO")
    # figures end where their column ends
    end = header.index("figure") + len("figure")
    assert (first[:end].endswith("0.25"), second[:end].endswith("  12")) == (True, True)


def test_an_empty_table_has_its_header() -> None:
    assert render_table([]).startswith("what")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, ""), (0.0, "0"), (7.0, "7"), (0.123456, "0.1235"), (123.456, "123.5"),
        (0.000123, "1.230e-04"), (-0.5, "-0.5"), (1234567.0, "1.235e+06"),
    ],
)  # fmt: skip
def test_numbers_are_short(number: float | None, text: str) -> None:
    assert render_number(number) == text
