"""Another budget from the evidence of a job: what is taken over, measured, and refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.errors import StorageError
from autosparse.evaluation import LoweredModel, Verdict
from autosparse.journal import Journal
from autosparse.levels import BASELINE, Recipe
from autosparse.pipeline.adoption import without_interruptions
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.records import MeasuredTrial
from autosparse.pipeline.resolve import resolved_config
from autosparse.pipeline.resolve_config import read_resolve_config
from autosparse.pipeline.source_job import find_source
from autosparse.pipeline.taken_over import ResolvedFrom
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.fakes.fake_backend import is_int8
from tests.fakes.fake_lane import Killed
from tests.pipeline.resolving import PLANTED, copied, finished_world, lane, resolve
from tests.pipeline.worlds import World


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    return finished_world(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def world(finished: World, tmp_path: Path) -> World:
    """A finished job with a budget of 80 %, in a place of its own."""
    return copied(finished, tmp_path)


def contents(directory: Path) -> dict[str, tuple[str, int]]:
    """Every file with its digest and the time of its last change."""
    return {
        str(path.relative_to(directory)): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns,
        )
        for path in directory.rglob("*") if path.is_file()
    }  # fmt: skip


def levels(world: World, where: str = "new") -> dict[str, Any]:
    return Recipe.load(world.root / where / "bundle" / "recipe.yaml").levels


def in_fp32(world: World) -> set[str]:
    return {name for name, level in levels(world).items() if level == BASELINE}


def trials(world: World, where: str) -> list[str]:
    return [r.recipe.id for r in Ledger(Workspace(world.root / where).study).records]


def test_another_budget_gets_its_own_answer_in_its_own_directory(world: World) -> None:
    before = contents(world.root / "out")
    result = resolve(world, latency_budget="61%")
    assert result.verdict is Verdict.MET
    # 61 % leaves room for two layers in fp32: those that lose most
    assert in_fp32(world) == {"layer1", "layer3"}
    assert Path(result.bundle) == world.root / "new" / "bundle"
    assert check_bundle(Path(result.bundle)).contract.budget.amount == 61
    assert contents(world.root / "out") == before


@pytest.mark.parametrize("where", ["out", "out/bundle", "out/job", "out/job/study.journal"])
def test_the_bundle_its_directory_or_the_study_names_the_job(world: World, where: str) -> None:
    assert resolve(world, source=world.root / where, latency_budget="61%").exit_code == 0


def test_nothing_that_was_measured_is_measured_again(world: World) -> None:
    engines = world.engines()
    resolve(world, latency_budget="61%", trials=3, engines=engines)
    known = set(trials(world, "out"))
    new = [t for t in trials(world, "new") if t not in known]
    assert known <= set(trials(world, "new"))
    assert len(new) <= 3
    measured = [label for label in lane(engines).measured if label != "baseline"]
    delivered = Recipe.load(world.root / "new" / "bundle" / "recipe.yaml").id
    # one run for each new trial, and the verification
    assert sorted(measured) == sorted([*new, delivered])


def test_no_further_trial_answers_from_what_is_known(world: World) -> None:
    engines = world.engines()
    result = resolve(world, latency_budget="90%", trials=0, engines=engines)
    assert result.verdict is Verdict.MET
    assert lane(engines).measured == ["baseline", result.manifest.recipe_id]
    assert result.manifest.search.trials == len(trials(world, "out"))


def test_a_looser_budget_forgets_what_was_screened_by_the_tighter_one(world: World) -> None:
    resolve(world, latency_budget="45%", output_dir=world.root / "tight")
    log = Journal(Workspace(world.root / "tight").candidates, CandidateRecord)
    screened = {r.recipe.id for r in log.records if r.rung is Rung.SCREENED}
    assert screened
    result = resolve(world, source=world.root / "tight", latency_budget="90%")
    assert result.verdict is Verdict.MET
    best = {"layer1", "layer3", "layer5", "layer2", "layer4"}
    assert in_fp32(world) == best


def test_a_budget_out_of_reach_is_told_as_by_a_job(world: World) -> None:
    result = resolve(world, latency_budget="30%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert result.exit_code == 3
    engines = world.engines()
    again = resolve(
        world, source=world.root / "new", output_dir=world.root / "third",
        latency_budget="30%", trials=0, engines=engines,
    )  # fmt: skip
    assert again.exit_code == 3
    # the way down is remembered: only what is delivered is timed
    assert set(lane(engines).measured) == {"baseline", again.manifest.recipe_id}


def test_quality_out_of_reach_is_not_found(world: World) -> None:
    result = resolve(world, latency_budget="41%", max_drop="0.0pt")
    assert result.exit_code == 4


def test_kept_layers_are_as_asked_and_other_trials_stay_behind(world: World) -> None:
    result = resolve(
        world, latency_budget="70%", keep="layer1=dense:int8", exclude="name:layer0"
    )  # fmt: skip
    assert result.verdict is Verdict.MET
    assert is_int8(levels(world)["layer1"])
    assert levels(world)["layer0"] == BASELINE
    for record in Ledger(Workspace(world.root / "new").study).records:
        assert is_int8(record.recipe.levels["layer1"])
        assert record.recipe.levels["layer0"] == BASELINE


def test_what_the_job_was_told_still_holds_and_may_be_overruled(tmp_path: Path) -> None:
    world = World.make(tmp_path, 5, PLANTED)
    world.run(latency_budget="80%", max_drop="50pt", exclude=("layer0", "layer4"))
    result = resolve(world, latency_budget="70%", keep=("layer4=dense:int8+round_to_nearest",))
    assert result.verdict is Verdict.MET
    assert levels(world)["layer0"] == BASELINE
    assert is_int8(levels(world)["layer4"])
    again = resolve(
        world, source=world.root / "new", output_dir=world.root / "third", latency_budget="70%",
        exclude="layer4",
    )  # fmt: skip
    assert again.verdict is Verdict.MET
    assert levels(world, "third")["layer0"] == levels(world, "third")["layer4"] == BASELINE


def test_a_job_of_an_earlier_version_kept_what_it_excluded(world: World) -> None:
    path = world.root / "out" / "job" / "config.json"
    both = {"exclude": ["layer[04]"], "keep": ["layer4=dense:int8+round_to_nearest"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **both}))
    assert resolve(world, latency_budget="70%").verdict is Verdict.MET
    assert levels(world)["layer0"] == BASELINE
    assert is_int8(levels(world)["layer4"])


def test_a_job_that_trained_is_answered_without_another_training(world: World) -> None:
    path = world.root / "out" / "job" / "config.json"
    trained = {"recover": "automatic", "train": str(world.root / "train.npz"), "recover_time": 60.0}
    path.write_text(json.dumps({**json.loads(path.read_text()), **trained}))
    source = find_source(world.root / "out")
    assert source.config.recover == "automatic"
    asked = read_resolve_config({"source": world.root / "out", "latency_budget": "70%"})
    config = resolved_config(asked, source)
    assert (config.recover, config.train, config.recover_time) == (None, None, 600.0)


def test_groups_can_be_asked_for_afterwards(world: World) -> None:
    resolve(world, latency_budget="70%", group="layer[01]")
    for record in Ledger(Workspace(world.root / "new").study).records:
        shared = record.recipe.levels
        assert shared["layer0"].without_method() == shared["layer1"].without_method()


def test_a_killed_job_is_answered_from_as_well(tmp_path: Path) -> None:
    world = World.make(tmp_path, 6, PLANTED)

    def kill(files: Mapping[str, LoweredModel]) -> None:
        study = Workspace(tmp_path / "out").study
        if study.exists() and len(Ledger(study).records) == 4:
            raise Killed

    with pytest.raises(Killed):
        world.run(engines=world.engines(fail=kill), latency_budget="80%", max_drop="50pt")
    log = Workspace(tmp_path / "out").candidates
    with log.open("ab") as file:
        file.write(b'{"torn": ')
    before = contents(tmp_path / "out")
    assert resolve(world, latency_budget="61%").verdict is Verdict.MET
    assert in_fp32(world) == {"layer1", "layer3"}
    assert contents(tmp_path / "out") == before


def test_a_killed_resolve_is_resumed(world: World) -> None:
    def kill(files: Mapping[str, LoweredModel]) -> None:
        raise Killed

    with pytest.raises(Killed):
        resolve(world, latency_budget="61%", engines=world.engines(fail=kill))
    with pytest.raises(StorageError, match="not empty"):
        resolve(world, latency_budget="61%")
    assert resolve(world, latency_budget="61%", resume=True).verdict is Verdict.MET
    assert in_fp32(world) == {"layer1", "layer3"}
    assert len(trials(world, "new")) == len(set(trials(world, "new")))


def test_the_new_directory_is_a_job_of_its_own(world: World) -> None:
    resolve(world, latency_budget="61%")
    shutil.rmtree(world.root / "out")
    result = world.run(
        latency_budget="61%", max_drop="50pt", output_dir=world.root / "new", resume=True,
        trials=30,
    )  # fmt: skip
    assert result.verdict is Verdict.MET
    assert resolve(
        world, source=world.root / "new", output_dir=world.root / "third", latency_budget="80%"
    ).verdict is Verdict.MET  # fmt: skip


def test_the_report_says_where_the_answer_comes_from(world: World) -> None:
    result = resolve(world, latency_budget="61%")
    known = len(trials(world, "out"))
    assert known
    taken = ResolvedFrom.model_validate_json(
        (world.root / "new" / "job" / "resolved_from.json").read_bytes()
    )
    assert taken.trials == known
    assert f"{known} of its {known} trials" in taken.note
    assert "answered from the job in" in (Path(result.bundle) / "report.html").read_text()


def test_without_a_directory_the_budget_names_it(world: World) -> None:
    result = resolve(world, latency_budget="61%", output_dir=None)
    assert Path(result.bundle) == world.root / "out-61pct" / "bundle"


def test_without_a_directory_other_wishes_for_one_budget_have_others(world: World) -> None:
    def answered(**fields: Any) -> Path:
        return Path(resolve(world, latency_budget="75%", output_dir=None, **fields).bundle).parent

    plain, first, second, third = (
        answered(),
        answered(keep="layer1=dense:fp32"),
        answered(keep="layer3=dense:fp32"),
        answered(strict=True),
    )
    assert len({plain, first, second, third}) == 4
    assert plain.name == "out-75pct"
    assert all(path.name.startswith("out-75pct-") for path in (first, second, third))
    # the same again is the same job, whatever it may take
    with pytest.raises(StorageError, match="not empty") as refused:
        answered(keep="layer1=dense:fp32", trials=2)
    assert "--resume" in (refused.value.hint or "")
    assert answered(keep="layer1=dense:fp32", trials=2, resume=True) == first


def test_another_percentile_is_read_from_the_raw_samples(world: World) -> None:
    result = resolve(world, latency_budget="61%", percentile="p95")
    assert result.verdict is Verdict.MET
    assert result.manifest.contract.percentile == "p95"
    raw = Journal(Workspace(world.root / "new").measurements, MeasuredTrial).records
    ratios = {m.recipe_id: m.comparison.ratio("p95") for m in raw}
    for record in Ledger(Workspace(world.root / "new").study).records:
        assert record.evidence.latency_ratio == pytest.approx(ratios[record.recipe.id])


def test_interrupted_blocks_do_not_count_above_the_median(world: World) -> None:
    raw = Journal(Workspace(world.root / "out").measurements, MeasuredTrial).records[0].comparison
    blocks = raw.candidate.blocks
    disturbed = tuple(
        block.model_copy(update={"interruptions": int(number == 1)})
        for number, block in enumerate(blocks)
    )
    candidate = raw.candidate.model_copy(update={"blocks": disturbed})
    counted = without_interruptions(raw.model_copy(update={"candidate": candidate}))
    assert [b.accepted for b in counted.candidate.blocks] == [
        number != 1 for number in range(len(blocks))
    ]
    assert counted.undisturbed_rounds == raw.undisturbed_rounds - 1
