"""A ladder: one command for several targets and budgets, and a verified bundle for each.

For every target with every budget there is a whole job in a directory of its own, so that it can
be resumed, resolved and looked at like any other. What is the same for several of them is done
once: jobs on one target share all their evidence, jobs on different ones the compressed weights.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from autosparse.artifacts.ladder_page import (
    LADDER_FILE,
    LADDER_PAGE,
    LadderList,
    LadderRow,
    render_ladder,
)
from autosparse.artifacts.manifest import MANIFEST_NAME, read_manifest
from autosparse.errors import AutoSparseError, ConfigError
from autosparse.evaluation.address import is_address
from autosparse.evaluation.target import ANY_BACKEND
from autosparse.journal import stored_safely
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.every_backend import EnginesOn
from autosparse.pipeline.job import Engines, target_of
from autosparse.pipeline.optimize import Result, run_job
from autosparse.pipeline.progress import Progress
from autosparse.pipeline.source_job import FoundJob, find_source, open_source
from autosparse.pipeline.taken_over import answer_from, answers_from_another
from autosparse.pipeline.workspace import Workspace, check_room_for_jobs

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+")
THIS_MACHINE = "this-machine"
"""What a target is called that is not given."""


@dataclass(frozen=True)
class LadderAnswer:
    """What one job of a ladder came to."""

    name: str
    """The job's directory in that of the ladder."""
    config: JobConfig
    """What it was asked."""
    result: Result | None = None
    """Its answer; None where it has none."""
    error: AutoSparseError | None = None
    """Why it has none; None where it was not begun, too."""

    @property
    def exit_code(self) -> int:
        """As if it had been a command of its own; 1 where it was not begun."""
        if self.result is not None:
            return self.result.exit_code
        return 1 if self.error is None else self.error.exit_code


@dataclass(frozen=True)
class Ladder:
    """What `optimize` gives back for several targets or budgets."""

    directory: Path
    """Output directory of all of them."""
    answers: tuple[LadderAnswer, ...]
    """One for each target with each budget, in the order in which they were given."""

    @property
    def exit_code(self) -> int:
        """The worst: that of the first error, else the largest of the verdicts' codes."""
        failed = [answer.exit_code for answer in self.answers if answer.result is None]
        return failed[0] if failed else max(answer.exit_code for answer in self.answers)

    @property
    def listing(self) -> LadderList:
        """All of them side by side."""
        return LadderList(
            product=f"autosparse {version('autosparse')}",
            model=self.answers[0].config.model.name,
            jobs=tuple(_row(answer) for answer in self.answers),
        )


def run_ladder(
    configs: Sequence[JobConfig],
    engines_on: EnginesOn,
    progress: Progress,
    *,
    resume: bool = False,
) -> Ladder:
    """Run a job for each configuration, in OUTPUT_DIR/NAME, and list them side by side.

    Each has an equal share of the time limit. A job that fails leaves the others alone.

    Args:
        configs: as `read_configs` gives them: they differ in target and budget only.
        engines_on: what runs the job of one of them.
        progress: told what happens.
        resume: continue the jobs in the output directory.

    Raises:
        AutoSparseError: no job gave an answer; this is what the first one said.
        ConfigError: two of them have one name, or a target leaves the backend open.
        StorageError: the output directory holds something else.
        WorkerError: a device does not answer; nothing was begun.
    """
    root = configs[0].output_dir.absolute()
    jobs = _named(configs, root)
    check_room_for_jobs(root, resume=resume, single="one target and budget")
    check_backends(configs)
    _check_devices(configs, engines_on, progress)
    ladder = Ladder(root, tuple(LadderAnswer(name, own) for name, own in jobs.items()))
    write_listing(ladder)
    answers: dict[str, LadderAnswer] = {}
    for number, (name, config) in enumerate(jobs.items(), start=1):
        progress.stage("ladder", f"{name}: job {number} of {len(jobs)}")
        answers[name] = _answered(
            name, config, list(answers.values()), engines_on, progress, resume
        )
        ladder = Ladder(root, tuple(answers.get(a.name, a) for a in ladder.answers))
        write_listing(ladder)
    if all(answer.result is None for answer in ladder.answers):
        _remove_what_is_empty(root)
        raise next(answer.error for answer in ladder.answers if answer.error is not None)
    return ladder


def check_backends(configs: Sequence[JobConfig]) -> None:
    """Make sure that every target says what runs the model there.

    Args:
        configs: of a ladder.

    Raises:
        ConfigError: a target file is wrong, or leaves the backend open.
    """
    for config in _of_targets(configs):
        if target_of(config).backend == ANY_BACKEND:
            raise ConfigError(
                "several targets or budgets need a backend each",
                hint="name it with --backend or in the target files; auto is for one job",
            )


def write_listing(ladder: Ladder) -> None:
    """Write what every job came to, for people and for programs.

    Raises:
        StorageError: it cannot be written.
    """
    listing = ladder.listing
    documents = {
        LADDER_FILE: listing.model_dump_json(indent=2) + "\n",
        LADDER_PAGE: render_ladder(listing),
    }
    with stored_safely(ladder.directory):
        ladder.directory.mkdir(parents=True, exist_ok=True)
        for name, text in documents.items():
            partial = ladder.directory / f"{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(ladder.directory / name)


def job_name(config: JobConfig) -> str:
    """Name of a job in its ladder, which stays when the ladder gets more of them."""
    device = THIS_MACHINE
    if config.target is not None:
        address = is_address(config.target)
        device = _NOT_IN_NAMES.sub("-", config.target if address else Path(config.target).stem)
    return f"{device}-{str(config.latency_budget).replace('%', 'pct')}"


def _named(configs: Sequence[JobConfig], root: Path) -> dict[str, JobConfig]:
    """Each configuration by its job's name, with a directory and a share of the time of its own."""
    named: dict[str, JobConfig] = {}
    for config in configs:
        name = job_name(config)
        if name in named:
            raise ConfigError(
                f"two jobs of the ladder would be called {name}",
                hint="give each target and budget once, and target files different names",
            )
        share = config.time_limit / len(configs)
        named[name] = config.model_copy(update={"output_dir": root / name, "time_limit": share})
    return named


def _of_targets(configs: Sequence[JobConfig]) -> Collection[JobConfig]:
    """One configuration for each target."""
    return {config.target: config for config in configs}.values()


def _check_devices(configs: Sequence[JobConfig], engines_on: EnginesOn, progress: Progress) -> None:
    """Ask every agent for its device before the first job takes its time.

    Raises:
        WorkerError: an agent does not answer.
    """
    for config in _of_targets(configs):
        target = target_of(config)
        if target.address and not target.is_simulated:
            progress.stage("device", target.address)
            with engines_on(config) as engines:
                engines.lane.environment()


def _answered(
    name: str, config: JobConfig, earlier: Sequence[LadderAnswer], engines_on: EnginesOn,
    progress: Progress, resume: bool,
) -> LadderAnswer:  # fmt: skip
    go_on = resume and config.output_dir.exists()
    try:
        with engines_on(config) as engines:
            result = _run(config, engines, _with_table(earlier), resume=go_on)
    except AutoSparseError as error:
        progress.note(f"no answer for {name}: {error}")
        return LadderAnswer(name, config, error=error)
    return LadderAnswer(name, config, result)


def _run(
    config: JobConfig, engines: Engines, earlier: Sequence[FoundJob], *, resume: bool
) -> Result:
    """One job, with what earlier ones of the ladder leave it to do.

    A job that was begun on its own is continued on its own.
    """
    same = [found for found in earlier if found.config.target == config.target]
    if same and (not _has_begun(config.output_dir) or answers_from_another(config.output_dir)):
        source = open_source(same[-1], engines.lane.environment())
        return answer_from(
            source, config, engines, given=Path(source.root.name), further=config.trials,
            resume=resume,
        )  # fmt: skip
    others = [found for found in earlier if found.config.target != config.target]
    backend = target_of(config).backend
    alike = [found for found in others if target_of(found.config).backend == backend]
    return run_job(config, engines, resume=resume, beside=next(iter(alike or others), None))


def _has_begun(root: Path) -> bool:
    return Workspace(root).inputs.exists()


def _with_table(earlier: Sequence[LadderAnswer]) -> list[FoundJob]:
    """Those of some jobs whose answer is there, and a level table to take it from."""
    roots = [answer.config.output_dir for answer in earlier if answer.result is not None]
    return [find_source(root) for root in roots if Workspace(root).has_table]


def _remove_what_is_empty(root: Path) -> None:
    """A directory that was made in vain; what else is in there is somebody's."""
    if any(path.is_dir() for path in root.iterdir()):
        return
    for name in (LADDER_FILE, LADDER_PAGE):
        (root / name).unlink(missing_ok=True)
    with suppress(OSError):
        root.rmdir()


def _row(answer: LadderAnswer) -> LadderRow:
    config = answer.config
    row = LadderRow(
        name=answer.name, target=config.target or THIS_MACHINE, budget=str(config.latency_budget),
        error="" if answer.error is None else str(answer.error),
    )  # fmt: skip
    if answer.result is not None:
        return row.answered(answer.result.manifest)
    # what a ladder that is resumed has not come to yet has the answer of the time before
    bundle = Workspace(config.output_dir).bundle
    waits = answer.error is None and (bundle / MANIFEST_NAME).exists()
    return row.answered(read_manifest(bundle)) if waits else row
