from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from autosparse.calibration import (
    LayerStatistics,
    LayerStatisticsAccumulator,
    StatisticsObserver,
    Window,
)
from autosparse.calibration.layer_statistics import hessian_bytes
from autosparse.errors import DataError
from autosparse.model_graph import Layer, load_model

Floats = npt.NDArray[np.float32]

CONV = Layer("conv", "n", "Conv", "x", "y", "w", (6, 3, 3, 3), None)
SAME_3X3 = Window((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
GEMM = Layer("fc", "n", "Gemm", "x", "y", "w", (4, 8), None, transposed=True)


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) + 0.5


def observed(
    layer: Layer, window: Window, *batches: Floats, rows: int | None = None, seed: int = 0
) -> LayerStatistics:
    accumulator = LayerStatisticsAccumulator(
        layer, window, hessian=True, rows_per_sample=rows, seed=seed
    )
    for batch in batches:
        accumulator.observe(batch)
    return accumulator.statistics()


def statistics_of(rows: Floats) -> LayerStatistics:
    """(groups, rows, K) -> what an accumulator should find, the plain way."""
    exact = rows.astype(np.float64)
    return LayerStatistics(
        rows=rows.shape[1],
        input_norms=np.linalg.norm(exact, axis=1).astype(np.float32),
        hessian=(exact.transpose(0, 2, 1) @ exact / rows.shape[1]).astype(np.float32),
        input_means=exact.mean(axis=1).astype(np.float32),
    )


def assert_same(found: LayerStatistics, expected: LayerStatistics, tolerance: float = 1e-5) -> None:
    assert found.rows == expected.rows
    for name in ("input_norms", "hessian", "input_means"):
        array = getattr(found, name)
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, getattr(expected, name), rtol=tolerance, atol=tolerance)


def unfolded(x: Floats, groups: int) -> Floats:
    """(N, C, H, W) -> (groups, rows, K) of a padded 3x3 convolution, through torch."""
    n, channels = x.shape[:2]
    patches = torch.nn.functional.unfold(torch.tensor(x), kernel_size=3, padding=1)
    split = patches.reshape(n, groups, channels // groups, 9, -1)
    # unfold orders the columns Cin, kh, kw
    return split.permute(1, 0, 4, 3, 2).reshape(groups, -1, 9 * channels // groups).numpy()


def test_by_hand() -> None:
    layer = Layer("fc", "n", "Gemm", "x", "y", "w", (1, 2), None, transposed=True)
    found = observed(layer, Window(), np.array([[3, 1], [4, -1]], dtype=np.float32))
    assert found.rows == 2
    assert found.input_norms is not None
    assert found.hessian is not None
    assert found.input_means is not None
    assert found.input_norms.tolist() == [[5.0, np.float32(2**0.5)]]
    assert found.hessian.tolist() == [[[12.5, -0.5], [-0.5, 1.0]]]
    assert found.input_means.tolist() == [[3.5, 0.0]]


@pytest.mark.parametrize(("groups", "weight"), [(1, (6, 3)), (3, (6, 1)), (3, (3, 1))])
def test_a_convolution_against_unfold(groups: int, weight: tuple[int, int]) -> None:
    layer = Layer("conv", "n", "Conv", "x", "y", "w", (*weight, 3, 3), None, groups=groups)
    x = random(4, 3, 6, 5)
    assert_same(observed(layer, SAME_3X3, x), statistics_of(unfolded(x, groups)))


@pytest.mark.parametrize("shape", [(6, 8), (2, 3, 8), (2, 2, 3, 8)])
def test_a_matrix_product_sums_over_all_leading_axes(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    assert_same(observed(GEMM, Window(), x), statistics_of(x.reshape(1, -1, 8)))


def test_streaming_equals_one_shot() -> None:
    x = random(9, 3, 6, 6)
    streamed = observed(CONV, SAME_3X3, x[:4], x[4:8], x[8:])
    assert_same(streamed, observed(CONV, SAME_3X3, x))


def test_rows_are_gathered_in_parts_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random(2, 3, 6, 6)
    whole = observed(CONV, SAME_3X3, x)
    module = "autosparse.calibration.layer_statistics._GATHERED_AT_ONCE"
    monkeypatch.setattr(module, 10 * CONV.reduction)
    assert_same(observed(CONV, SAME_3X3, x), whole)


def test_a_sample_stands_for_all_rows_without_bias() -> None:
    # the second batch differs in size and in distribution: counting drawn rows instead of the
    # rows they stand for would favour it
    first, second = random(6, 3, 8, 8), 3 * random(1, 3, 2, 2, seed=1)
    everything = observed(CONV, SAME_3X3, first, second)
    drawn = [observed(CONV, SAME_3X3, first, second, rows=4, seed=seed) for seed in range(300)]
    assert {found.rows for found in drawn} == {everything.rows} == {6 * 64 + 4}
    assert everything.hessian is not None
    hessians = np.stack([found.hessian for found in drawn if found.hessian is not None])
    spread = hessians.std(axis=0) / len(drawn) ** 0.5
    assert (np.abs(hessians.mean(axis=0) - everything.hessian) < 5 * spread + 1e-5).all()
    assert hessians.std(axis=0).min() > 0


def test_the_draw_is_repeatable() -> None:
    x = random(4, 3, 8, 8)
    first, again = (observed(CONV, SAME_3X3, x, rows=4, seed=7) for _ in range(2))
    assert_same(first, again, tolerance=0.0)
    other = observed(CONV, SAME_3X3, x, rows=4, seed=8)
    assert not np.array_equal(first.input_norms, other.input_norms)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_data() -> None:
    accumulator = LayerStatisticsAccumulator(CONV, SAME_3X3, hessian=True)
    accumulator.observe(random(4, 3, 8, 8))
    size = len(pickle.dumps(accumulator))
    for seed in range(20):
        accumulator.observe(random(4, 3, 8, 8, seed=seed))
    assert len(pickle.dumps(accumulator)) <= size + 16


def test_the_hessian_is_made_only_where_asked_for() -> None:
    accumulator = LayerStatisticsAccumulator(GEMM, Window())
    accumulator.observe(random(5, 8))
    found = accumulator.statistics()
    assert found.hessian is None
    assert found.input_norms is not None


def test_nothing_observed_is_no_rows() -> None:
    found = observed(GEMM, Window(), np.zeros((0, 8), dtype=np.float32))
    assert found.rows == 0
    assert found.hessian is not None
    assert not found.hessian.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_are_refused(bad: float) -> None:
    x = random(5, 8)
    x[3, 2] = bad
    with pytest.raises(DataError, match="tensor 'x' is not finite"):
        observed(GEMM, Window(), x)


def test_activations_whose_squares_overflow_are_refused() -> None:
    x = random(5, 8)
    x[3, 2] = 1e30
    with pytest.raises(DataError, match="tensor 'x' is too large"):
        observed(GEMM, Window(), x)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """Two products that read the same tensor, and a third that reads the first one's output."""
    weights = {"q": (4, 4), "k": (4, 4), "out": (4, 2)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "q"], ["h"], name="node_q"),
            helper.make_node("MatMul", ["x", "k"], ["y"], name="node_k"),
            helper.make_node("MatMul", ["h", "out"], ["z"], name="node_out"),
        ],
        "three_layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 2]),
        ],
        [
            numpy_helper.from_array(random(*shape, seed=seed), name)
            for seed, (name, shape) in enumerate(weights.items())
        ],
    )
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_an_observer_serves_every_layer_of_a_model(model_path: Path) -> None:
    graph = load_model(model_path)
    names = {layer.node: layer.name for layer in graph.layers}
    observer = StatisticsObserver(graph, graph.layers, hessians=[names["node_k"]])
    assert observer.tensors == ("x", "h")
    x, hidden = random(6, 4), random(6, 4, seed=1)
    observer.observe("x", x)
    observer.observe("h", hidden)
    observer.observe("a tensor that no layer reads", x)
    query, key = observer.statistics(names["node_q"]), observer.statistics(names["node_k"])
    assert_same(query, statistics_of(x[None]))
    assert_same(key, query)
    out = observer.statistics(names["node_out"])
    assert out.hessian is None
    assert out.input_norms is not None
    np.testing.assert_allclose(out.input_norms[0], np.linalg.norm(hidden, axis=0), rtol=1e-6)


def test_the_memory_of_hessians_is_known_before_they_are_made(model_path: Path) -> None:
    graph = load_model(model_path)
    # q and k read the same rows, and share one of 4 x 4; the third layer has another
    query, key, out = (layer.name for layer in graph.layers)
    assert hessian_bytes(graph, graph.layers) == {(query, key): 4 * 4 * 4, (out,): 4 * 4 * 4}
    assert hessian_bytes(graph, graph.layers[:1]) == {(query,): 4 * 4 * 4}
    assert hessian_bytes(graph, ()) == {}


def test_a_hessian_that_is_dropped_leaves_the_other_statistics(model_path: Path) -> None:
    graph = load_model(model_path)
    names = [layer.name for layer in graph.layers]
    observer = StatisticsObserver(graph, graph.layers, hessians=names)
    observer.observe("x", random(6, 4))
    before = observer.statistics(names[0])
    observer.drop_hessians()
    after = observer.statistics(names[0])
    assert before.hessian is not None
    assert after.hessian is None
    assert after.input_norms is not None
    assert before.input_norms is not None
    np.testing.assert_array_equal(after.input_norms, before.input_norms)
