"""Every error this project raises on purpose, and what each one promises.

AutoSparseError                  exit 1, HTTP 500: our bug
├── UserInputError               exit 2, HTTP 422: what was given is wrong; the hint helps
│   ├── ModelError               the model file cannot be used
│   ├── DataError                the arrays do not fit the model or the metric
│   ├── ConfigError              a flag, config field, budget, pattern or name is wrong
│   ├── BundleError              a bundle is damaged or incomplete
│   ├── NotInstalledError        an optional library is missing; the hint names the extra
│   ├── StorageError             an unusable directory, or a full disk (HTTP 507)
│   └── RequestError             a request to the service or an agent is refused (HTTP 400)
│       ├── UnauthenticatedError no valid key (HTTP 401)
│       ├── ForbiddenError       the key lacks the scope (HTTP 403)
│       ├── NotFoundError        nothing of that id belongs to the key (HTTP 404)
│       ├── ConflictError        its state does not allow it now (HTTP 409)
│       ├── TooLargeError        an upload or document over the limit (HTTP 413)
│       └── QuotaError           the key has as much as it may have (HTTP 429)
├── CandidateError               a value of the search, never its end: one candidate failed
│   ├── CompileError             the backend could not lower the recipe
│   ├── NoMemoryError            it took more memory than there was, or ended its workers (retry)
│   ├── HungError                it did not answer in time, again and again
│   └── MeasurementError         the file could not be opened or timed (retry)
│       ├── DisturbedError       the machine was never quiet: it says nothing of the file (retry)
│       └── KilledError          what measured was killed from outside (retried at once)
├── WorkerError                  exit 1, HTTP 503: workers keep dying, a device is away (retry)
└── ServiceError                 exit 1, HTTP 503: the service cannot be reached, or fails (retry)

A verdict (latency-infeasible, not found within the limits) is an answer, not an error:
see `autosparse.evaluation.gate.Verdict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class AutoSparseError(Exception):
    """Base of the tree. Raised directly only where an invariant of ours is broken."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = _one_line(message)
        self.hint = _one_line(hint)

    def __str__(self) -> str:
        """One line: what is wrong, then what to do."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UserInputError(AutoSparseError):
    """Raised wherever input enters; a retry with the same input fails again."""

    exit_code = 2
    http_status = 422


class ModelError(UserInputError):
    """Raised by intake: not an ONNX file, truncated, hostile, or nothing in it to compress."""


class DataError(UserInputError):
    """Raised by `autosparse.datasets`: names, shapes, dtypes, NaNs, rows or labels."""


class ConfigError(UserInputError):
    """Raised while a configuration, budget, level, pattern or registry name is read."""


class BundleError(UserInputError):
    """Raised by whatever opens a bundle: its files and its manifest disagree."""


class NotInstalledError(UserInputError):
    """Raised by the registry when a plug-in's library cannot be imported."""


class StorageError(UserInputError):
    """Raised when a directory is not empty, not writable, or its disk is full."""

    http_status = 507


class RequestError(UserInputError):
    """Raised by the service or an agent: a request cannot be understood or served as it is."""

    http_status = 400


class UnauthenticatedError(RequestError):
    """Raised by the service or an agent: the request carries no key, or none that is valid."""

    http_status = 401


class ForbiddenError(RequestError):
    """Raised by the service: the key is valid, and does not have the scope that is needed."""

    http_status = 403


class NotFoundError(RequestError):
    """Raised by the service: nothing with that id belongs to the key."""

    http_status = 404


class ConflictError(RequestError):
    """Raised by the service: the state of what is meant does not allow it now."""

    http_status = 409


class TooLargeError(RequestError):
    """Raised by the service or an agent: what is sent, or what it unpacks to, is over the limit."""

    http_status = 413


class QuotaError(RequestError):
    """Raised by the service: the key has as many jobs, or stores as much, as it may."""

    http_status = 429


class CandidateError(AutoSparseError):
    """One candidate failed; the search records the reason and goes on."""


class CompileError(CandidateError):
    """Raised by `Backend.lower`: this recipe cannot be made to run on this target."""


class NoMemoryError(CandidateError):
    """Raised by a pool: a candidate took more memory than there was, or ended its workers.

    Something else may have had the memory: a resumed job tries it once more.
    """

    retryable = True


class HungError(CandidateError):
    """Raised by a pool: a candidate did not answer in time, and neither did it on other workers."""


class MeasurementError(CandidateError):
    """Raised by a measurement lane: crash, time-out, or a machine too noisy to time."""

    retryable = True


class DisturbedError(MeasurementError):
    """Raised where other work disturbed every round of samples: it says nothing of the file."""


class KilledError(MeasurementError):
    """Raised by a measurement lane whose process got SIGKILL: the system or a person ended it."""


class WorkerError(AutoSparseError):
    """Raised by `workers` where a process keeps dying, or a device is away: not the candidate."""

    http_status = 503
    retryable = True


class ServiceError(AutoSparseError):
    """Raised by the client: the service cannot be reached, or fails again and again."""

    http_status = 503
    retryable = True


def first_problem(error: Exception) -> str:
    """What a library says is wrong, as the end of a sentence: of a schema, the first field."""
    from pydantic import ValidationError  # here: kernels and their errors need no pydantic

    if not isinstance(error, ValidationError):
        return _one_line(str(error))
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def where_it_was_sought(path: Path) -> str:
    """Hint for a file that is not there: a relative path means another file in every directory."""
    if path.is_absolute():
        return "look for a slip in the path"
    return (
        f"the path was looked up from {Path.cwd()}: go to the directory it starts from, "
        "or give the whole path"
    )
