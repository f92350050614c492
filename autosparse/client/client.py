"""`autosparse.Client`: what the command line does with a service, from Python."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

import yaml

from autosparse.client.device_records import DeviceInfo
from autosparse.client.http import AsyncStreams, Transport
from autosparse.client.keys import Keys
from autosparse.client.pieces import LARGE_BYTES, send_in_pieces
from autosparse.client.records import (
    ENDED,
    ArtifactInfo,
    DatasetInfo,
    EventInfo,
    JobInfo,
    ModelInfo,
    Page,
    TargetInfo,
    TrialInfo,
)
from autosparse.client.schedules import Schedules
from autosparse.client.server_events import read_events
from autosparse.client.uploads import arriving_at, datasets_of, models_of, targets_of
from autosparse.client.webhooks import Webhooks
from autosparse.errors import BundleError, ConfigError, ServiceError, StorageError
from autosparse.journal import stored_safely

URL_VARIABLE, KEY_VARIABLE = "AUTOSPARSE_SERVER", "AUTOSPARSE_KEY"
DEFAULT_URL = "http://127.0.0.1:8377"
_DATASETS = ("calibration", "train", "validation", "test")
FRUITLESS_TRIES = 20
"""How often nothing comes of following a job until it is given up."""


class Client:
    """A service, as one key sees it.

    Requests that may be repeated are, with growing waits, where the service cannot be reached or
    says that a retry may help. A submission carries an idempotency key, so that it may be, too.

    Args:
        url: where the service listens; without it `AUTOSPARSE_SERVER`, else this machine.
        key: bearer key; without it `AUTOSPARSE_KEY`.
        tries: how often a request is sent at most.
        timeout_seconds: how long one request may take.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        tries: int = 5,
        timeout_seconds: float = 300.0,
    ) -> None:
        self._transport = Transport(
            url or os.environ.get(URL_VARIABLE) or DEFAULT_URL,
            key or os.environ.get(KEY_VARIABLE),
            tries=tries,
            timeout_seconds=timeout_seconds,
        )
        self.models = models_of(self._transport)
        self.datasets = datasets_of(self._transport)
        self.targets = targets_of(self._transport)
        self.arriving = arriving_at(self._transport)
        self.schedules = Schedules(self._transport, self._uploaded)
        self.webhooks = Webhooks(self._transport)
        self.keys = Keys(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back."""
        self._transport.close()

    def streams(self) -> AsyncStreams:
        """Streams of the same service for an event loop; whoever asks for them closes them."""
        return self._transport.streams()

    def upload_model(self, path: Path | str, name: str | None = None) -> ModelInfo:
        """Upload an ONNX file, or a zip of one with its data files.

        Raises:
            ModelError: the intake refuses it; the message says why.
        """
        return ModelInfo.model_validate(self._upload("model", Path(path), name))

    def upload_dataset(self, path: Path | str, name: str | None = None) -> DatasetInfo:
        """Upload an npz file.

        Raises:
            DataError: it is no npz of plain arrays.
        """
        return DatasetInfo.model_validate(self._upload("dataset", Path(path), name))

    def store_target(self, document: Mapping[str, Any]) -> TargetInfo:
        """Store a target: the fields of a target file."""
        answer = self._transport.json("POST", "/v1/targets", json=dict(document))
        return TargetInfo.model_validate(answer)

    def devices(self) -> tuple[DeviceInfo, ...]:
        """The devices that jobs run on: `submit(..., device=NAME)` chooses one."""
        answer = self._transport.json("GET", "/v1/devices")
        return Page[DeviceInfo].model_validate(answer).items

    def submit(
        self,
        /,
        model: Path | str,
        *,
        name: str = "",
        priority: int = 0,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> JobInfo:
        """Submit a job: files are uploaded, and ids of earlier uploads are taken as they are.

        Args:
            model: ONNX file, zip, or id of an uploaded model.
            name: for people.
            priority: higher ones are begun first.
            idempotency_key: the same key leads to the same job; without it, a new one is drawn.
            **fields: as for `autosparse.optimize`: `calibration`, `latency_budget` ...; and the
                `device` to run on, where the service has several.

        Raises:
            UserInputError: the service does not accept the job; the message says what to do.
        """
        request = self._uploaded({**fields, "model": model})
        if name:
            request["name"] = name
        if priority:
            request["priority"] = priority
        return self._accepted("/v1/jobs", request, idempotency_key)

    def resolve(
        self, /, job_id: str, *, idempotency_key: str | None = None, **wishes: Any
    ) -> JobInfo:
        """Answer another budget from what a finished job measured, as a new job.

        Args:
            job_id: the job.
            idempotency_key: the same key leads to the same job; without it, a new one is drawn.
            **wishes: as for `autosparse.resolve`: `latency_budget`, `max_drop`, `keep` ...
        """
        path = f"/v1/jobs/{_part(job_id)}:resolve"
        asked = {key: _plain(value) for key, value in wishes.items() if value is not None}
        return self._accepted(path, asked, idempotency_key)

    def reverify(
        self, job_id: str, *, tolerance: float = 0.1, idempotency_key: str | None = None
    ) -> JobInfo:
        """Measure and evaluate a delivered bundle again, as a new job.

        Args:
            job_id: the job that delivered it.
            tolerance: how much slower than then is no regression: 0.1 is 10 %.
            idempotency_key: the same key leads to the same job; without it, a new one is drawn.
        """
        path = f"/v1/jobs/{_part(job_id)}:reverify"
        return self._accepted(path, {"tolerance": tolerance}, idempotency_key)

    def refresh_atlas(
        self, /, model: Path | str, *, idempotency_key: str | None = None, **wishes: Any
    ) -> JobInfo:
        """Measure every level of a model's layer shapes, as a new job that delivers an atlas.

        Args:
            model: ONNX file, zip, or id of an uploaded model.
            idempotency_key: the same key leads to the same job; without it, a new one is drawn.
            **wishes: as for `autosparse profile`: `target`, `calibration`, `levels` ...
        """
        request = self._uploaded({**wishes, "model": model})
        return self._accepted("/v1/atlases", request, idempotency_key)

    def _accepted(self, path: str, request: dict[str, Any], key: str | None) -> JobInfo:
        """Send a request that may be sent again: its key leads to the same job."""
        headers = {"Idempotency-Key": key or secrets.token_urlsafe(16)}
        return JobInfo.model_validate(
            self._transport.json("POST", path, json=request, headers=headers)
        )

    def job(self, job_id: str) -> JobInfo:
        """One job as it is now."""
        return JobInfo.model_validate(self._transport.json("GET", f"/v1/jobs/{_part(job_id)}"))

    def jobs(self, /, state: str | None = None, **chosen: str) -> Iterator[JobInfo]:
        """The jobs of this key, newest first.

        Args:
            state: only those in it.
            **chosen: only those of a `kind`, with a `verdict`, or with something in the `name`.
        """
        asked = chosen if state is None else {**chosen, "state": state}
        for answer in self._transport.pages("/v1/jobs", asked):
            yield from Page[JobInfo].model_validate(answer).items

    def trials(self, job_id: str) -> tuple[TrialInfo, ...]:
        """The trials of a job, in order."""
        pages = self._transport.pages(f"/v1/jobs/{_part(job_id)}/trials", {"limit": "200"})
        return tuple(one for page in pages for one in Page[TrialInfo].model_validate(page).items)

    def pareto(self, job_id: str) -> tuple[TrialInfo, ...]:
        """The trials that none beats in drop, latency, size or memory without losing elsewhere."""
        answer = self._transport.json("GET", f"/v1/jobs/{_part(job_id)}/pareto")
        return Page[TrialInfo].model_validate(answer).items

    def events(self, job_id: str, after: int = 0) -> Iterator[EventInfo]:
        """What happens to a job, until it ends: each once, also across lost connections.

        Args:
            job_id: the job.
            after: go on behind the event with this sequence.

        Raises:
            ServiceError: the service cannot be reached for long.
        """
        fruitless = 0
        while True:
            before = after
            try:
                with self._transport.stream(events_path(job_id), after) as lines:
                    for event in read_events(lines):
                        after = event.sequence
                        yield event
                if self.job(job_id).state in ENDED:
                    return
            except ServiceError:
                if fruitless >= FRUITLESS_TRIES:
                    raise
            fruitless = 0 if after > before else fruitless + 1
            self._transport.wait(min(fruitless, 4))

    def wait(self, job_id: str) -> JobInfo:
        """Wait until a job has ended."""
        for _ in self.events(job_id):
            pass
        return self.job(job_id)

    def cancel(self, job_id: str) -> JobInfo:
        """Stop a job; what it found so far stays."""
        answer = self._transport.json("POST", f"/v1/jobs/{_part(job_id)}:cancel")
        return JobInfo.model_validate(answer)

    def resume(self, /, job_id: str, **changes: Any) -> JobInfo:
        """Let an ended job go on, perhaps with another budget or other limits."""
        asked = {key: _plain(value) for key, value in changes.items()}
        path = f"/v1/jobs/{_part(job_id)}:resume"
        return JobInfo.model_validate(self._transport.json("POST", path, json=asked))

    def change(self, /, job_id: str, **changes: Any) -> JobInfo:
        """Change `name` or `priority`, or whether it is `kept` however long ago it ended."""
        answer = self._transport.json("PATCH", f"/v1/jobs/{_part(job_id)}", json=changes)
        return JobInfo.model_validate(answer)

    def delete(self, job_id: str) -> None:
        """Remove an ended job and what it delivered."""
        self._transport.json("DELETE", f"/v1/jobs/{_part(job_id)}")

    def artifacts(self, job_id: str) -> tuple[ArtifactInfo, ...]:
        """What a job delivered."""
        answer = self._transport.json("GET", f"/v1/jobs/{_part(job_id)}/artifacts")
        return Page[ArtifactInfo].model_validate(answer).items

    def fetch(self, job_id: str, output_dir: Path | str) -> Path:
        """Download what a job delivered, compare the checksums, and put it into a new directory.

        Returns:
            The directory: the bundle, there whole or not at all.

        Raises:
            StorageError: the directory exists, or cannot be written.
            BundleError: nothing was delivered, or a file came otherwise than it was announced.
        """
        place = Path(output_dir)
        if place.exists():
            raise StorageError(f"{place} exists", hint="give another --output-dir")
        listed = self.artifacts(job_id)
        if not listed:
            raise BundleError(f"the job {job_id} delivered nothing", hint="wait until it has ended")
        with stored_safely(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
            try:
                for item in listed:
                    self._download(job_id, item, partial)
                partial.chmod(0o755)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return place

    def _download(self, job_id: str, item: ArtifactInfo, directory: Path) -> None:
        parts = PurePosixPath(item.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in item.name:
            raise BundleError(f"the service names a file outside the bundle: {item.name!r}")
        path = directory.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x+b") as file:
            self._transport.download(f"/v1/jobs/{_part(job_id)}/artifacts/{item.name}", file)
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != item.sha256:
                raise BundleError(f"{item.name} came damaged", hint="fetch it again")

    def _uploaded(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A request with ids in the place of files; what has an id is sent already."""
        request = {key: _plain(value) for key, value in fields.items() if value is not None}
        if "model" in request:
            request["model"] = self._model_id(request["model"])
        for field in _DATASETS:
            if field in request:
                request[field] = self._dataset_id(field, request[field])
        if "target" in request:
            request["target"] = self._target_id(request["target"])
        return request

    def _model_id(self, model: Path | str) -> str:
        given = str(model)
        return given if given.startswith("mdl_") else self.upload_model(given).id

    def _dataset_id(self, field: str, given: str) -> str:
        return given if given.startswith("dat_") else self.upload_dataset(given, f"{field}.npz").id

    def _target_id(self, given: str) -> str:
        if given.startswith("tgt_"):
            return given
        try:
            document = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read the target {given}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{given} is no target file: it is not YAML") from error
        if not isinstance(document, dict):
            raise ConfigError(f"{given} is no target file: it holds no fields")
        return self.store_target(document).id

    def _upload(self, kind: str, path: Path, name: str | None) -> Any:
        try:
            with path.open("rb") as file:
                if path.stat().st_size >= LARGE_BYTES:
                    return send_in_pieces(self._transport, kind, name or path.name, file)
                return self._transport.upload(f"/v1/{kind}s", name or path.name, file)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error


def events_path(job_id: str) -> str:
    """Where a job's events are."""
    return f"/v1/jobs/{_part(job_id)}/events"


def _plain(value: Any) -> Any:
    """A field as JSON takes it: budgets and paths as they are spelled."""
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _part(id_: str) -> str:
    """An id as part of a path."""
    if not id_.replace("_", "").isalnum():
        raise ConfigError(f"{id_!r} is no id", hint="ids are printed by `autosparse jobs`")
    return id_
