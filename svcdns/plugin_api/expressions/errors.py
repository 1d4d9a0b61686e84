"""The errors of expressions."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ExpressionError(SvcdnsError):
    """The text is not a valid expression."""


class EvaluationError(SvcdnsError):
    """The expression cannot be evaluated for the given values, for example because a value has a wrong type."""
