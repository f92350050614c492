"""One linear layer on a GPU: our kernels, cuBLAS and cuSPARSELt, timed in turns and checked.

Weights are cold, as those of a network are that does not fit into the second-level cache: each
contestant has as many copies of its weight as it takes to pass through three times that cache, and
one round goes through all of them, in a graph, so that no call from Python is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.sparse import to_sparse_semi_structured

from backends.cuda_kernels.cubin import cubin
from backends.cuda_kernels.driver import Device, Module
from backends.cuda_kernels.layer import Call, LinearLayer, Parameters
from backends.cuda_kernels.packing import PackedWeight, pack_blocks, pack_dense, pack_two_of_four
from backends.cuda_kernels.tiles import Element, Tile, tile_for, tiles
from backends.kernels.sparse_layer import Quantization

Run = Callable[[int], torch.Tensor]
"""Multiply with one of the copies of a weight."""
TYPES = {Element.FP16: torch.float16, Element.BF16: torch.bfloat16, Element.INT8: torch.int8}
_ROUNDS, _WARMUP = 30, 3
_FEWEST_COPIES, _MOST_COPIES = 2, 64
_BLOCK_ROWS = 32
_TOO_MANY = 8


@dataclass(frozen=True)
class Figure:
    """What one contestant takes for one product."""

    element: str
    outputs: int
    depth: int
    rows: int
    contestant: str
    microseconds: float | None = None
    """Median over the rounds."""
    tenth: float | None = None
    ninetieth: float | None = None
    error: float | None = None
    """The largest, of the sum of the absolute products in double precision."""
    copies: int = 0
    problem: str = ""
    """Why there is no figure."""
    device: str = ""
    tile: str = ""
    is_chosen: bool = False
    """Whether it is the tile that is taken for so many rows."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"{self.element} {self.outputs}x{self.depth}, {self.rows} rows, {self.contestant}"
        what += f" [{self.tile}{'*' if self.is_chosen else ''}]" if self.tile else ""
        if self.microseconds is None:
            return f"{what}: {self.problem}"
        return (
            f"{what}: {self.microseconds:.2f} us ({self.tenth:.2f} to {self.ninetieth:.2f}), "
            f"error {self.error:.1e}"
        )


@dataclass
class Contestant:
    """One way to multiply."""

    name: str
    run: Run
    copies: int
    tile: Tile | None = None
    is_chosen: bool = False
    graph: torch.cuda.CUDAGraph | None = None
    samples: list[float] = field(default_factory=list)
    """Microseconds of one product, of each round."""

    def capture(self) -> None:
        """Make a graph of one product with each copy."""
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(beside):
            for index in range(self.copies):
                self.run(index)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for index in range(self.copies):
                self.run(index)
        self.graph = graph

    def time_round(self) -> None:
        """Time one run of the graph."""
        assert self.graph is not None
        start, end = _event(), _event()
        start.record()
        self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        self.samples.append(start.elapsed_time(end) * 1000 / self.copies)


@dataclass
class OwnLayer:
    """A packed layer in the GPU's memory, in copies."""

    layer: LinearLayer
    module: Module
    copies: int
    _held: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        arrays = self.layer.arrays()
        for _ in range(self.copies):
            self._held.append({name: _upload(array) for name, array in arrays.items()})

    def run(self, x: torch.Tensor, kind: str, tile: Tile, *, wide: bool = False) -> Run:
        """What multiplies `x`, of the number format `kind`, with the kernel of a tile.

        The result is of the same format; in fp32 of int8 weights, or where `wide` asks for it.
        """
        how = self.layer.launch(len(x), tile)
        wide = wide or self.layer.weight.element is Element.INT8
        y = torch.empty(
            (len(x), self.layer.weight.outputs), device="cuda",
            dtype=torch.float32 if wide else x.dtype,
        )  # fmt: skip
        call = Call(len(x), x.data_ptr(), y.data_ptr(), kind, "fp32" if wide else kind)
        given: list[Parameters] = [
            self.layer.parameters({name: t.data_ptr() for name, t in held.items()}, call)
            for held in self._held
        ]

        kept = (x, y)  # a kernel has their addresses, and nothing else of them

        def run(index: int) -> torch.Tensor:
            self.module.start(how, given[index], torch.cuda.current_stream().cuda_stream)
            return kept[1]

        return run


class Race:
    """All products on one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._modules: dict[Element, Module] = {}
        self._cache = torch.cuda.get_device_properties(0).L2_cache_size

    def figures(
        self, element: Element, outputs: int, depth: int, rows: Sequence[int]
    ) -> Iterator[Figure]:
        """Every contestant at every number of rows.

        What one of them cannot do is told as its figure's problem; the others go on.
        """
        matrix = two_of_four(outputs, depth, element)
        own = self._own(matrix, element)
        weight = torch.from_numpy(matrix).to("cuda", TYPES[element])
        for count in rows:
            x = _activations(count, depth, element)
            contestants = [*self._own_contestants(own, x, element), *self._others(weight, x)]
            yield from self._race(contestants, weight, x, element)

    def _own(self, matrix: npt.NDArray[Any], element: Element) -> dict[str, OwnLayer]:
        if element not in self._modules:
            path = cubin(element, self._device.architecture)
            self._modules[element] = self._device.load(path)
        blocks = matrix * _kept_blocks(matrix.shape, element)
        packed = {
            "2:4": pack_two_of_four(matrix, element), "dense": pack_dense(matrix, element),
            "half of the blocks": pack_blocks(blocks, element, _BLOCK_ROWS),
        }  # fmt: skip
        grid = Quantization(1.0, 0, np.ones(len(matrix), np.float32))
        return {
            name: OwnLayer(
                LinearLayer(weight, quantization=grid), self._modules[element],
                self._copies(weight.stored_bytes),
            )
            for name, weight in packed.items()
        }  # fmt: skip

    def _copies(self, stored_bytes: int) -> int:
        wanted = -(-3 * self._cache // stored_bytes)
        return min(max(wanted, _FEWEST_COPIES), _MOST_COPIES)

    def _own_contestants(
        self, own: dict[str, OwnLayer], x: torch.Tensor, element: Element
    ) -> Iterator[Contestant]:
        kind = "uint8" if element is Element.INT8 else element.value
        given = x.view(torch.uint8) if element is Element.INT8 else x
        for name, layer in own.items():
            weight: PackedWeight = layer.layer.weight
            chosen = tile_for(len(x), weight.structure, weight.block_rows)
            for tile in tiles(weight.structure, weight.block_rows):
                if tile.most_rows is not None and len(x) > _TOO_MANY * tile.most_rows:
                    continue  # it would read the weight hundreds of times
                yield Contestant(
                    f"ours {name}", layer.run(given, kind, tile), layer.copies, tile, tile is chosen
                )

    def _others(self, weight: torch.Tensor, x: torch.Tensor) -> Iterator[Contestant]:
        copies = self._copies(weight.nbytes)
        dense = [weight.clone() for _ in range(copies)]
        if weight.dtype is torch.int8:  # it takes 17 rows and more
            wide = torch.nn.functional.pad(x, (0, 0, 0, max(0, 32 - len(x))))
            yield Contestant(
                "cuBLAS", lambda i: torch._int_mm(wide, dense[i].t())[: len(x)], copies
            )
        else:
            yield Contestant("cuBLAS", lambda i: x @ dense[i].t(), copies)
        sparse_copies = self._copies(weight.nbytes * 9 // 16)
        sparse: list[Any] = []

        def run(index: int) -> torch.Tensor:
            while len(sparse) < sparse_copies:  # here: what it refuses is this contestant's problem
                sparse.append(to_sparse_semi_structured(weight))
            return torch.nn.functional.linear(x, sparse[index])

        yield Contestant("cuSPARSELt", run, sparse_copies)

    def _race(
        self, contestants: list[Contestant], weight: torch.Tensor, x: torch.Tensor, element: Element
    ) -> Iterator[Figure]:
        outputs, depth = weight.shape
        ready: list[tuple[Contestant, float]] = []

        def figure(one: Contestant, **more: Any) -> Figure:
            return Figure(
                element.value, outputs, depth, len(x), one.name, device=self._device.name,
                tile=one.tile.name if one.tile else "", is_chosen=one.is_chosen, **more,
            )  # fmt: skip

        for one in contestants:
            try:
                one.capture()
                ready.append((one, _error(one, weight, x, element)))
            except Exception as error:  # libraries have no common base for what they raise
                said = (str(error).splitlines() or [""])[0]
                yield figure(one, problem=f"{type(error).__name__}: {said}")
        for turn in range(_WARMUP + _ROUNDS):
            shift = turn % max(len(ready), 1)
            for one, _ in [*ready[shift:], *ready[:shift]]:
                one.time_round()
        for one, worst in ready:
            tenths = statistics.quantiles(one.samples[_WARMUP:], n=10)
            yield figure(
                one, microseconds=statistics.median(one.samples[_WARMUP:]), tenth=tenths[0],
                ninetieth=tenths[-1], error=worst, copies=one.copies,
            )  # fmt: skip


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def two_of_four(outputs: int, depth: int, element: Element) -> npt.NDArray[Any]:
    """A random weight with two non-zeros in every four, float32 or int8."""
    random = np.random.default_rng(0)
    kept = random.integers(0, 6, (outputs, depth // 4))
    pairs = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1],
                      [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]], np.int8)  # fmt: skip
    mask = pairs[kept].reshape(outputs, depth)
    if element is Element.INT8:
        return random.integers(1, 127, (outputs, depth), np.int8) * mask
    drawn = random.standard_normal((outputs, depth), np.float32) / np.float32(depth**0.5)
    return (drawn * mask).astype(np.float16).astype(np.float32)


def _kept_blocks(shape: tuple[int, ...], element: Element) -> npt.NDArray[np.int8]:
    random = np.random.default_rng(1)
    blocks = random.integers(0, 2, (shape[0] // _BLOCK_ROWS, shape[1] // element.step))
    return blocks.repeat(_BLOCK_ROWS, 0).repeat(element.step, 1).astype(np.int8)


def _activations(rows: int, depth: int, element: Element) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(0)
    if element is Element.INT8:  # what fits both int8 and uint8
        return torch.randint(
            0, 128, (rows, depth), device="cuda", generator=generator, dtype=torch.int8
        )
    drawn = torch.randn((rows, depth), device="cuda", generator=generator)
    return drawn.to(TYPES[element])


def _error(one: Contestant, weight: torch.Tensor, x: torch.Tensor, element: Element) -> float:
    """Of the first copy's answer, beside a product in double precision."""
    got = one.run(0).double()
    wide = weight.double()
    if one.name == "ours half of the blocks":
        kept = torch.from_numpy(_kept_blocks(tuple(weight.shape), element)).cuda()
        wide = wide * kept
    terms = x.double().abs() @ wide.abs().t()
    worst = ((got - x.double() @ wide.t()).abs() / terms.clamp_min(1e-300)).max()
    return float(worst)


def _upload(array: npt.NDArray[Any]) -> torch.Tensor:
    """The bytes of an array, in the GPU's memory."""
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).cuda()
