"""Which lane measures on a target: this machine's, or an agent's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autosparse.evaluation import Target
from autosparse.evaluation.address import AgentAddress
from workers.agent_key import read_key
from workers.agent_lane import AgentLane
from workers.asking_lane import AskingLane
from workers.isolated_lane import IsolatedLane


def lane_of(target: Target, tell: Callable[[str], None]) -> AskingLane:
    """The lane of a target. It connects when it is first asked.

    Args:
        target: where to measure.
        tell: told in a sentence when an agent does not answer.

    Raises:
        ConfigError: there is no key for the target's agent.
    """
    if not target.address:
        return IsolatedLane()
    key = read_key(Path(target.key_file) if target.key_file else None)
    return AgentLane(AgentAddress.parse(target.address), key, tell)
