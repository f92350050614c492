"""Whether the rows that gate are enough to show the drop that is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autosparse.evaluation.paired_rows import counts_rows, rows_needed
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.job import Job


def notes_on_few_rows(job: Job, baseline: Baseline) -> tuple[str, ...]:
    """What the report must tell, told at once; nothing where the rows do.

    Args:
        job: with its data.
        baseline: the dense model's answers, and the contract.
    """
    notes = tuple(_notes(job, baseline))
    for note in notes:
        job.engines.progress.note(note)
    return notes


def _notes(job: Job, baseline: Baseline) -> Iterator[str]:
    contract, rows = baseline.contract, len(job.gating)
    allowed = contract.allowed_drop()
    scores = baseline.reference.scores
    if not 0.0 < allowed < 1.0 or not counts_rows(job.metric, scores, scores):
        return
    if allowed * rows < 1.0:
        yield (
            f"a single row is more than --max-drop {contract.max_drop} allows: the verdict is "
            f"judged on {rows} rows, which show drops in steps of {1 / rows:.3g}. It takes a "
            f"validation file of {2 * math.ceil(1 / allowed)} rows or more to show such a drop"
        )
    needed = rows_needed(allowed)
    if contract.strict and rows < needed:
        yield (
            f"--strict can hardly be kept: that a drop is below {contract.max_drop} is shown by "
            f"{needed} rows that gate, if none of them is answered otherwise, and there are "
            f"{rows}. It takes a validation file of {2 * needed} rows or more"
        )
