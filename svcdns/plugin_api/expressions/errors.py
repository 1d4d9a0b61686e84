"""What can go wrong with an expression: its text, or the values that it meets."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ExpressionError(SvcdnsError):
    """Text that is no expression."""


class EvaluationError(SvcdnsError):
    """An expression that cannot be worked out for these values."""
