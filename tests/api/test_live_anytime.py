"""The best answer over time, and plots of jobs that were asked in other ways than a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.job_ledger import JobLease
from api.tables import JobRow
from autosparse.pipeline.config import JobConfig
from tests.api.live_service import LiveService
from tests.api.queue_world import CONFIG
from tests.api.seeded import RUNNER, add_job, begin, set_times, trial

GAP = "\N{NO-BREAK SPACE}"
LEVELS = {"conv": "dense:int8"}


def measured(lease: JobLease, number: int, ratio: float, drop: float, best: str | None) -> None:
    lease.trial(trial(number, ratio, drop, LEVELS), best)


def test_time_in_which_the_job_waited_does_not_count(shared_live: LiveService) -> None:
    """Ten seconds of work before it was put back into the queue, and thirty after."""
    job = add_job(shared_live, "interrupted")
    lease = begin(shared_live, job)
    measured(lease, 1, 0.9, 0.2, None)
    lease.end("queued")
    lease = begin(shared_live, job)
    measured(lease, 2, 0.5, 0.001, "recipe2")
    measured(lease, 3, 0.8, 0.5, "recipe2")
    lease.end("finished")
    # queued; running, its stage, a trial; queued; running, its stage, two trials; finished
    set_times(
        shared_live, job, [0.0, 100.0, 100.0, 105.0, 110.0, 900.0, 900.0, 920.0, 925.0, 930.0]
    )
    page = shared_live.http.get(f"/v1/jobs/{job}/anytime").text
    assert f"3{GAP}trials in 40{GAP}s of work" in page
    assert f"The best answer so far came after 30{GAP}s: 50.0{GAP}%" in page
    assert page.count('class="front"') >= 2, "one ring, in the legend and in the drawings"


def test_before_anything_meets_the_contract_there_is_no_curve(shared_live: LiveService) -> None:
    job = add_job(shared_live, "in vain")
    lease = begin(shared_live, job)
    assert shared_live.http.get(f"/v1/jobs/{job}/anytime").status_code == 404
    measured(lease, 1, 0.9, 0.2, None)
    page = shared_live.http.get(f"/v1/jobs/{job}/anytime").text
    assert "none meets the contract" in page
    assert 'class="front-line" d=""' in page


@pytest.mark.parametrize("plot", ["front", "anytime"])
def test_an_answer_for_another_budget_is_drawn_while_it_runs(
    shared_live: LiveService, plot: str
) -> None:
    """It was told only what is to be different; the whole is in what its process wrote down."""
    asked = {"source": "given/job_a", "latency_budget": None, "output_dir": "out"}
    job = add_job(shared_live, "resolved", kind="resolve", request={"job": "job_a"}, config=asked)
    stored = shared_live.service.files.job(job) / "out" / "job" / "config.json"
    stored.parent.mkdir(parents=True)
    config = JobConfig.model_validate({**CONFIG, "latency_budget": "45%", "output_dir": "out"})
    stored.write_text(config.model_dump_json(), encoding="utf-8")
    measured(begin(shared_live, job), 1, 0.4, 0.001, "recipe1")
    page = shared_live.http.get(f"/v1/jobs/{job}/{plot}")
    assert page.status_code == 200, page.text
    assert f"budget 45{GAP}%" in page.text


def test_what_was_delivered_says_what_trials_are_held_against(shared_live: LiveService) -> None:
    sample = Path(__file__).parents[1] / "compat" / "samples" / "Manifest.v1.json"
    manifest: dict[str, Any] = json.loads(sample.read_text())
    job = add_job(shared_live, "delivered")
    measured(begin(shared_live, job), 1, 0.58, 0.005, "recipe1")
    with shared_live.service.database.writing() as session:
        row = session.get_one(JobRow, job)
        assert row.runner == RUNNER
        row.manifest = {**manifest, "contract": {**manifest["contract"], "budget": "33%"}}
    for plot in ("front", "anytime"):
        assert f"budget 33{GAP}%" in shared_live.http.get(f"/v1/jobs/{job}/{plot}").text
