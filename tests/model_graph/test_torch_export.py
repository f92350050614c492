from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autosparse.errors import ModelError
from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.model_graph.torch_executor.node import NodeFailedError
from autosparse.model_graph.torch_export import TorchModel, export_module


class Net(nn.Module):
    """A convolution with its norm, and a classifier with dropout; counts its calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.head(self.drop(self.stem(image).mean((2, 3))))
        return result


class Tagger(nn.Module):
    """Answers every position of a sequence; returns its mask too; ignores `spare`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.tag = nn.Linear(8, 3)

    def forward(
        self, tokens: Tensor, spare: Tensor | None = None, *, mask: Tensor
    ) -> dict[str, Tensor | None]:
        return {"tags": self.tag(self.embed(tokens)) * mask[..., None], "none": None, "mask": mask}


class Linear(nn.Module):
    """A base for modules that go wrong; reads `x` (rows, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


class Branching(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


class PerRow(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(PerRow, self).forward(row) for row in x])


class Eigenvalues(Linear):
    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvals(super().forward(x) @ x.T)
        return values.abs()


class Failing(Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("the moon is wrong\nand more")


class Counting(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, 3


class TwoFaced(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if torch.compiler.is_exporting() else 1)


class Anonymous(Linear):
    def forward(self, *x: Tensor) -> Tensor:
        return super().forward(x[0])


class Mistakable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.x


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def images(rows: int) -> Tensor:
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(rows))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "net" / "model.onnx"
    # a single row: tracing must not take its number for a constant
    export_module(TorchModel.bind(seeded(Net), images(1)), path)
    return path


@pytest.fixture(scope="module")
def graph(exported: Path) -> ModelGraph:
    return load_model(exported)


def answers(graph: ModelGraph, **inputs: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return list(GraphModule.from_graph(graph)(inputs).values())


def test_inputs_are_named_like_the_parameters_and_their_rows_are_free(graph: ModelGraph) -> None:
    (spec,) = graph.inputs
    assert (spec.name, spec.shape) == ("image", ("batch", 3, 8, 8))
    assert [(spec.name, spec.shape) for spec in graph.outputs] == [("output", ("batch", 4))]


def test_layers_are_named_by_their_module_path(graph: ModelGraph) -> None:
    assert [layer.name for layer in graph.layers] == ["stem.0", "head"]


def test_the_file_answers_any_number_of_rows_as_the_module_does_in_inference(
    graph: ModelGraph,
) -> None:
    module = seeded(Net).eval()
    with torch.no_grad():
        expected = module(images(7))
    (found,) = answers(graph, image=images(7))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_the_file_does_not_describe_the_machine(exported: Path) -> None:
    assert Path(__file__).name.encode() not in exported.read_bytes()


def test_the_same_module_gives_the_same_file(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "net" / "model.onnx"
    export_module(TorchModel.bind(seeded(Net), (images(5),)), again)
    assert again.read_bytes() == exported.read_bytes()


def test_mode_and_buffers_are_as_before(tmp_path: Path) -> None:
    module = seeded(Net).train()
    module.get_submodule("stem").eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export_module(TorchModel.bind(module, images(2)), tmp_path / "net" / "model.onnx")
    assert module.training
    assert module.get_submodule("drop").training
    assert not module.get_submodule("stem").training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "net" / "model.onnx"
    path.parent.mkdir()
    path.write_text("exported before")
    export_module(TorchModel.bind(seeded(Net), images(2)), path)
    assert path.read_text() == "exported before"


def test_the_digest_is_that_of_weights_structure_and_inputs() -> None:
    def digest(module: nn.Module, rows: int = 2, **free: Any) -> str:
        return TorchModel.bind(module, images(rows), free or None).sha256()

    same = digest(seeded(Net))
    assert digest(seeded(Net).train()) == same
    assert digest(seeded(Net), rows=5) == same
    changed = seeded(Net)
    with torch.no_grad():
        changed.get_parameter("head.bias")[1] += 1e-6
    strided = seeded(Net)
    strided.get_submodule("stem")[0].stride = (2, 2)  # type: ignore[index]
    others = [digest(changed), digest(strided), digest(seeded(Net), image={2: "height"})]
    assert len({same, *others}) == 4


def test_inputs_by_name_in_any_order_and_other_free_dimensions(tmp_path: Path) -> None:
    tokens, mask = torch.randint(0, 11, (2, 5)), torch.ones(2, 5)
    length = {1: "length"}
    model = TorchModel.bind(
        seeded(Tagger), {"mask": mask, "tokens": tokens}, {"tokens": length, "mask": length}
    )
    path = tmp_path / "tagger" / "model.onnx"
    export_module(model, path)
    graph = load_model(path)
    assert {spec.name: spec.shape for spec in graph.inputs} == {
        "tokens": ("batch", "length"), "mask": ("batch", "length"),
    }  # fmt: skip
    # named like the places in what forward returns, but never like an input
    assert [spec.name for spec in graph.outputs] == ["tags", "mask_out"]
    longer = {"tokens": torch.randint(0, 11, (3, 9)), "mask": torch.rand(3, 9)}
    with torch.no_grad():
        expected = seeded(Tagger)(**longer)
    tags, passed = answers(graph, **longer)
    np.testing.assert_allclose(tags.numpy(), expected["tags"].numpy(), atol=1e-5)
    assert torch.equal(passed, longer["mask"])


def test_the_batch_can_be_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "model.onnx"
    export_module(TorchModel.bind(seeded(PerRow), torch.ones(3, 4), {"x": {0: None}}), path)
    assert load_model(path).inputs[0].shape == (3, 4)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Branching, "its code decides on the values of a tensor"),
        (PerRow, "its code fixes axis 0 of 'x' at 3 (take the size"),
        (Eigenvalues, "ONNX has no counterpart of aten.linalg_eig"),
        (Failing, "Failing.forward fails on the example inputs: the moon is wrong"),
        (Counting, "Counting.forward returns not only tensors but int"),
        (TwoFaced, "answers differently from TwoFaced: relative error 1.0e+00"),
    ],
)
def test_a_failure_names_its_reason_and_leaves_nothing(
    kind: type[nn.Module], reason: str, tmp_path: Path
) -> None:
    model = TorchModel.bind(seeded(kind), torch.ones(3, 4))
    with pytest.raises(ModelError) as caught:
        export_module(model, tmp_path / "bad" / "model.onnx")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_executor_fails_on_is_left_to_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: GraphModule, inputs: object) -> None:
        raise NodeFailedError("no such row, while the torch executor ran Gather (node 'g')")

    monkeypatch.setattr(GraphModule, "forward", fails)
    path = tmp_path / "a" / "model.onnx"
    export_module(TorchModel.bind(seeded(Linear), torch.ones(3, 4)), path)
    assert path.exists()


@pytest.mark.parametrize(
    ("kind", "inputs", "reason"),
    [
        (Linear, (torch.ones(3, 4), torch.ones(3)), "too many positional arguments"),
        (Linear, {"y": torch.ones(3, 4)}, "its parameters are: x"),
        (Linear, {}, "missing a required argument: 'x'"),
        (Linear, ([1.0, 2.0],), "the example input 'x' of Linear.forward is no tensor but list"),
        (Anonymous, torch.ones(3, 4), "through 'x', which gives it no name"),
        (Mistakable, torch.ones(3, 4), "'x' is an input of Mistakable.forward and a weight"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    kind: type[nn.Module], inputs: Any, reason: str
) -> None:
    with pytest.raises(ModelError) as caught:
        TorchModel.bind(seeded(kind), inputs)
    assert reason in str(caught.value)


def test_a_free_dimension_of_no_input_is_refused() -> None:
    with pytest.raises(ModelError, match="names 'y', which is no input"):
        TorchModel.bind(seeded(Linear), torch.ones(3, 4), {"y": {0: "rows"}})


def test_arrays_are_examples_too() -> None:
    model = TorchModel.bind(seeded(Linear), (np.ones((3, 4), dtype=np.float32),))
    assert model.inputs["x"].dtype == torch.float32


def test_the_exporter_is_not_heard(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    export_module(TorchModel.bind(seeded(Linear), torch.ones(3, 4)), tmp_path / "a" / "model.onnx")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    logging.getLogger("torch.onnx").warning("heard again")
    assert len(caplog.records) == 1
