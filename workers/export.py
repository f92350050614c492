"""Write a delivered bundle's model in another format."""

from __future__ import annotations

import shutil
from pathlib import Path

from autosparse.artifacts.bundle import check_bundle, delivered_model
from autosparse.errors import ConfigError
from autosparse.journal import stored_safely
from autosparse.model_graph import load_model
from autosparse.pipeline.benchmark_inputs import random_inputs


def export_ort(bundle: Path, directory: Path, model: Path | None = None) -> tuple[Path, ...]:
    """Write a bundle as files of ONNX Runtime's own format, with the device's kernels beside them.

    Args:
        bundle: the delivered directory.
        directory: where to write; made where it is missing.
        model: the original model, where it is no longer at the recorded path: its inputs are
            what both files are compared on.

    Raises:
        BundleError: the bundle is damaged.
        ConfigError: it is of another backend, or the original model is gone.
        CompileError: the runtime cannot write a file that answers as the bundle does.
    """
    manifest = check_bundle(bundle)
    if manifest.target.backend != "onnxruntime":
        raise ConfigError(
            f"the bundle runs in {manifest.target.backend}, and .ort files are ONNX Runtime's",
            hint="export bundles of the backend onnxruntime",
        )
    original = model or Path(manifest.model.path)
    if not original.is_file():
        raise ConfigError(f"the model file {original} is gone", hint="give it with --model")
    from backends.ort_format import write_ort_files

    delivered = delivered_model(bundle, manifest)
    inputs = random_inputs(load_model(original), manifest.target).inputs
    with stored_safely(directory):
        directory.mkdir(parents=True, exist_ok=True)
        written = list(write_ort_files(delivered, directory, inputs))
        library = delivered.device_library or delivered.library
        if library:
            written.append(directory / Path(library).name)
            shutil.copyfile(delivered.directory / library, written[-1])
    return tuple(written)
