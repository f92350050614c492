"""The report: one HTML file that needs nothing else, no network included.

Everything in it may come from a hostile file, so the template escapes by itself, and a content
security policy lets only the page's own script and style run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from autosparse.artifacts.load_snippets import load_snippets
from autosparse.artifacts.report_candidates import candidates_view
from autosparse.artifacts.report_data import ReportData
from autosparse.artifacts.report_evidence import (
    latency_view,
    predictor_view,
    quality_view,
)
from autosparse.artifacts.report_front import FrontSource, front_view
from autosparse.artifacts.report_layers import correction_views, layers_view, skipped_view
from autosparse.artifacts.report_measured import measured_view
from autosparse.artifacts.report_rails import counted_sentence, guard_rails_view
from autosparse.artifacts.report_recovery import recovery_view
from autosparse.artifacts.report_verdict import NOT_MEASURED, verdict_view
from autosparse.artifacts.report_words import QualityWords, bytes_size, count, duration, short
from autosparse.artifacts.snippet_tensors import input_tensors, output_names

_TEMPLATES = "templates"


def render_report(data: ReportData) -> str:
    """Return the report as one HTML document."""
    return render_page("report.html", _sections(data))


def render_page(template: str, sections: Mapping[str, Any], styles: Sequence[str] = ()) -> str:
    """One HTML document that needs nothing else, in the style of the report.

    Args:
        template: name of the page's template.
        sections: everything the template names, but for style, script and policy.
        styles: names of style sheets beside the report's.
    """
    style = "".join(report_asset(name) for name in ("report.css", *styles))
    script = report_asset("report.js")
    return (
        _environment()
        .get_template(template)
        .render(
            **sections,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
        )
    )


def render_front(source: FrontSource) -> str:
    """The quality-latency plot alone, as a piece of a page that has the report's style."""
    return render_part("front_plot.html", front=front_view(source))


def render_part(template: str, **sections: Any) -> str:
    """A piece of a page that has the report's style and script.

    Args:
        template: name of its template.
        **sections: everything the template names.
    """
    return _environment().get_template(template).render(**sections)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autosparse.artifacts", _TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "duration": duration, "short": short}
    return environment


def _sections(data: ReportData) -> dict[str, Any]:
    """Everything the template names."""
    manifest = data.manifest
    plain = manifest.model_dump(mode="json")
    source = FrontSource(
        data.trials, manifest.contract, manifest.quality.metric, manifest.recipe_id
    )
    qualities = [quality_view(manifest.quality, "rows that gate (half of the validation file)")]
    if manifest.test_quality is not None:
        qualities.append(
            quality_view(manifest.test_quality, "test file (no decision looked at it)")
        )
    return {
        "data": data,
        "manifest": manifest,
        "model_name": short(PurePath(manifest.model.path).name or manifest.model.path),
        "quality_words": QualityWords(manifest.quality.metric),
        "verdict": verdict_view(data),
        "not_measured": NOT_MEASURED if manifest.target.is_simulated else "",
        "front": front_view(source),
        "candidates": candidates_view(data.candidates, source, manifest.search.failed),
        "measured": measured_view(manifest),
        "layers": layers_view(data.layers),
        "skipped": skipped_view(data.skipped),
        "corrections": correction_views(data.corrections),
        "latency": latency_view(data),
        "predictor": None if data.predictor is None else predictor_view(data.predictor),
        "recovery": None if data.recovery is None else recovery_view(data.recovery),
        "rails": None if data.guard_rails is None else guard_rails_view(data.guard_rails),
        "counted": counted_sentence(data.layers, manifest.latency.ratio),
        "qualities": qualities,
        "snippets": load_snippets(manifest) if manifest.delivers_model else [],
        "input_names": [tensor.name for tensor in input_tensors(manifest)],
        "output_names": output_names(manifest),
        "memory": bytes_size(data.environment.memory_bytes),
        "target_yaml": manifest.target.to_yaml(),
        "config_yaml": yaml.safe_dump(plain["config"], sort_keys=False, allow_unicode=True),
    }


def report_asset(name: str) -> str:
    """The report's style sheet or script, for other pages in its style."""
    folder = resources.files("autosparse.artifacts").joinpath(_TEMPLATES)
    return folder.joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing is fetched; only this very script and style are run."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
