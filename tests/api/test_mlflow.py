"""Jobs as runs of MLflow, in a database of its own: told twice, and broken off at every request."""

from __future__ import annotations

import io
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.deliverables import Deliverable
from api.mlflow_runs import MlflowRuns, load_mlflow
from api.tracked_job import TrackedJob, TrackedTrial
from autosparse.errors import ServiceError

pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
# MLflow and what it needs have deprecations of their own
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

START = 1_795_000_000.0
JOB = TrackedJob(
    id="job_4kQ0Zr6oJm2WcTn1YsVb3x", name="resnet at 60%", owner="first", state="running",
    created=START, finished=None, metrics={}, trials=(),
    params={"latency_budget": "60%", "model_sha256": "ab" * 32},
    tags={"autosparse.state": "running", "autosparse.kind": "search"},
)  # fmt: skip
TRIALS = tuple(
    TrackedTrial(
        number=number, at=START + number, is_best=number == 1,
        params={"recipe_id": f"recipe{number}"},
        metrics={"latency_ratio": 0.5 + number / 100, "drop": 0.01},
    )
    for number in (1, 2)
)  # fmt: skip
ENDED = replace(
    JOB, state="finished", finished=START + 60.0, trials=TRIALS, metrics={"latency_seconds": 0.007},
    tags={"autosparse.state": "finished", "autosparse.verdict": "met"},
)  # fmt: skip


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.sqlite3'}"


class Mlflow:
    """An experiment, and what can be seen of it."""

    def __init__(self, uri: str, directory: Path) -> None:
        name = uuid.uuid4().hex
        self.runs = MlflowRuns(uri, name)
        self.client = load_mlflow().MlflowClient(tracking_uri=uri)
        self.experiment = self.client.create_experiment(name, (directory / "files").as_uri())

    def found(self, what: str = "") -> list[Any]:
        return list(self.client.search_runs([self.experiment], what, max_results=100))

    def of_the_job(self) -> Any:
        (run,) = self.found(f"tags.`autosparse.job` = '{JOB.id}'")
        return run

    def nested(self) -> list[Any]:
        parent = self.of_the_job().info.run_id
        runs = self.found(f"tags.`mlflow.parentRunId` = '{parent}'")
        return sorted(runs, key=lambda run: run.info.run_name)


@pytest.fixture
def mlflow(uri: str, tmp_path: Path) -> Mlflow:
    return Mlflow(uri, tmp_path)


def text_file(text: bytes) -> Deliverable:
    @contextmanager
    def opened() -> Iterator[io.BytesIO]:
        yield io.BytesIO(text)

    return Deliverable(len(text), "", opened)


def test_a_run_for_the_job_and_one_for_each_trial(mlflow: Mlflow) -> None:
    assert mlflow.runs.record(JOB, {})
    assert mlflow.of_the_job().info.status == "RUNNING"
    assert mlflow.runs.record(ENDED, {"report.html": text_file(b"<html>")})
    assert mlflow.runs.record(ENDED, {"report.html": text_file(b"<html>")})
    run = mlflow.of_the_job()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "resnet at 60%")
    assert (run.info.start_time, run.info.end_time) == (START * 1000, (START + 60) * 1000)
    assert run.data.params == ENDED.params
    assert run.data.tags["autosparse.verdict"] == "met"
    assert run.data.tags["mlflow.user"] == "first"
    assert run.data.metrics == {
        "latency_seconds": 0.007, "best_latency_ratio": 0.51, "best_drop": 0.01,
    }  # fmt: skip
    first, second = mlflow.nested()
    assert (first.info.run_name, second.info.run_name) == ("trial 1", "trial 2")
    assert second.data.metrics == TRIALS[1].metrics
    assert second.data.params == TRIALS[1].params
    assert {first.info.status, second.info.status} == {"FINISHED"}
    assert len(mlflow.found()) == 3
    (file,) = mlflow.client.list_artifacts(run.info.run_id)
    assert (file.path, file.file_size) == ("report.html", 6)


class Interrupted(BaseException):
    """As a kill would."""


class Dying:
    """A client that dies when some requests have arrived, before it sees the last answer."""

    def __init__(self, client: Any, after: int) -> None:
        self._client = client
        self._left = after

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            answer = getattr(self._client, name)(*arguments, **named)
            self._left -= 1
            if self._left == 0:
                raise Interrupted
            return answer

        return call


def test_broken_off_at_any_request_it_is_whole_the_next_time(mlflow: Mlflow) -> None:
    """The server dies again and again, one request later each time."""
    after = 1
    while True:
        mlflow.runs._opened = Dying(mlflow.client, after)
        try:
            mlflow.runs.record(ENDED, {})
        except Interrupted:
            after += 1
        else:
            break
    assert after > 8
    run = mlflow.of_the_job()
    assert run.info.status == "FINISHED"
    for key in ("best_drop", "latency_seconds"):
        history = mlflow.client.get_metric_history(run.info.run_id, key)
        assert len(history) == 1, key
    assert [one.info.status for one in mlflow.nested()] == ["FINISHED"] * 2
    for nested, trial in zip(mlflow.nested(), TRIALS, strict=True):
        assert (nested.data.metrics, nested.data.params) == (trial.metrics, trial.params)
    assert len(mlflow.found()) == 3


def test_a_resumed_job_goes_on_in_its_run(mlflow: Mlflow) -> None:
    """What it is asked then does not replace what it was asked first: MLflow would refuse that."""
    mlflow.runs.record(ENDED, {})
    asked = {**JOB.params, "latency_budget": "40%", "time_limit": "600"}
    mlflow.runs.record(replace(ENDED, state="queued", finished=None, params=asked), {})
    run = mlflow.of_the_job()
    assert run.info.status == "SCHEDULED"
    assert run.data.params == {**JOB.params, "time_limit": "600"}
    assert run.data.tags["autosparse.later.latency_budget"] == "40%"
    cancelled = replace(ENDED, state="cancelled", finished=START + 90.0, params=asked)
    mlflow.runs.record(cancelled, {})
    assert mlflow.of_the_job().info.status == "KILLED"
    assert len(mlflow.found()) == 3


def test_very_many_trials_take_several_times(mlflow: Mlflow, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.mlflow_runs._TRIALS_AT_ONCE", 1)
    monkeypatch.setattr("api.mlflow_runs._RUNS_A_PAGE", 1)
    assert not mlflow.runs.record(ENDED, {})
    assert mlflow.of_the_job().info.status != "FINISHED"
    assert mlflow.runs.record(ENDED, {})
    assert len(mlflow.nested()) == 2


def test_a_server_that_is_not_there_is_an_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        runs = MlflowRuns(f"http://127.0.0.1:{closed.getsockname()[1]}", "autosparse")
        with pytest.raises(ServiceError, match="MLflow"):
            runs.record(JOB, {})
