"""Checkpoints: a training that is killed goes on where it was."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from autosparse.journal import stored_safely
from autosparse.model_graph import ModelGraph
from autosparse.recovery.plan import TrainingPlan
from autosparse.recovery.student import Student
from autosparse.recovery.training_data import TrainingData

State = dict[str, Any]
# Of the sum of sizes: what rounding makes of weights, and nothing else does.
_LAST_BITS = 1e-4


@dataclass(frozen=True)
class Identity:
    """What a training is: everything that it depends on, but for when it ends by time."""

    digest: str
    """Of what is the same to the bit wherever it goes on."""
    start: Tensor
    """(tensors, 3) float64: sums of the numbers that the student starts from. Corrected weights
    have other last bits with other threads, and so on another machine."""

    @classmethod
    def of(
        cls, graph: ModelGraph, student: Student, data: TrainingData, plan: TrainingPlan
    ) -> Identity:
        """Take it.

        Args:
            graph: the dense model.
            student: at its start, before it is given norms: their statistics are last bits, too.
            data: rows.
            plan: how it goes.
        """
        recovery, digest = student.recovery, hashlib.sha256(graph.sha256.encode())
        digest.update(plan.model_dump_json(exclude={"seconds"}).encode())
        digest.update(f"{recovery.name} {data.digest()}".encode())
        for name, value in sorted(vars(recovery).items()):
            if isinstance(value, BaseModel | float):  # a configuration, or a part of one
                digest.update(f"{name} {value!r}".encode())
        for layer in student.trained_layers:
            digest.update(f"{layer.name} {layer.level}".encode())
        sums = []
        for name, values in student.state_dict().items():
            digest.update(f"{name} {tuple(values.shape)}".encode())
            if values.is_floating_point():
                sums.append(_sums(values))
            else:
                digest.update(values.contiguous().numpy().tobytes())
        return cls(digest.hexdigest(), torch.stack(sums))

    def is_of(self, state: State) -> bool:
        """Whether a checkpoint is one of this training."""
        start = state.get("start")
        return (
            state.get("identity") == self.digest
            and isinstance(start, Tensor)
            and start.shape == self.start.shape
            and bool(((start - self.start).abs() <= _LAST_BITS * self.start[:, :1]).all())
        )


def _sums(values: Tensor) -> Tensor:
    """Of the sizes, of the numbers, and of the numbers by their places."""
    wide = values.flatten().to(torch.float64)
    places = torch.linspace(0.0, 1.0, wide.numel(), dtype=torch.float64)
    return torch.stack([wide.abs().sum(), wide.sum(), wide @ places])


def save_checkpoint(path: Path, state: State) -> None:
    """Write a checkpoint whole or not at all, and wait until the disk has it.

    Raises:
        StorageError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    with stored_safely(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def load_checkpoint(path: Path, identity: Identity) -> State | None:
    """Read a checkpoint.

    Args:
        path: where `save_checkpoint` wrote it.
        identity: what the training is; a checkpoint of another one does not count.

    Returns:
        What was saved; None where there is nothing, or nothing of this training.
    """
    try:
        state: State = torch.load(path, weights_only=True)
    except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
        # damaged by something else than us: the training begins anew
        return None
    return state if identity.is_of(state) else None
