"""Everything that a search proposed is in the report, by how far it came."""

from __future__ import annotations

from pathlib import Path

from autosparse.artifacts.report_words import plural
from autosparse.journal import Journal
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.artifacts.report_example import text_of
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


def test_the_report_tells_of_every_candidate_in_the_log(tmp_path: Path) -> None:
    errors = {f"layer{number}": 0.02 * number for number in range(6)}
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error(errors)))
    result = world.run(latency_budget="60%", max_drop="100pt", trials=5, strategy="random")
    log = Journal(Workspace(tmp_path / "out").candidates, CandidateRecord).records
    last = {record.recipe.id: record.rung for record in log}
    measured = {point.recipe_id for point in result.manifest.front}
    rungs = [rung for recipe_id, rung in last.items() if recipe_id not in measured]
    screened, sampled = rungs.count(Rung.SCREENED), rungs.count(Rung.SAMPLED)
    assert screened
    assert sampled
    report = text_of(Path(result.bundle, "report.html").read_text(encoding="utf-8"))
    told = (
        f"{plural(screened, 'candidate')} screened by prediction, {sampled} run on a few rows and "
        f"no further, {len(measured)} measured."
    )
    assert told.replace("\N{NO-BREAK SPACE}", " ") in report
