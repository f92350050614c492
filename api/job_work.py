"""What the process of a job does, by kind. The other half of `job_kinds.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from api.artifacts import ATLAS_DATA
from api.job_kinds import ATLAS, RESOLVE, REVERIFY, SEARCH
from api.reverification import reverified
from autosparse.artifacts.atlas_data import AtlasData, break_even_words, summary, whole_file
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.config import JobConfig, ProfileConfig
from autosparse.pipeline.job import target_of
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Progress
from autosparse.pipeline.resolve_config import ResolveConfig
from autosparse.pipeline.workspace import Workspace
from workers.local import engines_of, local_engines, verify
from workers.resolve import resolve_job

Document = Mapping[str, Any]


class Teller(Progress, Protocol):
    """What happens, told to people and, line by line, to the runner."""

    def tell(self, kind: str, **data: Any) -> None:
        """One line to the runner."""


def _search(document: Document, progress: Teller) -> None:
    config = JobConfig.model_validate(document)
    _tell_known_trials(config.output_dir, progress)
    with engines_of(config, progress) as engines:
        # an empty directory is begun, one with a job in it goes on
        _tell_result(run_job(config, engines, resume=True), progress)


def _resolve(document: Document, progress: Teller) -> None:
    asked = ResolveConfig.model_validate(document)
    out = Path(str(asked.output_dir))
    _tell_known_trials(out, progress)
    result = resolve_job(asked, progress, resume=out.exists())
    _tell_known_trials(out, progress)  # those that were taken over
    _tell_result(result, progress)


def _reverify(document: Document, progress: Teller) -> None:
    found = verify(
        document["bundle"], model=document["model"], validation=document["validation"],
        target=document.get("target"), progress=progress,
    )  # fmt: skip
    outcome = reverified(found, Path(document["bundle"]), document["tolerance"])
    progress.tell("outcome", verdict=found.verdict.value, outcome=outcome)


def _atlas(document: Document, progress: Teller) -> None:
    config = ProfileConfig.model_validate(document)
    with local_engines(target_of(config), progress) as engines:
        data = run_atlas(config, engines)
    text = data.model_dump_json(indent=2)
    (config.output_dir / ATLAS_DATA).write_text(text, encoding="utf-8")
    progress.tell("outcome", outcome=_atlas_outcome(data))


def _atlas_outcome(data: AtlasData) -> dict[str, Any]:
    whole = whole_file(data)
    found = [] if whole is None else whole.break_evens
    return {
        "summary": summary(data.entries),
        "break_even": {one.family: break_even_words(one) for one in found},
        "environment": data.environment.id,
        "libraries": data.environment.libraries,
    }


def _tell_result(result: Result, progress: Teller) -> None:
    manifest = json.loads(result.manifest.model_dump_json())
    progress.tell("result", verdict=result.verdict.value, manifest=manifest)


def _tell_known_trials(directory: Path, progress: Teller) -> None:
    """Trials that were stored on disk when the former runner was killed before it was told."""
    study = Workspace(directory.absolute()).study
    if study.exists():
        records = [record.model_dump(mode="json") for record in Ledger(study).records]
        progress.tell("known", records=records)


WORK: Mapping[str, Callable[[Document, Teller], None]] = {
    SEARCH: _search, RESOLVE: _resolve, REVERIFY: _reverify, ATLAS: _atlas,
}  # fmt: skip
