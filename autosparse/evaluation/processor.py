"""What a processor is called, from what Linux says of it.

x86 has a name in /proc/cpuinfo. 64-bit Arm has numbers there, of who made each core and which one
it is; the board or phone, where the system names it, is what tells two of them apart.
"""

from __future__ import annotations

from collections.abc import Iterator

# as util-linux spells them (lscpu)
_CORES = {
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55", ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72", ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75", ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1", ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1", ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE", ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510", ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2", ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4d"): "Cortex-A715", ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse-V2", ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720", ("0x41", "0xd82"): "Cortex-X4",
}  # fmt: skip
_BOARD_IN_CPUINFO = ("Model", "Hardware")
"""What Raspberry Pi's kernels and those of older phones call it, after the cores."""


def processor_of(cpuinfo: str, board: str, machine: str) -> tuple[str, frozenset[str]]:
    """Name of a processor, and its vector extensions among other flags.

    Args:
        cpuinfo: content of /proc/cpuinfo; empty where it cannot be read.
        board: content of the device tree's `model`; empty where there is none.
        machine: architecture, which is all that is told of what says nothing else.
    """
    fields: dict[str, str] = {}
    for key, value in _entries(cpuinfo):
        fields.setdefault(key, value)
    # x86 names its extensions "flags", Arm "Features"
    flags = frozenset(fields.get("flags", fields.get("Features", "")).split())
    if "model name" in fields:
        return fields["model name"], flags
    where = board.strip("\0 \n") or next(
        (fields[key] for key in _BOARD_IN_CPUINFO if fields.get(key)), ""
    )
    cores = ", ".join(_cores(cpuinfo))
    return (f"{where} ({cores})" if where and cores else where or cores or machine), flags


def _cores(cpuinfo: str) -> list[str]:
    """The kinds of cores; how many of each are awake just now is no part of a name."""
    found, implementer = set(), ""
    for key, value in _entries(cpuinfo):
        if key == "CPU implementer":
            implementer = value.lower()
        elif key == "CPU part":
            part = value.lower()
            found.add(_CORES.get((implementer, part), f"core {implementer}:{part}"))
    return sorted(found)


def _entries(cpuinfo: str) -> Iterator[tuple[str, str]]:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()
