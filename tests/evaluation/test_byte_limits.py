"""Limits of size and memory: how they are spelled, and what the gate makes of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Budget, Contract, Evidence, MaxBytes, MaxDrop
from autosparse.evaluation.budget import byte_words, enough_bytes
from autosparse.evaluation.dominance import dominators
from autosparse.evaluation.gate import best_effort, rank


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("20MB", 20e6), ("1.5 GB", 1.5e9), ("300kB", 3e5), ("300KB", 3e5), ("512KiB", 2**19),
        ("2mib", 2**21), ("1GiB", 2**30), ("800B", 800), ("40%", 4000), ("12.5 %", 1250),
    ],
)  # fmt: skip
def test_bytes_and_shares_are_read(text: str, count: float) -> None:
    assert MaxBytes.parse(text).bytes(10_000) == pytest.approx(count)


@pytest.mark.parametrize("text", ["20MB", "40%", "512KiB", "1.5GB"])
def test_a_bound_is_stored_as_it_is_spelled(text: str) -> None:
    assert MaxBytes.model_validate(text).model_dump_json() == f'"{text}"'


@pytest.mark.parametrize(
    "text", ["", "20", "MB", "20 megs", "-5MB", "nanMB", "0MB", "1e3MB", "9" * 400 + "B"]
)
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MaxBytes.parse(text)
    assert caught.value.hint


def test_a_share_of_what_is_not_known_is_refused() -> None:
    assert MaxBytes.parse("5MB").bytes(None) == 5e6
    with pytest.raises(ConfigError, match="share of what is not known"):
        MaxBytes.parse("40%").bytes(None)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0B"), (999, "999B"), (1234, "1.23kB"), (45_678, "45.7kB"), (999_600, "1000kB"),
     (1_096_220, "1.10MB"), (23_456_789, "23.5MB"), (4.2e9, "4.20GB")],
)  # fmt: skip
def test_bytes_in_words(count: float, words: str) -> None:
    assert byte_words(count) == words


@pytest.mark.parametrize("count", [1, 999, 1001, 45_678, 999_999, 1_096_220, 4_200_000_001])
def test_an_offered_bound_is_kept_by_what_it_was_made_for(count: int) -> None:
    bound = MaxBytes.parse(enough_bytes(count)).bytes(None)
    assert count <= bound <= 1.11 * count + 1


def contract(max_size: str | None = None, max_memory: str | None = None) -> Contract:
    return Contract(
        budget=Budget.parse("60%"), percentile="p50", max_drop=MaxDrop.parse("1pt"), strict=False,
        baseline_seconds=0.01, baseline_quality=0.9,
        max_size=None if max_size is None else MaxBytes.parse(max_size),
        max_memory=None if max_memory is None else MaxBytes.parse(max_memory),
        baseline_size_bytes=10_000, baseline_peak_memory_bytes=40_000,
    )  # fmt: skip


def evidence(
    name: str, *, drop: float = 0.0, ratio: float = 0.5, size: int | None = 5000,
    peak: int | None = 20_000,
) -> Evidence:  # fmt: skip
    return Evidence(
        recipe_id=name, latency_ratio=ratio, latency_ratio_high=ratio, drop=drop, drop_high=drop,
        divergence=drop, compressed_layers=2, size_bytes=size, peak_memory_bytes=peak,
    )  # fmt: skip


def test_the_best_file_over_a_limit_is_not_deliverable() -> None:
    heavy, hungry = evidence("heavy", size=5001), evidence("hungry", peak=20_001)
    light = evidence("light", drop=0.005)
    every = [heavy, hungry, light]
    assert rank(every, contract())[0] != light
    assert [e.recipe_id for e in rank(every, contract("50%"))] == ["hungry", "light"]
    assert [e.recipe_id for e in rank(every, contract("50%", "50%"))] == ["light"]
    assert heavy.missed(contract("5kB", "20kB")) == ("size",)
    assert hungry.missed(contract("5kB", "20kB")) == ("memory",)
    assert light.missed(contract("5kB", "20kB")) == ()


def test_what_is_limited_and_not_known_is_outside() -> None:
    unknown = evidence("old", size=None, peak=None)
    assert unknown.meets(contract())
    assert unknown.knows(contract())
    assert unknown.missed(contract("90%")) == ("size",)
    assert not unknown.knows(contract(None, "90%"))


def test_the_best_effort_keeps_the_limits_where_anything_does() -> None:
    near = evidence("near", drop=0.011, size=9000)
    far = evidence("far", drop=0.3)
    assert best_effort([near, far], contract("6kB")) == far
    assert best_effort([near], contract("6kB")) == near  # told, and not delivered
    assert near.violation(contract("6kB")) == pytest.approx(0.1 + 0.5)


def test_limits_are_told_as_they_were_given() -> None:
    both = contract("50%", "20kB")
    assert both.limit_flags(["memory", "size"]) == "--max-size 50% and --max-memory 20kB"
    assert both.limit_flags(["latency", "size"]) == "--max-size 50%"


def test_dominance_by_hand() -> None:
    points = [(1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0), (3.0, 0.5)]
    assert dominators(points) == [None, None, 0, 0, None]
    assert dominators([]) == []


def test_what_one_point_does_not_tell_is_compared_for_none() -> None:
    assert dominators([(1.0, None), (2.0, 1.0)]) == [None, 0]
    assert dominators([(1.0, 5.0), (2.0, 1.0)]) == [None, None]


def test_dominance_is_what_its_definition_says() -> None:
    points = np.random.default_rng(0).integers(0, 5, size=(60, 4)).astype(float).tolist()
    found = dominators(points)
    for index, by in enumerate(found):
        beaten = any(
            all(a <= b for a, b in zip(other, points[index], strict=True))
            and (other != points[index] or number < index)
            for number, other in enumerate(points)
            if number != index
        )
        assert beaten == (by is not None)
        if by is not None:
            assert found[by] is None
            assert all(a <= b for a, b in zip(points[by], points[index], strict=True))
    front = [points[i] for i, by in enumerate(found) if by is None]
    assert all(a != b for a, b in itertools.combinations(front, 2))
