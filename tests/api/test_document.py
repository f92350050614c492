"""The API's document: examples that hold, and problems for what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from autosparse.client import (
    device_records,
    key_records,
    layer_records,
    records,
    schedule_records,
    webhook_records,
)
from autosparse.client.records import Record
from tests.api.live_service import LiveService

MODULES = (records, device_records, key_records, layer_records, schedule_records, webhook_records)
EXAMPLES = [
    (kind, example)
    for kind in {name: kind for module in MODULES for name, kind in vars(module).items()}.values()
    if isinstance(kind, type) and issubclass(kind, Record)
    for example in (kind.model_config.get("json_schema_extra") or {}).get("examples", [])  # type: ignore[union-attr]
]


def test_there_are_examples() -> None:
    assert {kind.__name__ for kind, _ in EXAMPLES} >= {
        "ModelInfo", "JobInfo", "EventInfo", "ScheduleInfo", "RunInfo",
        "WebhookInfo", "DeliveryInfo", "KeyInfo", "NewKey",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "example"), EXAMPLES, ids=[k.__name__ for k, _ in EXAMPLES])
def test_an_example_is_what_it_shows(kind: type[Record], example: dict[str, Any]) -> None:
    read = kind.model_validate(example)
    assert read.model_fields_set == example.keys(), "a field that there is not"


def test_every_route_tells_its_problems(live: LiveService) -> None:
    document = live.http.get("/openapi.json").json()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            told = operation["responses"]["422"]["content"]
            assert list(told) == ["application/problem+json"], (method, path)
