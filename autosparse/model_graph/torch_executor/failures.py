"""What becomes of a model that torch cannot run: one rule, wherever torch runs somebody's graph.

Whether torch may stand for the runtime is found out on a few rows. On others an operator may still
meet values that it fails on, what differentiates may find no way back, and memory may be short.
None of it is a bug, and nothing that a job cannot do without: it is a failed candidate, and what
is raised here is the sentence that is told of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autosparse.errors import CandidateError, ModelError, NoMemoryError
from autosparse.heap import was_short_of_memory


@contextmanager
def failures_told() -> Iterator[None]:
    """Run a model with torch; whatever else is raised inside is raised as it is.

    Raises:
        NoMemoryError: there was too little memory.
        CandidateError: the executor misses an operator, an operator fails on the values that it
            meets, or torch cannot differentiate what there is.
    """
    try:
        yield
    except ModelError as error:
        raise CandidateError(error.message) from error
    except (MemoryError, RuntimeError) as error:  # the second one is torch's word for anything
        kind = NoMemoryError if was_short_of_memory(error) else CandidateError
        raise kind(f"the torch executor fails: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Without the trace of C++ that may follow."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
