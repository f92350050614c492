"""The model graph: intake of a file, its layers, and what they cost."""

from autosparse.model_graph.graph import Layer, ModelGraph
from autosparse.model_graph.intake import load_model

__all__ = ["Layer", "ModelGraph", "load_model"]
