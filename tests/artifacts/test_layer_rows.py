from __future__ import annotations

import csv
import io

import pytest

from autosparse.artifacts.layer_rows import Alternative, LayerRow, to_csv


def row(**changes: object) -> LayerRow:
    fields: dict[str, object] = {
        "name": "conv1",
        "operator": "Conv",
        "weight_shape": "16x3x3x3",
        "parameters": 432,
        "weight_bytes": 1728,
        "level": "dense:int8",
        "sparsity": 0.25,
        "kernel": "QLinearConv",
        "baseline_kernel": "FusedConv",
        "seconds_before": 3e-5,
        "seconds_after": 2e-5,
        "divergence": 0.00123,
        "alternatives": (),
    }
    return LayerRow.model_validate({**fields, **changes})


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_times_are_milliseconds() -> None:
    (cells,) = read(to_csv((row(),)))
    assert cells["ms_before"] == "0.03000"
    assert cells["ms_after"] == "0.02000"
    assert cells["ms_saved"] == "0.01000"
    assert cells["divergence"] == "1.230e-03"
    assert cells["sparsity"] == "0.2500"


def test_a_level_that_costs_time_saves_a_negative_amount() -> None:
    (cells,) = read(to_csv((row(seconds_after=5e-5),)))
    assert float(cells["ms_saved"]) == pytest.approx(-0.02)


def test_what_was_not_measured_stays_empty() -> None:
    (cells,) = read(to_csv((row(seconds_before=None, divergence=None),)))
    assert (cells["ms_before"], cells["ms_saved"], cells["divergence"]) == ("", "", "")


@pytest.mark.parametrize(("macs", "cell"), [(442368, "442368"), (None, "")])
def test_costs_are_shown_where_they_are_known(macs: int | None, cell: str) -> None:
    (cells,) = read(to_csv((row(macs=macs),)))
    assert (cells["parameters"], cells["macs"]) == ("432", cell)
    assert cells["weight_bytes"] == "1728"


def test_other_levels_say_why_they_are_not_eligible() -> None:
    others = (
        Alternative(level="dense:fp32", searched=True, reason="", seconds=3e-5, divergence=0.0),
        Alternative(
            level="2:4:int8", searched=False, reason="conv1: 3 input channels", seconds=None,
            divergence=None,
        ),
    )  # fmt: skip
    (cells,) = read(to_csv((row(alternatives=others),)))
    assert cells["not_chosen"] == "dense:fp32: eligible; 2:4:int8: conv1: 3 input channels"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_is_run_as_a_formula(start: str) -> None:
    hostile = f'{start}cmd|"/c calc"!A1'
    (cells,) = read(to_csv((row(name=hostile, kernel=hostile),)))
    assert cells["layer"] == "'" + hostile
    assert cells["kernel"] == "'" + hostile


def test_ordinary_names_and_negative_numbers_are_left_alone() -> None:
    (cells,) = read(to_csv((row(name="/layer1/conv1", seconds_after=5e-5),)))
    assert cells["layer"] == "/layer1/conv1"
    assert cells["ms_saved"].startswith("-")


def test_separators_quotes_and_line_breaks_in_names_survive() -> None:
    name = 'a,"b"\nc;d'
    (cells,) = read(to_csv((row(name=name),)))
    assert cells["layer"] == name
