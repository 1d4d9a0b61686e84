"""Expressions about a question, as `view` and `template` have them (docs/behaviour/plugins.md#expressions): the part of
the expr language that such expressions need.

`compiled` turns text into an `Expression` once; running one looks at values that it is given, and does nothing else.
"""

from __future__ import annotations

from svcdns.plugin_api.expressions.errors import EvaluationError, ExpressionError
from svcdns.plugin_api.expressions.facts import FUNCTIONS, PERSONAL, facts
from svcdns.plugin_api.expressions.parser import Expression, compiled

__all__ = ["FUNCTIONS", "PERSONAL", "EvaluationError", "Expression", "ExpressionError", "compiled", "facts"]
