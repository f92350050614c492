"""`Client.models`, `.datasets`, `.targets`: what a service holds is listed, and room is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.inspection import Inspector
from autosparse import Client
from autosparse.errors import ConfigError, ConflictError, NotFoundError, QuotaError
from tests.api.live_service import LiveService, listening, live_service, rows_file
from tests.api.seeded import add_job, add_upload


@pytest.fixture
def client(live: LiveService) -> Iterator[Client]:
    with listening(live.service) as url, Client(url, live.key, tries=1) as made:
        yield made


def test_room_is_made_in_a_full_quota(tmp_path: Path, inspector: Inspector) -> None:
    path = tmp_path / "rows.npz"
    content = rows_file(path)
    with (
        live_service(tmp_path / "home", inspector, max_stored_bytes=len(content)) as live,
        listening(live.service) as url,
        Client(url, live.key, tries=1) as client,
    ):
        first = client.upload_dataset(path)
        with pytest.raises(QuotaError) as full:
            client.upload_dataset(path)
        assert "autosparse uploads list" in full.value.hint
        (found,) = client.datasets.list()
        assert (found, found.size_bytes) == (first, len(content))
        client.datasets.delete(found.id)
        second = client.upload_dataset(path)
        assert [one.id for one in client.datasets.list()] == [second.id]


def test_what_a_job_needs_is_told_and_stays(client: Client, live: LiveService) -> None:
    job = add_job(live, "needs it", state="finished")
    add_upload(live, "mdl_used", "resnet20.onnx", job)
    target = client.store_target({"name": "box"})
    assert client.models.get("mdl_used").needed_by == (job,)
    assert [one.needed_by for one in client.targets.list()] == [()]
    with pytest.raises(ConflictError, match=f"needed by the job {job}"):
        client.models.delete("mdl_used")
    client.delete(job)
    client.models.delete("mdl_used")
    client.targets.delete(target.id)
    assert [*client.models.list(), *client.targets.list()] == []
    with pytest.raises(NotFoundError):
        client.targets.get(target.id)


def test_an_id_is_one_of_its_kind(client: Client) -> None:
    for wrong in ("dat_one", "mdl_../keys", ""):
        with pytest.raises(ConfigError, match="is no id of models"):
            client.models.delete(wrong)
