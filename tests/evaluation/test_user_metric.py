"""Metrics by name, and the user's own from `module:callable`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import ConfigError, DataError
from autosparse.evaluation.metrics import BUILT_IN, Outputs, default_metric, load_metric

OWN = "tests.evaluation.user_metric"
OUTPUTS = Outputs({"y": np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)})
LABELS = np.array([0, 1, 0])


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_built_in_metrics_are_found_by_their_name(name: str) -> None:
    assert load_metric(name) is BUILT_IN[name]
    assert BUILT_IN[name].summary


def test_the_users_own_metric_scores_rows() -> None:
    metric = load_metric(f"{OWN}:first_of_row")
    np.testing.assert_allclose(metric.score(OUTPUTS, OUTPUTS, None), [0.9, 0.2, 0.4])
    assert metric.value(OUTPUTS, OUTPUTS, None) == pytest.approx(0.5)
    assert metric.name == f"{OWN}:first_of_row"
    assert metric.higher_is_better
    assert not metric.needs_labels


def test_the_users_own_metric_gets_the_labels() -> None:
    assert load_metric(f"{OWN}:hits").value(OUTPUTS, OUTPUTS, LABELS) == pytest.approx(2 / 3)


def test_a_metric_of_the_whole_file_is_refused() -> None:
    metric = load_metric(f"{OWN}:one_number")
    with pytest.raises(DataError, match=r"returned the shape \(\), expected \(3,\)"):
        metric.score(OUTPUTS, OUTPUTS, None)


@pytest.mark.parametrize(
    "spelling",
    [
        f"{OWN}:gone",
        f"{OWN}:",
        f"{OWN}.gone:hits",
        "no_such_module:metric",
        ":hits",
        ":",
        ".relative:hits",
        "..:hits",
    ],
)
def test_what_cannot_be_imported_is_told(spelling: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        load_metric(spelling)


def test_what_is_no_function_is_told() -> None:
    with pytest.raises(ConfigError, match="is no function"):
        load_metric(f"{OWN}:NOT_CALLABLE")


@pytest.mark.parametrize("name", ["", "TOP1", "accuracy", "top_1"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no metric is called '{name}'") as caught:
        load_metric(name)
    assert "top1, " in caught.value.hint
    assert "module:callable" in caught.value.hint


@pytest.mark.parametrize(
    "broken", ["def (", "1 / 0", "import no_such_library", "raise SystemError"]
)
def test_a_module_that_cannot_be_run_is_the_users_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (tmp_path / "broken_metric.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'broken_metric:metric' cannot be imported"):
        load_metric("broken_metric:metric")
    assert "broken_metric" not in sys.modules


def test_without_labels_logits_are_judged_by_kl_and_the_rest_by_their_error() -> None:
    assert default_metric(("logits",), labelled=True) is BUILT_IN["top1"]
    assert default_metric(("logits",), labelled=False) is BUILT_IN["kl"]
    assert default_metric(("start_logits", "end_Logits"), labelled=False) is BUILT_IN["kl"]
    assert default_metric(("logits", "hidden"), labelled=False) is BUILT_IN["relative_error"]
    assert default_metric(("y",), labelled=False) is BUILT_IN["relative_error"]
