"""Jobs as MLflow shows them: a run for each job, and a run nested in it for each trial.

The only place that imports `mlflow`. A job's run is found by a tag with the job's id, a trial's by
its parent and its number, so that a story may be told again from the beginning. Parameters cannot
be changed in MLflow: those of a job are what it was asked first, and what it was asked later, when
it was resumed, are tags.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from api.deliverables import Deliverable
from api.tracked_job import Numbers, TrackedJob, TrackedTrial
from autosparse.errors import NotInstalledError, ServiceError

JOB_TAG, TRIAL_TAG, LATER_TAG = "autosparse.job", "autosparse.trial", "autosparse.later."
_PARENT_TAG = "mlflow.parentRunId"
_STATUS = {
    "queued": "SCHEDULED", "running": "RUNNING", "finished": "FINISHED", "failed": "FAILED",
    "cancelled": "KILLED",
}  # fmt: skip
_ENDED = ("FINISHED", "FAILED", "KILLED")
_TRIALS_AT_ONCE, _RUNS_A_PAGE = 100, 1000
# Read when the library is imported or used: nothing is sent to its makers, and whoever waits is a
# server that wants to end. What the environment says already is left as it is.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}  # fmt: skip


class MlflowRuns:
    """Tells MLflow of jobs.

    Args:
        uri: of the tracking server or its database, as `MLFLOW_TRACKING_URI` would have it. Names
            and passwords for a server come from the environment, as MLflow reads them.
        experiment: its name; it is made where there is none.

    Raises:
        NotInstalledError: MLflow is not there.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._mlflow = load_mlflow()
        self._uri = uri
        self._experiment = experiment
        self._opened: Any = None

    def record(self, job: TrackedJob, files: Mapping[str, Deliverable]) -> bool:
        """Tell the story of a job; what is known already is left as it is.

        Args:
            job: as it is now.
            files: artifacts of its run, by name.

        Returns:
            Whether that was all: of very many trials, some are told at a time.

        Raises:
            ServiceError: MLflow cannot be reached, or refuses something.
        """
        try:
            return self._record(job, files)
        except (self._mlflow.exceptions.MlflowException, OSError) as error:
            raise ServiceError(
                f"MLflow ({type(error).__name__}): {error}",
                hint="see that the tracking server runs, and lets this service write",
            ) from error

    def _record(self, job: TrackedJob, files: Mapping[str, Deliverable]) -> bool:
        client = self._client
        experiment = self._experiment_id()
        run = self._run(experiment, job)
        id_ = run.info.run_id
        self._describe(run, job)
        if not self._tell_trials(experiment, id_, job):
            return False
        if job.finished is None:
            client.update_run(id_, status=_STATUS[job.state], name=job.name)
            return True
        at = _milliseconds(job.finished)
        client.log_batch(id_, metrics=self._metrics(job.metrics, at))
        self._send(id_, files)
        client.update_run(id_, name=job.name)
        client.set_terminated(id_, _STATUS[job.state], at)
        return True

    @property
    def _client(self) -> Any:
        if self._opened is None:  # a database would be connected to
            self._opened = self._mlflow.MlflowClient(tracking_uri=self._uri)
        return self._opened

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        made = self._client.create_experiment(self._experiment) if found is None else None
        return str(made if found is None else found.experiment_id)

    def _run(self, experiment: str, job: TrackedJob) -> Any:
        known = self._client.search_runs(
            [experiment], f"tags.`{JOB_TAG}` = '{job.id}'", max_results=1
        )
        if known:
            return known[0]
        return self._create(experiment, job, job.name, job.created, {JOB_TAG: job.id})

    def _create(
        self, experiment: str, job: TrackedJob, name: str, at: float, tags: Mapping[str, str]
    ) -> Any:
        whose = {"mlflow.user": job.owner, "mlflow.source.name": "autosparse"}
        return self._client.create_run(
            experiment, start_time=_milliseconds(at), run_name=name, tags={**whose, **tags}
        )

    def _describe(self, run: Any, job: TrackedJob) -> None:
        first = run.data.params
        later = {f"{LATER_TAG}{k}": v for k, v in job.params.items() if first.get(k, v) != v}
        new = {k: v for k, v in job.params.items() if k not in first}
        entities = self._mlflow.entities
        self._client.log_batch(
            run.info.run_id,
            params=[entities.Param(k, v) for k, v in new.items()],
            tags=[entities.RunTag(k, v) for k, v in {**job.tags, **later}.items()],
        )

    def _tell_trials(self, experiment: str, parent: str, job: TrackedJob) -> bool:
        """Tell of those trials that are not known, or not to the end; whether that was all."""
        known = {int(run.data.tags[TRIAL_TAG]): run for run in self._nested(experiment, parent)}
        news = [
            trial
            for trial in job.trials
            if trial.number not in known or known[trial.number].info.status not in _ENDED
        ]
        for trial in news[:_TRIALS_AT_ONCE]:
            run = known.get(trial.number) or self._create(
                experiment, job, f"trial {trial.number}", trial.at,
                {_PARENT_TAG: parent, TRIAL_TAG: str(trial.number)},
            )  # fmt: skip
            self._tell_trial(run.info.run_id, parent, trial)
        return len(news) <= _TRIALS_AT_ONCE

    def _nested(self, experiment: str, parent: str) -> Iterator[Any]:
        page = None
        while True:
            found = self._client.search_runs(
                [experiment], f"tags.`{_PARENT_TAG}` = '{parent}'", max_results=_RUNS_A_PAGE,
                page_token=page,
            )  # fmt: skip
            yield from found
            page = found.token
            if not page:
                return

    def _tell_trial(self, id_: str, parent: str, trial: TrackedTrial) -> None:
        at = _milliseconds(trial.at)
        params = [self._mlflow.entities.Param(k, v) for k, v in trial.params.items()]
        self._client.log_batch(id_, metrics=self._metrics(trial.metrics, at), params=params)
        if trial.is_best:
            best = {f"best_{k}": trial.metrics[k] for k in ("latency_ratio", "drop")}
            self._client.log_batch(parent, metrics=self._metrics(best, at, trial.number))
        # last: one that has ended is known to the end
        self._client.set_terminated(id_, "FINISHED", at)

    def _metrics(self, numbers: Numbers, at: int, step: int = 0) -> list[Any]:
        """Equal ones, with the same time and step, are stored once by MLflow."""
        return [self._mlflow.entities.Metric(k, v, at, step) for k, v in numbers.items()]

    def _send(self, id_: str, files: Mapping[str, Deliverable]) -> None:
        if not files:
            return
        with tempfile.TemporaryDirectory() as directory:
            for name, file in files.items():
                with file.open() as source, (Path(directory) / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
            self._client.log_artifacts(id_, directory)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def load_mlflow() -> ModuleType:
    """The library.

    Raises:
        NotInstalledError: it is not there.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise NotInstalledError(
            f"--mlflow-tracking-uri needs the package {error.name!r}, which is not installed",
            hint="pip install 'autosparse[mlflow]'",
        ) from error
    library: ModuleType = mlflow
    return library
