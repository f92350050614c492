"""The agent's side of joining: which device a key may offer, and how it stays there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api.tables import DeviceRow
from autosparse.cli.main import run
from autosparse.client.device_offers import DeviceOffers
from autosparse.client.device_records import DeviceOffer
from autosparse.client.http import Transport
from autosparse.errors import ConfigError, ConflictError, ForbiddenError, ServiceError
from autosparse.evaluation.address import AgentAddress
from tests.api.live_service import LiveService, listening
from tests.workers.agents import KEY, RunningAgent
from workers.agent_joining import Joining, joining
from workers.agent_settings import JoinSettings


@contextmanager
def offers_of(live: LiveService, url: str, *scopes: str) -> Iterator[DeviceOffers]:
    """What a fresh key may offer."""
    bearer = live.new_key(*scopes)["Authorization"].removeprefix("Bearer ")
    transport = Transport(url, bearer, tries=1, timeout_seconds=60)
    yield DeviceOffers(transport)
    transport.close()


def offered(address: AgentAddress, **more: Any) -> DeviceOffer:
    return DeviceOffer(name="board-a", address=str(address), key=KEY.decode(), **more)


def names(live: LiveService) -> list[str]:
    return [item["name"] for item in live.http.get("/v1/devices").json()["items"]]


def test_a_key_offers_the_machine_that_it_is_at(joinable: LiveService, agent: RunningAgent) -> None:
    """Else whoever may submit could have the server look at other machines."""
    with listening(joinable.service) as url:
        with offers_of(joinable, url, "submit") as offers:
            with pytest.raises(ForbiddenError, match="another machine"):
                offers.make(offered(AgentAddress("127.0.0.2", agent.address.port)))
            with pytest.raises(ForbiddenError, match="everybody's models"):
                offers.make(offered(agent.address, shared=True))
            assert agent.told == []
            assert offers.make(offered(agent.address)).name == "board-a"
        with offers_of(joinable, url, "read") as offers, pytest.raises(ForbiddenError):
            offers.make(offered(agent.address))


class _Times:
    """Waits no time, and lets something happen in each of the waits."""

    def __init__(self, *happens: Callable[[], object]) -> None:
        self._happens = list(happens)

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        self._happens.pop(0)()


def stop() -> None:
    raise KeyboardInterrupt


def nothing() -> None:
    """Time passes."""


def test_an_agent_stays_joined_until_it_ends(joinable: LiveService, agent: RunningAgent) -> None:
    told: list[str] = []
    seen: list[list[str]] = []

    def forget() -> None:
        with joinable.service.database.writing() as session:
            session.get_one(DeviceRow, "board-a").until = 0.0

    def look() -> None:
        seen.append(names(joinable))

    with listening(joinable.service) as url, offers_of(joinable, url, "submit", "admin") as offers:
        times = _Times(look, forget, look, stop)
        joining = Joining(offers, offered(agent.address, shared=True), url, told.append, times)
        with pytest.raises(KeyboardInterrupt):
            joining.keep()
    joined = f"Joined {url} as board-a, for everybody's jobs"
    assert told == [joined, joined], "once more where the service had forgotten it"
    assert seen == [["board-a"]] * 2
    assert names(joinable) == []


def test_an_agent_waits_for_a_service_that_is_away(
    joinable: LiveService, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    answers = [ServiceError("it cannot be reached"), ServiceError("it cannot be reached"),
               ConflictError("another agent has joined as board-a")]  # fmt: skip

    def renew(self: DeviceOffers, offer: DeviceOffer) -> None:
        raise answers.pop(0)

    monkeypatch.setattr(DeviceOffers, "renew", renew)
    with listening(joinable.service) as url, offers_of(joinable, url, "submit") as offers:
        times = _Times(nothing, nothing, nothing)
        joining = Joining(offers, offered(agent.address), url, told.append, times)
        with pytest.raises(ConflictError, match="another agent"):
            joining.keep()
    assert len([line for line in told if "cannot be reached" in line]) == 1


def test_a_service_that_does_not_answer_is_told_in_a_sentence(agent: RunningAgent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    transport = Transport(url, None, tries=1, timeout_seconds=5)
    with pytest.raises(ServiceError, match="cannot be reached"):
        Joining(DeviceOffers(transport), offered(agent.address), url, print).keep()
    transport.close()


@pytest.mark.parametrize("flag", [("--name", "x"), ("--shared",), ("--advertise", "10.1.0.7:1")])
def test_what_is_said_of_joining_needs_a_service(
    flag: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["agent", *flag]) == 2
    assert "--join URL" in capsys.readouterr().err


def test_where_the_agent_is_reached() -> None:
    """Where it listens; where that is everywhere, at this machine's address; or where it says."""
    everywhere, here = AgentAddress("0.0.0.0", 9190), AgentAddress("127.0.0.1", 9190)
    for listens, advertise, expected in (
        (here, "", "127.0.0.1:9190"), (everywhere, "", "127.0.0.1:9190"),
        (here, "10.1.0.7:1234", "10.1.0.7:1234"),
    ):  # fmt: skip
        settings = JoinSettings("http://127.0.0.1:8377", None, "board-a", False, advertise)
        with joining(settings, KEY, listens, print) as joined:
            assert joined.offer.address == expected
    for name, url in (("a b", "http://127.0.0.1:8377"), ("board-a", "nowhere")):
        wrong = JoinSettings(url, None, name, False, "")
        with pytest.raises(ConfigError), joining(wrong, KEY, everywhere, print):
            pass
