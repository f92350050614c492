"""`autosparse export`: a delivered model in the format of ONNX Runtime's builds for phones."""

from __future__ import annotations

import argparse
from pathlib import Path

from autosparse.cli.terminal import console, print_json
from workers.export import export_ort


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bundle, and where to write."""
    parser.add_argument("bundle", type=Path, help="Delivered directory (OUTPUT_DIR/bundle).")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("autosparse-ort"),
        help="Directory for the files. Default: autosparse-ort.",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, help="The original model, if it was moved.")
    parser.add_argument("--json", action="store_true", help="Print the paths as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Write the files."""
    written = export_ort(arguments.bundle, arguments.output_dir, arguments.model)
    if arguments.json:
        print_json([str(path) for path in written])
        return 0
    for path in written:
        console().print(f"{path}: {path.stat().st_size:,} bytes", markup=False)
    return 0
