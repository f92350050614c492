"""The HTTP face of the product. What it answers when something is wrong is fixed here first."""

from api.problem_details import ProblemDetails, problem_of

__all__ = ["ProblemDetails", "problem_of"]
