"""Assemble a job on workers of Ray: the only place where all of Ray's parts meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autosparse.evaluation import Target
from autosparse.pipeline.config import JobConfig
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Progress
from backends import BACKENDS
from workers.lanes import lane_of
from workers.measuring_cores import MeasuringCores
from workers.quiet_memory import QuietMemory
from workers.ray_session import RaySession
from workers.user_state import state_directory


@contextmanager
def ray_engines(config: JobConfig, target: Target, progress: Progress) -> Iterator[Engines]:
    """Workers, and a lane that has its device alone; all of it ends with the job.

    A target with an address has a lane of its own: Ray's only measures on Ray's nodes.

    Raises:
        NotInstalledError: Ray is not installed.
        ConfigError: Ray is in use in this process already.
    """
    session = RaySession(config.workers, config.ray_address, reserved=target.threads)
    try:
        session.prepare()
        # these import Ray, which must not happen before a session is prepared
        from workers.ray_lane import RayLane
        from workers.ray_pool import RayPool

        own = None
        if not target.address:
            cores = MeasuringCores.of_this_user(progress.note)
            own = RayLane(session, QuietMemory(state_directory("quiet")), cores)
        with own or lane_of(target, progress.note) as lane:
            yield Engines(
                backend=BACKENDS.load(target.backend), lane=lane, progress=progress,
                pool=RayPool(session, progress.note),
            )  # fmt: skip
    finally:
        session.close()
