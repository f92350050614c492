"""The fingerprint of the machine and the libraries that a measurement belongs to."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation.noise import NoiseFloor

# What decides which kernel a runtime picks; the rest of /proc/cpuinfo's flags is noise here.
_INSTRUCTION_SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_vbmi", "amx_int8", "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
_LIBRARIES = ("onnxruntime", "apache-tvm", "numpy", "torch", "onnx", "autosparse")


class Environment(BaseModel):
    """Where something was measured. Measurements with different ids are not compared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    cpu: str
    """Model name of the processor."""
    instruction_sets: tuple[str, ...]
    """Vector extensions that the processor reports."""
    cores: int
    """Cores of the machine."""
    memory_bytes: int
    """Physical memory."""
    system: str
    """Operating system, kernel release and machine."""
    python: str
    """Version of Python."""
    libraries: dict[str, str]
    """Version of every library that a latency or a quality depends on."""
    noise_floor: NoiseFloor | None = None
    """How far two sessions of the same file differed here when a job began; in its bundle only. No
    part of the id: it is what the machine did, not what it is."""

    @property
    def machine(self) -> str:
        """Architecture, as the system names it: `x86_64`, `aarch64`."""
        return self.system.rpartition(" ")[2]

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this environment."""
        text = json.dumps(self.model_dump(mode="json", exclude={"noise_floor"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_environment() -> Environment:
    """Describe the machine this process runs on."""
    name, flags = _processor()
    return Environment(
        cpu=name,
        instruction_sets=tuple(s for s in _INSTRUCTION_SETS if s in flags),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=_library_versions(),
    )


def _processor() -> tuple[str, frozenset[str]]:
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    # x86 names its extensions "flags", Arm "Features"
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", platform.machine()), frozenset(flags.split())


def _library_versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
