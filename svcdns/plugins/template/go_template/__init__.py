"""Templates in the language of Go's `text/template`, without templates that call other templates.

Actions are pipelines, `if`, `with`, `range`, `break`, `continue`, variables and comments; trim markers work. Values are
strings, numbers, booleans, lists, maps (`dict`) and structs (`Struct`). A field of a struct may be a function.
"""

from __future__ import annotations

from svcdns.plugins.template.go_template.lexer import TemplateError
from svcdns.plugins.template.go_template.parser import ParsedTemplate, parse_template
from svcdns.plugins.template.go_template.values import RenderError, Struct

__all__ = ["ParsedTemplate", "RenderError", "Struct", "TemplateError", "parse_template"]
