"""`autosparse benchmark`: time model files against each other, interleaved in one run."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from autosparse.artifacts.bundle import MODEL_FILES, check_bundle, delivered_model
from autosparse.artifacts.manifest import MANIFEST_NAME
from autosparse.cli.terminal import TerminalProgress, print_json, print_table
from autosparse.errors import ConfigError, MeasurementError, ModelError
from autosparse.evaluation import Comparison, LoweredModel, Target, TimingSettings
from autosparse.evaluation.measurement import FEWEST_ROUNDS
from autosparse.evaluation.target import parse_input_shape
from autosparse.model_graph import load_model
from autosparse.model_graph.intake import check_file
from autosparse.pipeline.benchmark_inputs import write_inputs
from workers.isolated_lane import IsolatedLane
from workers.measuring_cores import MeasuringCores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and the target's knobs."""
    parser.add_argument("models", nargs="+", type=Path, help="ONNX files; the first is the base.")
    parser.add_argument("--inputs", type=Path, help="npz with rows to time; else random numbers.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of one inference.")
    parser.add_argument("--batch-size", type=int, default=1, help="Rows in one inference.")
    parser.add_argument("--input-shape", action="append", default=[], help="name=1,128")
    parser.add_argument("--rounds", type=int, default=16, help="Undisturbed rounds to collect.")
    parser.add_argument("--json", action="store_true", help="Print raw measurements as JSON.")


def _file(path: Path) -> LoweredModel:
    """A model file, or the model of a bundle with the kernels and the settings it came with."""
    directory = path.absolute().parent
    if path.name in MODEL_FILES and (directory / MANIFEST_NAME).is_file():
        return delivered_model(directory, check_bundle(directory))
    return LoweredModel(directory, path.name)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a table."""
    too_small = arguments.batch_size < 1 or arguments.rounds < FEWEST_ROUNDS
    if not 1 <= arguments.threads <= 1024 or too_small:
        raise ConfigError("--threads go from 1 to 1024, --batch-size starts at 1, --rounds at 3")
    base = load_model(arguments.models[0])
    for path in arguments.models[1:]:
        check_file(path)
    target = Target(
        threads=arguments.threads,
        batch_size=arguments.batch_size,
        input_shapes=dict(parse_input_shape(text) for text in arguments.input_shape),
    ).for_model(base)
    files = {
        f"{number}: {path.name}": _file(path)
        for number, path in enumerate(arguments.models, start=1)
    }
    cores = MeasuringCores.of_this_user(TerminalProgress().note)
    with tempfile.TemporaryDirectory() as directory, IsolatedLane(cores=cores) as lane:
        inputs = Path(directory) / "inputs.npz"
        write_inputs(inputs, base, target, arguments.inputs)
        settings = TimingSettings(rounds=arguments.rounds, max_seconds=60.0)
        try:
            measured = lane.measure(files, inputs, target, settings)
        except MeasurementError as error:
            raise ModelError(
                f"the files do not run side by side: {error.message}",
                hint="each must open in ONNX Runtime and take the inputs of the first",
            ) from error
    if arguments.json:
        print_json({label: m.model_dump(mode="json") for label, m in measured.items()})
        return 0
    first = measured[next(iter(files))]
    rows = []
    for label, measurement in measured.items():
        comparison = Comparison(baseline=first, candidate=measurement)
        interval = comparison.ratio_interval("p50")
        rows.append(
            (
                label,
                f"{measurement.percentile_seconds('p50') * 1e3:.4f}",
                f"{measurement.percentile_seconds('p95') * 1e3:.4f}",
                f"{comparison.ratio('p50'):.3f} ({interval.low:.3f} to {interval.high:.3f})",
                f"{measurement.samples_seconds.size}",
                f"{measurement.discarded_samples}",
            )
        )
    print_table(
        f"{target.threads} thread(s), batch {target.batch_size}",
        ("file", "p50 ms", "p95 ms", "over the first (95 %)", "samples", "discarded"),
        rows,
    )
    return 0
