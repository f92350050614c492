"""What processors are called, from what Linux says on boards, phones, servers and x86."""

from __future__ import annotations

import pytest

from autosparse.evaluation.processor import processor_of


def arm_core(number: int, part: str, implementer: str = "0x41") -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 108.00\n"
        "Features\t: fp asimd evtstrm crc32 cpuid asimddp\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: 0x4\n"
        f"CPU part\t: {part}\nCPU revision\t: 1\n\n"
    )


PI_4 = "".join(arm_core(i, "0xd08") for i in range(4)) + (
    "Hardware\t: BCM2835\nRevision\t: c03114\nSerial\t\t: 10000000a1b2c3d4\n"
    "Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
)
PI_5 = "".join(arm_core(i, "0xd0b") for i in range(4)) + (
    "Revision\t: c04170\nSerial\t\t: 10000000a1b2c3d4\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)
PHONE = "".join(
    arm_core(i, part) for i, part in enumerate(["0xd46"] * 3 + ["0xd4d"] * 2 + ["0xd4e"])
)
SERVER = "".join(arm_core(i, "0xd0c") for i in range(2))
X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 2\nmodel name\t: AMD EPYC 9R14\n"
    "flags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9R14\n"
    "flags\t\t: fpu avx2 avx512f\n\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        (PI_4, "Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)"),
        # containers do not show the device tree
        (PI_5, "", "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76)"),
        (PHONE, "Google Shiba\0", "Google Shiba (Cortex-A510, Cortex-A715, Cortex-X3)"),
        (PHONE + "Hardware\t: Qualcomm Technologies, Inc SM8550\n", "",
         "Qualcomm Technologies, Inc SM8550 (Cortex-A510, Cortex-A715, Cortex-X3)"),
        (SERVER, "", "Neoverse-N1"),
        (arm_core(0, "0x001", "0x51"), "A laptop\0", "A laptop (core 0x51:0x001)"),
        (X86, "", "AMD EPYC 9R14"),
        ("", "A board\0", "A board"),
        ("", "", "riscv64"),
    ],
)  # fmt: skip
def test_a_processor_has_the_name_that_people_know(cpuinfo: str, board: str, name: str) -> None:
    found, _ = processor_of(cpuinfo, board, "riscv64")
    assert found == name


def test_cores_that_sleep_do_not_change_the_name() -> None:
    fewer = PHONE.split("\n\n", 1)[1]
    assert processor_of(fewer, "", "aarch64")[0] == processor_of(PHONE, "", "aarch64")[0]


def test_extensions_are_read_on_both() -> None:
    assert "asimddp" in processor_of(PI_5, "", "aarch64")[1]
    assert processor_of(X86, "", "x86_64")[1] == {"fpu", "avx2", "avx512f"}
