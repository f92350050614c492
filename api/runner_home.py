"""A runner's home: one that all runners share, or its own, which it brings up to date by itself.

Where the home is a runner's own, the database says which snapshot of a job's files is the last one.
It is stored under the job's lease, together with the trials that it has: so a runner that lost the
job changes nothing any more, and no trial that anybody was told of is run a second time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

from api.artifact_store import ArtifactStore
from api.database import Database
from api.file_store import FileStore
from api.job_directory import Places, lay_out, link_job
from api.job_kinds import RESOLVE, REVERIFY
from api.job_ledger import JobLease
from api.json_logs import about
from api.keys import Caller
from api.settings import ServerSettings
from api.snapshot_store import SnapshotStore
from api.snapshots import ENDED, SnapshotMaker, goes_on_from, restore
from api.tables import JobRow
from autosparse.artifacts.manifest import MANIFEST_NAME
from autosparse.errors import StorageError
from autosparse.journal import stored_safely
from autosparse.pipeline.workspace import Workspace

_log = logging.getLogger("autosparse.runner")
_SOON_SECONDS = 0.05
Told = tuple[dict[str, Any], str | None]
"""A trial's record, and the recipe that was the best one then."""


class Keeper(Protocol):
    """Keeps what one job's process tells, and the job's files where others may need them."""

    def trial(self, record: dict[str, Any], best_recipe: str | None) -> None:
        """Store a trial: it may be told a little later, and is told once."""

    def look(self) -> float:
        """See whether something is to be done now; in how many seconds to look again at most."""

    def finish(self) -> None:
        """Store what waits, when the process has ended; again, if that failed before.

        Raises:
            StorageError: the job's files cannot be kept; the trials are stored all the same.
        """


class RunnerHome(Protocol):
    """Where the files of jobs are, for a runner."""

    def ready(self, lease: JobLease, job: JobRow) -> None:
        """See that the job's directory is what the job goes on from.

        Raises:
            StorageError: it cannot be.
        """

    def keeping(self, lease: JobLease, job: JobRow) -> AbstractContextManager[Keeper]:
        """What keeps the job's trials and files while it is worked on."""

    def note_end(self, job: str, concluded: dict[str, Any] | None) -> None:
        """Write down that what the job's end delivers is here; None where it begins anew."""

    def has_end(self, job: JobRow) -> bool:
        """Whether what the job's end delivers is here."""


class SharedHome:
    """All runners see the same directories: there is nothing to keep elsewhere."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def ready(self, lease: JobLease, job: JobRow) -> None:
        """Only see that it is there."""
        if not self._files.job(lease.job_id).is_dir():
            raise StorageError(
                f"the files of the job {job.id} are not below this runner's home",
                hint="give all servers of a database the same --home, or each --own-home",
            )

    @contextmanager
    def keeping(self, lease: JobLease, job: JobRow) -> Iterator[Keeper]:
        """Trials are stored as they come."""
        yield _AtOnce(lease)

    def note_end(self, job: str, concluded: dict[str, Any] | None) -> None:
        """Everybody has it."""

    def has_end(self, job: JobRow) -> bool:
        """Whoever came to it."""
        return True


class _AtOnce:
    def __init__(self, lease: JobLease) -> None:
        self._lease = lease

    def trial(self, record: dict[str, Any], best_recipe: str | None) -> None:
        self._lease.trial(record, best_recipe)

    def look(self) -> float:
        return math.inf

    def finish(self) -> None:
        """Nothing waits."""


class OwnHome:
    """A home that nobody else sees.

    Args:
        settings: the server's.
        database: where jobs are.
        files: the home.
        runner: its name.

    Raises:
        ConfigError: the artifacts' store cannot be used.
    """

    def __init__(
        self, settings: ServerSettings, database: Database, files: FileStore, runner: str
    ) -> None:
        self._settings, self._database, self._files = settings, database, files
        self._runner = runner
        self._delivered = ArtifactStore(settings.artifacts)
        self._snapshots = SnapshotStore(settings.artifacts)

    def ready(self, lease: JobLease, job: JobRow) -> None:
        """Fetch what is not here: the last snapshot, uploads, the job that this one is about."""
        lease.beat_while(self._settings.lease_seconds, partial(self._make_ready, job))

    def _make_ready(self, job: JobRow) -> None:
        self._bring(job)
        directory = self._files.job(job.id)
        shutil.rmtree(directory / "given", ignore_errors=True)
        places, owner = Places(self._files, self._database), Caller(job.owner, frozenset())
        lay_out(places, owner, job.request, job.id)
        if job.kind in (RESOLVE, REVERIFY):
            with self._database.reading() as session:
                about_ = session.get_one(JobRow, str(job.request["job"]))
            self._bring(about_)
            self._bring_bundle(about_.id)
            link_job(places, job.id, about_.id)

    def _bring(self, job: JobRow) -> None:
        """Make a job's directory what its last snapshot says, unless it has gone on from there."""
        directory = self._files.job(job.id)
        if not directory.is_dir() or goes_on_from(directory) != job.snapshot:
            _log.info("fetches its files", extra=about(job=job.id))
            restore(self._snapshots, job.id, job.snapshot, directory, self._files.incoming())

    def _bring_bundle(self, job: str) -> None:
        bundle = Workspace(self._files.job(job) / "out").bundle
        if (bundle / MANIFEST_NAME).is_file():
            return
        scratch = self._files.incoming()
        with stored_safely(scratch.parent):
            scratch.mkdir(mode=0o700)
            for name, one in self._delivered.list(job).items():
                place = scratch / name
                if place.resolve().is_relative_to(scratch.resolve()):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    self._delivered.fetch(job, name, one.sha256, place)
            bundle.parent.mkdir(exist_ok=True)
            scratch.rename(bundle)

    @contextmanager
    def keeping(self, lease: JobLease, job: JobRow) -> Iterator[Keeper]:
        """The job's files are kept after every trial, and every few seconds."""
        directory = self._files.job(job.id)
        maker = SnapshotMaker(self._snapshots, job.id, directory, self._runner, job.snapshot)
        with ThreadPoolExecutor(1) as pool:
            yield _SnapshotKeeper(lease, maker, pool, self._settings)

    def note_end(self, job: str, concluded: dict[str, Any] | None) -> None:
        """In a file beside what it delivers."""
        place = self._files.job(job) / ENDED
        with stored_safely(place.parent):
            if concluded is None:
                place.unlink(missing_ok=True)
            else:
                place.write_text(json.dumps(concluded), encoding="utf-8")

    def has_end(self, job: JobRow) -> bool:
        """Another runner's end is not here."""
        try:
            here = json.loads((self._files.job(job.id) / ENDED).read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        return bool(here == job.concluded)


class _SnapshotKeeper:
    """Tells a trial together with the snapshot that has it."""

    def __init__(
        self, lease: JobLease, maker: SnapshotMaker, pool: ThreadPoolExecutor,
        settings: ServerSettings,
    ) -> None:  # fmt: skip
        self._lease, self._maker, self._pool = lease, maker, pool
        self._every_seconds, self._lease_seconds = settings.snapshot_seconds, settings.lease_seconds
        self._waiting: list[Told] = []
        self._covered = 0
        self._making: Future[str] | None = None
        self._next = time.monotonic() + self._every_seconds
        self._is_finished = False

    def trial(self, record: dict[str, Any], best_recipe: str | None) -> None:
        self._waiting.append((record, best_recipe))

    def look(self) -> float:
        if self._making is not None and self._making.done():
            # what cannot be kept now is kept the next time
            with contextlib.suppress(StorageError):
                self._settle(self._making)
        if self._making is None and (self._waiting or time.monotonic() >= self._next):
            self._begin()
        return _SOON_SECONDS if self._making else self._every_seconds

    def finish(self) -> None:
        if self._is_finished:
            return
        if self._making is not None:
            with contextlib.suppress(StorageError):
                self._wait_for(self._making)
        self._wait_for(self._begin())
        self._is_finished = True

    def _begin(self) -> Future[str]:
        self._covered = len(self._waiting)
        self._making = self._pool.submit(self._maker.make)
        return self._making

    def _wait_for(self, making: Future[str]) -> None:
        self._lease.beat_while(self._lease_seconds, partial(wait, [making]))
        self._settle(making)

    def _settle(self, making: Future[str]) -> None:
        """Store what a snapshot has; where it failed, nobody waits for the store to come back."""
        self._making, self._next = None, time.monotonic() + self._every_seconds
        covered, self._waiting = self._waiting[: self._covered], self._waiting[self._covered :]
        try:
            name = making.result()
        except StorageError as error:
            _log.warning("%s", error.message, extra=about(job=self._lease.job_id))
            for told in covered:
                self._lease.trial(*told)
            raise
        self._lease.snapshot(name, covered)
        self._pool.submit(self._tidy, name)

    def _tidy(self, name: str) -> None:
        # what is left over goes the next time
        with contextlib.suppress(StorageError):
            self._maker.settle(name)


def runner_home(
    settings: ServerSettings, database: Database, files: FileStore, runner: str
) -> RunnerHome:
    """The home of a runner, as its server is set up."""
    if settings.own_home:
        return OwnHome(settings, database, files, runner)
    return SharedHome(files)
