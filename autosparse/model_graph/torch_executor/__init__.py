"""Run the model graph with torch: differentiable, with weights that can be exchanged.

Importing this package imports torch, which the rest of `autosparse.model_graph` does without.
"""

from autosparse.model_graph.torch_executor.failures import failures_told
from autosparse.model_graph.torch_executor.module import GraphModule, Hook, Observer
from autosparse.model_graph.torch_executor.plan import find_unsupported, unsupported_operators

__all__ = [
    "GraphModule", "Hook", "Observer", "failures_told", "find_unsupported",
    "unsupported_operators",
]  # fmt: skip
