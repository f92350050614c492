"""`--tune`: loops that no kernel covers are tried, once, and take no threads of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from backends.kernels.compilers import run_module
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.tvm_artifact.build import best_instruction_set
from backends.tvm_artifact.lowering import artifact_graph
from backends.tvm_backend import TvmBackend
from tests.lowering import Subject, request, subject
from tests.models import Net
from tests.tvm_artifact.test_answers import answer

CHANNELS, LENGTH, TRIALS = 32, 128, 6
RECORDS = "database_tuning_record.json"
PARALLEL = b"TVMBackendParallelLaunch"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Two convolutions along one axis, which our kernels do not know."""
    net = Net()
    x = net.input("signal", "batch", CHANNELS, LENGTH)
    for name in ("first", "second"):
        weight = net.weight(f"{name}.weight", CHANNELS, CHANNELS, 5)
        last = name == "second"
        x = net.node("Conv", x, weight, name=name, to="y" if last else "", pads=[2, 2])
    random = np.random.default_rng(0).standard_normal((2, CHANNELS, LENGTH)).astype(np.float32)
    path = net.save(tmp_path_factory.mktemp("signal") / "signal.onnx", "y")
    return subject(path, {"signal": random})


def compiled(what: Subject, directory: Path, trials: int, database: Path) -> bytes:
    """Code of the graph, for one signal."""
    directory.mkdir()
    graph = artifact_graph(request(what, {})).model
    (directory / "graph.onnx").write_bytes(ir.to_proto(graph).SerializeToString())
    names = (directory / "graph.onnx", best_instruction_set(), directory, trials, database)
    run_module(
        "backends.tvm_artifact.compile_artifact", [*map(str, names), "batch=1"], "the signal"
    )
    return b"".join(path.read_bytes() for path in sorted(directory.glob("graph_*.o")))


def test_a_loop_nest_is_tried_once_and_the_best_is_taken(signal: Subject, tmp_path: Path) -> None:
    database = tmp_path / "database"
    plain = compiled(signal, tmp_path / "plain", 0, database)
    assert not database.exists()
    tuned = compiled(signal, tmp_path / "tuned", TRIALS, database)
    assert tuned != plain
    assert PARALLEL not in tuned
    records = (database / RECORDS).read_text(encoding="utf-8").splitlines()
    # both convolutions are one loop nest
    assert 1 <= len(records) <= TRIALS
    compiled(signal, tmp_path / "again", 2 * TRIALS, database)
    assert (database / RECORDS).read_text(encoding="utf-8").splitlines() == records


def test_tuned_loops_answer_as_the_model(signal: Subject, tmp_path: Path) -> None:
    asked = replace(
        request(signal, {}), input_shapes={"signal": (1, CHANNELS, LENGTH)}, tuning_trials=TRIALS
    )
    runner = TvmBackend().open(TvmBackend().lower(asked, tmp_path / "tvm"), threads=1)
    dense = OnnxRuntimeBackend().lower(request(signal, {}), tmp_path / "ort")
    theirs = OnnxRuntimeBackend().open(dense, threads=1)
    for rows in (1, 2):  # the tuned function, and the one for any size
        given = {"signal": np.asarray(signal.inputs["signal"])[:rows]}
        np.testing.assert_allclose(
            answer(runner, given, "y"), answer(theirs, given, "y"), rtol=1e-3, atol=1e-4
        )
