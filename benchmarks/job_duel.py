"""What was delivered against one opponent, on rows that nobody saw: divergence, drop, latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.evaluation import Comparison, Measurement
from autosparse.evaluation.metrics import BUILT_IN, Metric, Outputs
from autosparse.evaluation.quality import Quality, compare_quality
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from benchmarks import greedy_mix, toolkit_int8
from benchmarks.model_files import ModelFiles
from benchmarks.rows import Row, ratio_of
from benchmarks.verdicts import Difference, Floats, Outcome, paired_difference

OURS, MIX, INT8 = "ours", "mix", "int8"
_UNITS = {"kl": "nats (KL)", "relative_error": "relative error"}
_NOT_WORSE = "not worse beyond the interval"
# A file this much faster than its opponent was asked for something else than its quality.
_MUCH_FASTER = 0.95


@dataclass(frozen=True)
class Duel:
    """Everything measured of one cell, read row by row."""

    title: str
    """How rows name the cell."""
    files: ModelFiles
    timed: Mapping[str, Measurement]
    """Label -> latency; the model as it came among them."""
    outputs: Mapping[str, Outputs]
    """Label -> answers to the held-out rows."""
    dense: Outputs
    """The model's own answers to them."""

    def divergence_against(self, label: str, opponent: str) -> tuple[Row, Outcome]:
        """Divergence from the dense model, row by row, in pairs."""
        ours, theirs = self._divergence(OURS), self._divergence(label)
        difference = paired_difference(ours, theirs)
        outcome = difference.outcome
        row = Row(
            what=f"{self.title}: divergence", figure=float(ours.mean()),
            unit=_UNITS[self.files.metric], opponent=opponent,
            opponent_figure=float(theirs.mean()),
            ratio=ratio_of(float(ours.mean()), float(theirs.mean())), bar=_NOT_WORSE,
            holds=not outcome.is_loss, environment=self._environment,
            note=f"{outcome.value}: difference {difference} over {len(ours)} rows; latency "
            f"{self._ratio(OURS):.3f} against {self._ratio(label):.3f} of the baseline",
        )  # fmt: skip
        return row, outcome

    def divergence_alone(self, outcome: Outcome) -> Row:
        """Divergence where one side, or neither, has a file inside the budget."""
        told = {
            Outcome.ONLY_OURS: "no step of the opponent is inside the budget",
            Outcome.ONLY_THEIRS: "ours missed the budget, and the opponent has a step inside it",
        }
        return Row(
            what=f"{self.title}: divergence", figure=float(self._divergence(OURS).mean()),
            unit=_UNITS[self.files.metric], opponent=greedy_mix.NAME, bar=_NOT_WORSE,
            holds=not outcome.is_loss, environment=self._environment,
            note=f"{outcome.value}: "
            f"{told.get(outcome, 'neither has a file inside the budget')}",
        )  # fmt: skip

    @property
    def has_metric(self) -> bool:
        """Whether it is known what the held-out rows should be answered with."""
        return bool(self.files.labels_metric)

    def drop_against(self, label: str, opponent: str) -> tuple[Row, Outcome]:
        """What the metric loses, in points, where both sides answer the same rows."""
        more = self._quality(OURS, label)
        lost = Difference(more.drop, more.drop_interval.low, more.drop_interval.high)
        outcome = lost.outcome
        theirs = self._quality(label, None).drop
        row = self.drop_alone()
        row = row.model_copy(update={
            "opponent": opponent, "opponent_figure": 100 * theirs, "bar": _NOT_WORSE,
            "holds": not outcome.is_loss,
            "note": f"{outcome.value}: {_points(more)} more lost; {row.note}{self._agreement()}",
        })  # fmt: skip
        return row, outcome

    def drop_alone(self) -> Row:
        """What the metric loses, where there is nobody to hold it against."""
        mine = self._quality(OURS, None)
        return Row(
            what=f"{self.title}: {mine.metric} drop", figure=100 * mine.drop, unit="points",
            environment=self._environment,
            note=f"drop {_points(mine)} of {100 * mine.baseline_value:.2f} over {mine.rows} rows",
        )  # fmt: skip

    def is_about_as_fast_as(self, label: str) -> bool:
        """Whether the two can be compared by quality alone.

        Ours is not slower beyond the interval of their ratio, and not so much faster that it
        answers another question.
        """
        pair = self._between(label)
        return pair.ratio_interval("p50").low <= 1.0 and pair.ratio("p50") >= _MUCH_FASTER

    def fastest_row(self) -> Row:
        """How fast we get, against INT8 everywhere."""
        pair = self._between(INT8)
        interval = pair.ratio_interval("p50")
        return Row(
            what=f"{self.title}: latency", figure=1e3 * pair.candidate.percentile_seconds("p50"),
            unit="ms", opponent=toolkit_int8.NAME,
            opponent_figure=1e3 * pair.baseline.percentile_seconds("p50"),
            ratio=pair.ratio("p50"), bar="not slower beyond the interval",
            holds=interval.low <= 1.0, environment=self._environment,
            note=f"ratio [{interval.low:.3f}, {interval.high:.3f}]",
        )  # fmt: skip

    def _divergence(self, label: str) -> Floats:
        return BUILT_IN[self.files.metric].score(self.outputs[label], self.dense, None)

    def _quality(self, label: str, other: str | None) -> Quality:
        """The metric of one file against another's; None for the dense model's."""
        metric, labels = self._metric, self.files.held_out.labels
        reference = self.dense if other is None else self.outputs[other]
        mine, theirs = (
            metric.score(outputs, self.dense, labels)
            for outputs in (self.outputs[label], reference)
        )
        return compare_quality(metric, mine, theirs, labels)

    @property
    def _metric(self) -> Metric:
        return BUILT_IN[self.files.labels_metric]

    def _agreement(self) -> str:
        """In how many rows each file chooses the class that the dense model chooses."""
        if self._metric.name != "top1":
            return ""
        dense = self.dense.first.argmax(axis=1)
        shares = {n: (out.first.argmax(axis=1) == dense).mean() for n, out in self.outputs.items()}
        each = ", ".join(f"{name} {float(share):.2%}" for name, share in shares.items())
        return f"; agreement with the dense model: {each}"

    @property
    def _environment(self) -> str:
        return self.timed[OURS].environment

    def _ratio(self, label: str) -> float:
        pair = Comparison(baseline=self.timed[BASELINE_LABEL], candidate=self.timed[label])
        return pair.ratio("p50")

    def _between(self, label: str) -> Comparison:
        return Comparison(baseline=self.timed[label], candidate=self.timed[OURS])


def _points(quality: Quality) -> str:
    """A drop with its interval, in points."""
    interval = quality.drop_interval
    drop, low, high = (100 * one for one in (quality.drop, interval.low, interval.high))
    return f"{drop:+.2f} [{low:+.2f}, {high:+.2f}]"
