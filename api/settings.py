"""How a server is set up. What a job is asked is `JobConfig`: nothing of it is here."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autosparse.errors import ConfigError, first_problem

VARIABLE_PREFIX = "AUTOSPARSE_SERVE_"
"""What the environment variables that set a server up begin with."""
_AS_JSON = ("device_networks", "webhook_networks", "intake")
_MIB, _GIB = 1 << 20, 1 << 30
Positive = Annotated[int, Field(gt=0)]


class IntakeLimits(BaseModel):
    """What a child process may use that reads what somebody uploaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cpu_seconds: Positive = 120
    """Processor time."""
    wall_seconds: Positive = 180
    """Time by the clock."""
    memory_bytes: Positive = 6 * _GIB
    """Memory beyond what its libraries take."""
    file_bytes: Positive = 8 * _GIB
    """Largest file that it may write."""


class ServerSettings(BaseModel):
    """One server: where it keeps things, where it listens, and what it accepts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    home: Path = Path("autosparse-service")
    """Directory of the database, the uploads and the jobs."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback's can be reached from other machines."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8377
    """Port to listen on; 0 takes a free one."""
    database: str = ""
    """SQLAlchemy URL of the database. Without it: SQLite in the home directory."""
    artifacts: str = ""
    """Where delivered files are kept, as fsspec spells it: s3://BUCKET/PREFIX. Without it: in the
    home directory."""
    own_home: bool = False
    """Whether the home is this server's alone: uploads and jobs' files are kept in the artifacts'
    store as well, so that servers of one database need no shared disk."""
    snapshot_seconds: Annotated[float, Field(gt=0)] = 20.0
    """With a home of its own: how long a job's files are not kept elsewhere at most; after a trial,
    they are at once."""
    keys: bool = True
    """Whether requests need a bearer key."""
    device: str = Field(default_factory=socket.gethostname)
    """Name of the device whose measurement lane the runner holds: one job at a time measures."""
    max_model_bytes: Positive = 4 * _GIB
    """Largest upload of a model, and the most that a zip may unpack to."""
    max_dataset_bytes: Positive = 8 * _GIB
    """Largest upload of a dataset, and the most that it may unpack to."""
    max_document_bytes: Positive = _MIB
    """Largest JSON document in a request."""
    max_unfinished_jobs: Positive = 100
    """Jobs of one key that wait or run."""
    max_stored_bytes: Positive = 64 * _GIB
    """Uploads of one key together."""
    max_archive_bytes: Positive = 16 * _GIB
    """Bundles that were packed into one file for download, together: the latest stay."""
    max_copy_bytes: Positive = 64 * _GIB
    """With a home of its own: copies of uploads there, together. Those that nobody used lately go
    first; what a job that has not ended works with stays."""
    max_time_limit: Annotated[float, Field(gt=0)] = 86400.0
    """Largest `time_limit` that a job may ask for, in seconds."""
    max_job_memory_bytes: Positive = 64 * _GIB
    """Memory that one process of a job may take."""
    device_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Networks that devices may join from: 10.1.0.0/16. The server connects to their agents."""
    webhook_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Networks that webhooks may reach though they are not public: 10.1.0.0/16."""
    intake: IntakeLimits = IntakeLimits()
    """Limits of the process that reads uploads."""
    workers: Annotated[int, Field(ge=0, le=4096)] = 0
    """Processes that compress layers and evaluate candidates of a search, on Ray. 0: all of a job
    in one process, without any network."""
    ray_address: str = ""
    """Ray cluster that jobs join for their workers: 10.0.0.1:6379. Without it, each job starts Ray
    on this machine."""
    lease_seconds: Annotated[float, Field(gt=0)] = 30.0
    """A runner that says nothing for so long has lost its job to another."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Ended jobs are removed after so many days, unless they are kept or needed. None: never."""
    max_attempts: Positive = 5
    """How often a job is begun that ends each time without an answer."""
    mlflow_tracking_uri: str = ""
    """MLflow tracking server that is told of every job: http://HOST:PORT. Without it: none."""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=200)] = "autosparse"
    """Experiment of the runs there; it is made where there is none."""

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if not self.keys and not self.is_loopback:
            raise ConfigError(
                f"without keys, everybody who reaches {self.host} could use the service",
                hint="leave --no-keys away, or listen on 127.0.0.1",
            )
        return self

    @model_validator(mode="after")
    def _no_home_without_a_store(self) -> Self:
        if self.own_home and not (self.artifacts and self.database):
            raise ConfigError(
                "servers with homes of their own share a database and an artifacts' store, and "
                f"{'the store' if self.database else 'the database'} is not given",
                hint="give --database and --artifacts, or let all servers share one --home",
            )
        return self

    @model_validator(mode="after")
    def _no_password_in_an_address(self) -> Self:
        # it would stand in the log whenever the server does not answer
        asked = urlsplit(self.mlflow_tracking_uri)
        if asked.scheme in ("http", "https") and asked.username is not None:
            raise ConfigError(
                "the address of the tracking server has a name or a password in it",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in its place",
            )
        return self

    @model_validator(mode="after")
    def _no_cluster_without_workers(self) -> Self:
        if self.ray_address and self.workers == 0:
            raise ConfigError(
                "--ray-address joins a cluster for workers, and there are none",
                hint="say how many with --workers",
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def database_url(self) -> str:
        """The database, SQLite in the home directory unless another is given."""
        return self.database or f"sqlite:///{self.home.absolute() / 'service.sqlite3'}"


def settings_in(environment: Mapping[str, str]) -> dict[str, object]:
    """Fields of the settings that environment variables give: `AUTOSPARSE_SERVE_DATABASE`.

    Lists and groups are JSON. An empty variable gives nothing.

    Raises:
        ConfigError: a variable that stands for no field, or JSON that is none.
    """
    found: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(VARIABLE_PREFIX):
            continue
        field = variable.removeprefix(VARIABLE_PREFIX).lower()
        if field not in ServerSettings.model_fields:
            known = (f"{VARIABLE_PREFIX}{name.upper()}" for name in ServerSettings.model_fields)
            raise ConfigError(
                f"the environment variable {variable} sets nothing",
                hint=f"known: {', '.join(known)}",
            )
        if text:
            found[field] = _parsed(variable, text) if field in _AS_JSON else text
    return found


def _parsed(variable: str, text: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"the environment variable {variable} is no JSON: {error.msg}",
            hint="lists and groups of settings are given as JSON",
        ) from error
    return value


def read_settings(fields: Mapping[str, object]) -> ServerSettings:
    """Build settings from what was given.

    Raises:
        ConfigError: a value is wrong, or the server would be open to everybody.
    """
    try:
        return ServerSettings.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"the server's settings: {first_problem(error)}") from error
