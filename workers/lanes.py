"""Which lane measures on a target: this machine's, an agent's, or one that only simulates."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from autosparse.evaluation import Target
from autosparse.evaluation.address import SIMULATION_SCHEME, AgentAddress
from autosparse.evaluation.simulation import SIMULATED, Device
from backends import BACKENDS
from workers.agent_key import read_key
from workers.agent_lane import AgentLane
from workers.agent_line import Dialled, HandedOver
from workers.asking_lane import AskingLane
from workers.isolated_lane import IsolatedLane
from workers.measuring_cores import MeasuringCores
from workers.quiet_memory import QuietMemory
from workers.simulated_lane import SimulatedLane
from workers.user_state import state_directory


def lane_of(target: Target, tell: Callable[[str], None]) -> AskingLane | SimulatedLane:
    """The lane of a target. It connects when it is first asked.

    Args:
        target: where to measure.
        tell: told in a sentence when an agent does not answer.

    Raises:
        ConfigError: there is no key for the target's agent, or no device of that name.
    """
    if not target.address:
        return IsolatedLane(
            QuietMemory(state_directory("quiet")), MeasuringCores.of_this_user(tell)
        )
    if target.is_simulated:
        tell(f"{SIMULATED}: nothing is measured; an analytic model of {target.address} tells time")
        device = Device.load(target.address.removeprefix(SIMULATION_SCHEME))
        return SimulatedLane(device, BACKENDS.load(target.backend))
    address = AgentAddress.parse(target.address)
    line = HandedOver.inherited(address, os.environ) or _dialled(address, target)
    return AgentLane(line, tell, quiet=QuietMemory(state_directory("quiet")))


def _dialled(address: AgentAddress, target: Target) -> Dialled:
    return Dialled(address, read_key(Path(target.key_file) if target.key_file else None))
