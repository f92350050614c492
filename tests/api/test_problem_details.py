"""What a client is told when something is wrong."""

from __future__ import annotations

import pytest

from api import problem_of
from autosparse.errors import (
    AutoSparseError,
    ModelError,
    NotFoundError,
    StorageError,
    UserInputError,
    WorkerError,
)


def test_a_wrong_input_says_what_is_wrong_and_what_to_do() -> None:
    problem = problem_of(ModelError("m.onnx is truncated", hint="copy it again"))
    assert problem.status == 422
    assert problem.type == "urn:autosparse:problem:model"
    assert problem.title == "Model problem"
    assert problem.detail == "m.onnx is truncated"
    assert problem.hint == "copy it again"
    assert not problem.retryable


def test_half_a_character_is_quoted_as_something() -> None:
    told = problem_of(NotFoundError("there is no \ud800", hint="not \udfff"))
    assert (told.detail, told.hint) == ("there is no ?", "not ?")
    assert told.model_dump_json()


def test_a_full_disk_has_its_own_status() -> None:
    assert problem_of(StorageError("the disk is full")).status == 507


@pytest.mark.parametrize(
    "error", [KeyError("secret/path"), AutoSparseError("secret/path"), WorkerError("secret/path")]
)
def test_our_own_trouble_tells_nothing_of_the_inside(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.status in (500, 503)
    assert "secret" not in problem.model_dump_json()


def test_only_what_a_retry_may_help_is_retryable() -> None:
    assert problem_of(WorkerError("down")).retryable
    assert not problem_of(KeyError("x")).retryable


def every_class(base: type[AutoSparseError]) -> list[type[AutoSparseError]]:
    return [base, *(found for child in base.__subclasses__() for found in every_class(child))]


@pytest.mark.parametrize("kind", every_class(UserInputError))
def test_every_user_error_keeps_its_sentence(kind: type[AutoSparseError]) -> None:
    problem = problem_of(kind("the sentence", hint="the hint"))
    assert (problem.detail, problem.hint) == ("the sentence", "the hint")
    assert 400 <= problem.status < 600
