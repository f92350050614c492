"""What is a regression, and what only a second measurement of the same file is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from api.reverification import regressions
from autosparse.artifacts.manifest import Manifest
from autosparse.evaluation import Comparison, Contract, Evidence, LoweredModel, Measurement, Quality
from autosparse.evaluation.measurement import Block, Interval
from autosparse.levels import Recipe
from autosparse.pipeline.verification import Verified

SAMPLES = Path(__file__).parents[1] / "compat" / "samples"
MANIFEST = json.loads((SAMPLES / "Manifest.v1.json").read_text())
BASELINE_SECONDS = 0.010
TOLERANCE = 0.1


def measured(label: str, seconds: float) -> Measurement:
    """Ten blocks around a latency, with jitter of one percent."""
    rng = np.random.default_rng(len(label))
    blocks = [
        Block(samples_seconds=tuple(seconds * rng.uniform(0.99, 1.01, 20)), slowdown=0.0,
              accepted=True)
        for _ in range(10)
    ]  # fmt: skip
    return Measurement(
        label=label, file_sha256="", target="", environment="", warmup_runs=0,
        blocks=tuple(blocks),
    )  # fmt: skip


def promised(ratio: float, verdict: str = "met", drop: float = 0.0) -> Manifest:
    """A bundle that was delivered with a share of the baseline's latency."""
    latency = {
        **MANIFEST["latency"], "p50": BASELINE_SECONDS * ratio, "ratio": ratio,
        "ratio_interval": {"low": ratio * 0.99, "high": ratio * 1.01},
    }  # fmt: skip
    quality = {**MANIFEST["quality"], "drop": drop}
    return Manifest.model_validate(
        {**MANIFEST, "verdict": verdict, "latency": latency, "quality": quality,
         "contract": {**MANIFEST["contract"], "percentile": "p50"}}
    )  # fmt: skip


def found(ratio: float, allowed: float = 0.6, drop: float = 0.0, slow: float = 1.0) -> Verified:
    """The same bundle, measured again on a machine that is slower as a whole by a factor."""
    comparison = Comparison(
        baseline=measured("baseline", BASELINE_SECONDS * slow),
        candidate=measured("it", BASELINE_SECONDS * slow * ratio),
    )
    contract = Contract.model_validate(
        {**MANIFEST["contract"], "percentile": "p50", "budget": f"{allowed:.0%}"}
    )
    evidence = Evidence(
        recipe_id="it", latency_ratio=ratio, latency_ratio_high=ratio, drop=drop, drop_high=drop,
        divergence=0.0, compressed_layers=1,
    )  # fmt: skip
    quality = Quality.model_validate(
        {**MANIFEST["quality"], "drop": drop, "drop_interval": Interval(low=drop, high=drop)}
    )
    return Verified(
        recipe=Recipe.load(SAMPLES / "Recipe.v1.yaml"), model=LoweredModel(SAMPLES, "", "all"),
        comparison=comparison, quality=quality, test_quality=None, evidence=evidence,
        contract=contract, answers=None,
    )  # fmt: skip


SILENT = [
    ("as it was", promised(0.5), found(0.5)),
    ("within the tolerance", promised(0.5), found(0.54)),
    ("a hair over a budget at whose edge it was", promised(0.6), found(0.601)),
    ("the machine is slow as a whole", promised(0.5), found(0.5, slow=2.4)),
    ("faster", promised(0.5), found(0.3)),
    ("it never met the contract", promised(0.8, "not-found-within-limits"), found(0.8)),
    ("worse, but allowed", promised(0.5), found(0.5, drop=0.001)),
]
TOLD = [
    ("slower against the baseline", promised(0.3), found(0.4), ["slower against the baseline"]),
    ("over the budget", promised(0.58), found(0.63), ["misses its budget"]),
    ("both", promised(0.5), found(1.2), ["misses its budget", "slower against the baseline"]),
    ("both files are slower", promised(0.5), found(0.5, slow=4.0), ["same processor"]),
    ("worse answers", promised(0.5), found(0.5, drop=0.5), ["answers worse"]),
    ("slower, never met", promised(0.8, "latency-infeasible"), found(1.2), ["slower against"]),
]


@pytest.mark.parametrize(("before", "now"), [c[1:] for c in SILENT], ids=[c[0] for c in SILENT])
def test_no_regression(before: Manifest, now: Verified) -> None:
    assert regressions(before, now, TOLERANCE, same_machine=True) == []


@pytest.mark.parametrize(
    ("before", "now", "reasons"), [c[1:] for c in TOLD], ids=[c[0] for c in TOLD]
)
def test_a_regression(before: Manifest, now: Verified, reasons: Sequence[str]) -> None:
    told = regressions(before, now, TOLERANCE, same_machine=True)
    assert len(told) == len(reasons)
    assert all(reason in sentence for reason, sentence in zip(reasons, told, strict=True))


def test_seconds_of_another_machine_mean_nothing() -> None:
    now = found(0.5, slow=4.0)
    assert regressions(promised(0.5), now, TOLERANCE, same_machine=False) == []
