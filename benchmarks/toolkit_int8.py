"""The first opponent: INT8 everywhere, in one call of ONNX Runtime's own toolkit."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from autosparse.datasets import Dataset, batches
from autosparse.evaluation import LoweredModel

NAME = "INT8 everywhere (quantize_static)"
_BATCH = 32


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Hands out the calibration rows in batches."""

    def __init__(self, data: Dataset) -> None:
        self._batches: Iterator[tuple[dict[str, Any], int]] = batches(data.inputs, _BATCH)

    def get_next(self) -> Mapping[str, Any] | None:
        """The next batch, or None at the end."""
        found = next(self._batches, None)
        return None if found is None else found[0]


def quantize_everywhere(
    model: Path, calibration: Dataset, operators: tuple[str, ...] | None, directory: Path
) -> LoweredModel:
    """QDQ with uint8 activations and int8 weights per channel, ranges by smallest and largest.

    Args:
        model: the fp32 file.
        calibration: the same rows that the job calibrates on.
        operators: the only operators to quantize; None for the toolkit's own choice.
        directory: where to write.
    """
    directory.mkdir(parents=True, exist_ok=True)
    prepared, quantized = directory / "prepared.onnx", directory / "model.onnx"
    logging.getLogger().setLevel(logging.ERROR)  # the toolkit writes to the root logger
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(quantized), _Rows(calibration),
            quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=None if operators is None else list(operators),
        )  # fmt: skip
    prepared.unlink()
    return LoweredModel(directory, quantized.name)
