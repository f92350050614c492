"""The candidate log: what was proposed, how far it came, and why it stopped there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from autosparse.journal import Journal
from autosparse.levels import Level, Recipe
from autosparse.search import CandidateRecord, Rung

RECIPE = Recipe(model_sha256="0" * 64, levels={"conv": Level.parse("2:4:int8+wanda")})


def test_records_survive_the_file_in_order(tmp_path: Path) -> None:
    records = (
        CandidateRecord(
            recipe=RECIPE, rung=Rung.SCREENED, reason="predicted too slow", predicted_ratio=0.9
        ),
        CandidateRecord(recipe=RECIPE, rung=Rung.SAMPLED, divergence=1e-9, predicted_ratio=1 / 3),
        CandidateRecord(recipe=RECIPE, rung=Rung.FAILED, reason="two\nlines, „quotes“ \u2028"),
        CandidateRecord(recipe=RECIPE, rung=Rung.MEASURED),
    )
    log = Journal(tmp_path / "candidates.jsonl", CandidateRecord)
    for record in records:
        log.append(record)
    again = Journal(tmp_path / "candidates.jsonl", CandidateRecord)
    assert again.records == records
    assert {record.recipe.id for record in again.records} == {RECIPE.id}


def test_a_rung_is_written_as_its_word() -> None:
    assert [rung.value for rung in Rung] == ["screened", "sampled", "measured", "failed"]
    record = CandidateRecord(recipe=RECIPE, rung=Rung.FAILED)
    assert '"rung":"failed"' in record.model_dump_json()


@pytest.mark.parametrize(
    "change", [{"rung": "finished"}, {"recipe": None}, {"schema_version": 2}, {"latency": 1.0}]
)
def test_other_records_are_refused(change: dict[str, object]) -> None:
    record = CandidateRecord(recipe=RECIPE, rung=Rung.SAMPLED).model_dump(mode="json")
    with pytest.raises(ValidationError):
        CandidateRecord.model_validate({**record, **change})
