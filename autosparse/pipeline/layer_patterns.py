"""How a flag or a space names layers: by a regular expression, by one name, or by operator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.errors import ConfigError
from autosparse.model_graph import Layer

_NAME, _TYPE = "name:", "type:"
_SHOWN = 8


@dataclass(frozen=True)
class LayerPattern:
    """`type:Gemm` is every layer with that operator, `name:fc1` the layer of that name.

    Anything else is a regular expression that is searched for in the names.
    """

    text: str
    """As it was written."""
    source: str
    """Where it was written, for messages: `--exclude`."""

    def keys(self, layers: Sequence[Layer]) -> dict[str, tuple[str | None, ...]]:
        """Names of the matching layers, in order, with what the expression captured.

        Raises:
            ConfigError: no layer matches, or the text is no regular expression.
        """
        if self.text.startswith(_TYPE):
            operator = self.text.removeprefix(_TYPE).casefold()
            found: dict[str, tuple[str | None, ...]] = {
                layer.name: () for layer in layers if layer.operator.casefold() == operator
            }
        elif self.text.startswith(_NAME):
            name = self.text.removeprefix(_NAME)
            found = {layer.name: () for layer in layers if layer.name == name}
        else:
            matches = ((layer.name, self._expression().search(layer.name)) for layer in layers)
            found = {name: match.groups() for name, match in matches if match is not None}
        if not found:
            raise ConfigError(
                f"{self.source} {self.text!r} matches no layer", hint=self._hint(layers)
            )
        return found

    def _expression(self) -> re.Pattern[str]:
        try:
            return re.compile(self.text)
        except re.error as error:
            raise ConfigError(
                f"{self.source} {self.text!r} is no regular expression: {error}"
            ) from error

    def _hint(self, layers: Sequence[Layer]) -> str:
        if self.text.startswith(_TYPE):
            operators = dict.fromkeys(layer.operator for layer in layers)
            return f"operators of layers in this model: {', '.join(operators)}"
        known = ", ".join(layer.name for layer in layers[:_SHOWN])
        return f"layers are named like {known}{' ...' if len(layers) > _SHOWN else ''}"
