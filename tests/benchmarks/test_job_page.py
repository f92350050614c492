"""The rows of a `job` run as Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autosparse.evaluation import read_environment
from benchmarks.command import write_document
from benchmarks.greedy_mix import NAME as MIX
from benchmarks.job_page import main, render_page
from benchmarks.rows import Row, failed_row, skipped_row
from benchmarks.toolkit_int8 import NAME as INT8

ENVIRONMENT = read_environment()
ROWS = [
    Row(
        what="net at 60%: delivered latency, verified again", figure=0.25, unit="ms",
        opponent="the model as it came", opponent_figure=0.5, ratio=0.5, holds=True,
        bar="ratio <= 0.6, bundle verifies", environment=ENVIRONMENT.id,
    ),
    Row(
        what="net at 60%: divergence", figure=0.01, opponent=f"{MIX}, 4 of 19 layers INT8",
        opponent_figure=0.02, ratio=0.5, holds=True, environment=ENVIRONMENT.id,
        note="better: difference -0.01",
    ),
    Row(
        what="net at 60%: divergence", figure=0.01, opponent=INT8, opponent_figure=0.005,
        ratio=2.0, holds=False, environment=ENVIRONMENT.id, note="worse: difference +0.005",
    ),
    Row(
        what="net at 60%: top1 drop", figure=0.4, opponent=INT8, opponent_figure=0.3,
        holds=True, environment=ENVIRONMENT.id, note="tie: +0.10 [-0.2, +0.3] more lost",
    ),
    Row(
        what="net: predictor, Kendall tau", figure=0.95, bar=">= 0.9", holds=True,
        environment=ENVIRONMENT.id,
    ),
    failed_row("net/at-80", "ValueError: a | b\nand more", ENVIRONMENT.id),
    skipped_row("vit", "no package", ENVIRONMENT.id),
]  # fmt: skip


def lines_of(page: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split(" |")]
        for line in page.splitlines()
        if line.startswith("|")
    ]


def test_a_cell_is_one_line_and_everything_else_has_its_own() -> None:
    header, _, cell, *others = lines_of(render_page(ROWS))
    assert dict(zip(header, cell, strict=True)) == {
        "budget": "net at 60%", "latency": "0.25 ms", "of the baseline": "50 %",
        "verifies": "yes", "divergence": "0.01", "of the mix": "0.02, better",
        "of INT8": "0.005, worse", "points lost": "0.4", "by the mix": "",
        "by INT8": "0.3, tie",
    }  # fmt: skip
    assert others[2] == ["net: predictor, Kendall tau", "0.95", "", "", ">= 0.9", "yes"]
    assert others[3][:2] == ["net/at-80", r"ValueError: a \| b and more"]
    assert others[4][1] == "skipped: no package"
    assert len({len(line) for line in others}) == 1


def test_the_page_is_made_from_what_a_run_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    write_document(file, "job", quick=False, rows=ROWS)
    assert json.loads(file.read_text())["rows"]
    assert main([str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Measured on {ENVIRONMENT.cpu}, {ENVIRONMENT.cores} cores")
    assert printed.endswith(render_page(ROWS))
