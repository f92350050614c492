"""The error tree: what each class promises, and that a message is one line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, Field, ValidationError

from autosparse import errors
from autosparse.errors import AutoSparseError, ConfigError, ModelError, StorageError, first_problem


def subclasses(root: type[AutoSparseError]) -> Iterator[type[AutoSparseError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from subclasses(child)


TREE = {
    # name: (parent, exit code, HTTP status, retryable)
    "AutoSparseError": ("Exception", 1, 500, False),
    "UserInputError": ("AutoSparseError", 2, 422, False),
    "ModelError": ("UserInputError", 2, 422, False),
    "DataError": ("UserInputError", 2, 422, False),
    "ConfigError": ("UserInputError", 2, 422, False),
    "BundleError": ("UserInputError", 2, 422, False),
    "NotInstalledError": ("UserInputError", 2, 422, False),
    "StorageError": ("UserInputError", 2, 507, False),
    "RequestError": ("UserInputError", 2, 400, False),
    "UnauthenticatedError": ("RequestError", 2, 401, False),
    "ForbiddenError": ("RequestError", 2, 403, False),
    "NotFoundError": ("RequestError", 2, 404, False),
    "ConflictError": ("RequestError", 2, 409, False),
    "TooLargeError": ("RequestError", 2, 413, False),
    "QuotaError": ("RequestError", 2, 429, False),
    "CandidateError": ("AutoSparseError", 1, 500, False),
    "CompileError": ("CandidateError", 1, 500, False),
    "NoMemoryError": ("CandidateError", 1, 500, True),
    "HungError": ("CandidateError", 1, 500, False),
    "MeasurementError": ("CandidateError", 1, 500, True),
    "DisturbedError": ("MeasurementError", 1, 500, True),
    "KilledError": ("MeasurementError", 1, 500, True),
    "WorkerError": ("AutoSparseError", 1, 503, True),
    "ServiceError": ("AutoSparseError", 1, 503, True),
}


def test_the_tree_is_pinned() -> None:
    found = {
        kind.__name__: (
            kind.__bases__[0].__name__, kind.exit_code, kind.http_status, kind.retryable
        )
        for kind in subclasses(AutoSparseError)
    }  # fmt: skip
    assert found == TREE


@pytest.mark.parametrize("kind", list(subclasses(AutoSparseError)), ids=lambda k: k.__name__)
def test_every_class_says_who_raises_it_and_stands_in_the_drawing(
    kind: type[AutoSparseError],
) -> None:
    assert inspect.getdoc(kind)
    assert kind.__name__ in str(errors.__doc__)


def test_the_text_is_what_is_wrong_and_then_what_to_do() -> None:
    error = ModelError("it is broken", hint="repair it")
    assert (error.message, error.hint) == ("it is broken", "repair it")
    assert str(error) == "it is broken (repair it)"
    assert str(ModelError("it is broken")) == "it is broken"


def test_a_message_of_several_lines_becomes_one() -> None:
    error = ConfigError("first\n  second\r\nthird", hint="do\nthis")
    assert str(error) == "first second third (do this)"


class Shape(BaseModel):
    sides: int = Field(ge=3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sides": 1}, "sides: Input should be greater than or equal to 3"),
        ({}, "sides: Field required"),
        ([], "Input should be a valid dictionary or instance of Shape"),
    ],
)
def test_of_a_schema_the_first_problem_is_told(given: object, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate(given)
    assert first_problem(caught.value) == told


def test_of_anything_else_the_whole_text_is_told_in_one_line() -> None:
    assert first_problem(ValueError("a\n  b")) == "a b"
    assert first_problem(StorageError("full", hint="free some")) == "full (free some)"
