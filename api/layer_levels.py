"""What every level is worth to every layer of a job: its level table as it stands."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.service import Service
from api.shown_files import shown_directory
from api.tables import JobRow, TrialRow
from autosparse.client.layer_records import LayerInfo, LevelInfo
from autosparse.client.records import Page
from autosparse.errors import StorageError
from autosparse.levels import BASELINE
from autosparse.levels.table import Cell, cells_state, read_cells
from autosparse.pipeline.workspace import Workspace


def layers_of(service: Service, session: Session, job: JobRow) -> bytes:
    """The layers of a job in the order of its table, as a page in JSON: none before it is begun.

    Raises:
        StorageError: the table is damaged, or is kept in a store that is away.
    """
    directory = _table(session, job, Workspace(shown_directory(service, job) / "out").table)
    state = None if directory is None else (directory.name, cells_state(directory))
    read = partial(_page, job, directory)
    return service.texts.get(f"layers of {job.id}", state, read)


def _page(job: JobRow, directory: Path | None) -> str:
    items = () if directory is None else _layers(job, directory)
    return Page[LayerInfo](items=items).model_dump_json()


def _layers(job: JobRow, directory: Path) -> tuple[LayerInfo, ...]:
    try:
        cells = read_cells(directory)
    except StorageError as error:
        # where on the server it lies is nobody's business
        raise StorageError(
            f"the level table of the job {job.id} is damaged", hint="submit the job anew"
        ) from error
    by_layer: dict[str, list[Cell]] = {}
    for cell in cells:
        by_layer.setdefault(cell.layer, []).append(cell)
    return tuple(_layer(name, found) for name, found in by_layer.items())


def _table(session: Session, job: JobRow, tables: Path) -> Path | None:
    """Seconds of two environments are not compared: that of the last trial, or the last begun."""
    mine = select(TrialRow.environment).where(TrialRow.job == job.id)
    measured_in = session.scalar(mine.order_by(TrialRow.number.desc()).limit(1))
    if measured_in is not None and (tables / measured_in).is_dir():
        return tables / measured_in
    begun = [path for path in tables.glob("*") if path.is_dir()]
    return max(begun, key=lambda path: path.stat().st_mtime, default=None)


def _layer(name: str, cells: list[Cell]) -> LayerInfo:
    before = next((cell.seconds for cell in cells if cell.level == BASELINE), None)
    return LayerInfo(name=name, levels=tuple(_level(cell, before) for cell in cells))


def _level(cell: Cell, before: float | None) -> LevelInfo:
    saved = None if before is None or cell.seconds is None else before - cell.seconds
    return LevelInfo(
        level=str(cell.level), searched=cell.searched,
        # the layer's name is told already
        reason=cell.reason.removeprefix(f"{cell.layer}: "),
        sparsity=cell.sparsity, seconds=cell.seconds, saved_seconds=saved,
        divergence=cell.divergence,
    )  # fmt: skip
