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
from autosparse.evaluation.processor import processor_of

_PROCESSORS = Path("/proc/cpuinfo")
_BOARD = Path("/sys/firmware/devicetree/base/model")
"""Of most Arm devices; there is none on x86."""

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
    """Model name of the processor; on Arm that of the board or phone, with its kinds of cores."""
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
    name, flags = processor_of(_text(_PROCESSORS), _text(_BOARD), platform.machine())
    return Environment(
        cpu=name,
        instruction_sets=tuple(s for s in _INSTRUCTION_SETS if s in flags),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=_library_versions(),
    )


def _text(path: Path) -> str:
    """Empty where the system has no such file, or shows it to nobody."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _library_versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
