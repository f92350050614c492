from __future__ import annotations

import pytest

from autosparse.artifacts.manifest import Offer
from autosparse.artifacts.report import render_report
from autosparse.artifacts.report_data import (
    ChangedRow,
    ClassAccuracy,
    Confidence,
    GuardRails,
    PredictorReport,
)
from autosparse.artifacts.report_rails import counted_sentence
from autosparse.evaluation import Comparison, Interval, Verdict
from tests.artifacts.report_example import (
    DELIVERED,
    Page,
    contract,
    layer,
    manifest,
    measurement,
    quality,
    report_data,
    text_of,
)  # fmt: skip


def test_the_verdict_is_one_sentence() -> None:
    assert (
        "2.05x faster: 0.204 ms instead of 0.418 ms (p50), accuracy 88.4 % (-0.1 points); "
        "budget 60 % and at most 1 point: met"
    ) in text_of(render_report(report_data()))


def test_every_number_of_the_contract_is_there() -> None:
    text = text_of(render_report(report_data()))
    assert "at most 60 % of the baseline 0.251 ms = 60.0 % 0.204 ms = 48.8 % 48.3 to 49.3 %" in text
    assert "Drop of accuracy at most 1 point 1.0 points 0.1 points -0.4 to 0.6 points yes" in text
    assert "0.425 ms dense, -51 %" in text


@pytest.mark.parametrize(("budget", "holds"), [("0.206ms", "yes"), ("0.202ms", "no")])
def test_a_time_is_held_against_the_time_that_is_printed(budget: str, holds: str) -> None:
    """The share of a baseline that was slower when the job began would let it pass."""
    slower = contract(budget=budget, baseline_seconds=400e-6)
    interval = Interval(low=203e-6, high=205e-6)
    latency = manifest().latency.model_copy(update={"seconds_interval": interval})
    given = manifest(contract=slower, latency=latency)
    text = text_of(render_report(report_data(manifest=given)))
    bound = f"{budget.removesuffix('ms')} ms"
    share = f"{float(budget.removesuffix('ms')) / 0.4:.1%}".replace("%", " %")
    found = "0.203 to 0.205 ms = 48.3 to 49.3 %"
    assert f"{bound} = {share} 0.204 ms = 48.8 % {found} {holds}" in text


def test_an_infeasible_budget_names_the_fastest_and_the_offers() -> None:
    offers = (
        Offer(recipe_id="2" * 12, latency_seconds=130e-6, latency_ratio=0.31, drop=0.22),
        Offer(recipe_id=DELIVERED, latency_seconds=204e-6, latency_ratio=0.488, drop=0.0212),
    )
    given = manifest(
        verdict=Verdict.LATENCY_INFEASIBLE, contract=contract(budget="0.05ms"), offers=offers
    )
    text = text_of(render_report(report_data(manifest=given)))
    assert "Budget 0.05 ms (0.0500 ms) cannot be met" in text
    assert "the fastest recipe that was measured takes 0.130 ms, 31.0 % of the baseline" in text
    assert "Delivered is the nearest file: 2.05x faster" in text
    assert "--latency-budget 31% --max-drop 22pt" in text
    # rounded to the lenient side
    assert "--latency-budget 49% --max-drop 2.2pt" in text
    assert text.count("the fastest that was measured") == 1


def test_not_found_says_what_was_spent_and_which_half_fails() -> None:
    given = manifest(verdict=Verdict.NOT_FOUND, quality=quality(drop=0.031))
    text = text_of(render_report(report_data(manifest=given)))
    assert "accuracy 85.4 % (-3.1 points); budget 60 % and at most 1 point: not met" in text
    assert "no file that also keeps the quality was found in 4 trials and 12 min" in text
    assert "2.6 to 3.6 points no" in text


def test_what_failed_when_verified_is_no_offer() -> None:
    kept = Offer(recipe_id="4" * 12, latency_seconds=230e-6, latency_ratio=0.548, drop=0.0012)
    given = manifest(verdict=Verdict.NOT_FOUND, offers=(kept,), quality=quality(drop=0.031))
    data = report_data(manifest=given, refuted=("2" * 12,), budget_met=False)
    text = text_of(render_report(data))
    assert "--latency-budget 55%" in text
    assert "--latency-budget 31%" not in text  # the fastest
    assert "No file inside the budget was found in 4 trials and 12 min" in text
    assert "1 file met the contract in the search, and did not when verified" in text


@pytest.mark.parametrize(
    ("verdict", "tone"),
    [(Verdict.MET, "good"), (Verdict.NOT_FOUND, "warn"), (Verdict.LATENCY_INFEASIBLE, "bad")],
)
def test_the_verdict_is_coloured(verdict: Verdict, tone: str) -> None:
    page = Page(render_report(report_data(manifest=manifest(verdict=verdict))))
    assert f"verdict {tone}" in page.attributes("class")


def test_a_fallback_to_the_dense_model_is_called_so() -> None:
    once = measurement("baseline", 421e-6)
    both = {"baseline_p50": 421e-6, "p50": 421e-6, "ratio": 1.0}
    data = report_data(
        manifest=manifest(
            verdict=Verdict.NOT_FOUND, offers=(), fastest=None,
            latency=manifest().latency.model_copy(update=both),
        ),
        layers=(layer(level="dense:fp32"),), trials=(),
        comparison=Comparison(baseline=once, candidate=once),
    )  # fmt: skip
    text = text_of(render_report(data))
    assert "The dense model as it came, 0.421 ms; budget 60 % and at most 1 point: not met" in text
    assert "The delivered file is not among them." in text


def test_a_dense_model_that_was_lowered_anew_is_not_the_one_that_came() -> None:
    """Its own latency is told, and what it is beside the baseline."""
    data = report_data(layers=(layer(level="dense:fp32"),))
    text = text_of(render_report(data))
    assert "No layer compressed, 2.05x faster: 0.204 ms instead of 0.418 ms (p50)" in text
    assert "as it came, 0." not in text


def test_a_difference_inside_the_noise_is_no_speed_up() -> None:
    latency = manifest().latency.model_copy(
        update={"ratio": 0.997, "ratio_interval": Interval(low=0.99, high=1.004)}
    )
    text = text_of(render_report(report_data(manifest=manifest(latency=latency))))
    assert "No faster than the dense model, as far as can be told" in text
    assert "x faster" not in text


def test_a_divergence_has_its_own_unit_and_says_that_no_labels_were_used() -> None:
    given = manifest(quality=quality("kl", 0.0031), contract=contract(max_drop="0.01"))
    text = text_of(render_report(report_data(manifest=given)))
    assert "KL divergence 0.00310 nats from the dense model's outputs" in text
    assert "at most 0.01 nats" in text
    assert "no labels were used" in text
    assert "points" not in text


def test_a_metric_of_the_users_own_has_no_unit() -> None:
    given = manifest(
        quality=quality("mine:score", 1.5, baseline_value=20.0, value=18.5),
        contract=contract(max_drop="5%", baseline_quality=20.0),
    )
    text = text_of(render_report(report_data(manifest=given)))
    assert "mine:score 18.5 (-1.50); budget 60 % and at most 5 % of the dense model's" in text


def test_p95_and_a_strict_contract_are_told() -> None:
    given = manifest(contract=contract(percentile="p95", strict=True))
    text = text_of(render_report(report_data(manifest=given)))
    assert "0.208 ms instead of 0.425 ms (p95)" in text
    assert "Judged by the interval's upper bound" in text


def test_n_m_comes_with_its_meaning() -> None:
    text = text_of(render_report(report_data()))
    assert "2:4:int8 +magnitude (2 non-zeros in every 4, 50 % zeros)" in text
    assert "1:4:int8 (1 non-zero in every 4, 75 % zeros)" in text


def test_a_layer_tells_what_runs_and_why_others_do_not() -> None:
    text = text_of(render_report(report_data()))
    assert "FusedConv → QLinearConv 0.03000 0.01200 0.01800" in text
    assert "no: 3 input channels" in text  # the row already names the layer
    assert "attributed shares of the measured latency" in text


def test_layers_without_times_are_counted() -> None:
    rows = (layer(), layer("x", seconds_before=None, seconds_after=None, divergence=None))
    assert "1 of 2 layers could not be timed" in text_of(render_report(report_data(layers=rows)))


def test_discarded_samples_are_counted_and_drawn() -> None:
    html = render_report(report_data())
    assert "0.418 ms 0.422 ms" in text_of(html)
    assert "140 20 (12 %) 7 of 8 3" in text_of(html)
    assert 'class="hist discarded" x=' in html


def test_the_noise_floor_is_how_far_a_file_differs_from_itself() -> None:
    text = text_of(render_report(report_data()))
    assert "Noise floor \N{PLUS-MINUS SIGN}0.4 %" in text
    assert "how far two sessions of the model as it came differed" in text


def test_a_run_without_an_undisturbed_sample_still_renders() -> None:
    comparison = Comparison(
        baseline=measurement("baseline", 418e-6, discarded=8),
        candidate=measurement(DELIVERED, 204e-6, discarded=8),
    )
    assert "0 of 8" in text_of(render_report(report_data(comparison=comparison)))


def test_the_predictor_is_shown_with_its_error_or_a_reason() -> None:
    assert "too few recipes were measured" in text_of(render_report(report_data()))
    predictor = PredictorReport(
        recipes=40, kendall_tau=0.912, median_error=0.023, table_sum_error=0.094,
        points=((0.5, 0.51), (0.7, 0.66), (0.8, float("nan"))), inside=38,
        intervals=((0.49, 0.53), (0.64, 0.68), (0.7, 0.9)),
    )  # fmt: skip
    html = render_report(report_data(predictor=predictor))
    text = text_of(html)
    assert "Kendall's tau 0.91 Median error 2.3 % Median error of the plain table sum 9.4 %" in text
    assert "inside the 95 % interval of the prediction 38 of 40 recipes" in text
    assert "half-width of the interval \N{PLUS-MINUS SIGN}2.0 % of the baseline's latency" in text
    lines = [a["d"] or "" for _, a in Page(html).tags if a.get("class") == "prediction-interval"]
    assert [line.count("V") for line in lines] == [2, 2]  # what can be drawn, in both sizes
    assert r'"95 % interval 49.0 to 53.0\u00a0%"' in html  # of the point under the cursor


def test_guard_rails_are_shown_or_their_absence_explained() -> None:
    why = "the first output, <mask>, has 7 x 5 numbers for each row"
    assert f"Here {why}." in text_of(render_report(report_data(why_no_rails=why)))
    rails = GuardRails(
        agreement=0.972, fixed_rows=1, broken_rows=7,
        classes=(
            ClassAccuracy(label=0, rows=50, baseline=0.8, delivered=0.82),
            ClassAccuracy(label=3, rows=48, baseline=0.9, delivered=0.86),
        ),
    )  # fmt: skip
    text = text_of(render_report(report_data(guard_rails=rails)))
    assert "Same answer as the dense model 97.20 %" in text
    assert "dense wrong, delivered right 1 row Broken: dense right, delivered wrong 7 rows" in text
    assert "1 of 2 classes loses accuracy; the most is class 3: -4.0 points on 48 rows." in text
    assert "Rows that compression changed" not in text
    found = rails.model_copy(
        update={
            "confidence": Confidence(baseline=0.01, delivered=0.08, temperature=1.5, scaled=0.02),
            "changed_rows": 9,
            "changed": (ChangedRow(row=412, label=3, dense=3, delivered=5, sureness=0.97),),
        }
    )
    text = text_of(render_report(report_data(guard_rails=found)))
    assert "Confidence beside accuracy, dense 1.0 % apart The same, delivered 8.0 % apart" in text
    assert "at its best temperature 2.0 % apart, logits divided by 1.50" in text
    assert "surest of; 8 more are not listed" in text
    assert "412 3 3 5 0.97" in text


def test_without_labels_agreement_and_changed_rows_are_told() -> None:
    rails = GuardRails(
        agreement=0.9, fixed_rows=None, broken_rows=None, classes=(), changed_rows=21,
        changed=(ChangedRow(row=412, label=None, dense=3, delivered=5, sureness=0.97),),
    )  # fmt: skip
    text = text_of(render_report(report_data(guard_rails=rails)))
    assert "Same answer as the dense model 90.00 % Rows with another answer 21" in text
    assert "There are no labels: which of two answers is right" in text
    assert "surest of; 20 more are not listed" in text
    assert "Row of the validation file Dense Delivered" in text
    assert "412 3 5 0.97" in text
    assert "Accuracy per class" not in text
    assert "No class lost accuracy" not in text


@pytest.mark.checks("counted beside measured")
def test_what_is_counted_stands_beside_what_is_measured() -> None:
    row = report_data().layers[0]
    rows = (
        row.model_copy(update={"macs": 1000, "sparsity": 0.9}),
        row.model_copy(update={"macs": 1000, "sparsity": 0.0}),
        row.model_copy(update={"macs": None}),
    )
    said = counted_sentence(rows, 0.63)
    assert said.startswith("Counted: 1,100 of 2,000 multiply-accumulates")
    assert "55.0" in said
    assert "63.0" in said
    assert counted_sentence(rows[2:], 0.63) == ""
    assert "Only what is measured was decided by." in text_of(
        render_report(report_data(layers=rows))
    )


def test_the_test_file_is_reported_where_there_is_one() -> None:
    assert "No test file was given." in text_of(render_report(report_data()))
    given = manifest(test_quality=quality(rows=2000, drop=0.004))
    text = text_of(render_report(report_data(manifest=given)))
    assert "test file (no decision looked at it) 2,000 88.5 % 88.1 % 0.4 points" in text


def test_it_can_be_verified_and_run_again() -> None:
    text = text_of(render_report(report_data(notes=("mind the gap",))))
    assert "autosparse verify bundle" in text
    assert "autosparse optimize --config job.yaml" in text
    assert "latency_budget: 60%" in text
    assert "mind the gap" in text
    assert "1 note" in text


def test_the_front_has_a_table() -> None:
    text = text_of(render_report(report_data()))
    assert "The Pareto front as a table (4 recipes)" in text
    assert "222222222222 tpe 0.130 ms 31.0 % 22.0 points 21.6 to 22.5 points 12" in text
