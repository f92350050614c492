"""The durable study: every finished trial once, in an Optuna journal that its dashboard opens."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from autosparse.errors import ConfigError, StorageError
from autosparse.evaluation import Contract
from autosparse.evaluation.gate import share_over
from autosparse.journal import damaged, stored_safely
from autosparse.pipeline.records import TrialRecord
from autosparse.search.strategy import (
    DROP_CONSTRAINT,
    LATENCY_CONSTRAINT,
    MEMORY_CONSTRAINT,
    SIZE_CONSTRAINT,
)

STUDY_NAME = "autosparse"
optuna.logging.set_verbosity(optuna.logging.WARNING)
_RECORD = "record"
# What Optuna and pydantic raise where lines are not their own, or of another schema.
_UNREADABLE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, ConfigError)


class Ledger:
    """Finished trials. Only the driver writes, and a trial is written once, when it is complete.

    The first value is the drop, the second the latency over the baseline's. The recipe is part
    of one attribute: a parameter per layer would cost ten times the space and time.

    Trials without a record are not ours: somebody added them with Optuna or its dashboard.

    Raises:
        StorageError: the file cannot be written, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        _repair(path)
        self._path = path
        try:
            self._study = _opened(path)
            self._records = [
                TrialRecord.model_validate(trial.user_attrs[_RECORD])
                for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
                if _RECORD in trial.user_attrs
            ]
        except _UNREADABLE as error:
            raise _damage(path, error) from error

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """Every finished trial, in order."""
        return tuple(self._records)

    def append(self, record: TrialRecord, contract: Contract) -> None:
        """Write one finished trial."""
        trial = create_trial(
            state=TrialState.COMPLETE,
            values=[record.evidence.drop, record.evidence.latency_ratio],
            user_attrs={_RECORD: record.model_dump(mode="json")},
            constraints=constraints_of(record, contract),
        )
        with stored_safely(self._path):
            self._study.add_trial(trial)
        self._records.append(record)


def constraints_of(record: TrialRecord, contract: Contract) -> dict[str, float]:
    """Violations in shares of each bound, so that samplers may add them; 0 or less is inside."""
    bound = min(contract.latency_ratio, 1.0)
    allowed = contract.allowed_drop()
    constraints = {
        LATENCY_CONSTRAINT: record.evidence.held_ratio(contract) / bound - 1.0,
        DROP_CONSTRAINT: (record.evidence.held_drop(contract) - allowed) / max(allowed, 1e-3),
    }
    limited = (
        (SIZE_CONSTRAINT, record.evidence.size_bytes, contract.size_bound),
        (MEMORY_CONSTRAINT, record.evidence.peak_memory_bytes, contract.memory_bound),
    )
    constraints.update(
        (key, share_over(count, limit)) for key, count, limit in limited if limit is not None
    )
    return constraints


def _opened(path: Path) -> optuna.Study:
    with stored_safely(path):
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=STUDY_NAME,
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )


def _damage(path: Path, error: Exception) -> StorageError:
    """What is wrong with a journal that Optuna, or our schema, cannot read: its line if one is."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError as problem:
            return damaged(f"line {number} of {path}", problem)
    return damaged(str(path), error)


def _repair(path: Path) -> None:
    """Make a journal writable again after a kill: cut a torn last line, drop a stale lock.

    The workspace's own lock makes sure that no other process is using the files.

    Raises:
        StorageError: the last whole line is damaged. Optuna passes over it, and would fail on it
            as soon as another one is behind it.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.lock")
    if not path.exists():
        return
    with stored_safely(path), path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
    if whole:
        try:
            json.loads(content[: whole - 1].rpartition(b"\n")[2])
        except ValueError as error:
            number = content.count(b"\n")
            raise damaged(f"line {number} of {path}", error) from error
