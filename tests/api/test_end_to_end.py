"""The service as its users meet it: real server, real jobs, and kills in the middle of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from onnxruntime import InferenceSession
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autosparse import Client
from tests.api.receiver import receiving
from tests.api.served import Served, until
from tests.faults.real_job import RealJob

pytestmark = pytest.mark.slow
BUDGET = ("--latency-budget", "1000%", "--max-drop", "100pt", "--space", "int8", "--trials", "6")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server in a fresh directory, with a model and its data beside it."""
    RealJob.make(tmp_path)
    made = Served(tmp_path)
    made.start()
    yield made
    made.kill()
    until(made.nothing_runs)


def submit(served: Served, *flags: str) -> str:
    """Submit the small model's job; its id."""
    done = served.command(
        "submit", "model.onnx", "--calibration", "calibration.npz",
        "--validation", "validation.npz", *BUDGET, "--json", *flags,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout)["id"]
    return found


def test_two_commands_end_with_a_verified_bundle(served: Served) -> None:
    done = served.command(
        "submit", "model.onnx", "--calibration", "calibration.npz",
        "--validation", "validation.npz", *BUDGET, "--watch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "met" in done.stdout
    assert "trial" in done.stderr
    job = done.stdout.split()[1]
    fetched = served.command("fetch", job, "--output-dir", "fetched")
    assert fetched.returncode == 0, fetched.stderr
    # no path of the server is in what is delivered
    for path in (served.directory / "fetched").rglob("*"):
        if path.is_file():
            assert str(served.directory).encode() not in path.read_bytes(), path
    verified = served.command(
        "verify", "fetched", "--model", "model.onnx", "--validation", "validation.npz"
    )
    assert verified.returncode == 0, verified.stderr
    # any tool that reads Optuna's journals, optuna-dashboard for one, reads a served job's study
    journal = served.directory / f"autosparse-service/jobs/{job}/out/job/study.journal"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (study,) = optuna.get_all_study_summaries(storage)
    with Client(served.url, served.key) as client:
        assert study.n_trials == len(client.trials(job)) >= 2
    listed = json.loads(served.command("jobs", "--json").stdout)
    assert [(found["id"], found["verdict"]) for found in listed] == [(job, "met")]
    assert served.stop() == 0
    until(served.nothing_runs)


@pytest.mark.parametrize("victim", ["runner", "server"])
def test_a_kill_changes_nothing_but_time(served: Served, victim: str) -> None:
    job = submit(served)
    with Client(served.url, served.key) as client:
        until(lambda: len(client.trials(job)) >= 2)
        if victim == "runner":
            served.kill_runner()
        else:
            served.kill()
            until(served.nothing_runs)
            served.start(served.port)
        seen = [event.sequence for event in client.events(job)]
        assert seen == list(range(1, len(seen) + 1))
        done = client.job(job)
        assert (done.state, done.verdict) == ("finished", "met")
        recipes = [trial.recipe_id for trial in client.trials(job)]
        assert len(recipes) == len(set(recipes)) >= 2
        told = [event.data["recipe_id"] for event in client.events(job) if event.kind == "trial"]
        assert told == recipes


def test_cancelled_within_seconds_and_resumed(served: Served) -> None:
    job = submit(served)
    with Client(served.url, served.key) as client:
        until(lambda: len(client.trials(job)) >= 1)
        assert served.command("cancel", job).returncode == 0
        until(lambda: client.job(job).state == "cancelled")
        until(lambda: not served.children_running("api.job_process"))
        names = {item.name for item in client.artifacts(job)}
        assert names == {"best-so-far.json", "model.onnx", "recipe.yaml"}
        best = client.fetch(job, served.directory / "best")
        told = json.loads((best / "best-so-far.json").read_text())
        assert (told["verified"], told["entry"]) == (False, "model.onnx")
        assert told["recipe_id"] in {trial.recipe_id for trial in client.trials(job)}
        assert InferenceSession(best / told["entry"]).get_inputs()[0].name == "image"
        before = [trial.recipe_id for trial in client.trials(job)]
        client.resume(job, trials=4)
        assert client.wait(job).state == "finished"
        assert [trial.recipe_id for trial in client.trials(job)][: len(before)] == before
        assert "model.onnx" in [item.name for item in client.artifacts(job)]


def test_a_wrong_input_name_is_told_at_submission(served: Served) -> None:
    done = served.command(
        "submit", "model.onnx", "--calibration", "validation.npz",
        "--validation", "validation.npz", *BUDGET, "--exclude", "no_such_layer",
    )  # fmt: skip
    assert done.returncode == 2
    assert "no_such_layer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_planted_regression_is_found_and_nothing_else(tmp_path: Path) -> None:
    """A schedule measures the bundle as it was delivered, and with a slower runtime setting."""
    RealJob.make(tmp_path)
    served = Served(tmp_path, "--webhook-network", "127.0.0.0/8")
    served.start()
    try:
        with Client(served.url, served.key) as client, receiving() as receiver:
            client.webhooks.make(receiver.url, ["regression"])
            # a model that is delivered as it came is its own baseline, and cannot become slower
            job = submit(served, "--latency-budget", "70%")
            assert client.wait(job).state == "finished"
            schedule = client.schedules.make("reverify", "0 3 * * *", {"job": job}).id
            assert one_run(client, schedule).outcome["regressions"] == []
            slow_down(served.directory / "autosparse-service" / "jobs" / job / "out" / "bundle")
            worse = one_run(client, schedule)
            assert worse.outcome["regressions"], worse
            assert worse.difference.latency > 0.1
            kinds = [event.kind for event in client.events(worse.job)]
            assert kinds.count("regression") == 1
            until(lambda: receiver.received)
            ((_, body),) = receiver.received
            assert json.loads(body)["data"]["of"] == job
    finally:
        served.kill()
        until(served.nothing_runs)


def one_run(client: Client, schedule: str) -> Any:
    """Let a schedule run once, to its end."""
    begun = client.schedules.run(schedule).id
    until(lambda: next(client.schedules.runs(schedule)).ended is not None)
    run = next(client.schedules.runs(schedule))
    assert (run.id, run.state) == (begun, "finished"), run
    return run


def slow_down(bundle: Path) -> None:
    """Tell the runtime to run the graph as it stands, as a careless update would."""
    recipe = bundle / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("graph_level: all", "graph_level: disabled"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["recipe.yaml"] = hashlib.sha256(recipe.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
