"""Every trial as quality, latency, size and peak memory, the front of all four marked."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.artifacts.manifest import FrontPoint, Manifest
from autosparse.artifacts.report_words import QualityWords, megabytes, milliseconds, share

# Dominated trials beyond so many are counted, and in the manifest.
_MOST_DOMINATED = 100


@dataclass(frozen=True)
class MeasuredRow:
    """One trial."""

    recipe_id: str
    proposed_by: str
    drop: str
    latency: str
    ratio: str
    size: str
    memory: str
    dominated_by: str
    """Empty on the front."""
    remark: str


@dataclass(frozen=True)
class MeasuredView:
    """The table, the front first."""

    rows: tuple[MeasuredRow, ...]
    on_front: int
    trials: int
    left_out: int


def measured_view(manifest: Manifest) -> MeasuredView:
    """Lay the table out."""
    quality = QualityWords(manifest.quality.metric)
    front = [point for point in manifest.front if point.dominated_by is None]
    dominated = [point for point in manifest.front if point.dominated_by is not None]
    shown = [*front, *dominated[:_MOST_DOMINATED]]
    return MeasuredView(
        rows=tuple(_row(point, manifest, quality) for point in shown),
        on_front=len(front),
        trials=len(manifest.front),
        left_out=len(manifest.front) - len(shown),
    )


def _row(point: FrontPoint, manifest: Manifest, quality: QualityWords) -> MeasuredRow:
    remarks = ["meets the contract"] if point.meets_contract else []
    if point.recipe_id == manifest.recipe_id:
        remarks.insert(0, "delivered" if manifest.delivers_model else "the nearest")
    return MeasuredRow(
        recipe_id=point.recipe_id,
        proposed_by=point.proposed_by,
        drop=quality.drop(point.drop),
        latency=milliseconds(point.latency_seconds),
        ratio=share(point.latency_ratio),
        size=megabytes(point.size_bytes),
        memory=megabytes(point.peak_memory_bytes),
        dominated_by=point.dominated_by or "",
        remark=", ".join(remarks),
    )
