"""The inspecting process: looks into uploads, in a fork of its own for each.

The libraries are loaded once; each fork takes limits and ends with its answer, so that nothing of
one upload is left for the next. It is asked and answers on pipes, one JSON document a line.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.inspected_files import array_infos, tensor_infos, unpack_model
from api.inspected_jobs import inspect_atlas, inspect_resolve, inspect_search
from api.sandbox import leave_network, limit_resources
from api.settings import IntakeLimits
from autosparse.errors import UserInputError
from autosparse.model_graph import load_model
from autosparse.parent_process import end_with_parent

Document = dict[str, Any]
_MOST_ANSWER_BYTES = 16 << 20


def main() -> None:
    """Answer requests from standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # libraries may print
    answers.write(json.dumps({"network_left": leave_network()}).encode() + b"\n")
    for line in sys.stdin.buffer:
        answers.write(_in_a_fork(line, answers.fileno()) + b"\n")


def _in_a_fork(line: bytes, answers: int) -> bytes:
    """Look into one upload in a fork; whatever happens to it, there is one answer of one line."""
    request = json.loads(line)
    limits = IntakeLimits.model_validate(request["limits"])
    parent = os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _let_go_of_pipes(answers)
            _look(request, limits, writing, parent)
        finally:  # whatever happens: this fork must not go on with the loop that it was made in
            os._exit(0)
    os.close(writing)
    try:
        answer = _read_all(reading, limits.wall_seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer:
        return _one_line(answer)
    if answer is None:
        return _told("limit", "it takes too long to read")
    return _told("limit", "it cannot be read within the limits of memory and time")


def _let_go_of_pipes(answers: int) -> None:
    """What others ask and are answered is nothing that a fork could read or write."""
    os.close(answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _one_line(answer: bytes) -> bytes:
    """What a fork said, whatever a hole in a library has made it say.

    Of two lines, the second would be taken for the answer to whoever asks next.
    """
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return _told("limit", "it cannot be read")
    return json.dumps(said).encode()


def _read_all(pipe: int, limit_seconds: float) -> bytes | None:
    """Everything until the other end closes it; None when the time is up, nothing of too much."""
    end, received = time.monotonic() + limit_seconds, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(timeout=max(0.0, end - time.monotonic())):
            piece = os.read(pipe, 1 << 20)
            if not piece:
                return bytes(received)
            received += piece
            if len(received) > _MOST_ANSWER_BYTES:
                return b""
    return None


def _look(request: Document, limits: IntakeLimits, writing: int, parent: int) -> None:
    """Answer; nothing of this process is needed any more then."""
    end_with_parent(parent)
    limit_resources(
        memory_bytes=limits.memory_bytes, file_bytes=limits.file_bytes,
        cpu_seconds=limits.cpu_seconds,
    )  # fmt: skip
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(_answer(request))


def _answer(request: Document) -> bytes:
    try:
        return json.dumps({"found": _INSPECTIONS[request["kind"]](request)}).encode()
    except UserInputError as error:
        return _told(type(error).__name__, error.message, error.hint)
    except (MemoryError, RecursionError):
        return _told("limit", "it takes more memory to read than is allowed")
    except Exception:
        # Everything must be caught here: the libraries that read uploads raise whatever their
        # authors chose, native ones included, when they meet what they were never made for. None
        # of it may look like a process that died, and its trace is for the server's log alone.
        traceback.print_exc()
        return _told("limit", "it cannot be read")


def _told(error: str, message: str, hint: str = "") -> bytes:
    return json.dumps({"error": error, "message": message, "hint": hint}).encode()


def _inspect_model(request: Document) -> Document:
    directory = Path(request["into"])
    entry = unpack_model(Path(request["path"]), directory, request["most_bytes"])
    graph = load_model(directory / entry)
    return {
        "entry": entry,
        "inputs": tensor_infos(graph.inputs),
        "outputs": tensor_infos(graph.outputs),
        "layers": len(graph.layers),
    }


def _inspect_dataset(request: Document) -> Document:
    return {"arrays": array_infos(Path(request["path"]), request["most_bytes"])}


_INSPECTIONS: dict[str, Callable[[Document], Document]] = {
    "model": _inspect_model,
    "dataset": _inspect_dataset,
    "job": inspect_search,
    "resolve": inspect_resolve,
    "atlas": inspect_atlas,
}
