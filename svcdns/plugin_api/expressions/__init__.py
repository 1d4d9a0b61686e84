"""Conditions and variables in the Corefile, written in a subset of the expr language.

See docs/behaviour/plugins.md#expressions. `compile_expression` makes an `Expression` from a text. An expression reads
only the values that it is given, and changes nothing.
"""

from __future__ import annotations

from svcdns.plugin_api.expressions import types
from svcdns.plugin_api.expressions.errors import EvaluationError, ExpressionError
from svcdns.plugin_api.expressions.parser import Expression, compile_expression
from svcdns.plugin_api.expressions.query_functions import FUNCTIONS, PER_CLIENT, query_functions

__all__ = [
    "FUNCTIONS",
    "PER_CLIENT",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "compile_expression",
    "query_functions",
    "types",
]
