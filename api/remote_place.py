"""A place that fsspec can name, and what goes wrong there in our words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.core import url_to_fs

from api.json_logs import about
from autosparse.errors import ConfigError, StorageError

_log = logging.getLogger("autosparse.artifacts")


def opened_place(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the directory's path in it.

    Raises:
        ConfigError: no URL, or one whose library is not installed.
    """
    try:
        # what another server stores or removes is seen at once
        fs, root = url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"the artifacts' URL cannot be used: {error}",
            hint="give file:///DIRECTORY, or s3://BUCKET/PREFIX with 'autosparse[s3]' installed",
        ) from error
    return fs, root.rstrip("/")


@contextmanager
def reaching(what: str, id_: str) -> Iterator[None]:
    """Say it in our words where a store does not do what it is asked.

    Args:
        what: is meant, for people: `what the job job_1 delivered`.
        id_: of the job or the upload, for the log.

    Raises:
        StorageError: whatever the store's library raises.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        # The libraries of stores have errors of their own, few of them OSErrors. What they say
        # names hosts and buckets, which is for whoever runs the server.
        _log.warning("%s cannot be reached: %s", what, error, extra=about(job=id_))
        raise StorageError(
            f"{what} cannot be reached ({type(error).__name__})",
            hint="see that the artifacts' store runs, and that the server may write there",
        ) from error
