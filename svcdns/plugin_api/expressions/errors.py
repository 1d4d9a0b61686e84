"""The errors of expressions."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ExpressionError(SvcdnsError):
    """Raised if a text is not a valid expression."""


class EvaluationError(SvcdnsError):
    """Raised if an expression cannot be evaluated for the given values, for example because of a wrong type."""
