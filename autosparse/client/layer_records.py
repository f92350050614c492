"""What the service and its clients say to each other of a job's layers. As `records.py`."""

from __future__ import annotations

from pydantic import ConfigDict

from autosparse.client.records import Record


class LevelInfo(Record):
    """One level of a layer: what it is worth, or why it cannot be."""

    level: str
    """Pattern, precision and the method that made it: `2:4:int8+sparsegpt`."""
    searched: bool
    """Whether the search may choose it."""
    reason: str = ""
    """Why it may not."""
    sparsity: float = 0.0
    """Counted fraction of zeros."""
    seconds: float | None = None
    """The layer's attributed share of one inference; null where the level does not run."""
    saved_seconds: float | None = None
    """What that saves against the layer as it came; negative where it costs."""
    divergence: float | None = None
    """Relative error of the outputs with only this layer at this level."""


class LayerInfo(Record):
    """A layer of a job's model with every level that was looked at so far."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "layer1.0.conv1",
                    "levels": [
                        {"level": "dense:fp32", "searched": True, "seconds": 3.1e-5},
                        {
                            "level": "unstructured@0.9:fp32+alps",
                            "searched": True,
                            "sparsity": 0.9,
                            "seconds": 1.2e-5,
                            "saved_seconds": 1.9e-5,
                            "divergence": 0.021,
                        },
                    ],
                }
            ]
        }
    )

    name: str
    """As in the model."""
    levels: tuple[LevelInfo, ...]
    """In the order in which they were looked at."""
