"""Two servers without a shared disk: one is killed in mid-search, the other one ends the job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse import Client
from autosparse.journal import read_journal
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.workspace import Workspace
from tests.api.s3_store import S3Store
from tests.api.served import Served, until
from tests.api.test_end_to_end import submit
from tests.faults.real_job import RealJob

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(
    tmp_path: Path, s3: str, s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Served, Served]]:
    """Of one device, with one database and one bucket; the second one is not started yet."""
    monkeypatch.setenv("AUTOSPARSE_SERVE_LEASE_SECONDS", "3")
    shared = (
        "--database", f"sqlite:///{tmp_path / 'shared.sqlite3'}", "--artifacts", s3,
        "--own-home", "--device", "bench",
    )  # fmt: skip
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Served(tmp_path / name, *shared))
    RealJob.make(made[0].directory)
    made[0].start()
    yield made[0], made[1]
    made[1].kill()
    until(made[1].nothing_runs)


def test_a_search_is_finished_elsewhere(servers: tuple[Served, Served]) -> None:
    one, two = servers
    job = submit(one)
    with Client(one.url, one.key) as client:
        until(lambda: len(client.trials(job)) >= 2)
        before = [trial.recipe_id for trial in client.trials(job)]
    one.kill()
    until(one.nothing_runs)
    shutil.rmtree(one.directory / "autosparse-service")
    two.key = one.key
    two.start()
    with Client(two.url, two.key) as client:
        done = client.wait(job)
        assert (done.state, done.verdict) == ("finished", "met")
        recipes = [trial.recipe_id for trial in client.trials(job)]
        assert recipes[: len(before)] == before
        assert len(recipes) == len(set(recipes))
        assert "model.onnx" in [item.name for item in client.artifacts(job)]
        # what was measured before the kill is in the study, and was not measured again
        out = Workspace(two.directory / "autosparse-service" / "jobs" / job / "out")
        assert [record.recipe.id for record in Ledger(out.study).records] == recipes
        raw = read_journal(out.measurements, MeasuredTrial)
        measured = [one.recipe_id for one in raw if one.purpose == "trial"]
        assert [measured.count(recipe) for recipe in before] == [1] * len(before)
        # and the job may be answered from, and measured again, here as well
        again = client.resolve(job, latency_budget="900%")
        assert client.wait(again.id).verdict == "met"
        once_more = client.reverify(job)
        assert (client.wait(once_more.id).outcome or {}).get("regressions") == []
