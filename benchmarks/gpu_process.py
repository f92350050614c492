"""Runs on a machine with a GPU: checks the kernels for it, and times them beside libraries.

    python3 benchmarks/gpu_process.py [--quick] [--json FILE]

It is a script, since such a machine need not have what AutoSparse needs: a checkout, NumPy,
PyTorch with CUDA and `nvcc` will do. A line for people on standard error for every figure; on
standard output a JSON document for each. The exit code is 0 where everything was measured, 1 where
something failed, and 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu_checks import Check
    from benchmarks.gpu_contestants import Figure

_ROOT = Path(__file__).resolve().parent.parent
NO_GPU = 3
_SHAPES = ((1024, 1024), (4096, 4096), (11008, 4096), (4096, 11008))
_ROWS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_QUICK_SHAPES, _QUICK_ROWS = ((4096, 4096),), (1, 16, 128, 1024, 8192)


def _import_parts_alone(*names: str) -> None:
    """Let modules of packages be imported without what the packages themselves import."""
    sys.path.insert(0, str(_ROOT))
    for name in names:
        package = types.ModuleType(name)
        package.__path__ = [str(_ROOT.joinpath(*name.split(".")))]
        sys.modules[name] = package


def main(arguments: list[str]) -> int:
    """Measure, and tell.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one shape, five numbers of rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    asked = parser.parse_args(arguments)
    _import_parts_alone("backends", "benchmarks", "autosparse.levels")
    from autosparse.errors import AutoSparseError
    from backends.cuda_kernels.driver import Device

    try:
        device = Device()
    except AutoSparseError as error:
        print(f"no GPU: {error}", file=sys.stderr)
        return NO_GPU
    told: list[dict[str, Any]] = []
    for figure in _figures(device, quick=asked.quick):
        told.append(figure.document())
        print(json.dumps(told[-1]), flush=True)
        print(figure, file=sys.stderr, flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return int(any(figure["problem"] for figure in told))


def _figures(device: Any, *, quick: bool) -> Iterator[Check | Figure]:
    from backends.cuda_kernels.tiles import Element
    from benchmarks.gpu_checks import checks
    from benchmarks.gpu_contestants import Race

    yield from checks(device)
    race = Race(device)
    for element in Element:
        for outputs, depth in _QUICK_SHAPES if quick else _SHAPES:
            yield from race.figures(element, outputs, depth, _QUICK_ROWS if quick else _ROWS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
