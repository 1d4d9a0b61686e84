"""The errors of expressions."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ExpressionError(SvcdnsError):
    """The text is not a valid expression."""


class EvaluationError(SvcdnsError):
    """The expression has no value for the given values: a wrong type, a division by zero, and the like."""
