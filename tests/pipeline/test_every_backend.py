"""`--backend auto`: whole jobs on two backends in planted worlds, and the better answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.artifacts.manifest import Manifest
from autosparse.errors import AutoSparseError, NotInstalledError, StorageError
from autosparse.evaluation import Target, Verdict
from autosparse.levels import Level
from autosparse.pipeline.config import JobConfig, read_config
from autosparse.pipeline.every_backend import run_on_every_backend
from autosparse.pipeline.job import Engines, target_of
from autosparse.pipeline.ledger import Ledger
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Silent
from tests.fakes.fake_backend import Planted, is_int8
from tests.pipeline.worlds import World, layer_seconds, summed_error

LAYERS = 3


def planted(int8_seconds: float = 40e-6, error: float = 0.001) -> Planted:
    """Layers of 100 us, and what they take and cost in int8."""

    def seconds(name: str, level: Level) -> float:
        return int8_seconds if is_int8(level) else layer_seconds(name, level)

    return Planted(seconds, lambda levels: error / 0.001 * summed_error({})(levels))


class Told(Silent):
    """What a person was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Backends:
    """Engines for each backend of a world."""

    world: World
    engines: Mapping[str, Engines | AutoSparseError]
    takes: float = 0.0
    """Seconds of each job on the clock of the time limit; a refusal takes one."""
    now: float = 0.0
    began: list[JobConfig] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    @contextmanager
    def engines_on(self, config: JobConfig) -> Iterator[Engines]:
        self.began.append(config)
        engines = self.engines[config.backend]
        if isinstance(engines, AutoSparseError):
            self.now += 1.0
            raise engines
        yield engines
        self.now += self.takes

    def run(self, *, resume: bool = False, **fields: object) -> Result:
        config = self.world.config(backend="auto", **{"trials": 5, **fields})
        return run_on_every_backend(
            config, list(self.engines), self.engines_on, self.told, resume=resume,
            clock=lambda: self.now,
        )  # fmt: skip

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Seconds that each backend was given, in the order in which they began."""
        return [(config.backend, config.time_limit) for config in self.began]


def backends(root: Path, **worlds: Planted | AutoSparseError) -> Backends:
    """One planted world for each name."""
    world = World.make(root, LAYERS, planted())
    made = {
        name: own if isinstance(own, AutoSparseError) else replace(world, planted=own).engines()
        for name, own in worlds.items()
    }
    return Backends(world, made)


def test_the_more_accurate_answer_is_delivered(tmp_path: Path) -> None:
    both = backends(tmp_path, lossy=planted(error=0.004), exact=planted())
    result = both.run(time_limit=60)
    assert result.verdict is Verdict.MET
    assert result.manifest.target.backend == "exact"
    assert result.bundle == str(tmp_path / "out" / "bundle")
    delivered = check_bundle(Path(result.bundle))
    for name in ("lossy", "exact"):  # each is a whole job of its own
        own = check_bundle(tmp_path / "out" / name / "bundle")
        assert own.verdict is Verdict.MET
        # what is delivered tells of the other backend, too, and is else the copy of one
        assert (_but_told(own) == _but_told(delivered)) == (name == "exact")
        assert not any(decision.subject == "Backend" for decision in own.decisions)
    assert delivered == result.manifest
    told = delivered.decisions[-1].told
    assert told.startswith("exact: lossy met at 60.0% of the baseline's latency and a drop of 0.02")
    assert told in (tmp_path / "out" / "bundle" / "report.html").read_text().replace("&#39;", "'")
    assert any("the answer is that of exact" in note for note in both.told.notes)


def _but_told(manifest: Manifest) -> Manifest:
    """Without what tells of decisions: the report is a file, too."""
    files = {name: digest for name, digest in manifest.files.items() if name != "report.html"}
    return manifest.model_copy(update={"decisions": (), "files": files})


@pytest.mark.parametrize("order", [("slow", "fast"), ("fast", "slow")])
def test_of_equally_accurate_answers_the_faster_is_delivered(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    worlds = {"slow": planted(40e-6), "fast": planted(30e-6)}
    both = backends(tmp_path, **{name: worlds[name] for name in order})
    # every layer must be in int8, whichever backend it is
    result = both.run(latency_budget="50%")
    assert result.manifest.target.backend == "fast"
    assert result.manifest.latency.ratio == pytest.approx(0.3)


def test_what_one_backend_cannot_do_another_may(tmp_path: Path) -> None:
    both = backends(tmp_path, late=planted(int8_seconds=110e-6), able=planted())
    result = both.run()
    assert result.verdict is Verdict.MET
    assert result.manifest.target.backend == "able"
    late = check_bundle(tmp_path / "out" / "late" / "bundle")
    assert late.verdict is Verdict.LATENCY_INFEASIBLE


@pytest.mark.slow
def test_a_budget_is_out_of_reach_only_where_it_is_for_all(tmp_path: Path) -> None:
    both = backends(tmp_path, late=planted(int8_seconds=110e-6), lossy=planted(error=3.0))
    result = both.run(max_drop="0.1pt")
    assert result.verdict is Verdict.NOT_FOUND
    neither = backends(tmp_path / "again", late=planted(110e-6), later=planted(120e-6))
    assert neither.run().verdict is Verdict.LATENCY_INFEASIBLE


def test_a_backend_that_is_not_there_is_told_and_left_out(tmp_path: Path) -> None:
    absent = NotInstalledError("the backend needs a library", hint="install it")
    both = backends(tmp_path, absent=absent, able=planted())
    result = both.run()
    assert result.manifest.target.backend == "able"
    assert any(
        note.startswith("no answer on absent: the backend needs") for note in both.told.notes
    )
    told = result.manifest.decisions[-1].told
    assert told.endswith("absent without one (the backend needs a library)")
    with pytest.raises(NotInstalledError, match="needs a library"):
        backends(tmp_path / "again", absent=absent).run()
    assert not (tmp_path / "again" / "out").exists()


@pytest.mark.parametrize(
    ("takes", "left"),
    [(5.0, 55.0), (30.0, 30.0), (50.0, 30.0)],
    ids=["what a job leaves is the next one's", "equal shares", "what it takes beyond is nobody's"],
)
def test_what_is_left_of_the_time_is_shared(tmp_path: Path, takes: float, left: float) -> None:
    both = backends(tmp_path, one=planted(), other=planted())
    both.takes = takes
    both.run(time_limit=60)
    assert both.shares == [("other", 30.0), ("one", left)]


def test_a_backend_that_is_refused_takes_no_share_of_the_time(tmp_path: Path) -> None:
    absent = NotInstalledError("the backend needs a library", hint="install it")
    both = backends(tmp_path, able=planted(), absent=absent)
    both.run(time_limit=60)
    assert both.shares == [("absent", 30.0), ("able", 59.0)]


def test_resumed_jobs_measure_nothing_again(tmp_path: Path) -> None:
    both = backends(tmp_path, one=planted(), other=planted(error=0.002))
    both.run()
    studies = [tmp_path / "out" / name / "job" / "study.journal" for name in both.engines]
    before = [Ledger(study).records for study in studies]
    again = both.run(resume=True)
    assert all(before)
    assert [Ledger(study).records for study in studies] == before
    assert check_bundle(Path(again.bundle)).target.backend == "one"
    with pytest.raises(StorageError, match="not empty"):
        both.run()


def test_a_job_on_one_backend_is_not_overwritten(tmp_path: Path) -> None:
    both = backends(tmp_path, one=planted())
    both.world.run()
    with pytest.raises(StorageError, match="a job on one backend"):
        both.run(resume=True)


def test_a_target_file_may_leave_the_backend_open(tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("name: board\nbackend: auto\nthreads: 2\n", encoding="utf-8")
    given = {"model": "m.onnx", "calibration": "c.npz", "validation": "v.npz",
             "latency_budget": "50%", "target": str(file)}  # fmt: skip
    assert target_of(read_config(given)).backend == "auto"
    own = read_config(given).model_copy(update={"backend": "tvm"})
    assert target_of(own) == Target(name="board", backend="tvm", threads=2)
