"""Runs in the process of one engine: opens files and times inferences as it is told on a pipe.

It is started as a script by an interpreter that has the engine and need not have anything of ours,
so it imports the standard library, NumPy and the engine only, and runs on Python 3.9.

    python engine_server.py ENGINE CORES     (for example: openvino 1)

One JSON document a line, in either direction:

    {"open": LABEL, "path": FILE, "library": FILE, "inputs": NPZ, "threads": N, "zeros": FRACTION}
        -> {"version": VERSION}
    {"run": LABEL, "count": N, "warmup": N} -> {"seconds": [...]}
    {"canaries": true} -> {"readings": {...}}

`library` is one of custom operators, and only ours has it. `zeros` is what an engine is told about
the weights, 0 where it is not told anything. What fails is
answered with {"error": SENTENCE}, and the next request is read.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[], object]
Opener = Callable[[dict[str, Any], dict[str, Any]], tuple[Run, str]]
"""(request, inputs by name) -> one inference, and the engine's version."""


def serve(open_file: Opener, read_canaries: Callable[[], dict[str, float]] | None = None) -> None:
    """Answer requests from standard input until it is closed."""
    # engines print: the pipe is kept apart from what they call stdout
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        try:
            reply = _answer(json.loads(line), runs, open_file, read_canaries)
        except Exception as error:  # engines have no common base for what they raise
            first = (str(error).strip().splitlines() or [""])[0]
            reply = {"error": f"{type(error).__name__}: {first}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def _answer(
    request: dict[str, Any],
    runs: dict[str, Run],
    open_file: Opener,
    read_canaries: Callable[[], dict[str, float]] | None,
) -> dict[str, Any]:
    if "open" in request:
        with np.load(request["inputs"], allow_pickle=False) as file:
            inputs = {name: np.ascontiguousarray(file[name]) for name in file.files}
        runs[request["open"]], version = open_file(request, inputs)
        return {"version": version}
    if "run" in request:
        run = runs[request["run"]]
        for _ in range(request["warmup"]):
            run()
        return {"seconds": _timed(run, request["count"])}
    if "canaries" in request and read_canaries is not None:
        return {"readings": read_canaries()}
    return {"error": "no such request"}


def _timed(run: Run, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def open_deepsparse(request: dict[str, Any], inputs: dict[str, Any]) -> tuple[Run, str]:
    """DeepSparse: it finds zeros in the weights by itself."""
    # it would pin its threads to the first cores, whatever cores this process was given
    os.environ["NM_BIND_THREADS_TO_CORES"] = "0"
    deepsparse = importlib.import_module("deepsparse")
    get_input_names = importlib.import_module("deepsparse.utils.onnx").get_input_names

    arrays = [inputs[name] for name in get_input_names(request["path"])]
    engine = deepsparse.Engine(
        request["path"], batch_size=len(arrays[0]), num_cores=request["threads"],
        input_shapes=[list(array.shape) for array in arrays],
    )  # fmt: skip
    if engine.fraction_of_supported_ops < 1:
        print(f"{engine.fraction_of_supported_ops:.0%} of the operators are DeepSparse's own")
    return (lambda: engine.run(arrays, val_inp=False)), str(deepsparse.__version__)


def open_openvino(request: dict[str, Any], inputs: dict[str, Any]) -> tuple[Run, str]:
    """OpenVINO in fp32 or with the integers of a QDQ file."""
    openvino = importlib.import_module("openvino")

    core = openvino.Core()
    model = core.read_model(request["path"])
    model.reshape({name: list(array.shape) for name, array in inputs.items()})
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": request["threads"],
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        # it would compute fp32 layers in bf16 where the processor can
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if request["zeros"]:
        # a threshold: layers with fewer zeros stay as they are
        settings["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = 0.9 * request["zeros"]
    inference = core.compile_model(model, "CPU", settings).create_infer_request()
    run = lambda: inference.infer(inputs, share_inputs=True, share_outputs=True)  # noqa: E731
    return run, str(openvino.__version__).split("-")[0]


OPENERS: dict[str, Opener] = {"deepsparse": open_deepsparse, "openvino": open_openvino}


def main(arguments: list[str]) -> None:
    """Stay on the given cores, and serve."""
    engine, cores = arguments
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    serve(OPENERS[engine])


if __name__ == "__main__":
    main(sys.argv[1:])
