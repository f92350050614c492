"""The atlas's page: one file that needs nothing else, whatever the model calls its layers."""

from __future__ import annotations

import re

import pytest

from autosparse.artifacts.atlas_data import (
    AtlasData,
    FileTime,
    break_even_words,
    summary,
    whole_file,
)
from autosparse.artifacts.atlas_page import render_atlas
from autosparse.evaluation import Target, read_environment
from autosparse.levels import Level
from autosparse.levels.atlas import LayerShape
from autosparse.levels.break_even import AtlasEntry, BreakEven, LevelTime
from tests.artifacts.report_example import Page, data_scripts, text_of

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"
TIMES = {
    "dense:fp32": 50, "dense:int8": 20, "unstructured@0.5:fp32": 60, "unstructured@0.9:fp32": 10,
    "2:4:int8": 25, "1:4:int8": None,
}  # fmt: skip


def entry(
    name: str = "fc", shape: tuple[int, ...] = (8, 8), times: dict[str, int | None] | None = None
) -> AtlasEntry:
    listed = []
    for spelling, us in (TIMES if times is None else times).items():
        level = Level.parse(spelling)
        seconds = None if us is None else us * 1e-6
        reason = "" if us is not None else f"{name}: no"
        listed.append(
            LevelTime(level=level, sparsity=level.sparsity, seconds=seconds, reason=reason)
        )
    return AtlasEntry.of(LayerShape(operator="Gemm", weight_shape=shape), [name], listed)


def atlas(*entries: AtlasEntry, model: str = "model.onnx") -> AtlasData:
    return AtlasData(
        model=model, model_sha256="0" * 64, target=Target(name=model),
        environment=read_environment(), inputs=model, created="2026-01-02T03:04:05+00:00",
        product="AutoSparse", entries=entries, measured=5, reused=0,
        files=(FileTime(level=Level.parse("2:4:int8"), layers=1, seconds=1e-3, ratio=0.5),),
    )  # fmt: skip


@pytest.mark.parametrize("name", [HOSTILE, "名前", "x" * 20_000, ""])
def test_names_from_files_are_only_text(name: str) -> None:
    html = render_atlas(atlas(entry(name), model=name))
    page = Page(html)
    assert [t for t, _ in page.tags].count("script") == 1 + len(data_scripts(page))
    assert not [n for _, a in page.tags for n in a if n.startswith("on") or n == "style"]
    assert "<script>alert" not in html


def test_nothing_is_fetched() -> None:
    html = render_atlas(atlas(entry()))
    page = Page(html)
    links = [*page.attributes("href"), *page.attributes("src")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(r"url\(|@import|https?://", html)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_it_tells_what_was_found() -> None:
    text = text_of(render_atlas(atlas(entry())))
    assert "Sparsity pays for 1 of 1 layer shape" in text
    assert "faster from 82 % zeros on" in text
    assert "never faster" in text
    assert "fc: no" in text
    assert "2 non-zeros in every" in text


def test_a_shape_without_sparse_times_has_no_chart() -> None:
    html = render_atlas(atlas(entry(times={"dense:fp32": 5, "2:4:int8": None})))
    assert "No sparse level was measured for these layers" in html
    assert render_atlas(atlas(entry(times={"dense:fp32": None})))


def test_the_summary_counts_shapes() -> None:
    never = entry("a", times={"dense:int8": 5, "2:4:int8": 6})
    assert summary([]) == "The model has no layers, so there is nothing to measure."
    assert summary([never]).startswith("No sparse level that was measured is faster")
    assert "No sparse level runs here" in summary([entry(times={"2:4:int8": None})])
    told = summary([never, entry()])
    assert told == (
        "Sparsity pays for 1 of 2 layer shapes: unstructured:fp32 for 1 (from 82% zeros on)."
    )


def at(spelling: str, seconds: float, layers: int = 4) -> FileTime:
    return FileTime(level=Level.parse(spelling), layers=layers, seconds=seconds, ratio=1.0)


def test_whole_files_have_a_break_even_of_their_own() -> None:
    files = (
        at("dense:fp32", 2e-3), at("dense:int8", 1e-3), at("unstructured@0.5:fp32", 1.5e-3),
        at("unstructured@0.9:fp32", 0.5e-3), at("2:4:int8", 0.1e-3, layers=1),
    )  # fmt: skip
    data = atlas(entry()).model_copy(update={"files": files})
    whole = whole_file(data)
    assert whole is not None
    assert str(whole.best_dense.level) == "dense:int8"
    found = {b.family: b for b in whole.break_evens}
    assert found["unstructured:fp32"].sparsity == pytest.approx(0.7)
    # one layer of four: the file tells nothing of the level
    assert found["N:4:int8"].verdict == "unmeasured"
    assert "The whole file" in text_of(render_atlas(data))
    assert whole_file(data.model_copy(update={"files": ()})) is None


def test_break_evens_in_a_word() -> None:
    words = {
        verdict: break_even_words(BreakEven(family="f", verdict=verdict, sparsity=0.625))
        for verdict in ("always", "from", "never", "unmeasured")
    }
    assert words == {"always": "always", "from": "62%", "never": "never", "unmeasured": "-"}
