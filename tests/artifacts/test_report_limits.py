"""Size, memory and their limits in the report, and the front over all four."""

from __future__ import annotations

from autosparse.artifacts.manifest import Footprint, FrontPoint, LimitedBy, Offer
from autosparse.artifacts.report import render_report
from autosparse.cli.optimize import limited_sentence, verdict_sentence
from autosparse.evaluation import Verdict
from tests.artifacts.report_example import (
    DELIVERED,
    Page,
    contract,
    manifest,
    report_data,
    text_of,
)

FOOTPRINT = Footprint(
    size_bytes=410_000, baseline_size_bytes=1_096_220, peak_memory_bytes=2_300_000,
    baseline_peak_memory_bytes=4_600_000,
)  # fmt: skip
LIMITS = {"max_size": "40%", "max_memory": "2MB", "baseline_size_bytes": 1_096_220}


def point(name: str, dominated_by: str | None, **changes: object) -> FrontPoint:
    fields = {
        "recipe_id": name, "latency_seconds": 2e-4, "latency_ratio": 0.49, "drop": 0.001,
        "size_bytes": 410_000, "peak_memory_bytes": 2_300_000, "proposed_by": "auto",
        "meets_contract": dominated_by is None, "dominated_by": dominated_by,
    }  # fmt: skip
    return FrontPoint.model_validate({**fields, **changes})


def test_size_and_memory_stand_among_the_first_figures() -> None:
    html = render_report(report_data(manifest=manifest(footprint=FOOTPRINT)))
    text = text_of(html)
    assert "Size on disk 410 kB 1.10 MB dense, -63 %" in text
    assert "Peak memory 2.30 MB 4.60 MB dense, -50 %" in text
    assert "figures six" in Page(html).attributes("class")
    assert "figures six" not in Page(render_report(report_data())).attributes("class")


def test_every_limit_is_a_clause_that_holds_or_does_not() -> None:
    given = manifest(
        footprint=FOOTPRINT, contract=contract(**LIMITS), verdict=Verdict.NOT_FOUND,
        missed=("memory",),
    )  # fmt: skip
    text = text_of(render_report(report_data(manifest=given)))
    dash = "\N{EN DASH}"
    assert f"Size on disk at most 40 % of the baseline's 438 kB 410 kB {dash} yes" in text
    assert f"Peak memory at most 2 MB 2.00 MB 2.30 MB {dash} no" in text
    assert "at most 1 point, at most 40 % of the baseline's on disk and at most 2 MB of" in text
    assert "Size on disk at most" not in text_of(render_report(report_data()))


def test_without_a_file_inside_the_limits_none_is_called_delivered() -> None:
    offer = Offer(
        recipe_id="2" * 12, latency_seconds=130e-6, latency_ratio=0.31, drop=0.22,
        size_bytes=333_000, peak_memory_bytes=2_050_000,
    )  # fmt: skip
    given = manifest(
        footprint=FOOTPRINT, contract=contract(**LIMITS), verdict=Verdict.NOT_FOUND,
        delivers_model=False, offers=(offer,), fastest=None, missed=("memory",),
        front=(point(DELIVERED, None),),
    )  # fmt: skip
    text = text_of(render_report(report_data(manifest=given)))
    assert "No file that may be delivered was found" in text
    assert "is never delivered, and so this bundle has no model" in text
    assert "No model was delivered" in text
    assert "import onnxruntime" not in text
    assert "333 kB 2.05 MB --latency-budget 31% --max-drop 22pt --max-size 40% --max-memory" in text
    assert "--max-memory 2.1MB" in text  # just as much as that file needs
    assert "front the nearest, meets the contract" in text
    assert verdict_sentence(given).startswith("NOT FOUND within the limits: budget 60%, max drop")
    assert "max size 40%, max memory 2MB. Nothing is delivered" in verdict_sentence(given)


def test_the_limit_that_decided_is_named() -> None:
    limited = LimitedBy(
        clauses=("size",), recipe_id="9" * 12, latency_ratio=0.5, drop=0.0, size_bytes=800_000,
        peak_memory_bytes=None,
    )  # fmt: skip
    given = manifest(
        footprint=FOOTPRINT, contract=contract(**LIMITS),
        limited_by=limited,
    )  # fmt: skip
    text = text_of(render_report(report_data(manifest=given)))
    assert f"--max-size 40% decided: otherwise recipe {'9' * 12} would have been the best" in text
    assert "with 800 kB on disk" in text
    assert limited_sentence(given).startswith(f"--max-size 40% decided: recipe {'9' * 12}")
    assert "800kB on disk" in limited_sentence(given)
    assert limited_sentence(manifest()) == ""


def test_the_front_of_all_four_comes_first_and_the_rest_is_marked() -> None:
    front = (
        point(DELIVERED, None), point("b" * 12, None, size_bytes=None, peak_memory_bytes=None),
        point("c" * 12, DELIVERED), point("d" * 12, "baseline"),
    )  # fmt: skip
    html = render_report(report_data(manifest=manifest(front=front)))
    text = text_of(html)
    assert "size and peak memory (2 of 4 on the front of all four)" in text
    assert f"{DELIVERED} auto 0.1 points 0.200 ms 49.0 % 410 kB 2.30 MB front delivered" in text
    assert f"{'c' * 12} auto 0.1 points 0.200 ms 49.0 % 410 kB 2.30 MB {DELIVERED}" in text
    assert "2.30 MB baseline" in text
    assert Page(html).attributes("class").count("dominated") == 2
    assert "Every trial" not in text_of(render_report(report_data()))


def test_only_so_many_dominated_trials_are_listed() -> None:
    front = (point(DELIVERED, None), *(point(f"{n:012x}", DELIVERED) for n in range(130)))
    text = text_of(render_report(report_data(manifest=manifest(front=front))))
    assert "30 more dominated trials are in manifest.json" in text
