"""`autosparse agent`: measure on this device for jobs that run elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType

from autosparse.cli.terminal import console
from autosparse.errors import ConfigError
from autosparse.pipeline.duration import read_duration
from workers.agent_process import run_agent
from workers.agent_settings import AgentSettings, JoinSettings

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, for whom, and within which limits."""
    parser.add_argument(
        "--listen", default="127.0.0.1:9190",
        help="HOST:PORT; port 0 takes a free one. Default: 127.0.0.1:9190, this machine only.",
    )  # fmt: skip
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument(
        "--join", metavar="URL",
        help="Address of a service that the device is offered to, as long as the agent runs. The "
        "service's key is read from $AUTOSPARSE_KEY.",
    )  # fmt: skip
    whom.add_argument(
        "--key-file", type=Path,
        help="File with the key that drivers must hold; drawn and written where there is none. "
        "Without it, the key is in AUTOSPARSE_AGENT_KEY.",
    )  # fmt: skip
    parser.add_argument(
        "--scratch", type=Path,
        help="Directory for the files that are measured, emptied at the start; nothing is written "
        "elsewhere. Without it: one of the system's temporary directory.",
    )  # fmt: skip
    parser.add_argument(
        "--scratch-limit", type=int, default=4096, metavar="MIB",
        help="Most that it keeps there, in MiB. Default: 4096.",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", default="10m",
        help="Longest measurement, whatever the job asks for. Default: 10m.",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="Print every message as a JSON document of its own."
    )
    _add_joining(parser)


def _add_joining(parser: argparse.ArgumentParser) -> None:
    """What the device is called at the service that it joins."""
    parser.add_argument(
        "--name",
        help="With --join: what jobs call the device. Without it: the name of this machine.",
    )  # fmt: skip
    parser.add_argument(
        "--shared", action="store_true",
        help="With --join: let jobs of every key go there. The key needs the scope admin.",
    )  # fmt: skip
    parser.add_argument(
        "--advertise", default="", metavar="HOST:PORT",
        help="With --join: where the service connects to. Without it: where the agent listens.",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Measure until interrupted."""
    scratch = arguments.scratch or Path(tempfile.gettempdir()) / f"autosparse-agent-{os.getuid()}"
    settings = AgentSettings(
        listen=arguments.listen, key_file=arguments.key_file, scratch=scratch.absolute(),
        scratch_bytes=arguments.scratch_limit * _MIB,
        longest_seconds=read_duration(arguments.time_limit), join=_join(arguments),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(KeyboardInterrupt):
        run_agent(settings, _print_document if arguments.json else _print)
    return 0


def _join(arguments: argparse.Namespace) -> JoinSettings | None:
    if arguments.join is None:
        if arguments.name or arguments.shared or arguments.advertise:
            raise ConfigError(
                "--name, --shared and --advertise say how a service is joined, and none is",
                hint="add --join URL, or leave them away",
            )
        return None
    from autosparse.client.client import KEY_VARIABLE  # its libraries are needed for this alone

    return JoinSettings(
        url=arguments.join, bearer=os.environ.get(KEY_VARIABLE),
        name=arguments.name or socket.gethostname().partition(".")[0],
        shared=arguments.shared, advertise=arguments.advertise,
    )  # fmt: skip


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(line: str) -> None:
    console().print(line, markup=False)
    sys.stdout.flush()


def _print_document(line: str) -> None:
    sys.stdout.write(json.dumps({"message": line}) + "\n")
    sys.stdout.flush()
