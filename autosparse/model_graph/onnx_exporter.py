"""Call torch's ONNX exporter: quietly, with inputs named as asked, and failures in a sentence."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common as ir_passes
from torch import nn

from autosparse.errors import ModelError
from autosparse.model_graph.layers import NAME_SCOPES

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FIXED_AXIS = re.compile(r"static shape of (\d+) for dimension inputs\['(\w+)'\]\.shape\[(\d+)\]")
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
_LONGEST_REASON = 300


def call_exporter(
    module: nn.Module,
    call: inspect.BoundArguments,
    dynamic_shapes: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
) -> torch.onnx.ONNXProgram:
    """Export a module.

    Args:
        module: in the mode that is wanted.
        call: what its `forward` is called with; the inputs of the graph get the parameters' names.
        dynamic_shapes: parameter -> axis -> free dimension.
        outputs: names for the outputs of the graph.

    Raises:
        ModelError: the exporter fails; the reason is named.
    """
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, call.args, kwargs=call.kwargs, dynamo=True, verbose=False,
                dynamic_shapes={name: dict(axes) for name, axes in dynamic_shapes.items()},
            )  # fmt: skip
    except Exception as error:  # the exporter's errors, and whatever the module's own code raises
        raise _explain(type(module).__name__, error) from error
    if program is None:
        raise ModelError(
            f"torch.onnx.export returned nothing for the module {type(module).__name__}",
            hint="only exporters of other versions do: install the torch that AutoSparse names",
        )
    _rename(program.model.graph, tuple(call.arguments), outputs, type(module).__name__)
    _strip_metadata(program.model)
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep prints, warnings and log lines of the exporter away.

    Its log lines come from dozens of loggers with levels and handlers of their own, so logging as
    a whole pauses, in every thread, for the seconds that this takes.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _rename(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str], module: str) -> None:
    """Name inputs and outputs as asked; other tensors that are called so make way."""
    found = len(graph.inputs), len(graph.outputs)
    if found != (len(inputs), len(outputs)):
        raise ModelError(
            f"the module {module} has {len(inputs)} inputs and returns {len(outputs)} tensors, "
            f"but its export has {found[0]} inputs and {found[1]} outputs"
        )
    for value in (*(v for node in graph for v in node.outputs), *list(graph.initializers.values())):
        if value.name in (*inputs, *outputs):
            value.name = f"{value.name}_tensor"
    ends = (*zip(graph.inputs, inputs, strict=True), *zip(graph.outputs, outputs, strict=True))
    for value, name in ends:
        value.name = name


def _strip_metadata(model: ir.Model) -> None:
    """Drop what describes the exporting machine, but not the module paths: they name the layers."""
    scopes = {node: node.metadata_props.get(NAME_SCOPES) for node in model.graph}
    ir_passes.ClearMetadataAndDocStringPass()(model)
    for node, scope in scopes.items():
        if scope is not None:
            node.metadata_props[NAME_SCOPES] = scope


def _explain(module: str, error: BaseException) -> ModelError:
    """Name the reason: the exporter says it at the end of a chain, between pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = _COLOURS.sub("", str(error))
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")]
    reason = next((line for line in lines if not line.endswith(":")), type(error).__name__)
    hint = "torch.onnx.export(module, ..., dynamo=True) tells the whole story"
    fixed, missing = _FIXED_AXIS.search(text), _NO_OPERATOR.search(text)
    if fixed is not None:
        size, name, axis = fixed.groups()
        reason = f"its code fixes axis {axis} of {name!r} at {size}"
        hint = (
            f"take the size from the tensor's shape, or give dynamic_shapes={{{name!r}: "
            f"{{{axis}: None}}}} to keep it fixed"
        )
    elif missing is not None:
        reason = f"ONNX has no counterpart of {missing[1]}"
    elif "data-dependent" in text:
        reason = f"its code decides on the values of a tensor: {reason}"
        hint = "use torch.where or torch.cond in place of a branch on values"
    return ModelError(
        f"the module {module} cannot be exported to ONNX: {reason[:_LONGEST_REASON]}", hint=hint
    )
