"""`autosparse profile`: where a model's time goes; with --atlas, where sparsity would pay."""

from __future__ import annotations

import argparse
import re

from rich import box
from rich.markup import escape
from rich.table import Table

from autosparse.artifacts.atlas_data import AtlasData, break_even_words, summary, whole_file
from autosparse.cli.flags import add_config_flags, given_fields
from autosparse.cli.terminal import TerminalProgress, console, print_json
from autosparse.levels.break_even import AtlasEntry, family_of
from autosparse.pipeline.atlas import PAGE_FILE, run_atlas
from autosparse.pipeline.config import ProfileConfig, read_profile_config
from autosparse.pipeline.job import target_of
from autosparse.pipeline.profile import ModelProfile, run_profile
from workers.local import local_engines

_NUMBERS = re.compile(r"\d+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The profile's fields, and how to print it."""
    add_config_flags(parser, ProfileConfig)
    parser.add_argument("--json", action="store_true", help="Print everything as JSON.")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    config = read_profile_config(given_fields(arguments, ProfileConfig))
    progress = TerminalProgress()
    with local_engines(target_of(config), progress) as engines:
        try:
            if config.atlas:
                _print_atlas(run_atlas(config, engines), config, as_json=arguments.json)
            else:
                _print_profile(run_profile(config, engines), as_json=arguments.json)
        finally:
            progress.close()
    return 0


def _print_profile(profile: ModelProfile, *, as_json: bool) -> None:
    if as_json:
        print_json({"seconds": profile.seconds, **profile.model_dump(mode="json")})
        return
    table = _table(f"{profile.seconds * 1e3:.3f} ms an inference (p50), from {profile.inputs}")
    table.add_column("layer", overflow="fold")
    table.add_column("weight", overflow="fold")
    table.add_column("kernel", overflow="fold")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    for layer in profile.layers:
        shape = "x".join(map(str, layer.weight_shape))
        table.add_row(
            escape(layer.layer),
            f"{layer.operator} {shape}",
            escape(layer.kernel or "-"),
            "-" if layer.seconds is None else f"{layer.seconds * 1e3:.4f}",
            "-" if layer.share is None else f"{layer.share:.1%}",
        )
    table.add_section()
    for other in profile.rest:
        table.add_row(
            f"{other.nodes} other node{'' if other.nodes == 1 else 's'}", "",
            escape(other.operator),
            f"{other.seconds * 1e3:.4f}", f"{other.share:.1%}",
        )  # fmt: skip
    console().print(table, soft_wrap=False)
    whole = sum(layer.share or 0.0 for layer in profile.layers)
    unknown = sum(layer.seconds is None for layer in profile.layers)
    told = f"The layers take {whole:.0%} of the time: no compression saves more than that."
    if unknown:
        told += f" {unknown} of them cannot be told from the rest in what the runtime executes."
    console().print(told, markup=False)


def _print_atlas(data: AtlasData, config: ProfileConfig, *, as_json: bool) -> None:
    if as_json:
        print_json({"summary": summary(data.entries), **data.model_dump(mode="json")})
        return
    title = "break-even: the share of zeros from which on a level beats the best dense one"
    table = _table(title)
    table.add_column("layers", overflow="fold", ratio=1)
    table.add_column("best dense\nus", justify="right")
    for family in data.families:
        pattern, _, precision = family.rpartition(":")
        table.add_column(f"{escape(pattern)}\n{precision}", justify="right")
    for entry in data.entries:
        table.add_row(*_cells(entry))
    whole = whole_file(data)
    if whole is not None:
        seconds = whole.best_dense.seconds or 0.0
        table.add_section()
        table.add_row(
            "the whole file\n[dim]with every layer at it that can be[/dim]",
            f"{seconds * 1e6:.3g}\n[dim]{whole.best_dense.level.precision.value}[/dim]",
            *(break_even_words(found) for found in whole.break_evens),
        )
    console().print(table, soft_wrap=False)
    for reason in _reasons(data):
        console().print(f"  not measured: {reason}", markup=False)
    out = console()
    out.print(summary(data.entries), markup=False)
    out.print(
        f"{data.measured} measured, {data.reused} known from earlier runs; inputs and ranges from "
        f"{data.inputs}.",
        markup=False,
    )
    if config.plans:
        out.print(_plan_words(data), markup=False)
    out.print(f"atlas: {config.output_dir / PAGE_FILE}", markup=False)


def _plan_words(data: AtlasData) -> str:
    """For how many of the levels another plan is faster than the usual one."""
    times = [time for entry in data.entries for time in entry.times if time.sparsity > 0]
    timed = [time for time in times if time.seconds is not None]
    return (
        f"Another plan of the kernels is faster for {sum(bool(t.plan) for t in timed)} of "
        f"{len(timed)} sparse levels of a layer shape: jobs with --atlas use it."
    )


def _cells(entry: AtlasEntry) -> list[str]:
    first = escape(entry.layers[0])
    more = f" (+{len(entry.layers) - 1})" if len(entry.layers) > 1 else ""
    dense = entry.best_dense
    best = "-"
    if dense is not None and dense.seconds is not None:
        best = f"{dense.seconds * 1e6:.3g}\n[dim]{dense.level.precision.value}[/dim]"
    return [
        f"{first}{more}\n[dim]{escape(entry.shape.short_title)}[/dim]",
        best,
        *(break_even_words(found) for found in entry.break_evens),
    ]


def _reasons(data: AtlasData) -> list[str]:
    """One example of every kind of reason why levels were not measured for some layers."""
    kinds: dict[str, list[str]] = {}
    for entry in data.entries:
        lacking = {b.family for b in entry.break_evens if b.verdict == "unmeasured"}
        for time in entry.times:
            if time.reason and family_of(time.level) in lacking:
                # two reasons are of one kind where they differ in names and numbers only
                plain = time.reason.replace(entry.layers[0], "").replace(str(time.level), "")
                kinds.setdefault(_NUMBERS.sub("", plain), []).append(time.reason)
    return [
        told[0] if len(told) == 1 else f"{told[0]} (and {len(told) - 1} more like this)"
        for told in kinds.values()
    ]


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip
