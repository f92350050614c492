"""Settings of a recovery: what is given reaches the training, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest

from autosparse.errors import ConfigError
from autosparse.model_graph import ModelGraph
from autosparse.recovery import RECOVERIES
from autosparse.recovery.settings import settings_of
from tests.recovery.lessons import lesson


def test_settings_behind_a_colon_are_those_of_the_configuration() -> None:
    found: Any = RECOVERIES.load("gradual: every = 4,ramp_end=0.70")
    assert (found.config.ramp_end, found.config.every) == (0.7, 4)
    assert found.name == "gradual:ramp_end=0.7,every=4"
    assert RECOVERIES.load(found.name).name == found.name
    assert RECOVERIES.load("gradual").name == "gradual"
    assert found.config != vars(RECOVERIES.load("gradual"))["config"]


@pytest.mark.parametrize("name", RECOVERIES.names())
def test_every_setting_can_be_given(name: str) -> None:
    kind = settings_of(RECOVERIES.load(name))
    if kind is None:
        with pytest.raises(ConfigError, match=f"{name} has no settings"):
            RECOVERIES.load(f"{name}:anything=1")
        return
    for setting, field in kind.model_fields.items():
        assert field.description
        made = RECOVERIES.load(f"{name}:{setting}={field.default}")
        assert type(made) is type(RECOVERIES.load(name))
        assert kind() in vars(made).values()
        assert made.name == f"{name}:{setting}={field.default}"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("gradual:ramp_start=0.1", "gradual: ramp_start"),
        ("gradual:ramp_end=soon", "gradual: ramp_end"),
        ("gradual:ramp_end=1.5", "gradual: ramp_end"),
        ("gradual:0.7", "'0.7' sets nothing"),
        ("gradual:", "'' sets nothing"),
        ("os:system", "no recovery is called 'os'"),
    ],
)
def test_what_is_wrong_is_named(asked: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        RECOVERIES.load(asked)


def test_a_setting_reaches_the_training(residual: ModelGraph) -> None:
    """The ramp ends sooner, so that more of the curve has its level's zeros."""
    at_target = []
    for name in ("st3", "st3:ramp_end=0.2"):
        curve = lesson(residual, "unstructured@0.8:fp32", RECOVERIES.load(name)).curve
        at_target.append(sum(point.at_target for point in curve))
    assert at_target[0] < at_target[1]
