"""The job that another one is answered from: found, checked, and only ever read."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from autosparse.artifacts.manifest import MANIFEST_NAME, Manifest, read_manifest
from autosparse.errors import BundleError, ConfigError, StorageError, first_problem
from autosparse.evaluation import Environment
from autosparse.pipeline.bench_building import ENVIRONMENT_FILE
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.workspace import Workspace

_ANEW = "run `autosparse optimize` again; of a bundle alone, `autosparse verify` is all there is"


@dataclass(frozen=True)
class FoundJob:
    """A finished or killed job with a level table."""

    workspace: Workspace
    config: JobConfig
    inputs: dict[str, str]
    """Role (`model`, `validation` ...) -> SHA-256 of the file that the job was given."""

    @property
    def root(self) -> Path:
        """The job's output directory."""
        return self.workspace.root


@dataclass(frozen=True)
class SourceJob(FoundJob):
    """A job with a level table that was measured on the device that is here now."""

    environment: Environment
    """The device with its libraries, which is where the table was measured."""

    @property
    def table(self) -> Path:
        """Directory of the level table."""
        return self.workspace.table / self.environment.id


def find_source(path: Path) -> FoundJob:
    """Find the job that a path belongs to.

    Args:
        path: a bundle beside its job, the output directory that holds both, its job folder, or the
            study in that.

    Raises:
        BundleError: a bundle without the job that it came from, or beside another one.
        ConfigError: no job, or one without a level table.
    """
    workspace = Workspace(_output_directory(path))
    try:
        config = JobConfig.model_validate_json(workspace.config.read_bytes())
        inputs = json.loads((workspace.job / "inputs.json").read_bytes())
    except FileNotFoundError as error:
        raise _no_table(workspace) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_problem(error)
        raise ConfigError(f"the job in {workspace.root} cannot be read: {reason}") from error
    manifest_path = path / MANIFEST_NAME
    if manifest_path.is_file() and read_manifest(path).model.sha256 != inputs.get("model"):
        raise BundleError(
            f"the job beside the bundle {path} is that of another model",
            hint="give the output directory of the job that the bundle came from",
        )
    if not workspace.has_table:
        raise _no_table(workspace)
    return FoundJob(workspace, config, inputs)


def open_source(found: FoundJob, environment: Environment) -> SourceJob:
    """The job, where its level table belongs to the device that is here now.

    Raises:
        ConfigError: it was measured elsewhere.
    """
    source = SourceJob(found.workspace, found.config, found.inputs, environment)
    if not (source.table / "cells.jsonl").is_file():
        raise _measured_elsewhere(found.workspace, environment)
    return source


@contextmanager
def held_for_reading(source: SourceJob) -> Iterator[None]:
    """Keep the job from being continued while it is read; any number may read.

    Raises:
        StorageError: a process works in it.
    """
    with (source.workspace.job / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"another process works in {source.root}",
                hint="wait until that job has ended, or stop it: it can be resumed",
            ) from error
        yield


def _output_directory(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(
            f"there is no {path}", hint="give a bundle, or the output directory of a job"
        )
    for directory in _holders(path):
        if Workspace(directory).config.is_file():
            return directory.absolute()
    bundle = path if _is_bundle(path) else path / "bundle"
    if _is_bundle(bundle):
        raise _bundle_alone(bundle, read_manifest(bundle))
    raise ConfigError(
        f"{path} is neither a bundle nor the output directory of a job",
        hint="give the --output-dir of `autosparse optimize`, or the bundle or the study in it",
    )


def _holders(path: Path) -> tuple[Path, ...]:
    """What may be the output directory that a path is in."""
    if path.is_file():
        directory = path.absolute().parent.parent
        return (directory,) if path.absolute() == Workspace(directory).study else ()
    return (path, path.parent) if _is_bundle(path) or path.name == "job" else (path,)


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST_NAME).is_file()


def _bundle_alone(bundle: Path, manifest: Manifest) -> BundleError:
    made_in = Path(str(manifest.config.get("output_dir", "")))
    found = Workspace(made_in).config.is_file()
    return BundleError(
        f"{bundle} is a bundle without its job: the level table and all measurements stayed in "
        f"{made_in}/job, where it was made",
        hint=f"it is still there: give {made_in}"
        if found
        else f"give that output directory, wherever it is now; if it is gone, {_ANEW}",
    )


def _no_table(workspace: Workspace) -> ConfigError:
    return ConfigError(
        f"the job in {workspace.root} has no level table: it was stopped before it had one",
        hint="go on with it first: run its command again with --resume",
    )


def _measured_elsewhere(workspace: Workspace, here: Environment) -> ConfigError:
    differences = "; or ".join(
        dict.fromkeys(
            _difference(directory / ENVIRONMENT_FILE, here)
            for directory in sorted(workspace.table.iterdir())
        )
    )
    return ConfigError(
        f"the level table of {workspace.root} was measured elsewhere: {differences}",
        hint="seconds of one environment mean nothing in another: resolve it there, or run "
        "`autosparse optimize` here, with another --output-dir or with --resume",
    )


def _difference(path: Path, here: Environment) -> str:
    """What is not as it is here, in words."""
    try:
        there = Environment.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return f"environment {path.parent.name} there, {here.id} here"
    theirs, ours = there.model_dump(), here.model_dump()
    told = [
        f"{name.replace('_', ' ')} {theirs[name]} there, {ours[name]} here"
        for name in ours
        if name != "libraries" and theirs[name] != ours[name]
    ]
    told += [
        f"{name} {there.libraries.get(name, 'missing')} there, "
        f"{here.libraries.get(name, 'missing')} here"
        for name in sorted({*there.libraries, *here.libraries})
        if there.libraries.get(name) != here.libraries.get(name)
    ]
    return ", ".join(told)
