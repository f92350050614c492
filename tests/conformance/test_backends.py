"""What every registered backend must keep to, ours or a third party's.

A backend joins by one line in `EXAMPLES`: levels that it really runs for a convolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import CompileError, MeasurementError
from autosparse.evaluation import Backend, LoweredModel, LoweringRequest, Target
from autosparse.levels import BASELINE, Level
from backends import BACKENDS
from tests.lowering import Subject, request, subject
from tests.models import images

EXAMPLES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("dense:int8", "unstructured@0.9:fp32", "2:4:fp32"),
    "tvm": ("dense:int8", "unstructured@0.9:fp32"),
}
LEVELS = (
    "dense:fp32", "dense:bf16", "dense:int8", "dense:int4", "unstructured@0.9:fp32", "2:4:int8",
    "block1x4@0.75:int8",
)  # fmt: skip

each_backend = pytest.mark.parametrize("name", BACKENDS.names())
each_example = pytest.mark.parametrize(
    ("name", "level"), [(name, level) for name, levels in EXAMPLES.items() for level in levels]
)


def test_every_backend_has_examples() -> None:
    missing = set(BACKENDS.names()) - EXAMPLES.keys()
    assert not missing, f"add {missing} to EXAMPLES"


@each_backend
def test_it_says_what_it_is(name: str) -> None:
    backend = BACKENDS.load(name)
    assert isinstance(backend, Backend)
    assert backend.name == name
    assert backend.summary
    assert "\n" not in backend.summary


@each_backend
@pytest.mark.parametrize("level", LEVELS)
def test_it_says_why_a_level_cannot_win(name: str, level: str, residual: Subject) -> None:
    for layer in residual.graph.layers:
        found = BACKENDS.load(name).capability(layer, Level.parse(level), Target())
        assert found.runs or not found.can_win
        assert (found.reason == "") == found.can_win
        assert found.can_win or layer.name in found.reason


@each_backend
def test_it_can_be_calibrated_through_its_own_runtime(
    name: str, residual_model: Path, residual: Subject
) -> None:
    backend, graph = BACKENDS.load(name), residual.graph
    tensors = backend.calibrated_tensors(graph)
    seen = backend.probe(graph, tensors, threads=1).run({"image": images(2)})
    assert set(tensors) <= seen.keys() | {"image"}
    ranges = subject(residual_model, {"image": images(4)}, backend).ranges
    assert set(tensors) <= ranges.tensors.keys()


@each_backend
def test_the_baseline_recipe_answers_as_the_model(
    name: str, tmp_path: Path, residual: Subject
) -> None:
    backend = BACKENDS.load(name)
    lowered = backend.lower(request(residual, {}), tmp_path)
    assert backend.delivers_onnx == (lowered.path.suffix == ".onnx")
    found = backend.open(lowered, threads=1).run(residual.inputs)
    for output, wanted in residual.dense.items():
        np.testing.assert_allclose(
            found[output].astype(np.float64), wanted.astype(np.float64), rtol=1e-3, atol=1e-4
        )


@each_example
def test_it_runs_its_examples(name: str, level: str, tmp_path: Path, residual: Subject) -> None:
    backend = BACKENDS.load(name)
    layer = residual.graph.layer("block1.a")
    assert backend.capability(layer, Level.parse(level), Target()).runs
    asked = request(residual, {layer.name: Level.parse(level)})
    lowered = backend.lower(asked, tmp_path / "new" / "directory")
    assert lowered.path.is_file()
    assert len(lowered.sha256()) == 64
    found = backend.open(lowered, threads=1).run(residual.inputs)
    assert found.keys() == residual.dense.keys()
    for output, wanted in residual.dense.items():
        assert (found[output].shape, found[output].dtype) == (wanted.shape, wanted.dtype)
        assert np.isfinite(found[output].astype(np.float64)).all()
        assert not np.array_equal(found[output], wanted)
    executed = backend.executed_layers(lowered, residual.graph)
    assert executed.keys() <= {la.name for la in residual.graph.layers}
    assert layer.name in executed
    times = backend.node_times(lowered, residual.inputs, threads=1, runs=2)
    assert executed[layer.name].node in {time.node for time in times}
    assert sum(time.seconds for time in times) > 0


@each_example
def test_it_lowers_the_same_file_again(
    name: str, level: str, tmp_path: Path, residual: Subject
) -> None:
    asked = request(residual, {"block1.a": Level.parse(level)})
    digests = [BACKENDS.load(name).lower(asked, tmp_path / d).sha256() for d in ("a", "b")]
    assert digests[0] == digests[1]


@each_backend
def test_conversions_are_counted_only_where_number_formats_change(
    name: str, residual: Subject
) -> None:
    backend, graph = BACKENDS.load(name), residual.graph
    names = [layer.name for layer in graph.layers]
    assert backend.conversions(graph, dict.fromkeys(names, BASELINE)) == {}
    mixed = {n: Level.parse("dense:int8") if i % 2 else BASELINE for i, n in enumerate(names)}
    assert all(elements >= 0 for elements in backend.conversions(graph, mixed).values())


@each_backend
def test_a_recipe_without_its_weights_fails_alone(
    name: str, tmp_path: Path, residual: Subject
) -> None:
    asked = request(residual, {"stem": Level.parse(EXAMPLES[name][0])})
    with pytest.raises(CompileError, match="stem"):
        BACKENDS.load(name).lower(
            LoweringRequest(asked.graph, asked.recipe, {}, asked.ranges), tmp_path
        )


@each_backend
def test_a_broken_file_fails_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"broken")
    with pytest.raises(MeasurementError):
        BACKENDS.load(name).open(LoweredModel(tmp_path, "broken"), threads=1)
