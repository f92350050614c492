from __future__ import annotations

import base64
import hashlib
import json
import re
import time

import numpy as np
import pytest

from autosparse.artifacts.layer_rows import Alternative
from autosparse.artifacts.manifest import GivenFile
from autosparse.artifacts.report import render_report
from autosparse.evaluation import Target
from tests.artifacts.report_example import (
    TRIALS,
    Page,
    data_scripts,
    layer,
    manifest,
    quality,
    report_data,
    text_of,
    trial,
)  # fmt: skip

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


@pytest.mark.parametrize("name", [HOSTILE, "名前/слой 🚀", "x" * 20_000, "", "\u202e\x00\x07"])
def test_names_from_files_are_only_text(name: str) -> None:
    data = report_data(
        manifest=manifest(
            model=GivenFile(path=name, sha256="c0" * 32), target=Target(name=name),
            inputs=(f"{name}: float32 (1, 4)",), outputs=(f"{name}: float32 (1, 4)",),
            config={"model": name}, quality=quality(name),
        ),
        layers=(layer(name, kernel=name, operator=name, weight_shape=name, level=name),),
        trials=(*TRIALS, trial(name, 0.5, 0.02, proposed_by=name)), notes=(name,),
    )  # fmt: skip
    html = render_report(data)
    page = Page(html)
    assert [t for t, _ in page.tags].count("script") == 1 + len(data_scripts(page))
    assert not [n for _, a in page.tags for n in a if n.startswith("on") or n == "style"]
    assert len(html) < 1_000_000
    if name == HOSTILE:
        assert HOSTILE in "".join(page.text)
        assert "<script>alert" not in html


def test_trials_without_finite_numbers_are_left_out_and_said_so() -> None:
    broken = trial("f" * 12, 0.5, float("nan"))
    html = render_report(report_data(trials=(*TRIALS, broken)))
    assert "1 trial without finite numbers left out." in text_of(html)
    assert "nan" not in data_scripts(Page(html))[0].lower()


def test_nothing_is_fetched() -> None:
    html = render_report(report_data())
    page = Page(html)
    links = [*page.attributes("href"), *page.attributes("src")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(r"url\(|@import|https?://", html)


def test_every_reference_inside_the_page_exists_once() -> None:
    page = Page(render_report(report_data(notes=("n",))))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    named = [h[1:] for h in page.attributes("href") if h.startswith("#")]
    for attribute in ("aria-labelledby", "aria-controls", "for"):
        named += page.attributes(attribute)
    assert set(named) <= set(ids)


def test_the_policy_allows_exactly_this_script_and_style() -> None:
    html = render_report(report_data())
    policy = next(
        a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "unsafe-inline" not in policy
    for tag in ("script", "style"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert body is not None
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_mark_of_a_chart_has_its_text() -> None:
    html = render_report(report_data())
    front = html[html.index('id="front"') : html.index('id="layers"')]
    tips = json.loads(data_scripts(Page(html))[0])
    drawings = re.findall(r'<g class="marks">(.*?)</g>', front, re.DOTALL)
    assert len(drawings) == 2  # wide and phone
    assert all(drawing.count("<use ") == len(tips) == 5 for drawing in drawings)


def test_a_large_job_renders_fast_and_small() -> None:
    reason = "stock ONNX Runtime multiplies zeros like any other weight, so it is as slow as dense"
    others = tuple(
        Alternative(
            level=f"unstructured@0.{i}:fp32", searched=False, reason=reason, seconds=1e-5,
            divergence=0.01,
        )
        for i in range(50, 62)
    )  # fmt: skip
    rows = tuple(layer(f"/encoder/layer.{i}/MatMul", alternatives=others) for i in range(300))
    rng = np.random.default_rng(0)
    points = tuple(
        trial(f"{i:012x}", float(rng.uniform(0.3, 1.2)), float(rng.exponential(0.05)))
        for i in range(1500)
    )
    start = time.perf_counter()
    html = render_report(report_data(layers=rows, trials=points))
    assert time.perf_counter() - start < 5.0
    assert len(html.encode()) < 4_000_000
