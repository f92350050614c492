"""Limits of size and memory in whole jobs, in worlds whose right answer is known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autosparse.artifacts.bundle import check_bundle, delivered_model
from autosparse.errors import BundleError, ConfigError
from autosparse.evaluation import Verdict
from autosparse.evaluation.artifact_files import given_bytes
from autosparse.evaluation.backend import LoweredModel
from autosparse.journal import Journal
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.resolve import run_resolve
from autosparse.pipeline.resolve_config import read_resolve_config
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.pipeline.worlds import World, layer_seconds, summed_error

# The layers that int8 costs most are the largest: accuracy and size want different ones in int8.
ERRORS = {f"layer{i}": error for i, error in enumerate((0.06, 0.004, 0.04, 0.006, 0.02, 0.008))}
DENSE_BYTES = {f"layer{i}": size for i, size in enumerate((40, 4, 28, 8, 20, 12))}
INT8 = Level.parse("dense:int8")
BUDGET = 0.75


def size_of(levels: Levels) -> int:
    """A quarter of a layer in int8; in kB so that what a fake file says of itself fits in."""
    return 1000 + sum(
        1000 * DENSE_BYTES[name] // (4 if is_int8(level) else 1) for name, level in levels.items()
    )


def memory_of(levels: Levels) -> int:
    """Activations, and two copies of the weights; one more of the last layer in fp32."""
    return 100_000 + 2 * size_of(levels) + 30_000 * (not is_int8(levels["layer5"]))


PLANTED = Planted(layer_seconds, summed_error(ERRORS), size=size_of, memory=memory_of)
LIMIT = 50_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path, 6, PLANTED)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Result]:
    """A job with a limit of size that is in the way."""
    made = World.make(tmp_path_factory.mktemp("small"), 6, PLANTED)
    return made, run(made, max_size=f"{LIMIT}B")


def every_recipe() -> list[dict[str, Level]]:
    kinds = itertools.product((BASELINE, INT8), repeat=6)
    return [{f"layer{i}": kind for i, kind in enumerate(chosen)} for chosen in kinds]


def best(world: World, *keeps: Callable[[Levels], bool]) -> float:
    """Least error of all recipes inside the budget and the limits."""
    bound = BUDGET * world.planted.latency(dict.fromkeys(world.layers, BASELINE)) + 1e-12
    inside = [r for r in every_recipe() if world.planted.latency(r) <= bound]
    return min(world.planted.error(r) for r in inside if all(keep(r) for keep in keeps))


def delivered(world: World) -> Recipe:
    return Recipe.load(world.root / "out" / "bundle" / "recipe.yaml")


def run(world: World, **fields: Any) -> Result:
    asked: dict[str, Any] = {
        "latency_budget": f"{BUDGET:.0%}",
        "max_drop": "50pt",
        "trials": 30,
        **fields,
    }
    return world.run(**asked)


def peak(result: Result) -> int | None:
    assert result.manifest.footprint is not None
    return result.manifest.footprint.peak_memory_bytes


def test_the_answer_is_the_best_of_all_recipes_inside_the_limit_of_size(
    small: tuple[World, Result],
) -> None:
    world, result = small
    least = best(world, lambda r: size_of(r) <= LIMIT)
    assert least > best(world)  # the limit is in the way
    assert result.verdict is Verdict.MET
    assert world.planted.error(delivered(world).levels) == pytest.approx(least)
    footprint = result.manifest.footprint
    assert footprint is not None
    assert footprint.size_bytes == size_of(delivered(world).levels) <= LIMIT
    files = Path(result.bundle) / "model.onnx"
    assert files.stat().st_size == footprint.size_bytes
    given = LoweredModel(world.root, "model.onnx")
    assert footprint.baseline_size_bytes == given_bytes(given) == given.path.stat().st_size
    log = Journal(Workspace(world.root / "out").candidates, CandidateRecord).records
    screened = [r for r in log if r.rung is Rung.SCREENED]
    assert all(r.predicted_size_bytes > LIMIT for r in screened if r.predicted_size_bytes)
    sampled = [r for r in log if r.rung is Rung.SAMPLED]
    assert all(r.size_bytes == size_of(r.recipe.levels) for r in sampled)
    tried = {t.recipe.id: t for t in Ledger(Workspace(world.root / "out").study).records}
    over = [t for t in tried.values() if (t.evidence.size_bytes or 0) > LIMIT]
    assert {t.proposed_by for t in over} <= {"start"}  # no trial of the search was spent on them


def test_the_answer_is_the_best_of_all_recipes_inside_the_limit_of_memory(world: World) -> None:
    limit = 210_000
    lean = best(world, lambda r: memory_of(r) <= limit)
    assert lean > best(world)
    result = run(world, max_memory=f"{limit}B", trials=40)
    assert result.verdict is Verdict.MET
    assert world.planted.error(delivered(world).levels) == pytest.approx(lean)
    assert (peak(result) or 0) <= limit


def test_which_limit_decided_is_told(small: tuple[World, Result]) -> None:
    result = small[1]
    limited = result.manifest.limited_by
    assert limited is not None
    assert limited.clauses == ("size",)
    assert (limited.size_bytes or 0) > LIMIT
    report = (Path(result.bundle) / "report.html").read_text(encoding="utf-8")
    assert f"--max-size 50000B decided: otherwise recipe {limited.recipe_id}" in report
    assert result.manifest.missed == ()


def test_a_limit_below_the_smallest_file_delivers_a_report_and_no_model(world: World) -> None:
    result = run(world, max_size="1kB")
    assert result.verdict is Verdict.NOT_FOUND
    assert result.exit_code == 4
    assert "size" in result.manifest.missed
    assert not result.manifest.delivers_model
    bundle = Path(result.bundle)
    names = {path.name for path in bundle.rglob("*")}
    assert "model.onnx" not in names
    assert {"report.html", "manifest.json", "recipe.yaml"} <= names
    with pytest.raises(BundleError, match="no model was delivered"):
        delivered_model(bundle, check_bundle(bundle))
    report = (bundle / "report.html").read_text(encoding="utf-8")
    assert "no recipe keeps --max-size 1kB (1.00kB): the smallest takes 29.0kB" in report
    assert "--max-size 29kB" in report  # what could be asked for
    assert result.manifest.search.trials <= 5  # nobody searched for what there is not


def test_what_no_recipe_keeps_in_memory_is_found_out_by_measuring(world: World) -> None:
    result = run(world, max_memory="120kB", trials=4)
    assert result.verdict is Verdict.NOT_FOUND
    assert result.manifest.missed == ("memory",)
    assert not result.manifest.delivers_model


def test_a_limit_of_memory_is_refused_where_nothing_measures_it(tmp_path: Path) -> None:
    world = World.make(tmp_path, 6, Planted(layer_seconds, summed_error(ERRORS)))
    with pytest.raises(ConfigError, match="--max-memory 1MB cannot be kept"):
        run(world, max_memory="1MB")
    assert not (tmp_path / "out").exists()
    assert peak(run(world, trials=3)) is None


def test_the_front_over_all_four_is_marked(small: tuple[World, Result]) -> None:
    front = small[1].manifest.front
    figures = {
        p.recipe_id: (p.drop, p.latency_ratio, p.size_bytes, p.peak_memory_bytes) for p in front
    }
    marked = {p.recipe_id: p.dominated_by for p in front}

    def beats(one: str, other: str) -> bool:
        pairs = zip(figures[one], figures[other], strict=True)
        return all(a is not None and b is not None and a <= b for a, b in pairs)

    assert len(figures) == len(front)
    assert any(by is None for by in marked.values())
    assert any(by in figures for by in marked.values())  # dominated by another recipe
    for name, by in marked.items():
        no_worse = {other for other in figures if other != name and beats(other, name)}
        if by is None:
            assert all(figures[other] == figures[name] for other in no_worse)
        else:
            assert by in {*no_worse, "baseline"}
    flags = [p.dominated_by is not None for p in front]
    assert flags == sorted(flags)  # the front first


@pytest.mark.slow
def test_the_same_seed_and_limits_give_the_same_recipe(tmp_path: Path) -> None:
    answers = []
    for name in ("a", "b"):
        world = World.make(tmp_path / name, 6, PLANTED)
        run(world, max_size="55kB", max_memory="230kB", trials=8)
        answers.append(delivered(world).levels)
    assert answers[0] == answers[1]


NEW_FIELDS = {
    "size_bytes", "peak_memory_bytes", "file_bytes", "library_bytes", "baseline_size_bytes",
    "baseline_peak_memory_bytes", "predicted_size_bytes", "max_size", "max_memory",
}  # fmt: skip


def as_an_earlier_version_wrote_it(job: Path) -> None:
    """Take the fields that it did not know out of every file of a job."""
    for path in itertools.chain(job.rglob("*.json*"), job.rglob("*.journal")):
        text = path.read_text(encoding="utf-8")
        lines = [text] if path.suffix == ".json" else text.splitlines()
        path.write_text(
            "".join(json.dumps(without(json.loads(line))) + "\n" for line in lines),
            encoding="utf-8",
        )


def without(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: without(v) for k, v in document.items() if k not in NEW_FIELDS}
    return [without(item) for item in document] if isinstance(document, list) else document


def ids(world: World) -> list[str]:
    return [r.recipe.id for r in Ledger(Workspace(world.root / "out").study).records]


@pytest.mark.parametrize("strategy", ["auto", pytest.param("tpe", marks=pytest.mark.slow)])
def test_a_job_of_an_earlier_version_is_resumed_with_and_without_limits(
    world: World, strategy: str
) -> None:
    run(world, trials=6, strategy=strategy)
    as_an_earlier_version_wrote_it(world.root / "out" / "job")
    before = ids(world)
    assert run(world, trials=6, strategy=strategy, resume=True).verdict is Verdict.MET
    assert ids(world) == before  # all of it counts
    result = run(world, trials=12, strategy=strategy, resume=True, max_size="60kB")
    assert result.verdict is Verdict.MET
    assert result.manifest.footprint is not None
    assert result.manifest.footprint.size_bytes <= 60_000
    with_memory = run(world, trials=20, strategy=strategy, resume=True, max_memory="250kB")
    assert with_memory.verdict is Verdict.MET
    assert (peak(with_memory) or 0) <= 250_000


def test_resolve_keeps_another_limit(small: tuple[World, Result]) -> None:
    world = small[0]
    asked = read_resolve_config(
        {"source": world.root / "out", "output_dir": world.root / "smaller", "max_size": "45kB",
         "trials": 4}
    )  # fmt: skip
    found = run_resolve(asked, lambda target: world.engines())
    assert found.verdict is Verdict.MET
    assert found.manifest.footprint is not None
    assert found.manifest.footprint.size_bytes <= 45_000
    assert str(found.manifest.contract.max_size) == "45kB"
