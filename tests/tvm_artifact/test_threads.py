"""Layers take as many threads of TVM's pool as they were opened with, however large it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autosparse.evaluation import LoweredModel
from backends.tvm_backend import TvmBackend
from tests.lowering import Subject, request
from tests.models import images

ENOUGH_ROWS = 256
"""For layers that are worth more than one thread."""
SCRIPT = """
import ctypes, importlib, json, sys
from pathlib import Path
import numpy as np
from backends.tvm_artifact.runner import ArtifactRunner

LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
library, parameters, inputs = map(Path, sys.argv[1:4])
told, answers = [], []
runtime = importlib.import_module("tvm_ffi")
for threads in map(int, sys.argv[4:]):
    runner = ArtifactRunner(library, parameters, threads=threads)
    pointer = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "__TVMBackendParallelLaunch")
    launch, asked = LAUNCH(pointer.value), []

    def watched(task, data, count):
        asked.append(count)
        return launch(task, data, count)

    kept, before = LAUNCH(watched), pointer.value
    pointer.value = ctypes.cast(kept, ctypes.c_void_p).value
    answers.append(runner.run({"image": np.load(inputs)})["logits"].copy())
    pointer.value = before
    told.append(sorted({*asked, -runtime.get_global_func("runtime.NumThreads")()}))
assert all(np.array_equal(answer, answers[0]) for answer in answers), answers
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def artifact(residual: Subject, tmp_path_factory: pytest.TempPathFactory) -> LoweredModel:
    """Of the residual network; not to be written to."""
    return TvmBackend().lower(request(residual, {}), tmp_path_factory.mktemp("threads"))


def launched(
    artifact: LoweredModel, directory: Path, threads: tuple[int, ...], **variables: str
) -> list[list[int]]:
    """Numbers of tasks that layers launched, for each number of threads; answers do not differ.

    The size of the pool is among them, as a negative number.
    """
    np.save(directory / "images.npy", images(ENOUGH_ROWS))
    assert artifact.library_path is not None
    files = (artifact.library_path, artifact.path, directory / "images.npy")
    others = {
        k: v for k, v in os.environ.items() if k not in ("TVM_NUM_THREADS", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files), *map(str, threads)],
        env={**others, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[int]] = json.loads(done.stdout)
    return found


def test_no_more_threads_are_asked_for_than_there_are(
    artifact: LoweredModel, tmp_path: Path
) -> None:
    """TVM's runtime fails a launch of more tasks than its pool has threads."""
    found = launched(artifact, tmp_path, (1, 8, 2), TVM_NUM_THREADS="3")
    assert found[1:] == [[-3, 3], [-3, 2]]
    assert len(found[0]) == 1  # one thread leaves the pool alone


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one processor")
def test_every_processor_may_be_used_whatever_other_libraries_are_told(
    artifact: LoweredModel, tmp_path: Path
) -> None:
    """TVM's own pool would have half of them on x86, or one thread here."""
    ((pool, asked),) = launched(artifact, tmp_path, (2,), OMP_NUM_THREADS="1")
    assert asked == 2
    assert pool <= -2
