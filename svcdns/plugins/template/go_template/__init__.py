"""Templates in the language of Go's `text/template`, without the actions that define or call other templates.

Values are strings, numbers, booleans, lists, maps (`dict`) and structs (`Struct`).
"""

from __future__ import annotations

from svcdns.plugins.template.go_template.lexer import TemplateError
from svcdns.plugins.template.go_template.parser import ParsedTemplate, parse_template
from svcdns.plugins.template.go_template.values import RenderError, Struct

__all__ = ["ParsedTemplate", "RenderError", "Struct", "TemplateError", "parse_template"]
