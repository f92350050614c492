"""Which layers a pattern means, and what layers that share a level may have."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from autosparse.cli import main
from autosparse.errors import ConfigError
from autosparse.evaluation import Target, Verdict
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.model_graph import Layer, ModelGraph, load_model
from autosparse.pipeline.layer_choices import layer_choices
from autosparse.pipeline.layer_groups import layer_groups, not_shared, spread
from autosparse.pipeline.layer_patterns import LayerPattern
from search_spaces import SpaceFile
from tests.fakes.fake_backend import FakeBackend, Planted, is_int8
from tests.models import Net
from tests.pipeline.worlds import World, layer_seconds, summed_error

INT8 = Level.parse("dense:int8+round_to_nearest")
GPTQ = Level.parse("dense:int8+gptq")
PLANTED = Planted(layer_seconds, summed_error({}))
LAYERS = (
    Layer("conv1", "n0", "Conv", "x", "y", "w", (8, 8, 1, 1), None),
    Layer("conv10", "n1", "Conv", "x", "y", "w", (8, 8, 1, 1), None),
    Layer("fc.1", "n2", "Gemm", "x", "y", "w", (8, 8), None),
    Layer("out", "n3", "MatMul", "x", "y", "w", (8, 8), None),
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("conv1", ["conv1", "conv10"]),
        ("conv1$", ["conv1"]),
        ("name:conv1", ["conv1"]),
        ("name:fc.1", ["fc.1"]),
        ("type:Conv", ["conv1", "conv10"]),
        ("type:gemm", ["fc.1"]),
        ("^(?!conv)", ["fc.1", "out"]),
    ],
)
def test_a_pattern_names_layers(pattern: str, names: list[str]) -> None:
    assert list(LayerPattern(pattern, "--exclude").keys(LAYERS)) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("name:conv", "matches no layer .layers are named like conv1, conv10, fc.1, out"),
        ("type:ConvTranspose", "matches no layer .operators of layers .*: Conv, Gemm, MatMul"),
        ("nothing", "--keep 'nothing' matches no layer"),
        ("(", "is no regular expression"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LayerPattern(pattern, "--keep").keys(LAYERS)


def attention(path: Path) -> ModelGraph:
    """Two blocks of a query, a key and a value projection, then one output layer."""
    net = Net()
    value = net.input("x", "batch", 8)
    for block in range(2):
        parts = [
            net.node("Gemm", value, net.weight(f"block{block}.{part}.weight", 8, 8))
            for part in ("query", "key", "value")
        ]
        value = net.node("Add", net.node("Add", *parts[:2]), parts[2])
    net.node("Gemm", value, net.weight("out.weight", 8, 4), to="logits")
    return load_model(net.save(path / "attention.onnx", "logits"))


def space(*groups: str) -> SpaceFile:
    return SpaceFile(description="x", levels=(INT8,), groups=groups)


QKV = r"(block\d)\.(?:query|key|value)"
FIRST, SECOND = (tuple(f"block{b}.{p}" for p in ("query", "key", "value")) for b in (0, 1))


def test_layers_with_equal_captures_share_a_level(tmp_path: Path) -> None:
    graph = attention(tmp_path)
    assert layer_groups(graph, space(), [QKV]) == (FIRST, SECOND)
    assert layer_groups(graph, space(QKV), []) == (FIRST, SECOND)
    assert layer_groups(graph, space(), [r"block\d"]) == (FIRST + SECOND,)
    assert layer_groups(graph, space(), ["type:Gemm"]) == ((*FIRST, *SECOND, "out"),)
    assert layer_groups(graph, space(r"block0\.query|block0\.key"), ["block1"]) == (
        FIRST[:2], SECOND,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["nothing"], "--group 'nothing' matches no layer"),
        ([r"(block\d)\.(query|key|value)"], "lets no two layers share a level"),
        (["block0", QKV], "is in the groups of both"),
        (["["], "is no regular expression"),
    ],
)
def test_a_group_that_is_none_is_refused(tmp_path: Path, patterns: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layer_groups(attention(tmp_path), space(), patterns)


def test_a_layer_called_like_a_group_is_refused(tmp_path: Path) -> None:
    net = Net()
    value = net.input("x", "batch", 8)
    for name in ("a", "b", "a (+1)"):
        value = net.node("Gemm", value, net.weight(f"{name}.weight", 8, 8), name=name)
    graph = load_model(net.save(tmp_path / "m.onnx", value))
    with pytest.raises(ConfigError, match="a layer is called"):
        layer_groups(graph, space(), ["^(?:a|b)$"])


def test_a_fixed_layer_fixes_its_group() -> None:
    assert spread({"q": GPTQ}, (("q", "k"), ("a", "b"))) == {"q": GPTQ, "k": GPTQ}
    # methods of one level may differ
    assert spread({"q": GPTQ, "k": INT8}, (("q", "k", "v"),))["k"] == INT8
    with pytest.raises(ConfigError, match="q and k share a level, and cannot be kept"):
        spread({"q": GPTQ, "k": BASELINE}, (("q", "k"),))


def test_what_one_layer_cannot_have_none_of_its_group_may() -> None:
    searched = [("q", BASELINE), ("k", BASELINE), ("q", INT8), ("k", GPTQ), ("a", INT8)]
    assert not_shared(searched, (("q", "k"),)) == {}
    reasons = not_shared([*searched, ("v", BASELINE)], (("q", "k", "v"),))
    kind = INT8.without_method()
    assert reasons == {
        "q": {kind: "q: shares its level with v, which cannot be dense:int8"},
        "k": {kind: "k: shares its level with v, which cannot be dense:int8"},
    }


def test_an_exclusion_leaves_the_whole_group_as_it_came(tmp_path: Path) -> None:
    graph = attention(tmp_path)
    choices = layer_choices(
        graph, [INT8], FakeBackend(PLANTED), Target(), exclude=["name:block1.key"], keep=[],
        groups=layer_groups(graph, space(), [QKV]),
    )  # fmt: skip
    searched = {(c.layer.name, c.level) for c in choices if c.searched}
    assert {name for name, level in searched if level == INT8} == {*FIRST, "out"}
    reasons = {c.reason for c in choices if c.layer.name == "block1.query" and not c.searched}
    assert reasons == {"block1.query: kept at dense:fp32"}


def delivered(world: World) -> Recipe:
    return Recipe.load(world.root / "out" / "bundle" / "recipe.yaml")


def test_the_answer_is_the_best_recipe_in_which_they_agree(tmp_path: Path) -> None:
    errors = {f"layer{i}": e for i, e in enumerate((0.01, 0.2, 0.03, 0.15, 0.02, 0.08))}
    planted = Planted(layer_seconds, summed_error(errors))
    world = World.make(tmp_path, 6, planted)
    result = world.run(latency_budget="75%", max_drop="50pt", group=("layer[034]",), trials=20)
    assert result.verdict is Verdict.MET
    levels = delivered(world).levels
    shared = ("layer0", "layer3", "layer4")
    assert len({levels[name].without_method() for name in shared}) == 1
    every = [
        recipe
        for chosen in itertools.product((BASELINE, INT8), repeat=6)
        if len({(recipe := dict(zip(world.layers, chosen, strict=True)))[n] for n in shared}) == 1
    ]
    bound = 0.75 * planted.latency(dict.fromkeys(world.layers, BASELINE))
    best = min((r for r in every if planted.latency(r) <= bound), key=planted.error)
    assert planted.error(levels) == pytest.approx(planted.error(best))
    # without the group, another recipe is better: the group was not free
    alone = min(
        (
            dict(zip(world.layers, chosen, strict=True))
            for chosen in itertools.product((BASELINE, INT8), repeat=6)
            if planted.latency(dict(zip(world.layers, chosen, strict=True))) <= bound
        ),
        key=planted.error,
    )
    assert planted.error(alone) < planted.error(best)


def test_a_group_survives_a_resume_and_cannot_change_there(tmp_path: Path) -> None:
    world = World.make(tmp_path, 4, PLANTED)
    world.run(trials=4, group=("layer[12]",))
    result = world.run(trials=6, group=("layer[12]",), resume=True)
    levels = delivered(world).levels
    assert is_int8(levels["layer1"]) == is_int8(levels["layer2"])
    assert "layers that share a level: layer1, layer2" in (
        Path(result.bundle) / "report.html"
    ).read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="another --group"):
        world.run(trials=6, resume=True)


def test_a_dry_run_shows_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attention(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    argv = [
        "optimize", str(tmp_path / "attention.onnx"), "--latency-budget", "60%", "--space", "int8",
        "--calibration", "c.npz", "--validation", "v.npz", "--dry-run", "--group", QKV,
    ]  # fmt: skip
    assert main.run(argv) == 0
    out = capsys.readouterr().out
    assert "block0.query (+2)" in out
    assert "block1.query, block1.key, block1.value" in out
    assert main.run([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    groups = {row["layer"]: row["group"] for row in rows}
    assert groups["block0.key"] == "block0.query (+2)"
    assert groups["out"] is None
