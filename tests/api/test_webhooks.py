"""Webhooks: signed, told once and again where that failed, and never to where they may not."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api import webhooks
from api.deliverer import RETRY_SECONDS, Deliverer, signature
from api.key_ends import revoke_key
from api.keys import Caller, make_key
from api.outbound import check_url, post
from api.recurring import recurring
from api.service import Service
from api.tables import DeliveryRow
from api.webhooks import WebhookRequest
from autosparse.errors import ConfigError, ForbiddenError
from tests.api.live_service import LiveService
from tests.api.receiver import Receiver, receiving
from tests.api.schedule_world import HOUR, ScheduleWorld

LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"),)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScheduleWorld]:
    """One whose operator lets webhooks reach this machine."""
    made = ScheduleWorld(tmp_path / "home", webhook_networks=LOOPBACK)
    made.now = time.time() + HOUR
    yield made
    made.queue.database.close()


def hook(world: ScheduleWorld, url: str, *kinds: Any, caller: Caller | None = None) -> str:
    asked = WebhookRequest(url=url, kinds=kinds)
    return webhooks.make_webhook(world.service, caller or world.caller, asked).id


def deliveries(service: Service) -> list[DeliveryRow]:
    with service.database.reading() as session:
        return list(session.scalars(select(DeliveryRow).order_by(DeliveryRow.created)))


def deliver(world: ScheduleWorld) -> int:
    return Deliverer(world.service, lambda: world.now).tick()


NOT_PUBLIC = [
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]",
    "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
]  # fmt: skip


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenError, match="public"):
        check_url(f"https://{host}/x", ())


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "017700000001"])
def test_nor_by_another_name(host: str) -> None:
    with pytest.raises((ForbiddenError, socket.gaierror)):
        post(f"http://{host}:9/", {}, b"", allowed=(), limit_seconds=5.0)


@pytest.mark.parametrize("host", ["93.184.216.34", "example.com", "[2606:4700::1111]"])
def test_a_public_one_is_not(host: str) -> None:
    assert check_url(f"https://{host}:8443/x?y=z", ()).port == 8443


NO_URLS = [
    "ftp://example.com/", "file:///etc/passwd", "http:///x", "example.com", "", "http://a b/",
    "http://user:secret@example.com/", "http://example.com/#x", "http://example.com:99999/",
    "http://example.com/\r\nX: y", "http://[::1", "gopher://x/", "http://exämple.com/",
    "http://example.com/" + "x" * 3000, "http://a..b/", f"http://{'x' * 70}.example/",
]  # fmt: skip


@pytest.mark.parametrize("url", NO_URLS, ids=range(len(NO_URLS)))
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        check_url(url, ())


def test_one_private_address_among_public_ones_is_enough(monkeypatch: Any) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("93.184.216.34", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ForbiddenError, match=r"10\.0\.0\.1"):
        post("http://two.example/", {}, b"", allowed=(), limit_seconds=5.0)


def test_a_name_is_asked_for_once(monkeypatch: Any, receiver: Receiver) -> None:
    """Whoever answers with another address the second time is not asked a second time."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    asked: list[str] = []

    def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    url = f"http://rebinding.example:{port}/x"
    assert post(url, {}, b"{}", allowed=LOOPBACK, limit_seconds=30.0) == 204
    assert asked == ["rebinding.example"]
    assert receiver.received[0][0]["host"] == f"rebinding.example:{port}"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [302]
    assert post(receiver.url, {}, b"{}", allowed=LOOPBACK, limit_seconds=30.0) == 302
    assert len(receiver.received) == 1


def test_an_answer_that_drips_is_cut(receiver: Receiver) -> None:
    """It would take minutes, though no piece of it is late."""
    receiver.drips = True
    with pytest.raises((OSError, http.client.HTTPException)):
        post(receiver.url, {}, b"{}", allowed=LOOPBACK, limit_seconds=0.5)


def test_a_signature_is_that_of_standard_webhooks() -> None:
    """The example that the libraries of Standard Webhooks are tested with."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_job_that_ends_is_told(world: ScheduleWorld, receiver: Receiver) -> None:
    other = Caller(make_key(world.queue.database, "other", ("read",)).id, frozenset())
    mine = hook(world, receiver.url, "job.finished")
    hook(world, receiver.url, "job.failed")
    hook(world, receiver.url, caller=other)
    world.make()
    world.tick(1.0)
    job = world.do(latency_ratio=0.5)
    assert deliver(world) == 1
    assert deliver(world) == 0
    ((headers, body),) = receiver.received
    document = json.loads(body)
    assert document["type"] == "job.finished"
    assert document["data"]["job"] == job
    with world.queue.database.reading() as session:
        secret = webhooks.find_webhook(session, world.caller, mine).secret
    sent = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signature(secret, headers["webhook-id"], sent, body)
    (row,) = deliveries(world.service)
    assert (row.id, row.state, row.status) == (headers["webhook-id"], "delivered", 204)


def test_a_regression_is_an_event_and_a_call(world: ScheduleWorld, receiver: Receiver) -> None:
    hook(world, receiver.url, "regression")
    world.make()
    world.tick(1.0)
    worse = world.do(verdict="not-found-within-limits", regressions=["it is slower"])
    world.tick(1.0)
    fine = world.do(regressions=[])
    assert deliver(world) == 1
    told = json.loads(receiver.received[0][1])
    assert told["type"] == "regression"
    expected = {"job": worse, "of": world.source, "regressions": ["it is slower"], "name": ""}
    assert told["data"] == expected
    kinds = {job: [e.kind for e in world.queue.events(job)] for job in (worse, fine)}
    assert kinds == {
        worse: ["state", "state", "regression", "state"], fine: ["state", "state", "state"],
    }  # fmt: skip


def test_a_revoked_key_is_told_nothing_more(world: ScheduleWorld, receiver: Receiver) -> None:
    hook(world, receiver.url)
    world.make()
    world.tick(1.0)
    revoke_key(world.queue.database, world.caller.id)
    assert [job.state for job in world.jobs()] == ["cancelled"]
    assert deliver(world) == 0
    assert deliveries(world.service) == []


def test_a_run_that_is_refused_is_told(world: ScheduleWorld, receiver: Receiver) -> None:
    hook(world, receiver.url, "schedule.refused")
    world.make()
    world.queue.change(world.source, state="queued")
    world.tick(1.0)
    assert deliver(world) == 1
    assert json.loads(receiver.received[0][1])["type"] == "schedule.refused"


def test_what_fails_is_sent_again_and_at_last_given_up(
    world: ScheduleWorld, receiver: Receiver
) -> None:
    id_ = hook(world, receiver.url)
    webhooks.send_test(world.service, world.caller, id_)
    receiver.answers = [500] * 20
    for number, wait in enumerate(RETRY_SECONDS, start=1):
        assert deliver(world) == 1
        (row,) = deliveries(world.service)
        assert (row.state, row.attempts, row.status) == ("waiting", number, 500)
        assert row.next_attempt == pytest.approx(world.now + wait)
        world.now += wait - 0.5
        assert deliver(world) == 0
        world.now += 0.5
    assert deliver(world) == 1
    (row,) = deliveries(world.service)
    assert (row.state, row.next_attempt) == ("failed", None)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1


def test_what_succeeds_the_second_time(world: ScheduleWorld, receiver: Receiver) -> None:
    webhooks.send_test(world.service, world.caller, hook(world, receiver.url))
    receiver.answers = [503, 200]
    deliver(world)
    world.now += RETRY_SECONDS[0]
    deliver(world)
    (row,) = deliveries(world.service)
    assert (row.state, row.attempts, row.status, row.problem) == ("delivered", 2, 200, "")


def test_gone_is_gone(world: ScheduleWorld, receiver: Receiver) -> None:
    webhooks.send_test(world.service, world.caller, hook(world, receiver.url))
    receiver.answers = [410]
    deliver(world)
    assert [row.state for row in deliveries(world.service)] == ["failed"]


def test_who_cannot_be_reached_keeps_nobody_waiting(
    world: ScheduleWorld, receiver: Receiver
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = hook(world, f"http://127.0.0.1:{closed.getsockname()[1]}/")
    for id_ in (nobody, hook(world, receiver.url)):
        webhooks.send_test(world.service, world.caller, id_)
    assert deliver(world) == 2
    found = {row.state: row.problem for row in deliveries(world.service)}
    assert found == {
        "waiting": "it cannot be reached: ConnectionRefusedError", "delivered": "",
    }  # fmt: skip


def test_a_name_that_leads_home_is_not_followed(tmp_path: Path, receiver: Receiver) -> None:
    """It is refused when it is sent: what a name leads to is known only then."""
    world = ScheduleWorld(tmp_path / "closed")
    port = receiver.url.split(":")[2].split("/")[0]
    webhooks.send_test(world.service, world.caller, hook(world, f"http://localhost:{port}/"))
    assert Deliverer(world.service).tick() == 1
    (row,) = deliveries(world.service)
    assert "no public address" in row.problem
    assert receiver.received == []
    world.queue.database.close()


def test_many_deliverers_send_each_once(world: ScheduleWorld, receiver: Receiver) -> None:
    id_ = hook(world, receiver.url)
    sent = {webhooks.send_test(world.service, world.caller, id_).id for _ in range(12)}
    together = threading.Barrier(3)

    def work() -> None:
        together.wait()
        while deliver(world):
            pass

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert sorted(ids) == sorted(sent)


def test_over_http(live: LiveService) -> None:
    made = live.http.post("/v1/webhooks", json={"url": "https://example.com/x"})
    assert made.status_code == 201, made.text
    path, secret = made.headers["location"], made.json()["secret"]
    assert secret.startswith("whsec_")
    assert secret not in live.http.get("/v1/webhooks").text + live.http.get(path).text
    assert live.http.post(f"{path}:test").status_code == 202
    (told,) = live.http.get(f"{path}/deliveries").json()["items"]
    assert (told["kind"], told["state"], told["attempts"]) == ("test", "waiting", 0)
    for wrong, status in (
        ({"url": "http://127.0.0.1/"}, 403), ({"url": "ftp://x/"}, 422), ({}, 422),
        ({"url": "https://example.com/", "kinds": ["job.lost"]}, 422),
    ):  # fmt: skip
        assert live.http.post("/v1/webhooks", json=wrong).status_code == status
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404
    assert deliveries(live.service) == []


def test_what_recurs_survives_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError
        done.set()

    with recurring("test", work, 0.01):
        assert done.wait(60)
    assert caplog.text.count("failed, and is tried again") == 2
