"""Jobs that do not end with `met`: what they say of the budget, and what they offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.cli.optimize import verdict_sentence
from autosparse.evaluation import Verdict
from autosparse.journal import Journal
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.pipeline.test_budget_in_time import drifting
from tests.pipeline.worlds import World, layer_seconds, summed_error

LAYERS = 3


def report(result: Result) -> str:
    return Path(result.bundle, "report.html").read_text(encoding="utf-8")


def test_the_fastest_is_told_also_where_its_answers_cannot_be_judged(tmp_path: Path) -> None:
    def error(levels: Levels) -> float:
        everywhere = len(levels) == LAYERS and all(map(is_int8, levels.values()))
        return float("nan") if everywhere else 0.001

    world = World.make(tmp_path, LAYERS, Planted(layer_seconds, error))
    result = world.run(latency_budget="30%", metric="kl", max_drop="0.1")
    assert result.exit_code == 3
    fastest = result.manifest.fastest
    assert fastest is not None
    assert fastest.drop is None
    assert fastest.latency_ratio == pytest.approx(0.4)
    assert fastest.recipe_id not in [offer.recipe_id for offer in result.manifest.offers]
    sentence = verdict_sentence(result.manifest)
    assert sentence.startswith("LATENCY-INFEASIBLE: the fastest recipe takes 0.120 ms (40.0%")
    assert "cannot be met: the fastest recipe that was measured takes" in report(result)


def test_a_trial_that_failed_when_verified_is_no_offer(tmp_path: Path) -> None:
    """On a machine that takes twice as long by then, with every file that was inside."""
    world = World.make(tmp_path, LAYERS, Planted(layer_seconds, summed_error({})))
    engines = drifting(world, 2.1)
    result = world.run(engines=engines, latency_budget="0.25ms", max_drop="50pt", trials=4)
    assert result.verdict is Verdict.NOT_FOUND
    assert result.manifest.latency.p50 > 0.25e-3
    page = report(result)
    (failed,) = [
        line.split("recipe ")[1][:12] for line in page.splitlines() if "when verified, 0" in line
    ]
    offers = [offer.recipe_id for offer in result.manifest.offers]
    assert offers
    assert failed not in offers
    assert "The budget can be met" not in page
    (verdict, *_) = page.split("</section>")
    assert verdict.count('<span class="no">no') == 1


def test_what_failed_when_verified_may_be_the_nearest_and_is_not_verified_twice(
    tmp_path: Path,
) -> None:
    world = World.make(tmp_path, LAYERS, Planted(layer_seconds, summed_error({})))
    engines = drifting(world, 2.1)
    result = world.run(engines=engines, latency_budget="0.25ms", max_drop="50pt", trials=1)
    assert result.verdict is Verdict.NOT_FOUND
    assert result.manifest.latency.ratio == pytest.approx(0.4)
    raw = Journal(Workspace(tmp_path / "out").measurements, MeasuredTrial).records
    verified = [record.recipe_id for record in raw if record.purpose == "verification"]
    assert verified == [result.manifest.recipe_id]
    # its answers, which were forgotten meanwhile, are in the report
    assert "Same answer as the dense model" in report(result)
