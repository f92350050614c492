"""What those who read uploads have given up: connections above all, in the real processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from api.inspection import Inspector
from api.runner import JOB_COMMAND
from tests.api.live_service import LiveService

ALONE = "sandbox._leave_for_an_empty_one"
SOCKETS = "sandbox._refuse_sockets"
TRY = """
import json, os, socket, subprocess, sys, threading
from api import sandbox

def tried(family, where):
    try:
        with socket.socket(family) as one:
            one.settimeout(10)
            one.connect(where)
    except OSError as error:
        return type(error).__name__
    return "connected"

go, found = threading.Event(), {}
def later():
    go.wait()
    found["older thread"] = tried(socket.AF_INET, ("127.0.0.1", port))
port, path, without = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
for name in without:  # as a container without privileges, or an unknown machine
    setattr(sandbox, name.partition(".")[2], lambda: False)
older = threading.Thread(target=later)
older.start()
found["left"] = sandbox.leave_network()
found["network"] = tried(socket.AF_INET, ("127.0.0.1", port))
found["file"] = tried(socket.AF_UNIX, path)
line = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"
found["program"] = subprocess.run([sys.executable, "-c", line], capture_output=True).returncode
go.set()
older.join()
one, other = socket.socketpair()
one.sendall(b"still there")
found["pair"] = other.recv(99).decode()
print(json.dumps(found))
"""


def tried(tmp_path: Path, *without: str) -> dict[str, Any]:
    """What a process can still do that left the network, in spite of what the system refuses."""
    path = str(tmp_path / "database.socket")
    with socket.socket() as network, socket.socket(socket.AF_UNIX) as file:
        network.bind(("127.0.0.1", 0))
        file.bind(path)
        for listening in (network, file):
            listening.listen()
        port = str(network.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", TRY, port, path, *without],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_container_without_privileges_leaves_the_network_too(tmp_path: Path) -> None:
    """There, no network of one's own is to be had: sockets are refused, whoever asks."""
    assert tried(tmp_path, ALONE) == {
        "left": True, "network": "PermissionError", "file": "PermissionError", "program": 1,
        "older thread": "PermissionError", "pair": "still there",
    }  # fmt: skip


def test_what_the_system_does_not_allow_is_told(tmp_path: Path) -> None:
    found = tried(tmp_path, ALONE, SOCKETS)
    assert (found["left"], found["network"], found["file"]) == (False, "connected", "connected")


def given_up(pid: int) -> dict[str, str]:
    """What the system says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition(":\t") for line in lines)}


def test_those_who_read_uploads_have_left(live: LiveService, inspector: Inspector) -> None:
    assert live.upload("models", b"no model").status_code == 422  # so one is there
    children = psutil.Process().children()
    found = [one.pid for one in children if any("inspect_process" in p for p in one.cmdline())]
    assert found
    for pid in found:
        told = given_up(pid)
        assert (told["Seccomp"], told["NoNewPrivs"]) == ("2", "1")
        if os.geteuid() == 0:
            assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")


PROBE = """
import sys
import api.job_process as process

def probe(config, progress):
    import socket
    try:
        socket.create_connection(("127.0.0.1", config["port"]), timeout=10)
    except OSError as error:
        progress.tell("outcome", outcome={"tried": type(error).__name__})

process.WORK = {"probe": probe}
process.main()
"""


@pytest.mark.slow
def test_a_job_has_left(tmp_path: Path) -> None:
    """Slow for its libraries only."""
    with socket.socket() as network:
        network.bind(("127.0.0.1", 0))
        network.listen()
        request = {
            "kind": "probe", "config": {"port": network.getsockname()[1]},
            "memory_bytes": 8 << 30, "file_bytes": 1 << 20,
        }  # fmt: skip
        done = subprocess.run(
            [*JOB_COMMAND[:-1], PROBE, str(os.getpid())], input=json.dumps(request) + "\n",
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=140,
        )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"kind": "outcome", "outcome": {"tried": "PermissionError"}}]
