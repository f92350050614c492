"""From a torch module to an ONNX file that intake reads, quietly and with its answers checked.

Importing this module imports torch; `autosparse.model_graph` does without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree  # the exporter flattens outputs with it, and so must we

from autosparse.errors import CandidateError, ModelError
from autosparse.journal import stored_safely
from autosparse.model_graph.agreement import TOLERANCE, Array, relative_error
from autosparse.model_graph.intake import load_model
from autosparse.model_graph.onnx_exporter import call_exporter, quiet
from autosparse.model_graph.torch_executor import GraphModule, failures_told

BATCH = "batch"
"""Name of the free dimension that counts rows."""
FILE_NAME = "model.onnx"
_NO_WORD = re.compile(r"\W+")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

ExampleInputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""One input, inputs in the order of `forward`, or inputs by name; tensors or arrays."""
DynamicShapes = Mapping[str, Mapping[int, Any] | None]
"""Input -> axis -> name of a free dimension, or None where the size is fixed."""


@dataclass(frozen=True)
class TorchModel:
    """A module, and what its `forward` is called with to see what it computes."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Parameter of `forward` -> example."""
    dynamic_shapes: Mapping[str, Mapping[int, Any]]
    """Input -> axis -> free dimension, or None where the size is fixed."""

    @classmethod
    def bind(
        cls,
        module: nn.Module,
        example_inputs: ExampleInputs,
        dynamic_shapes: DynamicShapes | None = None,
    ) -> TorchModel:
        """Name the inputs after the parameters of `forward`, and free their batch.

        Every input that has as many rows as the first one is taken to count the same rows. A
        single row is doubled, since tracing takes a size of one for a constant.

        Raises:
            ModelError: the inputs are not those of `forward`.
        """
        inputs = _name_inputs(module, example_inputs)
        free = _free_dimensions(inputs, dynamic_shapes or {})
        doubled = {
            name: torch.cat([tensor, tensor])
            for name, tensor in inputs.items()
            if free[name].get(0) is not None and len(tensor) == 1
        }
        return cls(module, {**inputs, **doubled}, free)

    @property
    def name(self) -> str:
        """The module's class."""
        return type(self.module).__name__

    def sha256(self) -> str:
        """Digest of weights, structure and inputs: equal whenever the same module is given."""
        inputs = [
            (name, tensor.dtype, [self.dynamic_shapes[name].get(axis) or size
                                  for axis, size in enumerate(tensor.shape)])
            for name, tensor in self.inputs.items()
        ]  # fmt: skip
        digest = hashlib.sha256(_ADDRESS.sub("", f"{self.module!r} {inputs}").encode())
        tensors = [
            *self.module.named_parameters(remove_duplicate=False),
            *self.module.named_buffers(remove_duplicate=False),
        ]
        for name, tensor in tensors:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def call_arguments(self) -> inspect.BoundArguments:
        """The inputs as `forward` takes them."""
        signature = inspect.signature(self.module.forward)
        return inspect.BoundArguments(signature, OrderedDict(self.inputs))


def export_module(model: TorchModel, path: Path) -> None:
    """Write the module as an ONNX file, unless the file is there already.

    The module is exported as it is in inference; its mode and buffers are left as they were.

    Args:
        model: what to export.
        path: file to write. Its directory holds nothing else, and appears when the file is
            complete and checked.

    Raises:
        ModelError: `forward` fails, cannot be exported, or the file answers differently.
        StorageError: the file cannot be written.
    """
    if path.exists():
        return
    partial = path.parent.with_name(f"{path.parent.name}.partial")
    with _in_inference(model.module):
        expected = _answers(model)
        program = call_exporter(
            model.module, model.call_arguments(), model.dynamic_shapes, tuple(expected)
        )
    try:
        with stored_safely(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            program.save(partial / path.name)
        _check_answers(model, partial / path.name, expected)
        with stored_safely(path):
            partial.replace(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name_inputs(module: nn.Module, example_inputs: ExampleInputs) -> dict[str, Tensor]:
    """The examples by parameter of `forward`, in its order, where the module's weights are."""
    signature = inspect.signature(module.forward)
    where = f"{type(module).__name__}.forward"
    if isinstance(example_inputs, Tensor):
        example_inputs = (example_inputs,)
    try:
        if isinstance(example_inputs, Mapping):
            bound = signature.bind(**example_inputs)
        else:
            bound = signature.bind(*example_inputs)
    except TypeError as error:
        raise ModelError(
            f"the example inputs do not fit {where}: {error}",
            hint=f"its parameters are: {', '.join(signature.parameters)}",
        ) from error
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    device = next((weight.device for weight in weights.values()), None)
    inputs: dict[str, Tensor] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ModelError(
                f"{where} takes an input through {name!r}, which gives it no name",
                hint="wrap the module in one whose forward names every input",
            )
        if not isinstance(value, Tensor | np.ndarray):
            raise ModelError(
                f"the example input {name!r} of {where} is no tensor but {type(value).__name__}",
                hint="wrap the module in one whose forward takes tensors only",
            )
        if name in weights:
            raise ModelError(
                f"{name!r} is an input of {where} and a weight of the module, which the exporter "
                "mistakes for each other",
                hint="rename one of them",
            )
        tensor = torch.tensor(value) if isinstance(value, np.ndarray) else value
        inputs[name] = tensor.detach().to(device)
    if not inputs:
        raise ModelError(f"there is no example input for {where}")
    return inputs


def _free_dimensions(
    inputs: Mapping[str, Tensor], asked: DynamicShapes
) -> dict[str, dict[int, Any]]:
    """Input -> axis -> free dimension: the batch, and what was asked for."""
    unknown = asked.keys() - inputs.keys()
    if unknown:
        raise ModelError(
            f"dynamic_shapes names {min(unknown)!r}, which is no input of the module",
            hint=f"its inputs are: {', '.join(inputs)}",
        )
    sizes = [len(tensor) for tensor in inputs.values() if tensor.ndim]
    free: dict[str, dict[int, Any]] = {}
    for name, tensor in inputs.items():
        counts_rows = tensor.ndim and len(tensor) == sizes[0]
        batch = {0: BATCH} if counts_rows and asked.get(name, {}) is not None else {}
        free[name] = {**batch, **(asked.get(name) or {})}
    return free


@contextlib.contextmanager
def _in_inference(module: nn.Module) -> Iterator[None]:
    """Switch to inference, and leave every submodule's mode and every buffer as it was."""
    modes = {part: part.training for part in module.modules()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
        with torch.no_grad():
            for name, before in buffers.items():
                module.get_buffer(name).copy_(before)


def _answers(model: TorchModel) -> dict[str, Array]:
    """Every tensor that `forward` returns, by the name that the graph's output gets.

    A tensor in a dictionary or a tuple is called after its place there.

    Raises:
        ModelError: it fails.
    """
    call = model.call_arguments()
    try:
        with quiet(), torch.no_grad():
            returned = model.module(*call.args, **call.kwargs)
    except Exception as error:  # the module is anybody's code
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{model.name}.forward fails on the example inputs: {first}") from error
    answers: dict[str, Array] = {}
    for path, leaf in _pytree.tree_leaves_with_path(returned):
        if leaf is None:
            continue
        if not isinstance(leaf, Tensor):
            raise ModelError(
                f"{model.name}.forward returns not only tensors but {type(leaf).__name__}",
                hint="wrap the module in one whose forward returns tensors only",
            )
        name = _NO_WORD.sub("_", _pytree.keystr(path)).strip("_") or "output"
        name = f"output_{name}" if name.isdecimal() else name
        answers[f"{name}_out" if name in model.inputs else name] = _as_array(leaf)
    return answers


def _as_array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float64).numpy()


def _check_answers(model: TorchModel, path: Path, expected: Mapping[str, Array]) -> None:
    """Run the file with the torch executor, where it can; it must answer as the module did."""
    graph = load_model(path)
    try:
        with failures_told(), torch.inference_mode():
            found = GraphModule.from_graph(graph)({n: t.cpu() for n, t in model.inputs.items()})
    except CandidateError:
        return  # the runtime's answers are looked at when the job starts
    error = relative_error({name: _as_array(tensor) for name, tensor in found.items()}, expected)
    if error > TOLERANCE:
        raise ModelError(
            f"the exported file answers differently from {model.name}: relative error {error:.1e}",
            hint="look for randomness in forward, or for a branch that the example inputs do not "
            "take",
        )
