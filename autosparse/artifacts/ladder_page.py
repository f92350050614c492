"""What the jobs of a ladder came to, side by side: for programs, and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.artifacts.manifest import Manifest
from autosparse.artifacts.report import render_page
from autosparse.artifacts.report_words import (
    UNKNOWN,
    QualityWords,
    megabytes,
    milliseconds,
    plural,
    share,
    short,
)
from autosparse.evaluation import Verdict

LADDER_FILE = "ladder.json"
LADDER_PAGE = "ladder.html"


class LadderRow(BaseModel):
    """One job of a ladder. What it found out is null until it has an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Its directory, beside this file."""
    target: str
    """Target as it was given; `this-machine` without one."""
    budget: str
    """Latency budget as it was given."""
    error: str = ""
    """Why it has no answer; empty where it has one, or was not begun."""
    verdict: Verdict | None = None
    """How it ended."""
    percentile: str | None = None
    """Percentile of the latencies."""
    latency_seconds: float | None = None
    """Of the delivered file, from the verifying run."""
    baseline_seconds: float | None = None
    """Of the model as it came, from the same run."""
    ratio: float | None = None
    """The first over the second."""
    metric: str | None = None
    """Metric of the quality."""
    drop: float | None = None
    """Loss of quality in the metric's unit, on the rows that gate."""
    size_bytes: int | None = None
    """Size on disk of what runs."""
    recipe_id: str | None = None
    """Recipe of the delivered file."""
    bundle: str | None = None
    """The bundle, from where this file lies."""

    def answered(self, manifest: Manifest) -> LadderRow:
        """The row with what the delivered bundle says."""
        latency, first = manifest.latency, manifest.contract.percentile == "p50"
        footprint = manifest.footprint
        found = {
            "verdict": manifest.verdict,
            "percentile": manifest.contract.percentile,
            "latency_seconds": latency.p50 if first else latency.p95,
            "baseline_seconds": latency.baseline_p50 if first else latency.baseline_p95,
            "ratio": latency.ratio,
            "metric": manifest.quality.metric,
            "drop": manifest.quality.drop,
            "size_bytes": None if footprint is None else footprint.size_bytes,
            "recipe_id": manifest.recipe_id,
            "bundle": f"{self.name}/bundle",
        }
        return self.model_copy(update=found)


class LadderList(BaseModel):
    """Every job of a ladder, in the order in which targets and budgets were given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    product: str
    """Name and version of what wrote it."""
    model: str
    """File name of the model."""
    jobs: tuple[LadderRow, ...]
    """One for each target with each budget."""


@dataclass(frozen=True)
class RowView:
    """A row in words."""

    target: str
    budget: str
    verdict: str
    tone: str
    latency: str
    ratio: str
    drop: str
    size: str
    bundle: str
    error: str


def render_ladder(listing: LadderList) -> str:
    """Return the page as one HTML document that needs nothing else."""
    met = sum(row.verdict is Verdict.MET for row in listing.jobs)
    sections = {
        "listing": listing,
        "model_name": short(listing.model),
        "summary": f"{met} of {plural(len(listing.jobs), 'contract')} met",
        "rows": [_view(row) for row in listing.jobs],
    }
    return render_page("ladder.html", sections)


def _view(row: LadderRow) -> RowView:
    words = None if row.metric is None else QualityWords(row.metric)
    return RowView(
        target=short(row.target),
        budget=row.budget,
        verdict=row.verdict.value if row.verdict else "failed" if row.error else "not yet run",
        tone="good" if row.verdict is Verdict.MET else "warn",
        latency=milliseconds(row.latency_seconds),
        ratio=share(row.ratio),
        drop=UNKNOWN if words is None or row.drop is None else words.drop(row.drop),
        size=megabytes(row.size_bytes),
        bundle=row.bundle or "",
        error=row.error,
    )
