"""`autosparse serve`: the HTTP server, the runner beside it, and the end of both."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.util import find_spec

import uvicorn

from api.app import create_app
from api.artifact_store import artifact_store
from api.database import Database
from api.deliverer import Deliverer
from api.event_hub import EventHub
from api.file_store import file_store
from api.inspection import Inspector, child_environment
from api.json_logs import log_json_lines
from api.keys import SCOPES, first_key, make_key, open_access
from api.recurring import recurring
from api.retention import Retention, trim_copies
from api.scheduler import Scheduler
from api.service import Service
from api.settings import ServerSettings
from api.snapshot_store import SnapshotStore
from api.tracking import tracking
from autosparse.client.key_records import NewKey
from autosparse.errors import ConfigError, NotInstalledError, WorkerError
from autosparse.heap import return_freed_memory, share_arenas

_log = logging.getLogger("autosparse.server")
_RUNNER = "from api.runner import main; main()"
_TRY_LOOPBACK = (
    sys.executable, "-P", "-c",
    "import sys; from api.sandbox import keep_loopback; sys.exit(not keep_loopback())",
)  # fmt: skip
_RESTART_SECONDS = 2.0
_STOP_SECONDS = 10.0
# Clients keep an idle connection for 5 s, and so would this server: closed at the moment when a
# request is on its way, it has no answer (one of the reads of `benchmarks service`, before this).
_IDLE_SECONDS = 30
_FOLLOWERS_SECONDS = 3
_LOOK_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_TRIM_SECONDS = 30.0
_COPIES_SECONDS = 60.0


@contextmanager
def opened(settings: ServerSettings) -> Iterator[Service]:
    """A service with everything that it holds open."""
    files = file_store(settings)
    database = Database(settings.database_url)
    database.upgrade()
    if not settings.keys:
        open_access(database)
    inspector = Inspector(settings.intake, files.root / "inspector.log")
    try:
        store = artifact_store(settings.artifacts)
        kept = SnapshotStore(settings.artifacts) if settings.own_home else None
        yield Service(settings, database, files, inspector, EventHub(database), store, kept)
    finally:
        inspector.close()
        database.close()


def serve(
    settings: ServerSettings,
    *,
    new_key: bool = False,
    runner: bool = True,
    ready: Callable[[str, NewKey | None], None],
) -> None:
    """Serve until a signal says to stop.

    Args:
        settings: where, and what is accepted.
        new_key: make another key for everything, for whoever lost the first.
        runner: whether jobs are run here, too.
        ready: told the address, and the key that was made, if one was.

    Raises:
        ConfigError: the address cannot be listened on, or jobs cannot have their workers here.
        NotInstalledError: workers are asked for, and Ray is not installed.
    """
    if runner and settings.workers:
        _check_workers(settings)
    log_json_lines()
    share_arenas()
    with _listening(settings) as listener, opened(settings) as service:
        key = None
        if settings.keys:
            key = (
                make_key(service.database, "made by serve", SCOPES)
                if new_key
                else first_key(service.database)
            )
        threading.Thread(target=_warm_up, args=(service.inspector,), daemon=True).start()
        host, port = listener.getsockname()[:2]
        with (
            _runner(settings) if runner else contextlib.nullcontext(),
            recurring("scheduler", Scheduler(service).tick, _LOOK_SECONDS),
            recurring("retention", Retention(service).tick, _SWEEP_SECONDS),
            recurring("webhooks", Deliverer(service).tick, _LOOK_SECONDS),
            recurring("memory", return_freed_memory, _TRIM_SECONDS),
            _copies(service) if settings.own_home else contextlib.nullcontext(),
            tracking(service),
        ):
            _settle()
            ready(f"http://{f'[{host}]' if ':' in host else host}:{port}", key)
            config = uvicorn.Config(
                create_app(service), log_config=None, access_log=False, server_header=False,
                timeout_graceful_shutdown=_FOLLOWERS_SECONDS, timeout_keep_alive=_IDLE_SECONDS,
            )  # fmt: skip
            _run(uvicorn.Server(config), listener)


def _settle() -> None:
    """What is there now stays: it need not be looked through for garbage again and again.

    Otherwise a collection of everything waits until a quarter as many objects have piled up.
    """
    gc.collect()
    gc.freeze()


def _copies(service: Service) -> AbstractContextManager[None]:
    """Of uploads that are in the artifacts' store, only so many lie here, too."""
    return recurring("copies", partial(trim_copies, service), _COPIES_SECONDS)


def _check_workers(settings: ServerSettings) -> None:
    """Say now what would else be wrong with every job."""
    if find_spec("ray") is None:
        raise NotInstalledError(
            "--workers needs Ray, which is not installed", hint="pip install 'autosparse[ray]'"
        )
    if not settings.ray_address and subprocess.run(_TRY_LOOPBACK, check=False).returncode != 0:
        raise ConfigError(
            "this system gives a process no network of its own, in which a job could have workers",
            hint="run as root, or let users make namespaces; or join a cluster with --ray-address",
        )


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal; whatever is behind this is tidied up after either of them."""
    # uvicorn raises the signal once more when it has ended, for whoever handled it before
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # named as TCP, asyncio sends its answers at once; else each waits 40 ms for an acknowledgement
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
                hint="give another --port, or --port 0 for a free one",
            ) from error
        listener.listen()  # who is told the address may connect at once
        yield listener


def _warm_up(inspector: Inspector) -> None:
    # the first upload tries again, and is told
    with contextlib.suppress(WorkerError):
        inspector.warm_up()


@contextmanager
def _runner(settings: ServerSettings) -> Iterator[None]:
    """A runner process, started again whenever it dies."""
    stop = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(settings, stop))
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


def _keep_running(settings: ServerSettings, stop: threading.Event) -> None:
    while not stop.is_set():
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUNNER, str(os.getpid())],
            stdin=subprocess.PIPE, cwd=settings.home, env=child_environment(),
            start_new_session=True,
        )  # fmt: skip
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                absolute = settings.model_copy(update={"home": settings.home.absolute()})
                pipe.write(absolute.model_dump_json().encode() + b"\n")
        while process.poll() is None and not stop.wait(0.2):
            pass
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return
        _log.warning("the runner ended with code %s and is started again", process.returncode)
        stop.wait(_RESTART_SECONDS)
