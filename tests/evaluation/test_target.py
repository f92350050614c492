"""Targets: every shape is resolved against the model, or the user hears what to give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Target
from autosparse.evaluation.address import AgentAddress
from autosparse.evaluation.target import parse_input_shape
from autosparse.model_graph import ModelGraph
from autosparse.tensor_spec import TensorSpec


def graph(**shapes: tuple[int | str, ...]) -> ModelGraph:
    """Only the inputs matter to a target."""
    specs = tuple(TensorSpec(n, np.dtype(np.float32), shape) for n, shape in shapes.items())
    return cast(ModelGraph, SimpleNamespace(inputs=specs))


FREE = graph(image=("batch", 3, 32, 32))
TEXT = graph(ids=("batch", "length"), mask=("batch", "length"))
FIXED = graph(image=(4, 3, 32, 32))


def test_fixed_dimensions_come_from_the_model_and_the_batch_from_the_target() -> None:
    assert Target().for_model(FREE).input_shapes == {"image": (1, 3, 32, 32)}
    assert Target(batch_size=8).for_model(FREE).input_shapes == {"image": (8, 3, 32, 32)}
    assert Target(batch_size=4).for_model(FIXED).input_shapes == {"image": (4, 3, 32, 32)}


def test_given_shapes_fill_free_dimensions() -> None:
    shapes = {"ids": (2, 64), "mask": (2, 64)}
    assert Target(batch_size=2, input_shapes=shapes).for_model(TEXT).input_shapes == shapes


def test_a_scalar_input_has_the_empty_shape() -> None:
    assert Target().for_model(graph(x=("batch", 2), scale=())).input_shapes["scale"] == ()


def test_the_target_itself_stays_as_it_is() -> None:
    target = Target()
    target.for_model(FREE)
    assert target.input_shapes == {}


@pytest.mark.parametrize(
    ("target", "model", "message", "hint"),
    [
        (Target(), TEXT, "has a free dimension", "--input-shape ids=1,128"),
        (Target(batch_size=2), graph(x=("n", 3, "h", "w")), "free dimension", "x=2,3,128,128"),
        (Target(input_shapes={"img": (1, 3)}), FREE, "'img', which is no input", "image"),
        (Target(input_shapes={"image": (1, 3, 32)}), FREE, "image=1,3,32 does not fit", ""),
        (Target(input_shapes={"image": (1, 1, 32, 32)}), FREE, "1,1,32,32 does not fit", ""),
        (Target(input_shapes={"image": (2, 3, 32, 32)}), FREE, "--batch-size is 1", "same number"),
        (Target(), FIXED, "batch is fixed at 4, not 1", "--batch-size 4"),
        (Target(input_shapes={"image": (4, 3, 32, 32)}), FIXED, "fixed at 4", "--batch-size 4"),
        (Target(batch_size=2, input_shapes={"image": (2, 3, 32, 32)}), FIXED, "fixed at 4", "4"),
    ],
)
def test_what_does_not_fit_is_told_with_the_flag_to_give(
    target: Target, model: ModelGraph, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        target.for_model(model)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("x=1,128", ("x", (1, 128))),
        ("images:0=1,3,224,224", ("images:0", (1, 3, 224, 224))),
        ("x=7", ("x", (7,))),
        ("x=", ("x", ())),
    ],
)
def test_input_shapes_are_read(text: str, parsed: tuple[str, tuple[int, ...]]) -> None:
    assert parse_input_shape(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "=1,2",
        "x=1,",
        "x=,1",
        "x=1x2",
        "x=-1,2",
        "x=0,128",
        "x=1,0",
        "x=1.5",
        "x=a",
        "x==1",
    ],
)
def test_what_is_no_input_shape_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no input shape") as caught:
        parse_input_shape(text)
    assert caught.value.hint == "write name=1,128"


def test_a_file_gives_the_same_target_again(tmp_path: Path) -> None:
    target = Target(name="Büro: 3", threads=4, batch_size=2, input_shapes={"x": (2, 3)})
    path = tmp_path / "target.yaml"
    path.write_text(target.to_yaml(), encoding="utf-8")
    assert Target.load(path) == target


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "valid dictionary"),
        ("threads: [", "while parsing"),
        ("threads: 0", "threads: Input should be greater than or equal to 1"),
        ("threads: 5000", "threads: Input should be less than or equal to 1024"),
        ("batch_size: 0", "batch_size"),
        ("device: gpu", "device: Input should be 'cpu'"),
        ("cores: 4", "cores: Extra inputs are not permitted"),
        ("schema_version: 2", "schema_version: Input should be 1"),
        ("input_shapes: {x: [0, 3]}", "input_shapes.x.0"),
    ],
)
def test_what_is_no_target_file_is_refused_in_one_line(
    tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "target.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="is no target file") as caught:
        Target.load(path)
    assert reason in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_missing_target_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the target"):
        Target.load(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        Target.load(tmp_path)


def test_an_agent_is_a_target_with_an_address() -> None:
    like = Target(name="board", threads=3, input_shapes={"x": (1, 4)}, key_file="", address="")
    there = Target.at("rpc://10.0.0.9:9190", like)
    assert (there.address, there.name) == ("rpc://10.0.0.9:9190", "agent 10.0.0.9:9190")
    assert (there.threads, there.input_shapes) == (3, {"x": (1, 4)})


def test_a_target_file_names_the_key_and_never_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("name: board\naddress: rpc://[::1]:9190\nkey_file: agent.key\n")
    target = Target.load(path)
    assert AgentAddress.parse(target.address) == AgentAddress("::1", 9190)
    path.write_text("key_file: agent.key\n")
    with pytest.raises(ConfigError, match="a key_file and no agent's address"):
        Target.load(path)


@pytest.mark.parametrize(
    "address",
    ["rpc://", "rpc://host", "rpc://host:", "rpc://host:99999", "http://host:1", "rpc://a b:1",
     "rpc://host:9190x", "rpc://::1:9190"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of an agent"):
        Target(address=address)


def test_an_address_with_a_key_in_it_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="must not hold a key") as caught:
        Target(address="rpc://host:9190/0123456789abcdef")
    assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("10.0.0.1", False), ("board", False)],
)  # fmt: skip
def test_what_only_this_machine_can_reach_is_known(host: str, *, loopback: bool) -> None:
    assert AgentAddress(host, 1).is_loopback is loopback


def test_a_gpu_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text("name: gpu\ndevice: cuda\n")
    with pytest.raises(ConfigError, match=r"no job runs on a GPU yet.*no backend with them"):
        Target.load(path)
