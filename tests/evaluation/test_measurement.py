"""Measurements and comparisons, on samples made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from autosparse.errors import DisturbedError, MeasurementError
from autosparse.evaluation import Comparison, Measurement
from autosparse.evaluation.measurement import Block, CanaryReading


def block(*samples: float, accepted: bool = True) -> Block:
    return Block(samples_seconds=samples, slowdown=0.0 if accepted else 0.4, accepted=accepted)


def measurement(*blocks: Block, label: str = "file") -> Measurement:
    return Measurement(
        label=label, file_sha256="0" * 64, target="here", environment="e", warmup_runs=1,
        blocks=blocks,
    )  # fmt: skip


def test_percentiles_are_of_the_accepted_samples() -> None:
    measured = measurement(block(1, 2, 3), block(100, 200, 300, 400, accepted=False), block(4, 5))
    np.testing.assert_array_equal(measured.samples_seconds, [1, 2, 3, 4, 5])
    assert measured.discarded_samples == 4
    assert measured.percentile_seconds("p50") == 3
    assert measured.percentile_seconds("p95") == pytest.approx(4.8)


def test_a_measurement_without_an_undisturbed_sample_raises() -> None:
    measured = measurement(block(1, 2, accepted=False), block(3, accepted=False))
    assert measured.samples_seconds.shape == (0,)
    for percentile in ("p50", "p95"):
        with pytest.raises(MeasurementError, match="every one of 3 samples was disturbed"):
            measured.percentile_seconds(percentile)
    with pytest.raises(MeasurementError):
        measured.interval_seconds("p50")


def test_the_interval_holds_the_percentile_and_repeats() -> None:
    rng = np.random.default_rng(0)
    measured = measurement(*(block(*rng.normal(10, 1, 20)) for _ in range(10)))
    interval = measured.interval_seconds("p50")
    assert interval.low < measured.percentile_seconds("p50") < interval.high
    assert measured.interval_seconds("p50") == interval


def test_the_interval_is_of_blocks_not_of_samples() -> None:
    """A thousand samples of one slow block are one piece of evidence, not a thousand."""
    measured = measurement(block(*[1.0] * 1000), block(*[2.0] * 1000), block(*[1.0] * 1000))
    interval = measured.interval_seconds("p50")
    assert (interval.low, interval.high) == (1.0, 2.0)


def test_equal_samples_have_an_interval_without_width() -> None:
    interval = measurement(*[block(2, 2)] * 3).interval_seconds("p95")
    assert (interval.low, interval.high) == (2.0, 2.0)


def test_a_ratio_is_the_candidates_latency_over_the_baselines() -> None:
    comparison = Comparison(
        baseline=measurement(block(2, 2, 2)), candidate=measurement(block(1, 1, 3))
    )
    assert comparison.ratio("p50") == 0.5
    assert comparison.ratio("p95") == pytest.approx(1.4)


def test_a_slowdown_of_whole_rounds_cancels() -> None:
    """Round k slows both files by the same factor: the ratio is as sharp as without it."""
    factors = [1.0, 1.04, 0.97, 1.02, 1.05, 0.96, 1.01, 1.03]
    paired = Comparison(
        baseline=measurement(*(block(f, f, f) for f in factors)),
        candidate=measurement(*(block(f / 2, f / 2, f / 2) for f in factors)),
    )
    interval = paired.ratio_interval("p50")
    assert interval.low == pytest.approx(0.5)
    assert interval.high == pytest.approx(0.5)
    # the same samples in another order of rounds: nothing cancels
    shuffled = Comparison(
        baseline=paired.baseline,
        candidate=measurement(*(block(f / 2, f / 2, f / 2) for f in reversed(factors))),
    )
    loose = shuffled.ratio_interval("p50")
    assert loose.high - loose.low > 0.01


def test_a_round_counts_only_where_both_files_were_undisturbed() -> None:
    comparison = Comparison(
        baseline=measurement(*[block(1)] * 4, block(9, accepted=False)),
        candidate=measurement(*[block(0.5)] * 3, block(7, accepted=False), block(0.5)),
    )
    interval = comparison.ratio_interval("p50")
    assert (interval.low, interval.high) == (0.5, 0.5)
    assert comparison.undisturbed_rounds == 3


@pytest.mark.parametrize("whole", [1, 2])
def test_fewer_rounds_do_not_make_an_answer_surer(whole: int) -> None:
    """Drawing one round again and again would give an interval without width."""
    rest = [block(9, accepted=False)] * 14
    comparison = Comparison(
        baseline=measurement(*[block(1, 1.1)] * whole, *rest),
        candidate=measurement(*[block(0.5, 0.6)] * whole, *rest, label="candidate"),
    )
    assert comparison.ratio("p50") == pytest.approx(0.55 / 1.05)
    told = f"candidate beside file: {whole} of {whole + 14} rounds were undisturbed.* takes 3"
    with pytest.raises(DisturbedError, match=told):
        comparison.ratio_interval("p50")
    with pytest.raises(DisturbedError, match=f"file: {whole} of {whole + 14} rounds"):
        comparison.baseline.interval_seconds("p50")
    assert not comparison.has_interval
    assert not comparison.baseline.has_interval


def test_without_an_undisturbed_round_a_comparison_raises() -> None:
    comparison = Comparison(
        baseline=measurement(block(1), block(1, accepted=False)),
        candidate=measurement(block(1, accepted=False), block(1), label="candidate"),
    )
    with pytest.raises(
        MeasurementError, match="file and candidate were never undisturbed in"
    ) as caught:
        comparison.ratio_interval("p50")
    assert "of 2 rounds, 1 count for the one and 1 for the other" in caught.value.message


def test_interrupted_samples_are_those_that_were_discarded() -> None:
    blocks = (
        Block(samples_seconds=(1.0, 1.0), slowdown=0.0, accepted=False, interruptions=2),
        Block(samples_seconds=(1.0,), slowdown=0.0, accepted=True, interruptions=1),
        Block(samples_seconds=(1.0,), slowdown=0.5, accepted=False, interruptions=0),
        Block(samples_seconds=(1.0,), slowdown=0.5, accepted=False),
    )
    found = measurement(*blocks)
    assert found.interrupted_samples == 2
    assert found.discarded_samples == 4


def test_a_block_from_before_interruptions_were_counted_is_read() -> None:
    old = Block.model_validate_json('{"samples_seconds":[1.0],"slowdown":0.01,"accepted":true}')
    assert old.interruptions is None
    assert measurement(old).interrupted_samples == 0


def test_measurements_of_different_runs_cannot_be_paired() -> None:
    comparison = Comparison(
        baseline=measurement(block(1)), candidate=measurement(block(1), block(1))
    )
    with pytest.raises(ValueError, match="zip"):
        comparison.ratio_interval("p50")


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    """A planted ratio of 0.8 under noise of rounds and samples, 200 times over."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        rounds = rng.normal(1, 0.02, 12)
        comparison = Comparison(
            baseline=measurement(*(block(*(f * rng.normal(1, 0.02, 8))) for f in rounds)),
            candidate=measurement(*(block(*(0.8 * f * rng.normal(1, 0.02, 8))) for f in rounds)),
        )
        interval = comparison.ratio_interval("p50")
        covered += interval.low <= 0.8 <= interval.high
    assert 85 <= covered <= 100


def test_samples_survive_the_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    measured = measurement(block(0.1, 1 / 3, 1e-9), block(5e-324, accepted=False))
    assert Measurement.model_validate_json(measured.model_dump_json()) == measured


def test_a_measurement_is_no_place_for_other_fields() -> None:
    with pytest.raises(ValidationError, match="latency"):
        Measurement.model_validate({**measurement().model_dump(), "latency": 1.0})


def test_the_slowdown_is_that_of_the_worst_canary() -> None:
    best = CanaryReading(fma_seconds=1.0, stream_seconds=2.0, scalar_seconds=4.0)
    same = best.slowdown(best)
    throttled = CanaryReading(fma_seconds=2.5, stream_seconds=2.0, scalar_seconds=3.9)
    assert same == 0.0
    assert throttled.slowdown(best) == pytest.approx(1.5)
