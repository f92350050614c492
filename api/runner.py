"""The runner: takes jobs one after the other, runs each in a child, stores what it is told."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

from sqlalchemy.exc import SQLAlchemyError

from api.artifact_store import ArtifactStore, artifact_store
from api.artifacts import artifacts_of
from api.best_file import keep_best_file
from api.database import Database, new_id, why_away
from api.device_lines import Lines, lines_to
from api.file_store import FileStore, file_store
from api.inspection import confined_environment
from api.job_kinds import RESOLVE, SEARCH, seconds_of
from api.job_ledger import JobLease, LeaseLostError, make_lane, take_job
from api.json_logs import about, log_json_lines
from api.runner_home import Keeper, runner_home
from api.settings import ServerSettings
from api.tables import JobRow
from autosparse.client.records import ENDED
from autosparse.errors import ConfigError, StorageError
from autosparse.parent_process import end_with_parent
from autosparse.pipeline.records import TrialRecord

_log = logging.getLogger("autosparse.runner")
_IDLE_SECONDS, _AWAY_SECONDS, _STORE_AWAY_SECONDS = 0.5, 1.0, 30.0
_TO_BE_FETCHED = {"stage": "begin", "detail": "waits for the artifacts' store"}
_TO_BE_DELIVERED = {"stage": "deliver", "detail": "waits for the artifacts' store"}
_MOST_LINE_BYTES = 256 << 20  # all trials of a job that goes on are one line
JOB_COMMAND = (sys.executable, "-P", "-c", "from api.job_process import main; main()")
"""What a job's process runs. It is given its parent's id, and its request on standard input."""
# Beyond its own time limit a job verifies and delivers; later than this it hangs.
_OVERTIME_FACTOR, _OVERTIME_SECONDS = 2.0, 3600.0


class Runner:
    """Works on one job at a time until it is told to stop.

    Args:
        settings: the server's.
        database: where jobs are.
        files: where their files are.
        command: what a job's process runs.
    """

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        files: FileStore,
        command: Sequence[str] = JOB_COMMAND,
    ) -> None:
        self._command = command
        self._settings = settings
        self._database = database
        self._files = files
        self._store = artifact_store(settings.artifacts)
        self._name = new_id("run")
        self._home = runner_home(settings, database, files, self._name)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Give the job back and return from `run`."""
        self._stop.set()

    def run(self) -> None:
        """Take and do jobs."""
        while not self._stop.is_set():
            try:
                self._take_and_do()
            except LeaseLostError as error:
                _log.warning("%s", error.message)
            except StorageError as error:
                # the job goes on from where it is when its lease is over
                _log.warning("%s", error.message)
                self._stop.wait(_AWAY_SECONDS)
            except SQLAlchemyError as error:
                away = why_away(error)
                if away is None:
                    raise
                # its process is ended by now; it goes on when the database is back
                _log.warning("the database does not answer: %s", away)
                self._stop.wait(_AWAY_SECONDS)

    def _take_and_do(self) -> None:
        settings = self._settings
        make_lane(self._database, settings.device)
        lease = take_job(
            self._database, self._name, settings.device, settings.lease_seconds,
            settings.max_attempts,
        )  # fmt: skip
        if lease is None:
            self._stop.wait(_IDLE_SECONDS)
        else:
            self._work(lease)

    def _work(self, lease: JobLease) -> None:
        directory = self._files.job(lease.job_id)
        with self._database.reading() as session:
            job = session.get(JobRow, lease.job_id)
        if job is None:
            return
        _log.info("begins", extra=about(job=job.id, kind=job.kind, attempt=job.attempts))
        try:
            self._home.ready(lease, job)
        except StorageError:
            self._put_off(lease, _TO_BE_FETCHED)
            raise
        with self._home.keeping(lease, job) as keeper:
            if job.concluded is not None and self._home.has_end(job):
                state, values = job.concluded["state"], job.concluded["values"]
            else:
                self._home.note_end(job.id, None)
                state, values = self._run(lease, job, directory, keeper)
            if state in ENDED and self._store is not None:
                lease.conclude(state, values)
                self._home.note_end(job.id, {"state": state, "values": values})
                try:
                    keeper.finish()
                    self._hand_over(lease, directory, self._store)
                except StorageError:
                    self._put_off(lease, _TO_BE_DELIVERED)
                    raise
        lease.end(state, **{**values, "concluded": None})
        _log.info("ends", extra=about(job=job.id, state=state))

    def _put_off(self, lease: JobLease, waits: dict[str, Any]) -> None:
        """What cannot be done now is no fault of the job's: it is tried later, and others go on."""
        lease.end("queued", wait_seconds=_STORE_AWAY_SECONDS, attempts=0, progress=waits)

    def _run(
        self, lease: JobLease, job: JobRow, directory: Path, keeper: Keeper
    ) -> tuple[str, dict[str, Any]]:
        """Let a child do the job; the state that it is in then, and what is stored with it."""
        # a cluster's token is for those who join it
        confined = confined_environment("RAY_" if self._settings.ray_address else "")
        with (
            lines_to(self._database, self._settings, job, lease.device) as lines,
            _Child(self._command, directory, self._request(job), lines, confined) as child,
        ):
            asked = seconds_of(job.kind, job.config)
            watch = _Watch(lease, child, keeper, self._settings, asked)
            state, values = watch.until_it_ends(self._stop.is_set)
        if state in ENDED:
            with contextlib.suppress(StorageError):  # it is tried again when it is handed over
                keeper.finish()
        if state != "finished":
            told = keep_best_file(directory, lease.best_record())
            if told is not None and state == "cancelled":
                lease.event("note", {"text": told})
        return state, values

    def _hand_over(self, lease: JobLease, directory: Path, store: ArtifactStore) -> None:
        """Copy what was delivered to the store; the lease goes on meanwhile."""
        copy = partial(store.put, lease.job_id, artifacts_of(directory))
        lease.beat_while(self._settings.lease_seconds, copy)

    def _request(self, job: JobRow) -> dict[str, Any]:
        config = job.config
        if job.kind == SEARCH and self._settings.workers:
            address = self._settings.ray_address or None
            config = {**config, "workers": self._settings.workers, "ray_address": address}
        elif job.kind == RESOLVE:  # it would take the search's workers, and has no network for them
            config = {**config, "workers": 0}
        return {
            "kind": job.kind,
            "config": config,
            "memory_bytes": self._settings.max_job_memory_bytes,
            "file_bytes": self._settings.intake.file_bytes * 4,
        }


class _Child:
    """The job's process, and what it says line by line."""

    def __init__(
        self, command: Sequence[str], directory: Path, request: dict[str, Any], lines: Lines,
        environment: dict[str, str],
    ) -> None:  # fmt: skip
        self.lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with (directory / "internal.log").open("ab") as said:
            self._process = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=directory,
                env={**environment, **lines.environment}, pass_fds=lines.handles,
                start_new_session=True,
            )  # fmt: skip
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(json.dumps(request).encode() + b"\n")
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        self._reader.join()

    def kill(self) -> None:
        """End it, and whatever it started: what is on the disk survives a kill at any moment."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, pipe: IO[bytes] | None) -> None:
        if pipe is not None:
            with pipe:
                while (told := _parsed(pipe.readline(_MOST_LINE_BYTES))) is not None:
                    self.lines.put(told)
        self.lines.put(None)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a job's process says; None at its end, where the last line may be torn.

    It reads what somebody uploaded: one that was taken over may say anything, and is ended.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a trial, as it is; what is none would be found out by whoever reads it."""
    TrialRecord.model_validate(record)
    return record


class _Watch:
    """Stores what a child says, keeps the lease, and sees when somebody wants it to end."""

    def __init__(
        self, lease: JobLease, child: _Child, keeper: Keeper, settings: ServerSettings, asked: float
    ) -> None:
        self._lease = lease
        self._child = child
        self._keeper = keeper
        self._lease_seconds = settings.lease_seconds
        self._beat_seconds = min(settings.lease_seconds / 4, 1.0)
        self._deadline = time.monotonic() + asked * _OVERTIME_FACTOR + _OVERTIME_SECONDS
        self._progress: dict[str, Any] | None = None
        self._end: tuple[str, dict[str, Any]] | None = None

    def until_it_ends(self, stopping: Callable[[], bool]) -> tuple[str, dict[str, Any]]:
        """Return the state that the job is in now, and what is stored with it."""
        next_beat = 0.0
        while True:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_seconds
                if self._lease.beat(self._lease_seconds, self._progress):
                    return "cancelled", {}
            patience = min(self._beat_seconds, self._keeper.look())
            if stopping():
                # no fault of the job's
                return "queued", {"attempts": 0}
            if time.monotonic() > self._deadline:
                return "queued", {}
            try:
                told = self._child.lines.get(timeout=patience)
            except queue.Empty:
                continue
            if told is None:
                # without a last word it was killed, or met a bug of ours: once more, a few times
                return self._end or ("queued", {})
            try:
                self._store(told)
            except (ConfigError, KeyError, TypeError, ValueError):
                told_by = about(job=self._lease.job_id)
                _log.exception("its process says what none of ours does", extra=told_by)
                return "queued", {}

    def _store(self, told: dict[str, Any]) -> None:
        kind = told.pop("kind")
        if kind == "step":
            self._progress = {**(self._progress or {"stage": ""}), **told}
        elif kind == "stage":
            self._progress = {"stage": told["stage"], "detail": told["detail"]}
            self._lease.event("stage", told)
        elif kind == "trial":
            record = _checked(told["record"])
            self._keeper.trial(record, told["best"])
            recipe = record["evidence"]["recipe_id"]
            _log.info("trial", extra=about(job=self._lease.job_id, trial=recipe))
        elif kind == "known":
            for record in told["records"]:
                self._keeper.trial(_checked(record), None)
        elif kind == "result":
            values = {"verdict": told["verdict"], "manifest": told["manifest"]}
            self._end = "finished", {**values, "problem": None}
        elif kind == "outcome":
            values = {"verdict": told.get("verdict"), "outcome": dict(told["outcome"])}
            self._end = "finished", {**values, "problem": None}
        elif kind == "failed":
            self._end = "failed", {"problem": told["problem"]}
        elif kind == "note":
            self._lease.event(kind, {"text": str(told["text"])})
        else:
            raise ValueError(kind)


def main() -> None:
    """A process that runs jobs until it is told to stop; its settings come on standard input."""
    end_with_parent(int(sys.argv[1]))
    settings = ServerSettings.model_validate_json(sys.stdin.readline())
    log_json_lines()
    database = Database(settings.database_url)
    runner = Runner(settings, database, file_store(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    runner.run()
    database.close()
