"""`autosparse agent` as a device runs it: a process of its own, with the real runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from autosparse.errors import ConfigError, MeasurementError, StorageError
from autosparse.evaluation import LoweredModel, Target, TimingSettings, read_environment
from autosparse.evaluation.address import AgentAddress
from tests.models import images
from tests.workers.agents import AgentProcess
from workers.agent_key import read_key, read_or_make_key
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled
from workers.agent_process import run_agent
from workers.agent_settings import AgentSettings
from workers.agent_store import own_directory
from workers.lanes import lane_of

QUICK = TimingSettings(rounds=3, block_seconds=1e-4, warmup_runs=1, max_seconds=2.0)
CORES = 7
# what a device has that this machine has not
_ELSEWHERE = f"""
import os
from pathlib import Path
os.cpu_count = lambda: {CORES}
if Path(__file__).with_name("crash").exists():
    os.abort()
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    root = tmp_path_factory.mktemp("device")
    (root / "sitecustomize.py").write_text(_ELSEWHERE)
    agent = AgentProcess(root, PYTHONPATH=str(root))
    try:
        agent.start()
        yield agent
        assert agent.stop() == 0, "a terminated agent ends in peace"
    finally:
        agent.stop()


@pytest.fixture
def lane(process: AgentProcess) -> Iterator[AgentLane]:
    key = read_key(process.key_file)
    line = Dialled(AgentAddress("127.0.0.1", process.port), key)
    with AgentLane(line, print, 30.0) as opened:
        yield opened


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, image=images(2))
    return path


def test_it_times_files_and_nodes_in_its_own_environment(
    process: AgentProcess, lane: AgentLane, model: LoweredModel, inputs: Path
) -> None:
    target = Target(name="device", input_shapes={"image": (2, 3, 8, 8)})
    found = lane.measure({"a": model, "b": model}, inputs, target, QUICK, fresh=True)
    assert lane.environment().cores == CORES
    for measurement in found.values():
        assert measurement.environment == lane.environment().id != read_environment().id
        assert measurement.samples_seconds.min() > 0
    nodes = lane.profile(model, inputs, target, runs=3)
    assert "Gemm" in {node.operator for node in nodes}
    wrong = inputs.with_name("wrong.npz")
    np.savez(wrong, image=images(2)[:, :1])
    with pytest.raises(MeasurementError, match="ONNX Runtime failed"):
        lane.measure({"a": model}, wrong, target, QUICK)
    # traces of the runtime were there for a moment; `.ses` is a file of the runtime's own
    assert {path.name for path in process.scratch.iterdir()} <= {"files", "lock", ".ses"}


def test_a_crash_of_the_measuring_process_ends_neither_the_agent_nor_the_next_measurement(
    process: AgentProcess, lane: AgentLane, model: LoweredModel, inputs: Path
) -> None:
    crash = process.scratch.parent / "crash"
    crash.touch()
    with pytest.raises(MeasurementError, match="was killed by signal 6"):
        lane.measure({"one": model}, inputs, Target(), QUICK, fresh=True)
    crash.unlink()
    assert lane.measure({"one": model}, inputs, Target(), QUICK)
    assert process.process is not None
    assert process.process.poll() is None


def test_what_runs_on_a_device_holds_no_training_library_and_no_compiler(
    process: AgentProcess, lane: AgentLane, model: LoweredModel, inputs: Path
) -> None:
    lane.measure({"one": model}, inputs, Target(), QUICK)
    assert process.process is not None
    agent = psutil.Process(process.process.pid)
    for running in (agent, *agent.children()):
        mapped = {part for found in running.memory_maps() for part in Path(found.path).parts}
        assert "onnx" in mapped
        assert not {"torch", "tvm", "ray"} & mapped


def test_two_agents_do_not_share_a_scratch_folder(process: AgentProcess) -> None:
    settings = AgentSettings("127.0.0.1:0", process.key_file, process.scratch, 1 << 20, 60.0)
    with pytest.raises(StorageError, match="another process works in"):
        run_agent(settings, print)


def test_a_key_is_drawn_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.key"
    key, made = read_or_make_key(path)
    assert made
    assert read_or_make_key(path) == (key, False)
    assert len(key) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="other users can read the key file"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("secret")
    with pytest.raises(ConfigError, match="has 6 characters: it could be guessed"):
        read_key(path)
    with pytest.raises(ConfigError, match="cannot read the key file"):
        read_key(tmp_path / "gone.key")


def test_the_key_comes_from_the_environment_where_no_file_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AUTOSPARSE_AGENT_KEY", raising=False)
    target = Target(address="rpc://127.0.0.1:1")
    with pytest.raises(ConfigError, match="there is none"):
        lane_of(target, print)
    monkeypatch.setenv("AUTOSPARSE_AGENT_KEY", "k" * 32)
    assert isinstance(lane_of(target, print), AgentLane)


def test_a_scratch_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(StorageError, match="not this user's alone"):
        own_directory(shared)
    link = tmp_path / "link"
    os.symlink(own_directory(tmp_path / "own"), link)
    with pytest.raises(StorageError, match="not this user's alone"):
        own_directory(link)
