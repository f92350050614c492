"""What `autosparse optimize --help` shows: what must be given first, values, where names are."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser

import pytest

from autosparse.cli import flags
from autosparse.cli.flags import given_fields
from autosparse.cli.main import run
from autosparse.cli.optimize import add_arguments
from autosparse.evaluation.metrics import BUILT_IN
from autosparse.pipeline.config import JobConfig, read_configs
from autosparse.pipeline.duration import duration_words, read_duration

Capture = pytest.CaptureFixture[str]
_SECTION = re.compile(r"^(\w[\w ]*):\n((?:(?: .*)?\n)+)", re.MULTILINE)
_FLAG = re.compile(r"^  (?:-h, )?--([a-z-]+)", re.MULTILINE)


def shown(capsys: Capture, command: str = "optimize") -> str:
    with pytest.raises(SystemExit):
        run([command, "--help"])
    return capsys.readouterr().out


def sections(text: str) -> dict[str, list[str]]:
    """Title of a group of flags -> the fields that stand in it, in their order."""
    return {
        title: [name.replace("-", "_") for name in _FLAG.findall(body)]
        for title, body in _SECTION.findall(text)
    }


@pytest.mark.parametrize("command", ["optimize", "submit"])
def test_what_must_be_given_stands_first(command: str, capsys: Capture) -> None:
    text = shown(capsys, command)
    usage = "model --calibration FILE --validation FILE --latency-budget LATENCY [options]"
    assert text.splitlines()[0] == f"usage: autosparse {command} {usage}"
    (_, options), (_, required), *_ = sections(text).items()
    assert options == ["help"]
    assert required == ["calibration", "validation", "latency_budget"]  # the model is no flag


def test_every_flag_stands_in_its_group(capsys: Capture) -> None:
    found = sections(shown(capsys))
    assert list(found) == [
        "options", "required", *flags._GROUPS, "the search", "this command", "examples",
    ]  # fmt: skip
    for title, names in flags._GROUPS.items():
        assert set(found[title]) == set(names) - {"model"}
    assert {"strategy", "trials", "time_limit", "output_dir"} <= set(found["the search"])
    assert found["this command"] == ["config", "resume", "dry_run", "json"]
    listed = [name for names in found.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(JobConfig.model_fields) - set(listed) == {"model", "schema_version"}


@pytest.mark.parametrize(
    "told",
    [
        "--percentile {p50,p95}", "--prepare {equalize,smooth,permute}", "--augment {flip,shift}",
        "--trials N", "--atlas DIRECTORY", "--max-drop DROP", "--time-limit TIME",
        "verified and delivered. Default: 30m.", "90s, 10m, 1h. Default: 10m.",
        "`autosparse backends` lists them", "`autosparse methods` lists them",
        "`autosparse spaces` lists them", "`autosparse strategies` lists them",
    ],
)  # fmt: skip
def test_a_value_is_spelled_or_told_where_to_find(told: str, capsys: Capture) -> None:
    assert told in " ".join(shown(capsys).split())


def test_every_metric_is_named() -> None:
    """No command lists them."""
    text = " ".join((JobConfig.model_fields["metric"].description or "").split())
    (named,) = re.findall(r"by name \(([^)]+)\)", text)
    assert named.split(", ") == list(BUILT_IN)


def test_the_examples_would_start() -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    lines = (parser.epilog or "").replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip().startswith("autosparse ")]
    assert len(commands) == 2
    for words in commands:
        (config,) = read_configs(given_fields(parser.parse_args(words[2:])))
        assert "max_drop" in config.model_fields_set


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(90.0, "90s"), (1800.0, "30m"), (5400.0, "90m"), (7200.0, "2h"), (0.5, "0.5s"), (61.0, "61s")],
)
def test_durations_are_written_as_they_are_read(seconds: float, spelled: str) -> None:
    assert duration_words(seconds) == spelled
    assert read_duration(spelled) == seconds
