"""Ray: one of our own on this machine, on loopback only, or a cluster that is joined."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil

from autosparse.errors import ConfigError, NotInstalledError, StorageError, WorkerError
from workers.ray_guard import Guard, working_in

MEASURE = "measure"
"""Ray resource of a device that times files; whoever holds it has the device alone."""

_OBJECT_STORE_BYTES = 256 << 20
# Ray puts sockets below it, whose paths the system limits to 107 characters.
_LONGEST_DIRECTORY = 40
_DAEMONS = {"raylet", "gcs_server"}
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # despite its name: all on 127.0.0.1
_REACH_SECONDS = 10.0
_LOOPBACK = ("127.", "localhost:")


class RaySession:
    """A connection to Ray, and all of Ray where it is our own.

    Args:
        workers: how many processes may evaluate at once.
        address: of a cluster to join; None starts Ray here.
        reserved: how many of the last cores are the measurement lane's: none of Ray's own
            processes runs there, where there are others.
    """

    def __init__(self, workers: int, address: str | None, reserved: int = 1) -> None:
        self.workers = workers
        self.address = address
        self.directory: Path | None = None
        """Private directory in which all of our own Ray works; None while there is none."""
        self.generation = 0
        """How often Ray was left: what refers to anything in an earlier one is of no use."""
        self.cores = tuple(sorted(os.sched_getaffinity(0)))
        self._others = set(self.cores[:-reserved]) or set(self.cores)
        self._guard: Guard | None = None
        self._before: dict[str, str | None] = {}
        self._started = False
        self._daemons: list[psutil.Process] = []

    @property
    def is_own(self) -> bool:
        """Whether it was started here, so that all of it sees this machine's files."""
        return self.address is None

    def prepare(self) -> None:
        """Make sure that Ray is there, and will do as we want once it is asked for.

        Raises:
            NotInstalledError: Ray is not installed.
            ConfigError: it is in use in this process already.
        """
        values = _environment_of(self.address)
        self._before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        if load_ray().is_initialized():
            raise ConfigError(
                "this process is connected to Ray already",
                hint="call ray.shutdown() first, or run with --workers 0",
            )
        from ray._private.ray_constants import ENABLE_RAY_CLUSTER

        if self.is_own and ENABLE_RAY_CLUSTER:
            raise ConfigError(
                "Ray was imported before AutoSparse could keep it on this machine's loopback",
                hint="start the job in a process that has not imported ray, or with --workers 0",
            )

    def start(self) -> None:
        """Start or join, unless that has happened; a job with bad input never comes here.

        Raises:
            ConfigError: the cluster cannot be joined, or has no device to measure on.
            WorkerError: Ray does not start.
        """
        if self._started:
            return
        if self.is_own:
            self._start_own()
        else:
            self._join()
        self._started = True

    def is_alive(self) -> bool:
        """Whether our own Ray is complete; a cluster looks after itself."""
        return all(
            daemon.is_running() and daemon.status() != psutil.STATUS_ZOMBIE
            for daemon in self._daemons
        )

    def restart(self) -> None:
        """Begin anew, after something killed the daemons."""
        self._stop()
        self.start()

    def close(self) -> None:
        """Leave; what was started here ends, and its files are removed. May be repeated."""
        self._stop()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}

    def _stop(self) -> None:
        if self._started:
            self.generation += 1
            load_ray().shutdown()
        if self._guard is not None:
            self._guard.close()
        self._guard = self.directory = None
        self._daemons = []
        self._started = False

    def _start_own(self) -> None:
        self.directory = _short_directory()
        self._guard = Guard(self.directory)
        empty = self.directory / "empty"
        empty.mkdir(mode=0o700)
        try:
            # the driver's directory goes to the front of the workers' sys.path, and daemons inherit
            # the cores
            with contextlib.chdir(empty), _on_cores(self._others):
                load_ray().init(
                    address="local",
                    num_cpus=self.workers,
                    resources={MEASURE: 1},
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=str(self.directory / "ray"),
                    configure_logging=False,
                    log_to_driver=False,
                )
        except Exception as error:  # Ray has no common base for what may go wrong here
            raise WorkerError(
                f"Ray does not start: {error}",
                hint="free memory, or run with --workers 0, which needs no Ray",
            ) from error
        self._daemons = [p for p in working_in(self.directory) if p.name() in _DAEMONS]

    def _join(self) -> None:
        ray = load_ray()
        try:
            _reach(self.address)
            with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
                ray.init(address=self.address, configure_logging=False, log_to_driver=False)
        except Exception as error:  # as above
            raise ConfigError(
                f"the Ray cluster at {self.address} cannot be joined: {error}",
                hint="check the address, that it runs the same versions of Python and Ray, and "
                "that RAY_AUTH_TOKEN holds its token",
            ) from error
        if not ray.cluster_resources().get(MEASURE):
            raise ConfigError(
                f"the Ray cluster at {self.address} has no device to measure on",
                hint="""start that node with ray start --num-cpus 0 --resources '{"measure": 1}'""",
            )


def _reach(address: str | None) -> None:
    """Fail at once where nobody listens: Ray would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()


def _environment_of(address: str | None) -> dict[str, str]:
    """What Ray must find in the environment when it is imported."""
    values = {"RAY_USAGE_STATS_ENABLED": "0"}
    if address is None:
        return {**values, **_ON_LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
    if address.startswith(_LOOPBACK):  # or Ray looks for this machine under its other address
        values |= _ON_LOOPBACK
    if "RAY_AUTH_TOKEN" in os.environ:  # or Ray has it, and does not show it
        values["RAY_AUTH_MODE"] = os.environ.get("RAY_AUTH_MODE", "token")
    return values


def load_ray() -> ModuleType:
    """The library.

    Raises:
        NotInstalledError: it is not there.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise NotInstalledError(
            "--workers needs Ray, which is not installed",
            hint="pip install 'autosparse[ray]', or run with --workers 0",
        ) from error
    return ray


@functools.cache
def _token() -> str:
    """One for the whole process: Ray reads it once."""
    return secrets.token_hex(32)


def _short_directory() -> Path:
    """A private directory with a short name; the guard removes it.

    Raises:
        StorageError: there is no place for one.
    """
    for parent in ("/tmp", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            directory = Path(tempfile.mkdtemp(prefix="as", dir=parent)).resolve()
            if len(str(directory)) <= _LONGEST_DIRECTORY:
                return directory
            directory.rmdir()
    raise StorageError(
        "Ray needs a temporary directory with a short path, and /tmp is not writable",
        hint="point TMPDIR to a directory with a short path",
    )


@contextlib.contextmanager
def _on_cores(cores: set[int]) -> Iterator[None]:
    """Keep what is started meanwhile on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
