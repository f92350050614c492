"""Files of a job that are shown while it runs: its log, its configuration, its level table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from api.service import Service
from api.snapshots import fetch_files, goes_on_from
from api.tables import JobRow

LOG = "log.txt"
_SHOWN = frozenset((LOG, "config.json", "cells.jsonl"))


def shown_directory(service: Service, job: JobRow) -> Path:
    """A directory like the job's own with these files; what was not written yet is not there.

    Raises:
        StorageError: they have to be fetched from the artifacts' store, and cannot be.
    """
    own = service.files.job(job.id)
    if service.snapshots is None or job.snapshot is None or goes_on_from(own) == job.snapshot:
        return own
    place = service.files.view(job.id, job.snapshot)
    if not place.is_dir():
        made = service.files.incoming()
        fetch_files(service.snapshots, job.id, job.snapshot, made, _is_shown)
        service.files.keep_view(made, place)
    return place


def _is_shown(path: str) -> bool:
    return PurePosixPath(path).name in _SHOWN
