"""Raw samples of everything that was timed are kept, and the machine's noise floor is stated."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.evaluation import Comparison, Environment, Verdict
from autosparse.journal import Journal, write_journal
from autosparse.pipeline.activation_type import TimedActivationType
from autosparse.pipeline.job import Engines
from autosparse.pipeline.latency_training import LatencySample
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from autosparse.pipeline.verification import VERIFY_TIMING
from autosparse.pipeline.workspace import Workspace
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.noisy_lane import NoisyLane
from tests.pipeline.worlds import World, layer_seconds, summed_error


def world(root: Path) -> World:
    """Four layers: with k of them in int8, a file takes 1 - 0.15 k of the baseline's latency."""
    return World.make(root, 4, Planted(layer_seconds, summed_error({})))


def raw_of(subject: World, purpose: str) -> list[MeasuredTrial]:
    path = Workspace(subject.root / "out").measurements
    return [record for record in Journal(path, MeasuredTrial).records if record.purpose == purpose]


def test_recipes_that_train_the_predictor_keep_their_raw_samples(tmp_path: Path) -> None:
    subject = world(tmp_path)
    subject.run(trials=4)
    samples = Journal(Workspace(tmp_path / "out").samples, LatencySample).records
    ratios = {m.recipe_id: m.comparison.ratio("p50") for m in raw_of(subject, "predictor")}
    assert samples
    assert ratios == {sample.recipe.id: pytest.approx(sample.ratio) for sample in samples}


def test_a_verification_that_failed_keeps_its_raw_samples(tmp_path: Path) -> None:
    """The only recipe that met the budget in the search takes a tenth longer when verified."""
    subject = world(tmp_path)
    lane = NoisyLane(subject.planted, subject.layers, factors={VERIFY_TIMING.rounds: (1.1,) * 5})
    engines = Engines(backend=FakeBackend(subject.planted), lane=lane, progress=Silent())
    result = subject.run(engines=engines, latency_budget="41%", trials=4)
    assert result.verdict is Verdict.NOT_FOUND
    verified = raw_of(subject, "verification")
    assert verified[0].comparison.ratio("p50") == pytest.approx(0.44)
    assert verified[-1].recipe_id == result.manifest.recipe_id
    assert verified[-1].comparison.ratio("p50") == result.manifest.latency.ratio
    # what was timed for another purpose is no trial
    trials = {record.recipe_id for record in raw_of(subject, "trial")}
    assert len(trials) == len(raw_of(subject, "trial")) == result.manifest.search.trials


def test_the_types_of_activations_keep_their_raw_samples(tmp_path: Path) -> None:
    world(tmp_path).run(trials=2)
    path = Workspace(tmp_path / "out").job / "activation_types.jsonl"
    (record,) = Journal(path, TimedActivationType).records
    baseline, *types = record.measurements
    assert baseline.label == BASELINE_LABEL
    assert record.ratios == {
        one.label: Comparison(baseline=baseline, candidate=one).ratio("p50") for one in types
    }


def test_the_baseline_is_timed_beside_itself_and_the_floor_is_stated(tmp_path: Path) -> None:
    subject = world(tmp_path)
    factors = {VERIFY_TIMING.rounds: (0.99, 1.0, 1.0, 1.01, 1.02)}
    lane = NoisyLane(subject.planted, subject.layers, factors=factors)
    engines = Engines(backend=FakeBackend(subject.planted), lane=lane, progress=Silent())
    result = subject.run(engines=engines, trials=2)
    (record,) = raw_of(subject, "noise floor")
    assert record.comparison.baseline.file_sha256 == record.comparison.candidate.file_sha256
    interval = record.comparison.ratio_interval("p50")
    environment = Environment.model_validate_json(
        (Path(result.bundle) / "environment.json").read_bytes()
    )
    assert environment.noise_floor is not None
    assert environment.noise_floor.ratio_interval == interval
    assert environment.noise_floor.share == max(interval.high - 1, 1 - interval.low) > 0.005
    # it is what the machine did, not what it is
    assert environment.id == result.manifest.environment


def test_a_resumed_job_states_the_noise_floor_that_is_recorded(tmp_path: Path) -> None:
    subject = world(tmp_path)
    subject.run(trials=2)
    engines = subject.engines(noise=0.02)
    subject.run(engines=engines, trials=2, resume=True)
    (record,) = raw_of(subject, "noise floor")
    assert record.comparison.ratio("p50") == 1.0


def test_a_job_of_an_earlier_version_is_timed_beside_itself_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    subject = world(tmp_path)
    subject.run(trials=2)
    workspace = Workspace(tmp_path / "out")
    baseline = workspace.baselines.read_bytes()
    records = Journal(workspace.measurements, MeasuredTrial).records
    write_journal(workspace.measurements, [r for r in records if r.purpose == "trial"])
    subject.run(trials=2, resume=True)
    assert len(raw_of(subject, "noise floor")) == 1
    assert workspace.baselines.read_bytes() == baseline
