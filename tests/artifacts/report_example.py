"""A small report's data, and a reader of the page that is made from it."""

from __future__ import annotations

import hashlib
from html.parser import HTMLParser
from typing import Any

import numpy as np

from autosparse.artifacts.layer_rows import Alternative, LayerRow
from autosparse.artifacts.manifest import (
    GivenFile,
    LatencySummary,
    Manifest,
    Offer,
    SearchSummary,
)
from autosparse.artifacts.report_data import (
    ReportData,
    TrialPoint,
)
from autosparse.evaluation import (
    Comparison,
    Contract,
    Environment,
    Interval,
    Measurement,
    Quality,
    Target,
    Verdict,
)
from autosparse.evaluation.measurement import Block
from autosparse.evaluation.noise import NoiseFloor

DELIVERED = "a1b2c3d4e5f6"
BASELINE_SECONDS = 418e-6


def measurement(
    label: str, seconds: float, *, discarded: int = 1, rounds: int = 8, sha256: str = ""
) -> Measurement:
    wobble = np.linspace(0.99, 1.01, 20)
    blocks = tuple(
        Block(
            samples_seconds=tuple(seconds * wobble * (1.3 if i < discarded else 1.0)),
            slowdown=0.4 if i < discarded else 0.01,
            accepted=i >= discarded,
        )
        for i in range(rounds)
    )
    return Measurement(
        label=label, file_sha256=sha256 or hashlib.sha256(label.encode()).hexdigest(),
        target="local-cpu", environment="0a1b2c3d4e5f", warmup_runs=3, blocks=blocks,
    )  # fmt: skip


def layer(name: str = "layer1.conv1", **changes: Any) -> LayerRow:
    others = (
        Alternative(level="dense:fp32", searched=True, reason="", seconds=3e-5, divergence=0.0),
        Alternative(
            level="1:4:int8", searched=False, reason=f"{name}: 3 input channels", seconds=None,
            divergence=None,
        ),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "name": name, "operator": "Conv", "weight_shape": "16x16x3x3", "parameters": 2304,
        "weight_bytes": 9216,
        "level": "2:4:int8+magnitude", "sparsity": 0.5, "kernel": "QLinearConv",
        "baseline_kernel": "FusedConv", "seconds_before": 3e-5, "seconds_after": 1.2e-5,
        "divergence": 0.0013, "alternatives": others,
    }  # fmt: skip
    return LayerRow(**{**fields, **changes})


def trial(recipe_id: str, ratio: float, drop: float, **changes: Any) -> TrialPoint:
    fields: dict[str, Any] = {
        "recipe_id": recipe_id, "proposed_by": "tpe", "latency_ratio": ratio, "drop": drop,
        "latency_seconds": ratio * BASELINE_SECONDS, "divergence": abs(drop),
        "drop_interval": Interval(low=drop - 0.004, high=drop + 0.005), "compressed_layers": 12,
        "deliverable": ratio <= 0.6 and drop <= 0.01,
    }  # fmt: skip
    return TrialPoint(**{**fields, **changes})


TRIALS = (
    trial(DELIVERED, 0.488, 0.001),
    trial("1" * 12, 0.53, 0.0, is_plain_int8=True),
    trial("2" * 12, 0.31, 0.22),
    trial("3" * 12, 0.9, -0.002),
)


def quality(metric: str = "top1", drop: float = 0.001, **changes: Any) -> Quality:
    dense = 0.885 if metric == "top1" else 0.0
    fields: dict[str, Any] = {
        "metric": metric, "rows": 500, "baseline_value": dense,
        "value": dense - drop if metric == "top1" else drop, "drop": drop,
        "drop_interval": Interval(low=drop - 0.005, high=drop + 0.005),
    }  # fmt: skip
    return Quality(**{**fields, **changes})


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "product": "autosparse 0.1.0", "created": "2025-01-02T03:04:05+00:00",
        "verdict": Verdict.MET,
        "contract": contract(), "target": Target(input_shapes={"input": (1, 3, 32, 32)}),
        "environment": "0a1b2c3d4e5f", "model": GivenFile(path="models/net.onnx", sha256="c0" * 32),
        "data": {"validation": GivenFile(path="val.npz", sha256="d1" * 32, rows=1000)},
        "inputs": ("input: float32 (batch, 3, 32, 32)",),
        "outputs": ("logits: float32 (batch, 10)",),
        "recipe_id": DELIVERED, "quality": quality(), "test_quality": None,
        "latency": LatencySummary(
            baseline_p50=418e-6, baseline_p95=425e-6, p50=204e-6, p95=208e-6, ratio=204 / 418,
            ratio_interval=Interval(low=0.483, high=0.493), samples=140, discarded_samples=20,
        ),
        "fastest": Offer(
            recipe_id="2" * 12, latency_seconds=130e-6, latency_ratio=0.31, drop=0.22
        ),
        "offers": (),
        "search": SearchSummary(
            strategy="tpe", trials=4, candidates=600, failed=1, seconds=742.0, seed=7
        ),
        "config": {"model": "models/net.onnx", "latency_budget": "60%", "trials": 4},
        "files": {},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def contract(**changes: Any) -> Contract:
    fields: dict[str, Any] = {
        "budget": "60%", "percentile": "p50", "max_drop": "1pt", "strict": False,
        "baseline_seconds": BASELINE_SECONDS, "baseline_quality": 0.885,
    }  # fmt: skip
    return Contract(**{**fields, **changes})


def report_data(**changes: Any) -> ReportData:
    fields: dict[str, Any] = {
        "manifest": manifest(), "layers": (layer(), layer("fc", level="dense:fp32", sparsity=0.0)),
        "trials": TRIALS,
        "comparison": Comparison(
            baseline=measurement("baseline", 418e-6), candidate=measurement(DELIVERED, 204e-6)
        ),
        "environment": Environment(
            cpu="A processor", instruction_sets=("avx2",), cores=4, memory_bytes=16 << 30,
            system="Linux", python="3.11.9", libraries={"onnxruntime": "1.24.0"},
        ),
        "guard_rails": None, "predictor": None, "notes": (),
        "noise_floor": NoiseFloor(
            percentile="p50", ratio_interval=Interval(low=0.996, high=1.003), rounds=16
        ),
        "budget_met": True,
    }  # fmt: skip
    return ReportData(**{**fields, **changes})


def text_of(html: str) -> str:
    """What a person reads, with plain spaces and minus signs."""
    page = Page(html)
    joined = " ".join(" ".join(page.text).split())
    return joined.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


class Page(HTMLParser):
    """Tags, attributes and texts of a document; fails where tags do not nest."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif not self._open or self._open[-1] != "style":
            self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        return [a[name] or "" for _, a in self.tags if name in a]


def data_scripts(page: Page) -> list[str]:
    """Texts of the scripts that only hold data."""
    kinds = [a.get("type") for t, a in page.tags if t == "script"]
    return [s for s, kind in zip(page.scripts, kinds, strict=True) if kind == "application/json"]
