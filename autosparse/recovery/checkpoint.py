"""Checkpoints: a training that is killed goes on where it was."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from autosparse.journal import stored_safely

State = dict[str, Any]


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


def load_checkpoint(path: Path, identity: str) -> State | None:
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
    return state if state.get("identity") == identity else None
