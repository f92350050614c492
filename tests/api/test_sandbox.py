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


def tried(tmp_path: Path, *without: str, script: str = TRY) -> dict[str, Any]:
    """What a process can still do that left the network, in spite of what the system refuses."""
    path = str(tmp_path / "database.socket")
    with socket.socket() as network, socket.socket(socket.AF_UNIX) as file:
        network.bind(("127.0.0.1", 0))
        file.bind(path)
        for listening in (network, file):
            listening.listen()
        port = str(network.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", script, port, path, *without],
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


TRY_LOOPBACK = (
    TRY.partition("go, found")[0]
    + """
port, path, without = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
for name in without:
    setattr(sandbox, name.partition(".")[2], lambda: False)
found = {"kept": sandbox.keep_loopback()}
with socket.socket() as mine:
    mine.bind(("127.0.0.1", 0))
    mine.listen()
    found["own"] = tried(socket.AF_INET, mine.getsockname())
found["network"] = tried(socket.AF_INET, ("127.0.0.1", port))
found["file"] = tried(socket.AF_UNIX, path)
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
except OSError as error:
    found["raw"] = type(error).__name__
line = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=10)"
found["program"] = subprocess.run([sys.executable, "-c", line], capture_output=True).returncode
print(json.dumps(found))
"""
)


def test_a_loopback_of_ones_own(tmp_path: Path) -> None:
    """What workers of a job need: each other, and nothing beyond, this machine included."""
    found = tried(tmp_path, script=TRY_LOOPBACK)
    if not found["kept"]:
        pytest.skip("this system gives a process no network of its own")
    assert found == {
        "kept": True, "own": "connected", "network": "ConnectionRefusedError", "program": 1,
        "raw": "PermissionError",
        "file": "connected",  # Ray has such sockets; docs/security.md tells
    }  # fmt: skip


def test_without_a_network_of_ones_own_nothing_is_promised(tmp_path: Path) -> None:
    found = tried(tmp_path, ALONE, script=TRY_LOOPBACK)
    assert (found["kept"], found["network"]) == (False, "connected")


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
import ctypes, encodings.ascii, encodings.idna, os, sys
import api.job_process as process

if len(sys.argv) > 2:  # as whom a user starts the server who is not root
    os.setgroups([])
    os.setresgid(*[int(sys.argv[2])] * 3)
    os.setresuid(*[int(sys.argv[2])] * 3)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)

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
@pytest.mark.parametrize("user", [(), ("65534",)], ids=["whoever it is", "not root"])
def test_a_job_has_left(tmp_path: Path, user: tuple[str, ...]) -> None:
    """Slow for its libraries only."""
    if user:
        if os.geteuid() != 0:
            pytest.skip("only root may become another user")
        os.chown(tmp_path, int(user[0]), int(user[0]))
    with socket.socket() as network:
        network.bind(("127.0.0.1", 0))
        network.listen()
        request = {
            "kind": "probe", "config": {"port": network.getsockname()[1]},
            "memory_bytes": 8 << 30, "file_bytes": 1 << 20,
        }  # fmt: skip
        done = subprocess.run(
            [*JOB_COMMAND[:-1], PROBE, str(os.getpid()), *user], input=json.dumps(request) + "\n",
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=140,
        )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"kind": "outcome", "outcome": {"tried": "PermissionError"}}]
