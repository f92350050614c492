"""The model graph: intake of a file, its layers, and what they cost."""

from autosparse.model_graph.graph import Layer, ModelGraph, TensorSpec
from autosparse.model_graph.intake import load_model

__all__ = ["Layer", "ModelGraph", "TensorSpec", "load_model"]
