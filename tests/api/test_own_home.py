"""Runners without a shared disk: each goes on where the former one was, and nothing is done twice.

Their jobs play scripts. The real thing is in `test_own_home_for_real.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import pytest

from api.artifact_store import ArtifactStore
from api.job_ledger import LeaseLostError, make_lane, take_job
from api.snapshot_store import SnapshotStore
from api.snapshots import read_list
from autosparse.errors import ConfigError
from autosparse.levels import Recipe
from tests.api.own_homes import OwnHomes
from tests.api.queue_world import RESULT, QueueWorld, record, trial
from tests.api.test_settings import settings
from tests.api.test_storage import delivering, no_room


@pytest.fixture
def homes(tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnHomes]:
    for name, seconds in (("_AWAY_SECONDS", 0.01), ("_STORE_AWAY_SECONDS", 0.05)):
        monkeypatch.setattr(f"api.runner.{name}", seconds)
    made = OwnHomes(tmp_path, memory)
    yield made
    made.close()


def interrupted(world: QueueWorld, job: str, trials: int) -> None:
    """Let a runner work until a job has so many trials, and go."""
    with world.running():
        world.until(lambda: len(world.trials(job)) == trials)


def test_another_runner_goes_on_where_the_first_one_was(homes: OwnHomes) -> None:
    """And the first one, when it is back, where the other one was: not where it was itself."""
    first, second = homes.first, homes.second
    known = {"kind": "known", "records": [record(1)]}
    job = first.job(
        ["append out/study one", trial(1), "hang"],
        ["append out/study two", known, trial(2), "hang"],
        ["append out/study three", trial(3), RESULT],
    )
    interrupted(first, job, 1)
    # what is lost with the runner: nobody was told of it
    with (first.files.job(job) / "out" / "study").open("a") as study:
        study.write("lost\n")
    interrupted(second, job, 2)
    assert homes.study(second, job) == ["one", "two"]
    with first.running():
        assert first.ended(job) == ["finished"]
    assert homes.study(first, job) == ["one", "two", "three"]
    assert (homes.attempts(first, job), homes.attempts(second, job)) == (3, 2)
    assert first.trials(job) == ["recipe1", "recipe2", "recipe3"]
    assert homes.is_current(first, job)


def test_a_runner_that_is_back_goes_on_with_what_it_has(homes: OwnHomes) -> None:
    """Nothing is fetched, and nothing is lost that was written after the last snapshot."""
    job = homes.first.job(["append out/study one", trial(1), "hang"], [RESULT])
    interrupted(homes.first, job, 1)
    with (homes.first.files.job(job) / "out" / "study").open("a") as study:
        study.write("later\n")
    with homes.first.running():
        assert homes.first.ended(job) == ["finished"]
    assert homes.study(homes.first, job) == ["one", "later"]


def test_a_job_is_kept_without_trials_too(homes: OwnHomes, memory: str) -> None:
    """A level table takes an hour before the first trial."""
    first, second = homes.first, homes.second
    job, store = first.job(["append out/study table", "hang"]), SnapshotStore(memory)

    def is_kept() -> bool:
        name = first.row(job).snapshot
        return name is not None and "out/study" in read_list(store, job, name).files

    with first.running():
        first.until(is_kept)
    with second.running():
        second.until(lambda: homes.study(second, job) == ["table", "table"])


def test_a_runner_that_lost_its_job_changes_nothing(homes: OwnHomes) -> None:
    world = homes.first
    job = world.job([RESULT])
    make_lane(world.database, "bench")
    lost = take_job(world.database, "silent", "bench", -1.0, 5)
    taken = take_job(world.database, "other", "bench", 30.0, 5)
    assert lost is not None
    assert taken is not None
    taken.snapshot("run_other-new", [(record(1), "recipe1")])
    with pytest.raises(LeaseLostError):
        lost.snapshot("run_silent-old", [(record(2), "recipe2")])
    row = world.row(job)
    assert (row.snapshot, row.best_recipe) == ("run_other-new", "recipe1")
    assert world.trials(job) == ["recipe1"]


def test_a_trial_is_told_when_it_is_kept(homes: OwnHomes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a runner that dies in between would leave one to another that does not have it."""
    is_asked, may_go_on = threading.Event(), threading.Event()
    write = SnapshotStore.write

    def slow(self: SnapshotStore, job: str, pieces: Mapping[str, bytes]) -> None:
        is_asked.set()
        assert may_go_on.wait(60.0)
        write(self, job, pieces)

    monkeypatch.setattr(SnapshotStore, "write", slow)
    job = homes.first.job([trial(1), "hang"])
    with homes.first.running(homes.first.runner(snapshot_seconds=100.0)):
        assert is_asked.wait(60.0)
        assert homes.first.trials(job) == []
        may_go_on.set()
        homes.first.until(lambda: homes.first.trials(job) == ["recipe1"])
        assert homes.first.row(job).snapshot is not None


def test_nobody_waits_for_a_store_that_is_away(
    homes: OwnHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = homes.first
    job = world.job([trial(1), trial(2), "go", RESULT])
    delivering(world.files.job(job), "{}")
    with world.running():
        with monkeypatch.context() as patch:
            patch.setattr(type(fsspec.filesystem("memory")), "pipe_file", no_room)
            world.until(lambda: len(world.trials(job)) == 2)
            assert world.row(job).snapshot is None
        (world.files.job(job) / "go").touch()
        assert world.ended(job) == ["finished"]
    assert homes.is_current(world, job)
    assert homes.attempts(world, job) == 1


def test_an_end_that_cannot_be_delivered_is_come_to_once(
    homes: OwnHomes, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    world = homes.first
    job, other = world.job([trial(1), RESULT], ["die"]), world.job([RESULT])
    delivering(world.files.job(job), "{}")
    with world.running():
        with monkeypatch.context() as patch:
            patch.setattr(type(fsspec.filesystem("memory")), "pipe_file", no_room)
            world.until(lambda: world.states(job).count("running") > 1)
            world.until(lambda: world.row(other).not_before is not None)
            assert world.trials(job) == ["recipe1"]
        assert world.ended(job, other) == ["finished", "finished"]
    assert homes.attempts(world, job) == 1
    assert set(ArtifactStore(memory).list(job)) == {"atlas.json"}
    assert world.row(job).concluded is None


def test_another_runner_comes_to_an_end_of_its_own(
    homes: OwnHomes, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """What the first one would have delivered is lost with its home."""
    job = homes.first.job([trial(1), "go", RESULT], ["append out/atlas.json {}", RESULT])
    with homes.first.running(), monkeypatch.context() as patch:
        homes.first.until(lambda: homes.first.trials(job) == ["recipe1"])
        patch.setattr(type(fsspec.filesystem("memory")), "pipe_file", no_room)
        (homes.first.files.job(job) / "go").touch()
        homes.first.until(lambda: homes.first.row(job).concluded is not None)
        homes.first.until(lambda: homes.first.row(job).state == "queued")
        homes.first.change(job, device="elsewhere")
        homes.first.until(lambda: homes.first.row(job).state == "queued")
    with homes.second.running(homes.second.runner(device="elsewhere")):
        assert homes.second.ended(job) == ["finished"]
    assert homes.attempts(homes.second, job) == 2
    assert set(ArtifactStore(memory).list(job)) == {"atlas.json"}


def test_a_store_that_is_away_when_a_job_is_taken(
    homes: OwnHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put off, as often as it takes, and no attempt is counted."""
    job = homes.first.job([trial(1), "hang"], [RESULT])
    interrupted(homes.first, job, 1)
    second = homes.second
    with second.running(second.runner(max_attempts=2)):
        with monkeypatch.context() as patch:
            patch.setattr(type(fsspec.filesystem("memory")), "cat_file", no_room)
            second.until(lambda: second.states(job).count("running") > 2)
        assert second.ended(job) == ["finished"]


def test_cancelled_while_a_trial_is_being_kept(homes: OwnHomes, memory: str) -> None:
    """The best recipe is that of all trials."""
    world = homes.first
    job = world.job([trial(1), trial(2), trial(3), "hang"])
    with world.running():
        world.until(lambda: world.trials(job) != [])
        world.change(job, cancel_requested=True)
        assert world.ended(job) == ["cancelled"]
    assert world.trials(job) == ["recipe1", "recipe2", "recipe3"]
    ((name, one),) = ArtifactStore(memory).list(job).items()
    place = world.files.root / "fetched.yaml"
    ArtifactStore(memory).fetch(job, name, one.sha256, place)
    assert isinstance(Recipe.load(place), Recipe)


def test_a_shared_home_that_is_not_shared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs wait, and do not fail."""
    monkeypatch.setattr("api.runner._AWAY_SECONDS", 0.01)
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    one, other = (QueueWorld(tmp_path / name, url) for name in ("one", "other"))
    job = one.job([RESULT])
    with other.running():
        other.until(lambda: other.row(job).not_before is not None)
    assert other.row(job).state == "queued"
    assert other.row(job).attempts == 0
    for world in (one, other):
        world.database.close()


def test_homes_of_ones_own_need_what_is_shared() -> None:
    for argv, lacks in (
        (["--own-home", "--artifacts", "memory://x"], "database"),
        (["--own-home", "--database", "sqlite:///x"], "store"),
    ):
        with pytest.raises(ConfigError, match=f"the {lacks} is not given"):
            settings(argv, {})
    given = ["--own-home", "--artifacts", "memory://x", "--database", "sqlite:///x"]
    assert settings(given, {}).own_home
    assert settings(given[1:], {"AUTOSPARSE_SERVE_OWN_HOME": "true"}).own_home
