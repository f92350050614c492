"""The pipe to an engine: a script that plays one, and our own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import MeasurementError
from autosparse.evaluation import LoweredModel, TimingSettings
from backends.tvm_backend import TvmBackend
from benchmarks import duel, engine_server
from benchmarks.command import run
from benchmarks.engine_duels import Challenge, EngineDuels, OnThreads
from benchmarks.engine_process import EngineProcess, last_cores
from benchmarks.kernel_shapes import LinearShape
from benchmarks.random_networks import linear_model
from tests.lowering import Subject, request
from tests.models import images

# the real loop around an engine that multiplies, and fails where the file's name says so
ENGINE = f"""
import os, sys
sys.path.insert(0, {str(Path(engine_server.__file__).parent)!r})
from engine_server import serve

def open_file(request, inputs):
    print("engines print what they like")
    if "refused" in request["path"]:
        raise ValueError("an operator is unknown\\nand much more")
    def run():
        if "deadly" in request["path"]:
            sys.exit("out of luck")
        return inputs["x"] @ inputs["x"].T
    return run, "1.0 with zeros " + str(request["zeros"])

serve(open_file)
"""
NONSENSE = "print('hello', flush=True); input()"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(ENGINE)
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((4, 8), np.float32))
    return path


def process(script: Path) -> EngineProcess:
    return EngineProcess("fake", (sys.executable, "-I", str(script)))


def file(tmp_path: Path, name: str = "model.onnx") -> LoweredModel:
    return LoweredModel(tmp_path, name)


def test_an_engine_opens_and_runs(engine: Path, inputs: Path, tmp_path: Path) -> None:
    with process(engine) as fake:
        fake.open("a", file(tmp_path), inputs, zeros=0.5)
        assert fake.version == "1.0 with zeros 0.5"
        taken = fake.run("a", 5, warmup=2)
        assert len(taken) == 5
        assert min(taken) > 0


def test_a_refusal_is_one_sentence_and_the_engine_goes_on(
    engine: Path, inputs: Path, tmp_path: Path
) -> None:
    with process(engine) as fake:
        with pytest.raises(MeasurementError, match=r"^fake: ValueError: an operator is unknown$"):
            fake.open("a", file(tmp_path, "refused.onnx"), inputs)
        with pytest.raises(MeasurementError, match="KeyError"):
            fake.run("a", 1, warmup=0)
        fake.open("a", file(tmp_path), inputs)
        assert fake.run("a", 1, warmup=0)


def test_an_engine_that_dies_says_its_last_words_and_starts_again(
    engine: Path, inputs: Path, tmp_path: Path
) -> None:
    with process(engine) as fake:
        fake.open("a", file(tmp_path, "deadly.onnx"), inputs)
        with pytest.raises(MeasurementError, match="code 1: out of luck"):
            fake.run("a", 1, warmup=0)
        fake.open("a", file(tmp_path), inputs)
        assert fake.run("a", 1, warmup=0)


def test_nonsense_is_named(inputs: Path, tmp_path: Path) -> None:
    script = tmp_path / "nonsense.py"
    script.write_text(NONSENSE)
    with process(script) as fake, pytest.raises(MeasurementError, match="nonsense"):
        fake.open("a", file(tmp_path), inputs)


def test_an_interpreter_that_does_not_start_is_named(inputs: Path, tmp_path: Path) -> None:
    with (
        EngineProcess("fake", (str(tmp_path / "python"),)) as fake,
        pytest.raises(MeasurementError, match="does not start"),
    ):
        fake.open("a", file(tmp_path), inputs)


def test_other_engines_see_none_of_our_folders() -> None:
    made = EngineProcess.of("openvino", Path("/env/bin/python"))
    assert made.command[:2] == ("/env/bin/python", "-I")
    assert made.command[3:] == ("openvino", str(last_cores(1)[0]))
    made._stderr.close()


def test_our_files_meet_another_engine(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # who is faster is not the question here, and the machine may be busy
    monkeypatch.setattr(duel, "TOLERANCE", float("inf"))
    model = LoweredModel(tmp_path, linear_model(LinearShape(8, 8), tmp_path / "model.onnx").name)
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.ones((4, 8), np.float32))
    settings = TimingSettings(rounds=3, block_seconds=1e-3, warmup_runs=1, max_seconds=2.0)
    with EngineDuels({}) as duels, process(engine) as fake:
        duels._processes["fake", 1] = fake
        refused = Challenge("fake", "Fake", "level", file(tmp_path, "refused.onnx"))
        taken = Challenge("fake", "Fake", "level", file(tmp_path))
        answers = duels.against({"level": model}, [refused, taken], inputs, settings)
    assert answers[0].speedup is None
    assert "an operator is unknown" in answers[0].reason
    assert answers[1].version.startswith("1.0")
    assert answers[1].speedup is not None
    assert answers[1].speedup.rounds == 3


def test_our_files_meet_each_other_on_more_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duel, "TOLERANCE", float("inf"))
    dense, wide = (
        LoweredModel(tmp_path, linear_model(LinearShape(8, size), tmp_path / f"{size}.onnx").name)
        for size in (8, 16)
    )
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.ones((4, 8), np.float32))
    settings = TimingSettings(rounds=3, block_seconds=1e-3, warmup_runs=1, max_seconds=2.0)
    one, two, other = OnThreads("a", 1), OnThreads("a", 2), OnThreads("b", 2)
    with EngineDuels({}) as duels:
        found = duels.on_threads(
            {"a": dense, "b": wide}, [(one, two), (other, two)], inputs, settings
        )
        assert set(duels._processes) == {("ours", 1), ("ours", 2)}
    assert [speedup.rounds for speedup in found] == [3, 3]
    # the second of both pairs is the same file, measured once
    assert found[0].seconds == found[1].seconds


@pytest.mark.slow
def test_our_side_opens_artifacts_for_tvm(residual: Subject, tmp_path: Path) -> None:
    artifact = TvmBackend().lower(request(residual, {}), tmp_path / "artifact")
    np.savez(tmp_path / "inputs.npz", image=images(1))
    with EngineProcess.own() as ours:
        ours.open("artifact", artifact, tmp_path / "inputs.npz")
        assert ours.version == "tvm"
        assert len(ours.run("artifact", 3, warmup=1)) == 3


@pytest.mark.parametrize("given", ["tensorrt=/usr/bin/python3", "openvino=/no/such/python"])
def test_an_opponent_that_is_not_there_is_bad_input(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(["kernels", "--opponent-python", given])
    assert stopped.value.code == 2
    assert "opponent-python" in capsys.readouterr().err
