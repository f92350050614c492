"""Whole jobs whose files run in TVM: here, on a device, and beside those for ONNX Runtime."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle, file_sha256
from autosparse.evaluation import Environment, Verdict, read_environment
from backends import BACKENDS
from backends.kernels.support import why_no_kernels
from tests.faults.real_job import RealJob
from tests.workers.agents import AgentProcess

CORES = 7
"""Of the device, so that its seconds cannot be taken for this machine's."""
ARTIFACT = {"model.params", "model.so", "model.h", "run_model.cpp", "run_model.py"}
OF_THE_JOB = ("manifest.json", "report.html", "measurements.jsonl", "layers.csv", "recipe.yaml")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_kernels()), reason=why_no_kernels() or "there are kernels"),
]


def real_job(root: Path) -> RealJob:
    """With a budget that asks for much less than the model as it came takes.

    Nothing slower than that holds any budget, and in fp32 a file takes as long within some percent.
    """
    return replace(RealJob.make(root), budget="85%")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> RealJob:
    """One that has ended with an artifact; not to be written to."""
    made = real_job(tmp_path_factory.mktemp("tvm"))
    done = made.run("--backend", "tvm")
    assert done.returncode == 0, done.stderr
    return made


def test_the_bundle_is_an_artifact_that_was_measured(job: RealJob) -> None:
    bundle = job.output / "bundle"
    manifest = check_bundle(bundle)
    assert manifest.verdict is Verdict.MET
    assert manifest.target.backend == "tvm"
    assert not manifest.stands_in
    assert manifest.files.keys() >= ARTIFACT
    assert "model.onnx" not in manifest.files
    assert manifest.search.failed == 0
    assert manifest.latency.samples > 0
    assert manifest.footprint is not None
    sizes = [(bundle / name).stat().st_size for name in ("model.params", "model.so")]
    assert manifest.footprint.size_bytes == sum(sizes)
    rows = list(csv.DictReader(io.StringIO((bundle / "layers.csv").read_text())))
    assert {row["kernel"].partition("_")[0] for row in rows} == {"autosparse"}


def test_its_example_runs_where_the_bundle_was_copied_to(job: RealJob, tmp_path: Path) -> None:
    bundle = job.output / "bundle"
    done = subprocess.run(
        [sys.executable, str(bundle / "run_model.py"), str(bundle)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("logits [[")


def test_it_holds_its_contract_when_it_is_verified(job: RealJob) -> None:
    done = job.verify()
    assert done.returncode == 0, done.stdout + done.stderr


def test_of_both_backends_one_bundle_is_delivered(tmp_path: Path) -> None:
    job = real_job(tmp_path)
    done = job.run("--backend", "auto")
    assert done.returncode == 0, done.stderr
    delivered = check_bundle(job.output / "bundle")
    own = {name: check_bundle(job.output / name / "bundle") for name in BACKENDS.names()}
    assert own.keys() >= {"onnxruntime", "tvm"}
    assert all(manifest.target.backend == name for name, manifest in own.items())
    assert delivered.verdict is own["tvm"].verdict is Verdict.MET
    assert delivered.recipe_id == own[delivered.target.backend].recipe_id
    decision = delivered.decisions[-1]
    assert decision.subject == "Backend"
    assert all(f"{name} {manifest.verdict} at" in decision.told for name, manifest in own.items())


@pytest.fixture
def device(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent in a process of its own."""
    root = tmp_path / "device"
    root.mkdir()
    (root / "sitecustomize.py").write_text(f"import os\nos.cpu_count = lambda: {CORES}\n")
    agent = AgentProcess(root, PYTHONPATH=str(root), TVM_NUM_THREADS="1")
    agent.start()
    yield agent
    agent.stop()


def test_a_device_times_artifacts_and_is_sent_nothing_else(
    tmp_path: Path, device: AgentProcess
) -> None:
    job = real_job(tmp_path)
    target = tmp_path / "target.yaml"
    document = {
        "name": "the device", "backend": "tvm", "key_file": str(device.key_file),
        "address": f"rpc://127.0.0.1:{device.port}",
    }  # fmt: skip
    target.write_text(json.dumps(document))
    done = job.run("--target", str(target))
    assert done.returncode == 0, done.stderr
    bundle = job.output / "bundle"
    manifest = check_bundle(bundle)
    assert manifest.files.keys() >= ARTIFACT
    environment = Environment.model_validate_json((bundle / "environment.json").read_bytes())
    assert environment.cores == CORES
    assert manifest.environment == environment.id != read_environment().id
    lines = (bundle / "measurements.jsonl").read_text().splitlines()
    assert {json.loads(line)["environment"] for line in lines} == {environment.id}
    verified = job.verify()  # by the agent again: the bundle's target names it
    assert verified.returncode == 0, verified.stdout + verified.stderr
    stored = {path.name for path in (device.scratch / "files").iterdir()}
    assert {file_sha256(bundle / name) for name in ("model.params", "model.so")} <= stored
    assert not {file_sha256(bundle / name) for name in OF_THE_JOB} & stored
