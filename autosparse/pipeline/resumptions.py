"""Where a search was begun again, and how much it knew: a replay begins again there, too."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autosparse.journal import Journal
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord


class Resumption(BaseModel):
    """A search that went on from the files of the job."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    candidates: int
    """Records that the candidate log had."""
    trials: int
    """Trials that the study had, those of other environments included."""


def note_resumption(workspace: Workspace, ledger: Ledger) -> None:
    """Write down that a search begins, where an earlier one left something.

    Args:
        workspace: the job's.
        ledger: its trials, before the search adds any.
    """
    known = len(Journal(workspace.candidates, CandidateRecord).records)
    found = Resumption(candidates=known, trials=len(ledger.records))
    journal = Journal(workspace.resumptions, Resumption)
    if (known or ledger.records) and found not in journal.records[-1:]:
        journal.append(found)
