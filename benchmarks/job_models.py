"""The models that the `job` benchmark runs on, and how much of everything it takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from benchmarks.cifar_models import mobilenet, resnet
from benchmarks.model_files import ModelBuilder
from benchmarks.transformer_models import decoder, minilm, vit

# The first three are trained and known; nothing was ever tuned on the last three.
MODELS: Mapping[str, ModelBuilder] = {
    "resnet20": partial(resnet, depth=20),
    "resnet56": partial(resnet, depth=56),
    "minilm": minilm,
    "mobilenet": mobilenet,
    "vit": vit,
    "decoder": decoder,
}
