"""The bundle: the directory that is delivered. It is there whole, or not at all."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autosparse.artifacts.manifest import MANIFEST_NAME, Manifest, read_manifest
from autosparse.errors import BundleError
from autosparse.evaluation import LoweredModel
from autosparse.journal import stored_safely
from autosparse.levels import Recipe

RECIPE_FILE = "recipe.yaml"
REPORT_FILE = "report.html"
MODEL_FILES = ("model.onnx", "model.params")
"""The file to open, by the backend that runs it: ONNX Runtime's, and TVM's."""
KERNELS = "kernels/"
"""Libraries of this machine's architecture; those of a device's lie one level below."""
_COMPILED = "model.so"


def file_sha256(path: Path) -> str:
    """Digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_bundle(
    directory: Path, model: LoweredModel | None, texts: Mapping[str, str], manifest: Manifest
) -> Manifest:
    """Write all files beside `directory`, then put them in its place in one rename.

    Args:
        directory: where the bundle shall lie; an older one there is replaced.
        model: files of the lowered model, copied under their own names; None where none may be
            delivered.
        texts: name -> content of the other files.
        manifest: everything but `files`, which is filled in here.

    Returns:
        The manifest as written.

    Raises:
        StorageError: the disk is full or not writable; an older bundle is still there then.
    """
    partial = directory.with_name(directory.name + ".partial")
    with stored_safely(directory), _removed_unless_renamed(partial):
        shutil.rmtree(partial, ignore_errors=True)
        if model is None:
            partial.mkdir()
        else:
            _copy_files(model.directory, partial)
        complete = _sealed(partial, texts, manifest)
        _put_in_place(partial, directory)
    return complete


def copy_bundle(
    source: Path, directory: Path, texts: Mapping[str, str], manifest: Manifest
) -> Manifest:
    """Put a copy of a bundle in a place, whole, in which some texts are others.

    Args:
        source: the bundle; it stays as it is.
        directory: where the copy shall lie; an older one there is replaced.
        texts: name -> content of the files that differ.
        manifest: of the copy; its `files` are filled in here.

    Returns:
        The manifest as written.

    Raises:
        StorageError: the disk is full or not writable; an older bundle is still there then.
    """
    partial = directory.with_name(directory.name + ".partial")
    with stored_safely(directory), _removed_unless_renamed(partial):
        shutil.rmtree(partial, ignore_errors=True)
        _copy_files(source, partial)
        (partial / MANIFEST_NAME).unlink()
        complete = _sealed(partial, texts, manifest)
        _put_in_place(partial, directory)
    return complete


def _sealed(partial: Path, texts: Mapping[str, str], manifest: Manifest) -> Manifest:
    """Write the texts, and the manifest with the digests of all files that are there then."""
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    files = {
        str(path.relative_to(partial)): file_sha256(path)
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    complete = manifest.model_copy(update={"files": files})
    written = complete.model_dump_json(indent=2) + "\n"
    (partial / MANIFEST_NAME).write_text(written, encoding="utf-8")
    return complete


def _put_in_place(partial: Path, directory: Path) -> None:
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _copy_files(source: Path, target: Path) -> None:
    """Copy a directory; unlike `shutil.copytree`, the first error ends it, and is told as it is."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copy(path, copy)


@contextmanager
def _removed_unless_renamed(partial: Path) -> Iterator[None]:
    """Half a bundle is of no use, and on a full disk in the way."""
    try:
        yield
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def delivered_model(bundle: Path, manifest: Manifest) -> LoweredModel:
    """The model of a bundle that `check_bundle` accepted, with the kernels that belong to it.

    Args:
        bundle: its directory.
        manifest: its manifest, which names every file and its checksum.

    Raises:
        BundleError: there is no model among its files.
    """
    if not manifest.delivers_model:
        raise BundleError(
            "no model was delivered: every file was over a limit of size or memory",
            hint="see the offers in its report; ask for more with `autosparse resolve`",
        )
    entries = [name for name in MODEL_FILES if name in manifest.files]
    if not entries:
        raise BundleError("the manifest names no model", hint="copy the whole directory again")
    libraries = [n for n in sorted(manifest.files) if n.startswith(KERNELS) or n == _COMPILED]
    own = [n for n in libraries if n == _COMPILED or n.count("/") == 1]
    device = manifest.target.architecture
    others = [n for n in libraries if n.startswith(f"{KERNELS}{device}/")]
    if others and device == platform.machine():  # the bundle is on its device now
        own, others = others, []
    return LoweredModel(
        directory=bundle.absolute(),
        entry=entries[0],
        graph_level=Recipe.load(bundle / RECIPE_FILE).knobs.graph_level,
        library=own[0] if own else "",
        device_library=others[0] if others else "",
    )


def check_bundle(bundle: Path) -> Manifest:
    """Read the manifest and compare every checksum.

    Raises:
        BundleError: a file is missing, was changed, or its name leaves the bundle.
    """
    manifest = read_manifest(bundle)
    for name, expected in manifest.files.items():
        path = bundle / name
        if not path.resolve().is_relative_to(bundle.resolve()):
            raise BundleError(f"the manifest names a file outside the bundle: {name!r}")
        if not path.is_file():
            raise BundleError(
                f"the bundle has lost its file {name!r}", hint="copy the whole directory again"
            )
        if file_sha256(path) != expected:
            raise BundleError(
                f"the file {name!r} of the bundle is not the one that was delivered",
                hint="copy the bundle again, or run the job again with --resume",
            )
    return manifest
