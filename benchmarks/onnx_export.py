"""Export a torch module to an ONNX file with free dimensions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def export_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    output: str,
    path: Path,
    free: Mapping[int, str],
) -> Path:
    """Write `path`.

    Args:
        module: takes the inputs in their order and returns one tensor.
        example: input name -> an example of at least two rows.
        output: name of the output.
        path: file to write.
        free: axis -> name, for the axes that are free in every input.
    """
    # it lists optional packages that these models do not use
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    dims = {axis: torch.export.Dim(name) for axis, name in free.items()}
    with warnings.catch_warnings():
        # the exporter trips over its own deprecations; nothing here can be done about them
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), tuple(example.values()), input_names=list(example),
            output_names=[output], dynamo=True, dynamic_shapes=tuple(dims for _ in example),
            verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch exported nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))
    return path
