"""An analytic model of latency for a device that is not here. It measures nothing.

Every executed node takes the longer of two times, that of its multiplications and that of the bytes
it moves (the roofline of Williams, Waterman and Patterson, 2009), and a constant for being started.
What a device can do is a descriptor, a data file in `devices/`. The seed KE7 (S4, an accelerator
for zeros) is one of them: there, zeros speed up by as much as 32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from typing import Annotated, Literal, Protocol, runtime_checkable

import yaml
from pydantic import BaseModel, ConfigDict, Field

from autosparse.errors import ConfigError
from autosparse.evaluation.backend import Array, LoweredModel
from autosparse.evaluation.environment import Environment

SIMULATED = "SIMULATED"
"""What stands, in capitals, wherever such a latency is told."""
_FORMULA = 2
"""Counts up when the same descriptor tells other seconds than before: then it is another one."""
Pattern = Literal["dense", "unstructured", "block", "nm"]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class NodeWork:
    """What one executed node does in one inference."""

    node: str
    """Its name, as `node_times` reports it."""
    operator: str
    precision: Literal["fp32", "int8"]
    """Of its multiplications; bf16 is told as fp32, which kernels make of it."""
    pattern: Pattern
    """Of its weight, as its kernel knows it."""
    dense_macs: int
    """Multiply-accumulates, those with zeros too."""
    kept_macs: int
    """Multiply-accumulates that the kernel makes."""
    weight_bytes: int
    """As stored."""
    activation_bytes: int
    """Read and written."""


@runtime_checkable
class TellsWork(Protocol):
    """A backend that can say what its executed nodes do."""

    def node_work(self, model: LoweredModel, inputs: Mapping[str, Array]) -> Sequence[NodeWork]:
        """The work of every executed node, in order."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Store(_Record):
    """A cache, or the memory."""

    bytes: Annotated[int, Field(gt=0)]
    """How much it holds."""
    gbytes_per_second: Positive
    """How fast one core reads it. Every core that is used has as much of a cache; all of them
    share the memory, the last store."""


class Sparsity(_Record):
    """What zeros are worth on a device."""

    rates: dict[str, Positive] = Field(default_factory=dict)
    """`unstructured:fp32`, `block:int8` ... -> the rate at which kept weights are multiplied, as a
    share of the dense rate. What is not named does not skip zeros."""
    largest_speedup: Annotated[float, Field(ge=1)] = 1.0
    """However many zeros there are, a layer is at most this much faster than without them."""


class Device(_Record):
    """A device descriptor."""

    schema_version: Literal[1] = 1
    """Version of this file's schema."""
    name: str
    """The file's name."""
    summary: str
    """The device, for people."""
    source: str
    """Where the numbers come from."""
    architecture: str
    """As the system names it."""
    cores: Annotated[int, Field(ge=1)]
    """Cores of this kind; threads beyond them are worth nothing."""
    ghz: Positive
    """Clock that it keeps under load."""
    macs_per_cycle: dict[Literal["fp32", "int8"], Positive]
    """Multiply-accumulates of one core in a cycle, at best."""
    efficiency: Annotated[float, Field(gt=0, le=1)]
    """Share of that which dense kernels reach."""
    stores: Annotated[tuple[Store, ...], Field(min_length=1)]
    """Caches from the nearest on, the memory last."""
    node_seconds: Annotated[float, Field(ge=0)]
    """For starting one node."""
    sparsity: Sparsity = Field(default_factory=Sparsity)
    """What zeros are worth."""

    @classmethod
    def load(cls, name: str) -> Device:
        """The descriptor of that name.

        Raises:
            ConfigError: there is none.
        """
        if name not in device_names():
            raise ConfigError(
                f"there is no descriptor of a device {name!r}",
                hint=f"known are {', '.join(device_names())}",
            )
        text = (_files() / f"{name}.yaml").read_text(encoding="utf-8")
        return cls.model_validate({"name": name, **yaml.safe_load(text)})

    @property
    def environment(self) -> Environment:
        """What stands in the place of a machine: nobody can take it for one."""
        told = f"{_FORMULA} {self.model_dump_json()}"
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        return Environment(
            cpu=f"{SIMULATED}: {self.summary}",
            instruction_sets=(),
            cores=self.cores,
            memory_bytes=self.stores[-1].bytes,
            system=f"{SIMULATED} descriptor-{digest} {self.architecture}",
            python=SIMULATED,
            libraries={"autosparse": version("autosparse")},
        )

    def seconds(self, work: Sequence[NodeWork], threads: int) -> dict[str, float]:
        """Simulated seconds of every node.

        Args:
            work: all nodes of one inference; their weights decide which store they come from.
            threads: that the target may use.
        """
        used = min(threads, self.cores)
        weights = self._store_for(sum(node.weight_bytes for node in work), used)
        found: dict[str, float] = {}
        for node in work:
            activations = self._store_for(node.activation_bytes + node.weight_bytes, used)
            moved = node.activation_bytes / activations + node.weight_bytes / weights
            multiplied = self._macs(node) / (used * self._rate(node))
            found[node.node] = found.get(node.node, 0.0) + self.node_seconds
            found[node.node] += max(multiplied, moved)
        return found

    def _macs(self, node: NodeWork) -> float:
        if self._share(node) is None:
            return node.dense_macs
        return max(node.kept_macs, node.dense_macs / self.sparsity.largest_speedup)

    def _rate(self, node: NodeWork) -> float:
        dense = self.ghz * 1e9 * self.macs_per_cycle[node.precision] * self.efficiency
        return dense * (self._share(node) or 1.0)

    def _share(self, node: NodeWork) -> float | None:
        return self.sparsity.rates.get(f"{node.pattern}:{node.precision}")

    def _store_for(self, size: int, cores: int) -> float:
        """Bytes per second that cores together get from the nearest store that holds so much."""
        *caches, memory = self.stores
        for cache in caches:
            if cache.bytes >= size:
                return cache.gbytes_per_second * 1e9 * cores
        return memory.gbytes_per_second * 1e9


def device_names() -> list[str]:
    """Names of all descriptors."""
    return sorted(
        path.name.removesuffix(".yaml")
        for path in _files().iterdir()
        if path.name.endswith(".yaml")
    )


def _files() -> Traversable:
    return resources.files("autosparse.evaluation") / "devices"
