"""What DeepSparse is given: fp32 weights, zeros included, in an opset that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from autosparse.errors import AutoSparseError
from autosparse.evaluation.backend import Array
from autosparse.levels import BASELINE, Level
from benchmarks.engine_duels import Challenge
from benchmarks.kernel_bars import DEEPSPARSE, FP32_90
from benchmarks.model_files import UnavailableError
from benchmarks.older_opset import write_older
from benchmarks.sparse_files import Workload

ENGINE = "deepsparse"
"""As `--opponent-python` calls it."""


def deepsparse_challenge(
    work: Workload, one_inference: Mapping[str, Array], directory: Path
) -> Challenge:
    """The stock file with 90 % zeros, which ours at that level is held against.

    Args:
        work: the model.
        one_inference: inputs, with which a file of an older opset is tried.
        directory: where files go.

    Raises:
        UnavailableError: the model cannot be put into an opset that the engine reads.
    """
    levels = work.levels_at(Level.parse(FP32_90), BASELINE)
    masked = work.write_fp32(levels, directory / "stock" / "model.onnx")
    try:
        return Challenge(ENGINE, DEEPSPARSE, FP32_90, write_older(masked, one_inference))
    except AutoSparseError as error:
        raise UnavailableError(error.message) from error
