"""Batches are cut to their longest row where that changes no answer, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from autosparse.datasets import Dataset
from autosparse.levels import Level
from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.torch_executor import GraphModule
from autosparse.recovery import members
from autosparse.recovery.averaging import train
from autosparse.recovery.fine_tune import FineTune
from autosparse.recovery.members import Subject
from autosparse.recovery.row_lengths import RowLengths, row_lengths
from autosparse.recovery.training_data import TrainingData
from tests.models import Array, Net
from tests.recovery.lessons import QUICK, weights_of

_ROWS, _LENGTH, _WORDS = 120, 12, 130


def sentences(*, answer: str = "mean", length: int | str = "length") -> Net:
    """Words of sentences: their mean, leaving out what fills up, is the answer.

    Args:
        answer: mean; words, for one answer for every place; or all, where what fills up counts.
        length: of the inputs.
    """
    net = Net()
    words = net.input("words", "batch", length, dtype=TensorProto.INT64)
    mask = net.input("mask", "batch", length)
    last = net.constant("last", np.array([2]))
    places = net.constant("places", np.array([1]))
    found = net.node("Gather", net.weight("words.weight", _WORDS, 16), words)
    hidden = net.node("MatMul", found, net.weight("fc.weight", 16, 16), name="fc")
    there = net.node("Unsqueeze", mask, last)
    hidden = net.node("Mul", net.node("Tanh", hidden), there, to="y" if answer == "words" else "")
    if answer == "all":
        net.node("ReduceMean", hidden, axes=[1], keepdims=0, to="y")
    if answer == "mean":
        sums = net.node("ReduceSum", hidden, places, keepdims=0)
        net.node("Div", sums, net.node("ReduceSum", there, places, keepdims=0), to="y")
    return net


def graph_of(directory: Path, net: Net) -> ModelGraph:
    return load_model(net.save(directory / "net.onnx", "y"))


def rows() -> dict[str, Array]:
    """Sentences of 2 to 12 words; the first one is another in every row."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, _LENGTH + 1, _ROWS)
    mask = (np.arange(_LENGTH) < lengths[:, None]).astype(np.int64)
    words = rng.integers(0, _WORDS, mask.shape) * mask
    words[:, 0] = np.arange(_ROWS)
    return {"words": words, "mask": mask.astype(np.float32)}


def known(given: dict[str, Array]) -> RowLengths:
    return RowLengths(frozenset(given), given["mask"].sum(axis=1).astype(np.int64))


@pytest.mark.parametrize("answer", ["mean", "words"])
def test_lengths_are_what_the_mask_says(tmp_path: Path, answer: str) -> None:
    given = rows()
    found = row_lengths(graph_of(tmp_path, sentences(answer=answer)), given)
    assert found is not None
    assert found.inputs == {"words", "mask"}
    assert np.array_equal(found.of_rows, given["mask"].sum(axis=1))


def test_nothing_is_cut_where_it_would_change_an_answer(tmp_path: Path) -> None:
    assert row_lengths(graph_of(tmp_path, sentences(answer="all")), rows()) is None


def test_nothing_is_cut_where_the_model_fixes_the_length(tmp_path: Path) -> None:
    assert row_lengths(graph_of(tmp_path, sentences(length=_LENGTH)), rows()) is None


def test_a_mask_is_ones_and_then_zeros(tmp_path: Path) -> None:
    graph, given = graph_of(tmp_path, sentences()), rows()
    backwards = np.ascontiguousarray(given["mask"][:, ::-1])
    for mask in (np.ones_like(given["mask"]), backwards, 2 * given["mask"]):
        assert row_lengths(graph, {**given, "mask": mask}) is None


def test_every_row_is_in_an_epoch_once_as_long_as_it_is(tmp_path: Path) -> None:
    given = rows()
    data = TrainingData(Dataset(given), 6, 0, lengths=known(given))
    assert data.steps_per_epoch * data.batch_size == data.rows  # nothing is left over
    seen: list[int] = []
    width: list[int] = []
    for step in range(data.steps_per_epoch):
        batch = data.batch(step).inputs
        assert batch["mask"].shape[1] == int(batch["mask"].sum(dim=1).max())
        width.append(batch["mask"].shape[1])
        seen += batch["words"][:, 0].tolist()
    apart = {int(word) for batch in data.held_out() for word in batch.inputs["words"][:, 0]}
    assert sorted([*seen, *apart]) == list(range(_ROWS))
    assert len(set(width)) > 4  # batches of long rows, and of short ones,
    assert width != sorted(width)  # in no order
    again = TrainingData(Dataset(given), 6, 0, lengths=known(given)).batch(3).inputs
    assert torch.equal(again["words"], data.batch(3).inputs["words"])
    assert data.digest() != TrainingData(Dataset(given), 6, 0).digest()


def test_rows_held_out_have_the_same_answers_when_they_are_cut(tmp_path: Path) -> None:
    given, module = rows(), GraphModule.from_graph(graph_of(tmp_path, sentences()))

    def answers(lengths: RowLengths | None) -> list[list[float]]:
        data = TrainingData(Dataset(given), 4, 0, lengths=lengths)
        with torch.no_grad():
            found = [module(dict(batch.inputs))["y"] for batch in data.held_out(2)]
        return sorted(torch.cat(found).tolist())

    assert np.allclose(answers(known(given)), answers(None), atol=1e-6)
    assert len(answers(None)) == 8


def test_a_training_cuts_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as near as one on whole rows does, and multiplies less."""
    graph, given = graph_of(tmp_path, sentences()), rows()
    levels = {"fc": Level.parse("unstructured@0.5:fp32")}
    subject = Subject(graph, levels, weights_of(graph, levels), FineTune())
    plan = QUICK.model_copy(
        update={"logits": False, "batch_size": 8, "steps": 60, "learning_rate": 0.01}
    )
    widths: list[int] = []
    plain = TrainingData.batch

    def noted(self: TrainingData, step: int):  # type: ignore[no-untyped-def]
        found = plain(self, step)
        widths.append(found.inputs["mask"].shape[1])
        return found

    monkeypatch.setattr(TrainingData, "batch", noted)
    cut = train(subject, Dataset(given), plan)
    assert np.mean(widths) < 0.8 * _LENGTH
    monkeypatch.setattr(members, "row_lengths", lambda graph, inputs: None)
    whole = train(subject, Dataset(given), plan)
    assert cut.before == pytest.approx(whole.before, rel=0.3)
    assert cut.after == pytest.approx(whole.after, rel=0.3)
