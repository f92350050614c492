"""Which integer type int8 layers get their activations in: whichever this machine runs faster.

Both types stand for the same real numbers, so that only time decides. ARM processors have integer
dot products that want both factors signed; those of x86 want one unsigned, and ONNX Runtime there
rewrites int8 activations to uint8 where it recognises them, and runs the rest in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.manifest import Decision
from autosparse.calibration import ActivationRanges
from autosparse.errors import CandidateError
from autosparse.evaluation import Comparison, Measurement, TimingSettings
from autosparse.journal import Journal
from autosparse.levels import Knobs
from autosparse.pipeline.baseline import Baseline
from autosparse.pipeline.calibrate import Calibration
from autosparse.pipeline.job import Job
from autosparse.pipeline.layer_choices import Choice
from autosparse.pipeline.lowering import lower_layers
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from autosparse.pipeline.table_building import PLAIN_INT8, plain_int8_weights

ActivationType = Literal["uint8", "int8"]

_USUAL: ActivationType = "uint8"
_OTHER: ActivationType = "int8"
# A file that is rewritten on loading to what the other one is must not win by chance.
_WORTHWHILE = 0.02
_SUBJECT = "Integer type of activations"
_QUICK = TimingSettings(rounds=6, block_seconds=0.02, max_seconds=10.0)


class TimedActivationType(BaseModel):
    """What was measured, and what it decided: once per job and environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    environment: str
    """Id of the environment it was timed in."""
    chosen: ActivationType
    """The type that every recipe of the job asks for."""
    ratios: dict[ActivationType, float]
    """Type -> latency of plain INT8 with it, over the baseline's; empty where it could not be
    timed."""
    measurements: tuple[Measurement, ...] = ()
    """Raw samples of the baseline and of both types; none in records of earlier versions."""


@dataclass(frozen=True)
class KnobChoice:
    """Knobs, and what the report tells of how they were chosen."""

    knobs: Knobs
    decision: Decision | None = None
    """None where no layer can be in int8."""


def choose_knobs(
    job: Job,
    baseline: Baseline,
    choices: Sequence[Choice],
    calibration: Calibration,
    ranges: ActivationRanges,
) -> KnobChoice:
    """Knobs of every recipe of the job; a resumed job decides as it did before."""
    environment = baseline.environment.id
    journal = Journal(job.workspace.job / "activation_types.jsonl", TimedActivationType)
    known = [record for record in journal.records if record.environment == environment]
    if known:
        return _chosen(known[-1])
    weights = plain_int8_weights(job, choices, calibration)
    if not weights:
        return KnobChoice(Knobs())
    levels = dict.fromkeys(weights, PLAIN_INT8)
    files = {BASELINE_LABEL: job.original}
    try:
        for kind in (_USUAL, _OTHER):
            knobs = Knobs(activation_type=kind)
            files[kind] = lower_layers(job, levels, weights, ranges, knobs, f"activations-{kind}")
        timed = job.stopwatch.measure(files, _QUICK)
    except CandidateError as error:
        # not stored: a resumed job may find a quieter machine
        told = f"{_USUAL}, the types were not timed: {error}"
        job.engines.progress.note(f"activations stay {told}")
        return KnobChoice(Knobs(), Decision(subject=_SUBJECT, told=told))
    percentile = job.config.percentile
    faster = Comparison(baseline=timed[_USUAL], candidate=timed[_OTHER])
    # the usual type is the better trodden path: it takes more than noise to leave it
    wins = faster.ratio_interval(percentile).high < 1.0 - _WORTHWHILE
    chosen = _OTHER if wins else _USUAL
    ratios = {
        kind: Comparison(baseline=timed[BASELINE_LABEL], candidate=timed[kind]).ratio(percentile)
        for kind in (_USUAL, _OTHER)
    }
    record = TimedActivationType(
        environment=environment, chosen=chosen, ratios=ratios, measurements=tuple(timed.values())
    )
    journal.append(record)
    told = ", ".join(f"{kind} {ratio:.3f}" for kind, ratio in ratios.items())
    job.engines.progress.note(f"activations in {chosen} (INT8 over the baseline: {told})")
    return _chosen(record)


def _chosen(record: TimedActivationType) -> KnobChoice:
    timed = " and ".join(f"{ratio:.1%} with {kind}" for kind, ratio in record.ratios.items())
    told = f"{record.chosen}; plain INT8 takes {timed} of the baseline's latency" if timed else ""
    decision = Decision(subject=_SUBJECT, told=told or record.chosen)
    return KnobChoice(Knobs(activation_type=record.chosen), decision)
