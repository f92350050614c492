"""Mutations of models at random: each is refused, or runs as its dense meaning says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from tests.kernels.changed_models import of_any_rank, with_attribute
from tests.kernels.isolation import Attempt, endings
from tests.kernels.test_custom_ops import constant, opened, with_constant
from tests.kernels.test_operators import OPERATORS, inputs_of, one_node_model

Feeds = dict[str, npt.NDArray[np.generic]]

INTEGERS = [
    -(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 4, 5, 6, 8, 16, 36, 63, 64, 65, 1023, 1024, 4096,
    2**16, 2**20, 2**24, 2**30, 2**31, 2**32, 2**62, 2**63 - 1,
]  # fmt: skip
SMALL = [0, 1, 2, 3, 4, 5, 6, 8, 9, 16, 36]


def changed_attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    names = {"strides": 2, "dilations": 2, "pads": 4, "group": 0, "plan": 4, "nm_group": 0}
    name = str(rng.choice(list(names)))
    pool = SMALL if rng.random() < 0.6 else INTEGERS
    if names[name] == 0:
        with_attribute(model, name, int(rng.choice(pool)))
        return
    length = names[name] + (int(rng.integers(-1, 2)) if rng.random() < 0.2 else 0)
    with_attribute(model, name, [int(rng.choice(pool)) for _ in range(length)])


def changed_constant(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    names = [i.name for i in model.graph.initializer]
    name = str(rng.choice(names))
    values = constant(model, name).copy()
    if rng.random() < 0.3:  # another shape
        shape = [int(rng.choice(SMALL)) for _ in range(int(rng.integers(0, 4)))]
        values = np.resize(values, shape)
    elif values.size:
        at = int(rng.integers(values.size))
        pool = SMALL if rng.random() < 0.6 else INTEGERS
        drawn: Any = rng.choice(pool)
        if values.dtype.kind == "f":
            drawn = rng.choice([0.0, -1.0, 1e-45, 3e38, np.inf, -np.inf, np.nan, 0.5])
        with np.errstate(all="ignore"):
            values.reshape(-1)[at] = np.array(drawn).astype(values.dtype)
    with_constant(model, name, values)


def changed_input(rng: np.random.Generator, feeds: Feeds) -> None:
    name = str(rng.choice(list(feeds)))
    shape = list(feeds[name].shape)
    if rng.random() < 0.8 and shape:
        shape[int(rng.integers(len(shape)))] = int(rng.choice(SMALL))
    else:
        shape = [int(rng.choice(SMALL)) for _ in range(int(rng.integers(0, 6)))]
    feeds[name] = np.resize(feeds[name], shape)


def mutated(seed: int) -> tuple[onnx.ModelProto, Feeds]:
    rng = np.random.default_rng(seed)
    operator = OPERATORS[int(rng.integers(len(OPERATORS)))]
    model, feeds = of_any_rank(one_node_model(operator)), inputs_of(operator)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.35:
            changed_attribute(rng, model)
        elif kind < 0.75:
            changed_constant(rng, model)
        else:
            changed_input(rng, feeds)
    return model, feeds


def ordinary(model: onnx.ModelProto) -> bool:
    """Whether no number of the weight is so extreme that the order of operations decides."""
    sizes = [np.abs(constant(model, i.name).astype(np.float64)) for i in model.graph.initializer
             if i.data_type == onnx.TensorProto.FLOAT]  # fmt: skip
    return all(((size == 0) | ((size > 1e-30) & (size < 1e30))).all() for size in sizes)


def fuzzed(seed: int, kernels: Path) -> str:
    """Refused, or run; then the stock runtime, where it runs the model too, agrees."""
    model, feeds = mutated(seed)
    (found,) = opened(model, kernels).run(None, feeds)
    if not ordinary(model):
        return "ran"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        stock = ort.InferenceSession(model.SerializeToString(), options)
        (expected,) = stock.run(None, feeds)
    except Exception:
        return "ran"
    if found.shape != expected.shape:
        return f"WRONG: {found.shape} instead of {expected.shape}"
    if found.dtype == np.uint8:
        return "agreed" if np.abs(found.astype(int) - expected).max(initial=0) <= 1 else "differs"
    with np.errstate(all="ignore"):
        near = np.isclose(found, expected, rtol=1e-3, atol=1e-3, equal_nan=True)
    return "agreed" if near.all() else "differs"


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_mutations_are_refused_or_run(first: int, kernel_path: Path) -> None:
    seeds = range(first, first + 100)
    attempts: list[Attempt] = [
        (f"mutation {seed}", lambda seed=seed: fuzzed(seed, kernel_path))  # type: ignore[misc]
        for seed in seeds
    ]
    ended = endings(attempts)
    assert len(ended) == len(seeds)
    wrong = {name: e.said for name, e in ended.items() if not e.said.startswith(OUTCOMES)}
    assert not wrong, wrong


OUTCOMES = ("refused", "ran", "agreed")
