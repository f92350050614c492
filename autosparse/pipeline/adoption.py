"""Adoption: a new job takes over what another one measured, as far as it means the same there.

The other job's files are only read. Weights, which are never changed in place, are linked.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autosparse.evaluation import Comparison, Contract, Measurement, Percentile
from autosparse.journal import Journal, is_full, stored_safely, write_journal
from autosparse.levels import Level, Recipe
from autosparse.levels.table import Cell, read_cells
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.layer_groups import Groups
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.records import MeasuredTrial, TrialRecord
from autosparse.pipeline.source_job import SourceJob
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung

MARKER = "resolved_from.json"
"""Written when everything was taken over; a resolve that is resumed takes nothing twice."""
BEGUN = "resolved_from.begun"
"""Written before anything is: what lies in a job that has neither is its own."""
# Made anew, or taken over record by record.
_NOT_COPIED = frozenset(
    ("lock", "scratch", "level_table", "study.journal", "config.json", "inputs.json",
     "candidates.jsonl", "resumptions.jsonl", "timing_inputs.npz", MARKER, BEGUN)
)  # fmt: skip
_OF_ONE_PERCENTILE = ("measurements.jsonl", "descent.jsonl")


@dataclass(frozen=True)
class Adoption:
    """From one job's files into another's."""

    source: SourceJob
    workspace: Workspace
    percentile: Percentile
    """Percentile of the new job."""

    @property
    def same_percentile(self) -> bool:
        """Whether latencies mean what they meant."""
        return self.source.config.percentile == self.percentile

    def take_files(self) -> None:
        """Copy the files that mean the same in the new job."""
        old, new = self.source.workspace, self.workspace
        with stored_safely(new.job):
            for path in sorted(old.job.iterdir()):
                if path.name in _NOT_COPIED:
                    continue
                if path.is_dir():
                    shutil.copytree(path, new.job / path.name, dirs_exist_ok=True)
                elif self.same_percentile or path != old.baselines:
                    shutil.copyfile(path, new.job / path.name)
        if not self.same_percentile:
            for name in _OF_ONE_PERCENTILE:
                _reread(new.job / name, self.percentile)
        self._take_candidates()

    def take_table(self, old: Sequence[Choice], new: Sequence[Choice]) -> int:
        """Take over the cells of the level table, as the new choices have them.

        A cell that the old job's wishes kept out of the search, and the new one's do not, is left
        behind: it has no weight, and is built when the new table is completed. So is one that was
        refused as too slow and that the new job insists on.

        Args:
            old: what the other job was allowed to choose.
            new: what this one is.

        Returns:
            Number of cells that were taken over.
        """
        was = {cell for cell, choice in _by_cell(old).items() if choice.searched}
        may = _by_cell(new)
        options = Counter(choice.layer.name for choice in new if choice.searched)
        cells: list[Cell] = []
        for cell in read_cells(self.source.table):
            choice = may.get((cell.layer, cell.level))
            if choice is None or not choice.searched:
                reason = choice.reason if choice else f"{cell.layer}: not asked for any more"
                cells.append(_refused(cell, reason))
            elif cell.searched or ((cell.layer, cell.level) in was and options[cell.layer] > 1):
                cells.append(cell)
        directory = self.workspace.table / self.source.environment.id
        with stored_safely(directory):
            (directory / "weights").mkdir(parents=True, exist_ok=True)
            for path in self.source.table.iterdir():
                if path.is_file() and path.name != "cells.jsonl":
                    shutil.copyfile(path, directory / path.name)
            for path in (self.source.table / "weights").glob("*.npz"):
                link_or_copy(path, directory / "weights" / path.name)
        write_journal(directory / "cells.jsonl", cells)
        return len(cells)

    def take_trials(
        self, choices: Sequence[Choice], groups: Groups, contract: Contract
    ) -> tuple[int, int]:
        """Take over the trials whose recipes may be chosen now.

        Returns:
            How many were taken over, and how many there were in this environment.
        """
        copy = self.workspace.scratch("source") / "study.journal"
        if not self.source.workspace.study.exists():
            return 0, 0
        shutil.copyfile(self.source.workspace.study, copy)
        records = [r for r in Ledger(copy).records if r.environment == self.source.environment.id]
        allowed = {cell for cell, choice in _by_cell(choices).items() if choice.searched}
        ledger = Ledger(self.workspace.study)
        known = {record.recipe.id for record in ledger.records}
        for record in self._at_percentile(records):
            if record.recipe.id not in known and _is_allowed(record.recipe, allowed, groups):
                ledger.append(record, contract)
        return len(ledger.records), len(records)

    def _at_percentile(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """The records with latencies at the new percentile, from their raw samples."""
        if self.same_percentile:
            return list(records)
        raw = Journal(self.workspace.measurements, MeasuredTrial).records
        comparisons = {m.recipe_id: m.comparison for m in raw if m.purpose == "trial"}
        return [
            _at(record, comparisons[record.recipe.id], self.percentile)
            for record in records
            if record.recipe.id in comparisons
        ]

    def _take_candidates(self) -> None:
        """Take over candidates but the screened ones: those were judged by the other bound."""
        path = self.source.workspace.candidates
        if not path.exists():
            return
        copy = self.workspace.scratch("source") / path.name
        shutil.copyfile(path, copy)
        records = Journal(copy, CandidateRecord).records
        write_journal(
            self.workspace.candidates, [r for r in records if r.rung is not Rung.SCREENED]
        )


def without_interruptions(comparison: Comparison) -> Comparison:
    """The comparison as a percentile above the median counts it: no interrupted block."""

    def strict(measurement: Measurement) -> Measurement:
        blocks = tuple(
            block.model_copy(update={"accepted": block.accepted and not block.interruptions})
            for block in measurement.blocks
        )
        return measurement.model_copy(update={"blocks": blocks})

    return Comparison(baseline=strict(comparison.baseline), candidate=strict(comparison.candidate))


def _reread(path: Path, percentile: Percentile) -> None:
    """Count a journal's raw samples as the percentile asks; what has too few rounds left goes."""
    kept: list[MeasuredTrial] = []
    for record in Journal(path, MeasuredTrial).records:
        counted = record.comparison
        if percentile != "p50":
            counted = without_interruptions(counted)
        if counted.has_interval:
            kept.append(record.model_copy(update={"comparison": counted}))
    write_journal(path, kept)


def link_or_copy(path: Path, link: Path) -> None:
    """The same file under another name; a copy where the file system has no such links.

    Raises:
        OSError: the disk is full.
    """
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError as error:
        if is_full(error):
            raise
        shutil.copyfile(path, link)


def _at(record: TrialRecord, comparison: Comparison, percentile: Percentile) -> TrialRecord:
    evidence = record.evidence.model_copy(
        update={
            "latency_ratio": comparison.ratio(percentile),
            "latency_ratio_high": comparison.ratio_interval(percentile).high,
        }
    )
    return record.model_copy(
        update={
            "evidence": evidence,
            "latency_seconds": comparison.candidate.percentile_seconds(percentile),
            "baseline_seconds": comparison.baseline.percentile_seconds(percentile),
        }
    )


def _is_allowed(recipe: Recipe, allowed: Collection[tuple[str, Level]], groups: Groups) -> bool:
    return all(item in allowed for item in recipe.levels.items()) and all(
        len({recipe.levels[name].without_method() for name in names}) == 1 for names in groups
    )


def _by_cell(choices: Sequence[Choice]) -> dict[tuple[str, Level], Choice]:
    return {(choice.layer.name, choice.level): choice for choice in choices}


def _refused(cell: Cell, reason: str) -> Cell:
    if not cell.searched:
        return cell
    return cell.model_copy(update={"searched": False, "reason": reason})
