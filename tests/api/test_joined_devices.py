"""Devices that offer themselves: who may, from where, whose jobs go there, and how they do."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.device_lines import lines_to
from api.job_ledger import JobLease, make_lane, take_job
from api.tables import DeviceRow, JobRow, LaneRow
from autosparse.evaluation.address import AgentAddress
from tests.api.live_service import LiveService, job_fields
from tests.api.schedule_world import delivered_job
from tests.api.seeded import add_job
from tests.workers.agents import DEVICE, KEY, PlayedLane, RunningAgent, running_agent
from workers.agent_line import HandedOver

OTHER_KEY = "f" * 64
BOARD = AgentAddress("board-a", 9190)


def offer(live: LiveService, address: object, headers: Any = None, **more: Any) -> Any:
    asked = {"name": "board-a", "address": str(address), "key": KEY.decode(), **more}
    return live.http.post("/v1/devices", json=asked, headers=headers)


def names(live: LiveService, headers: Any = None) -> list[str]:
    items = live.http.get("/v1/devices", headers=headers).json()["items"]
    return [item["name"] for item in items]


def take(live: LiveService, runner: str, device: str) -> JobLease | None:
    make_lane(live.service.database, device)
    return take_job(live.service.database, runner, device, 60.0, 5)


def test_a_device_is_there_as_long_as_its_agent_says_so(
    joinable: LiveService, agent: RunningAgent
) -> None:
    told = offer(joinable, agent.address)
    assert told.status_code == 201, told.text
    there = told.json()
    assert (there["name"], there["joined"], there["shared"]) == ("board-a", True, False)
    assert (there["environment"], there["machine"]) == (DEVICE.id, "aarch64")
    assert there["libraries"] == DEVICE.libraries
    assert KEY.decode() not in joinable.http.get("/v1/devices").text
    renewal = {"key": KEY.decode()}
    set_until(joinable, 1.0)
    assert names(joinable) == [], "nothing was heard of it for long"
    renewed = joinable.http.post("/v1/devices/board-a:renew", json=renewal)
    assert renewed.status_code == 204, renewed.text
    assert names(joinable) == ["board-a"]
    assert joinable.http.delete("/v1/devices/board-a").status_code == 204
    assert names(joinable) == []
    assert joinable.http.post("/v1/devices/board-a:renew", json=renewal).status_code == 404
    assert offer(joinable, agent.address).status_code == 201, "it comes back"


def set_until(live: LiveService, until: float) -> None:
    with live.service.database.writing() as session:
        session.get_one(DeviceRow, "board-a").until = until


def test_no_device_joins_where_nobody_named_a_network(
    live: LiveService, agent: RunningAgent
) -> None:
    refused = offer(live, agent.address)
    assert refused.status_code == 403
    assert "--device-network" in refused.json()["hint"]
    assert agent.told == [], "nothing was connected to"


HOSTILE: list[tuple[dict[str, Any], int]] = [
    ({"address": "10.9.8.7:9190"}, 403), ({"address": "[::1]:9190"}, 403),
    ({"address": "localhost:9190"}, 422), ({"address": "127.0.0.1:0"}, 422),
    ({"address": "127.0.0.1"}, 422), ({"address": "127.0.0.1:99999"}, 422),
    ({"address": "127.0.0.1:9190/key"}, 422), ({"address": "http://127.0.0.1:1"}, 422),
    ({"address": "127.0.0.1:9190\x00"}, 422), ({"name": "../lane"}, 422),
    ({"name": ""}, 422), ({"name": "x" * 64}, 422), ({"name": "a\nb"}, 422),
    ({"key": "short"}, 422), ({"key": "g" * 64}, 422), ({"shared": "perhaps"}, 422),
    ({"environment": {}}, 422),
]  # fmt: skip


def test_hostile_offers(joinable: LiveService, agent: RunningAgent) -> None:
    for wrong, status in HOSTILE:
        answer = offer(joinable, **{"address": str(agent.address), **wrong})
        assert answer.status_code == status, (wrong, answer.text)
    assert names(joinable) == []
    assert agent.told == [], "nothing was connected to"


def test_nobody_learns_what_listens_at_an_address(
    joinable: LiveService, agent: RunningAgent
) -> None:
    """Nothing, something else, an agent with another key: the answers are the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = AgentAddress("127.0.0.1", taken.getsockname()[1])
    with answering(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(4096)) as other:
        said = [offer(joinable, address).json()["detail"] for address in (closed, other)]
    refused = offer(joinable, agent.address, key=OTHER_KEY)
    assert refused.status_code == 422
    said.append(refused.json()["detail"])
    assert len({line.partition(" at ")[0] for line in said}) == 1, said
    assert names(joinable) == []


@contextlib.contextmanager
def answering(said: bytes) -> Iterator[AgentAddress]:
    """Something that says one thing to whoever connects, and is no agent."""
    with socket.create_server(("127.0.0.1", 0)) as there:

        def greet() -> None:
            connection, _ = there.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(said)

        thread = threading.Thread(target=greet)
        thread.start()
        yield AgentAddress("127.0.0.1", there.getsockname()[1])
        thread.join()


def test_a_name_is_one_devices(joinable: LiveService, agent: RunningAgent) -> None:
    make_lane(joinable.service.database, "tower")
    assert offer(joinable, agent.address, name="tower").status_code == 409, "it has a runner"
    assert offer(joinable, agent.address).status_code == 201
    other = joinable.new_key()
    assert offer(joinable, agent.address, other).status_code == 409
    for path in ("board-a:renew", "board-a"):
        method = "POST" if ":" in path else "DELETE"
        answer = joinable.http.request(method, f"/v1/devices/{path}", json={}, headers=other)
        assert answer.status_code == 404, path
    renewal = {"key": OTHER_KEY}
    assert joinable.http.post("/v1/devices/board-a:renew", json=renewal).status_code == 409
    joinable.http.delete("/v1/devices/board-a")
    assert offer(joinable, agent.address, other).status_code == 201
    assert names(joinable) == ["tower"], "it is the other key's now"


BOX = {"name": "b", "architecture": "aarch64", "threads": 2}


def test_a_job_goes_to_a_device_of_its_key_and_is_taken_in_for_it(
    joinable: LiveService, agent: RunningAgent, residual_model: Path, tmp_path: Path
) -> None:
    fields = job_fields(joinable, residual_model, tmp_path)
    offer(joinable, agent.address)
    other = joinable.new_key()
    assert names(joinable, other) == []
    refused = joinable.http.post("/v1/jobs", json={**fields, "device": "board-a"}, headers=other)
    assert refused.status_code == 422
    assert "board-a" in refused.json()["detail"]
    assert "board-a" not in refused.json()["hint"]
    target = joinable.http.post("/v1/targets", json=BOX)
    given = {**fields, "target": target.json()["id"]}
    for asked in (fields, given):
        made = joinable.http.post("/v1/jobs", json={**asked, "device": "board-a"})
        assert made.status_code == 202, made.text
        with joinable.service.database.reading() as session:
            row = session.get_one(JobRow, made.json()["id"])
        assert row.config["target"] == "rpc://board-a:9190"
        assert row.config.get("threads") == (2 if asked is given else None)
    wrong = {**given, "threads": 3, "device": "board-a"}
    assert "contradicts" in joinable.http.post("/v1/jobs", json=wrong).json()["detail"]
    assert offer(joinable, agent.address, shared=True).status_code == 201
    assert names(joinable, other) == ["board-a"]


def test_one_job_measures_on_a_device(joinable: LiveService, agent: RunningAgent) -> None:
    """And none beside it where it computes: that would be in the way of measurements there."""
    offer(joinable, agent.address)
    first, second = (add_job(joinable, "", device="board-a", created=at) for at in (1.0, 2.0))
    anywhere = add_job(joinable, "three", priority=-1)
    lease = take(joinable, "runner", "tower")
    assert lease is not None
    assert {lease.job_id, lease.device} == {first, "board-a"}
    assert busy(joinable) == {"board-a": True, "tower": True}
    assert take(joinable, "another", "tower") is None
    elsewhere = take(joinable, "another", "attic")
    assert elsewhere is not None
    assert elsewhere.job_id == anywhere, "the device is not free for the second one"
    lease.end("finished")
    assert busy(joinable) == {"attic": True, "board-a": False, "tower": False}
    set_until(joinable, 1.0)
    assert take(joinable, "runner", "tower") is None, "it is away"
    set_until(joinable, 9e9)
    lease = take(joinable, "runner", "tower")
    assert lease is not None
    assert lease.job_id == second
    with joinable.service.database.reading() as session:
        assert session.get_one(JobRow, second).ran_on == "board-a"


def busy(live: LiveService) -> dict[str, bool]:
    items = live.http.get("/v1/devices").json()["items"]
    return {item["name"]: item["busy"] for item in items}


def test_a_job_without_a_device_never_goes_to_one_that_joined(
    joinable: LiveService, agent: RunningAgent
) -> None:
    offer(joinable, agent.address)
    job = add_job(joinable, "anywhere")
    lease = take(joinable, "runner", "tower")
    assert lease is not None
    assert (lease.job_id, lease.device) == (job, "tower")
    with joinable.service.database.reading() as session:
        assert session.get_one(LaneRow, "board-a").runner is None


def test_a_runner_connects_for_a_process_that_cannot(
    joinable: LiveService, agent: RunningAgent, tmp_path: Path
) -> None:
    """Also where the device is by then; and to no other's."""
    offer(joinable, agent.address)
    service, job = joinable.service, add_job(joinable, "one", device="board-a")
    with service.database.reading() as session:
        row = session.get_one(JobRow, job)
    with lines_to(service.database, service.settings, row, "board-a") as lines:
        assert KEY.decode() not in json.dumps(dict(lines.environment))
        line = HandedOver.inherited(BOARD, lines.environment)
        assert line is not None
        for _ in range(2):
            with line.open() as wire:
                assert DEVICE.cpu.encode() in wire.receive(1 << 20, 10.0)
        set_until(joinable, 0.0)
        with pytest.raises(ConnectionRefusedError, match="not there"), line.open():
            pass
        with running_agent(tmp_path / "elsewhere", PlayedLane()) as moved:
            offer(joinable, moved.address)
            with line.open() as wire:
                assert DEVICE.cpu.encode() in wire.receive(1 << 20, 10.0)
            with service.database.writing() as session:
                session.get_one(DeviceRow, "board-a").owner = other_owner(joinable)
            with pytest.raises(ConnectionRefusedError, match="not there"), line.open():
                pass
    with lines_to(service.database, service.settings, row, "tower") as none:
        assert (none.handles, dict(none.environment)) == ((), {})


def other_owner(live: LiveService) -> str:
    return live.new_key()["Authorization"].removeprefix("Bearer ").partition(".")[0]


_WITHOUT_A_NETWORK = """
import os
from api.sandbox import leave_network
from autosparse.evaluation.address import AgentAddress
from workers.agent_line import HandedOver
assert leave_network()
line = HandedOver.inherited(AgentAddress("board-a", 9190), os.environ)
with line.open() as wire:
    print(wire.receive(1 << 20, 10.0).decode())
"""


def test_a_process_without_a_network_measures_there(
    joinable: LiveService, agent: RunningAgent
) -> None:
    offer(joinable, agent.address)
    service, job = joinable.service, add_job(joinable, "one", device="board-a")
    with service.database.reading() as session:
        row = session.get_one(JobRow, job)
    with lines_to(service.database, service.settings, row, "board-a") as lines:
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT_A_NETWORK], env=dict(lines.environment),
            pass_fds=lines.handles, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"]["cpu"] == DEVICE.cpu


def test_a_revoked_keys_devices_are_gone(joinable: LiveService, agent: RunningAgent) -> None:
    made = joinable.http.post("/v1/keys", json={"name": "lab", "scopes": ["submit", "admin"]})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    assert offer(joinable, agent.address, headers, shared=True).status_code == 201
    assert names(joinable) == ["board-a"]
    joinable.http.delete(f"/v1/keys/{made.json()['id']}")
    assert names(joinable) == []


def test_what_ran_on_a_device_that_joined_stays_there(
    joinable: LiveService, agent: RunningAgent
) -> None:
    offer(joinable, agent.address)
    make_lane(joinable.service.database, "tower")
    source = delivered_job(joinable.service, joinable.key.partition(".")[0])
    with joinable.service.database.writing() as session:
        session.get_one(JobRow, source).ran_on = "board-a"
    path = f"/v1/jobs/{source}:reverify"
    refused = joinable.http.post(path, json={"device": "tower"})
    assert refused.status_code == 422
    assert "stays there" in refused.json()["detail"]
    made = joinable.http.post(path, json={})
    assert (made.status_code, made.json()["device"]) == (202, "board-a"), made.text
    with joinable.service.database.reading() as session:
        config = session.get_one(JobRow, made.json()["id"]).config
    assert config["target"] == "rpc://board-a:9190"
