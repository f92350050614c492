"""Methods: algorithms that turn a dense layer into a level. One file each, one line here."""

from autosparse.methods.method import Method
from autosparse.registry import Registry

METHODS: Registry[Method] = Registry(
    "method",
    {
        "round_to_nearest": "autosparse.methods.round_to_nearest:RoundToNearest",
        "magnitude": "autosparse.methods.magnitude:Magnitude",
    },
    expected=Method,  # type: ignore[type-abstract]
    group="autosparse.methods",
)

__all__ = ["METHODS", "Method"]
