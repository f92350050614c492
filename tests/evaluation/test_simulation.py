"""The analytic model of a device: by hand, and for every descriptor that is delivered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Target, read_environment
from autosparse.evaluation.simulation import Device, NodeWork, Sparsity, Store, device_names

TOY = Device(
    name="toy", summary="a toy", source="this test", architecture="aarch64", cores=2, ghz=1.0,
    macs_per_cycle={"fp32": 10, "int8": 40}, efficiency=0.5,
    stores=(
        Store(bytes=1000, gbytes_per_second=8.0), Store(bytes=1_000_000, gbytes_per_second=1.0),
    ),
    node_seconds=1e-6,
    sparsity=Sparsity(rates={"unstructured:fp32": 0.5}, largest_speedup=4.0),
)  # fmt: skip
NODE = NodeWork(
    node="conv", operator="Conv", precision="fp32", pattern="dense", dense_macs=50_000,
    kept_macs=50_000, weight_bytes=400, activation_bytes=400,
)  # fmt: skip


def seconds(node: NodeWork, device: Device = TOY, threads: int = 1) -> float:
    return device.seconds([node], threads)["conv"]


def test_a_node_that_multiplies_much_takes_the_time_of_its_multiplications() -> None:
    # 50 000 at 1 GHz x 10 a cycle x a half = 5e9 a second
    assert seconds(NODE) == pytest.approx(1e-6 + 10e-6)
    assert seconds(replace(NODE, precision="int8")) == pytest.approx(1e-6 + 2.5e-6)
    assert seconds(NODE, threads=2) == pytest.approx(1e-6 + 5e-6)
    assert seconds(NODE, threads=64) == seconds(NODE, threads=2)  # there are two cores


def test_a_node_that_moves_much_takes_the_time_of_its_bytes() -> None:
    near = replace(NODE, dense_macs=0, kept_macs=0)
    assert seconds(near) == pytest.approx(1e-6 + 800 / 8e9)
    far = replace(near, activation_bytes=10_000)  # beyond the cache; its weights are still near
    assert seconds(far) == pytest.approx(1e-6 + 10_000 / 1e9 + 400 / 8e9)


def test_every_core_brings_its_caches_and_the_memory_is_one() -> None:
    near = replace(NODE, dense_macs=0, kept_macs=0)
    assert seconds(near, threads=2) == pytest.approx(1e-6 + 800 / (2 * 8e9))
    assert seconds(near, threads=64) == seconds(near, threads=2)  # there are two cores
    far = replace(near, activation_bytes=10_000)
    assert seconds(far, threads=2) == pytest.approx(1e-6 + 10_000 / 1e9 + 400 / (2 * 8e9))


def test_weights_of_a_large_model_come_from_far() -> None:
    """They pass through the caches once in each inference, however small a single layer is."""
    near = replace(NODE, dense_macs=0, kept_macs=0)
    rest = replace(near, node="rest", weight_bytes=50_000)
    assert TOY.seconds([near, rest], 1)["conv"] == pytest.approx(1e-6 + 400 / 1e9 + 400 / 8e9)


def test_zeros_are_worth_what_the_device_makes_of_them() -> None:
    sparse = replace(NODE, pattern="unstructured", kept_macs=20_000)
    # four tenths of the work at half the rate
    assert seconds(sparse) == pytest.approx(1e-6 + 8e-6)
    # at most four times faster, and then at half the rate
    assert seconds(replace(sparse, kept_macs=500)) == pytest.approx(1e-6 + 5e-6)
    # what a device does not skip, it multiplies
    assert seconds(replace(sparse, pattern="block")) == seconds(NODE)
    assert seconds(sparse, TOY.model_copy(update={"sparsity": Sparsity()})) == seconds(NODE)


@pytest.mark.parametrize("name", device_names())
def test_every_descriptor_is_whole_and_cannot_be_taken_for_a_machine(name: str) -> None:
    device = Device.load(name)
    assert device.name == name
    assert device.source
    sizes = [store.bytes for store in device.stores]
    rates = [store.gbytes_per_second for store in device.stores]
    assert sizes == sorted(sizes)
    assert rates == sorted(rates, reverse=True)
    for key in device.sparsity.rates:
        pattern, precision = key.split(":")
        assert pattern in ("unstructured", "block", "nm")
        assert precision in ("fp32", "int8")
    environment = device.environment
    assert environment.cpu.startswith("SIMULATED")
    assert environment.machine == device.architecture
    assert environment.id != read_environment().id


def test_a_changed_descriptor_is_another_environment() -> None:
    """Level tables and trials of the two must not mix."""
    faster = TOY.model_copy(update={"ghz": 2.0})
    assert faster.environment.id != TOY.environment.id


def test_a_simulated_target_says_so() -> None:
    target = Target.at("sim://pixel-8", Target(threads=2))
    assert target.is_simulated
    assert target.name == "SIMULATED pixel-8"
    assert not Target().is_simulated
    assert not Target(address="rpc://127.0.0.1:1").is_simulated
    for address in ("sim://", "sim://../x", "sim://A B"):
        with pytest.raises(ConfigError, match="names no device to simulate"):
            Target(address=address)
    with pytest.raises(ConfigError, match="no descriptor of a device 'pixel-99'"):
        Device.load("pixel-99")
