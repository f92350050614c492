"""What the service and its clients say to each other. The service adds fields, and never renames.

Times are seconds since 1970 in UTC, durations and latencies seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

JobState = Literal["queued", "running", "cancelling", "finished", "failed", "cancelled"]
JobKind = Literal["search", "resolve", "reverify", "refresh_atlas"]
ENDED: frozenset[str] = frozenset({"finished", "failed", "cancelled"})
# It changes what is looked for, not what earlier evidence means.
MAY_CHANGE = (
    "latency_budget", "max_drop", "max_size", "max_memory", "strict", "strategy", "trials",
    "time_limit",
)  # fmt: skip
"""What an ended job may be asked anew when it is resumed."""
Item = TypeVar("Item")


class Record(BaseModel):
    """Base: unknown fields of a newer service are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Page(Record, Generic[Item]):
    """A part of a list, newest first."""

    items: tuple[Item, ...]
    """What is on this page."""
    next: str | None = None
    """Give it as `after` for the next page; null on the last."""


class TensorInfo(Record):
    """One input or output of a model, or one array of a dataset."""

    name: str
    """As in the file."""
    dtype: str
    """NumPy's word."""
    shape: tuple[int | str, ...]
    """Sizes; a free dimension has a name."""


class ModelInfo(Record):
    """An uploaded model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "mdl_4kQ0Zr6oJm2WcTn1YsVb3x",
                    "name": "resnet20.onnx",
                    "sha256": "9f2c" * 16,
                    "size_bytes": 1_096_220,
                    "created": 1795323756.6,
                    "inputs": [
                        {"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 32]}
                    ],
                    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
                    "layers": 20,
                    "needed_by": ["job_7Rm3Kc9xWd5NqLf0HtVz2b"],
                }
            ]
        }
    )

    id: str
    """Begins with `mdl_`."""
    name: str
    """As given at the upload; for people."""
    sha256: str
    """Digest of the uploaded file."""
    size_bytes: int
    """Size of the uploaded file."""
    created: float
    """When it was uploaded."""
    inputs: tuple[TensorInfo, ...]
    """Its inputs."""
    outputs: tuple[TensorInfo, ...]
    """Its outputs."""
    layers: int
    """Layers that can be compressed."""
    needed_by: tuple[str, ...] = ()
    """Jobs and schedules that need it, up to ten of either: it stays as long as they do."""


class DatasetInfo(Record):
    """An uploaded npz."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "dat_9Xw2Lp7sUe5RdKc8HgNa1f",
                    "name": "validation.npz",
                    "sha256": "41d0" * 16,
                    "size_bytes": 61_520_400,
                    "created": 1795323757.1,
                    "arrays": [
                        {"name": "image", "dtype": "float32", "shape": [5000, 3, 32, 32]},
                        {"name": "labels", "dtype": "int64", "shape": [5000]},
                    ],
                }
            ]
        }
    )

    id: str
    """Begins with `dat_`."""
    name: str
    """As given at the upload; for people."""
    sha256: str
    """Digest of the uploaded file."""
    size_bytes: int
    """Size of the uploaded file."""
    created: float
    """When it was uploaded."""
    arrays: tuple[TensorInfo, ...]
    """What is in it."""
    needed_by: tuple[str, ...] = ()
    """Jobs and schedules that need it, up to ten of either: it stays as long as they do."""


class UploadProgress(Record):
    """An upload that arrives in pieces."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "upl_0Cs8Yh4rEw2FkJt6LzQx9b",
                    "kind": "dataset",
                    "name": "train.npz",
                    "size_bytes": 5_368_709_120,
                    "received_bytes": 1_073_741_824,
                    "created": 1795323757.4,
                }
            ]
        }
    )

    id: str
    """Begins with `upl_`."""
    kind: str
    """model or dataset."""
    name: str = ""
    """As announced; for people."""
    size_bytes: int
    """Size of the whole file."""
    received_bytes: int
    """What has arrived: the next piece goes on there."""
    created: float = 0.0
    """When it was announced."""


class TargetInfo(Record):
    """A stored target file."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "tgt_1Bv6Ty3qMi0ZoPj4EuSx7k",
                    "name": "edge-box",
                    "created": 1795323757.9,
                    "document": {"name": "edge-box", "backend": "onnxruntime", "threads": 2},
                }
            ]
        }
    )

    id: str
    """Begins with `tgt_`."""
    name: str
    """The target's own name."""
    created: float
    """When it was stored."""
    document: dict[str, Any]
    """The target file's fields."""
    needed_by: tuple[str, ...] = ()
    """Jobs and schedules that need it, up to ten of either: it stays as long as they do."""


class ProgressInfo(Record):
    """Where a running job is."""

    stage: str
    """Stage of the story: intake, baseline, search ..."""
    detail: str = ""
    """What it is doing."""
    done: int = 0
    """Steps of this stage that are done."""
    total: int = 0
    """All steps of this stage, 0 where that is not known."""


class ProblemInfo(Record):
    """What went wrong, as in every answer that is no success (RFC 9457)."""

    type: str = "about:blank"
    """Stable name of the kind of problem."""
    title: str = ""
    """The kind of problem in words."""
    status: int = 500
    """HTTP status."""
    detail: str = ""
    """What is wrong this time."""
    hint: str = ""
    """What to do about it."""
    retryable: bool = False
    """Whether the same request may succeed later."""


class TrialInfo(Record):
    """One recipe that was evaluated and measured."""

    number: int
    """Order of completion, from 1."""
    recipe_id: str
    """Digest of the recipe."""
    proposed_by: str
    """The strategy, or `start`."""
    latency_seconds: float
    """At the contract's percentile."""
    baseline_seconds: float
    """The original's, in the same run."""
    latency_ratio: float
    """The one over the other."""
    latency_ratio_high: float
    """Upper bound of its interval."""
    drop: float
    """Loss of quality on the rows that select, in the metric's unit."""
    drop_high: float
    """Upper bound of its interval."""
    divergence: float
    """How far the outputs are from the original's."""
    compressed_layers: int
    """Layers that do not stay as they came."""
    seconds_since_start: float
    """When it was complete, from the start of the run that measured it."""
    size_bytes: int | None = None
    """Size on disk of what runs: the file with its kernels."""
    peak_memory_bytes: int | None = None
    """By how much opening and running it raised a process's memory at most."""
    recipe: dict[str, Any]
    """The level of every layer."""


class JobInfo(Record):
    """A job: what was asked, where it is, what came of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "job_7Rm3Kc9xWd5NqLf0HtVz2b",
                    "name": "nightly",
                    "state": "running",
                    "request": {
                        "model": "mdl_4kQ0Zr6oJm2WcTn1YsVb3x",
                        "latency_budget": "60%",
                        "calibration": "dat_9Xw2Lp7sUe5RdKc8HgNa1f",
                        "validation": "dat_9Xw2Lp7sUe5RdKc8HgNa1f",
                    },
                    "priority": 0,
                    "created": 1795323758.3,
                    "started": 1795323759.0,
                    "attempts": 1,
                    "progress": {"stage": "search", "detail": "evolution, up to 40 trials in all"},
                }
            ]
        }
    )

    id: str
    """Begins with `job_`."""
    kind: JobKind = "search"
    """search, resolve (another budget), reverify (measure a bundle again) or refresh_atlas."""
    name: str = ""
    """As given; for people."""
    state: JobState
    """queued, running, cancelling, finished, failed or cancelled."""
    request: dict[str, Any]
    """What was asked: the fields of a job's configuration, with ids in place of files."""
    priority: int = 0
    """Higher ones are begun first."""
    created: float
    """When it was accepted."""
    started: float | None = None
    """When it was begun, the last time."""
    finished: float | None = None
    """When it ended."""
    attempts: int = 0
    """How often it was begun since its last trial, or since it was accepted or resumed."""
    progress: ProgressInfo | None = None
    """Where it is, or was."""
    best: TrialInfo | None = None
    """The best trial so far that meets the contract."""
    verdict: str | None = None
    """met, latency-infeasible, not-found-within-limits or simulated, once finished."""
    exit_code: int | None = None
    """What `autosparse optimize` would exit with."""
    problem: ProblemInfo | None = None
    """Why it failed."""
    manifest: dict[str, Any] | None = None
    """The delivered bundle's manifest."""
    outcome: dict[str, Any] | None = None
    """What a job that delivers no bundle found."""
    kept: bool = False
    """Whether it stays however long ago it ended."""
    device: str | None = None
    """The device that it is for; any where there is none."""
    ran_on: str | None = None
    """The device that it was begun on last."""


class EventInfo(Record):
    """Something that happened to a job. Sequences have no gaps."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sequence": 12,
                    "kind": "trial",
                    "at": 1795323811.4,
                    "data": {
                        "number": 3,
                        "recipe_id": "5e1f0c77",
                        "drop": 0.0012,
                        "latency_ratio": 0.57,
                        "latency_seconds": 0.00026,
                        "best": "5e1f0c77",
                    },
                }
            ]
        }
    )

    sequence: int
    """From 1; an event stream goes on behind the one it is given."""
    kind: str
    """state, stage, trial or note."""
    at: float
    """When."""
    data: dict[str, Any]
    """What; depends on the kind."""


class ArtifactInfo(Record):
    """A file that a job delivered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "report.html",
                    "size_bytes": 182_004,
                    "sha256": "0b7e" * 16,
                }
            ]
        }
    )

    name: str
    """Path within the bundle, with slashes."""
    size_bytes: int
    """Its size."""
    sha256: str
    """Its digest."""


class LinkInfo(Record):
    """A link to a delivery that needs no key."""

    url: str
    """Path and query, on the same server."""
    expires: float
    """Until when it opens."""
