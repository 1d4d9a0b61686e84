"""Texts with actions in double braces: the part of Go's `text/template` that needs no other templates.

Actions are pipelines, `if`, `with`, `range`, `break`, `continue`, variables and comments, with trim markers. Values are text, numbers,
truth values, lists, maps (`dict`) and structs (`Struct`), and functions that a struct may have as fields.
"""

from __future__ import annotations

from svcdns.plugins.template.go_template.errors import RenderError, TextError
from svcdns.plugins.template.go_template.parser import Text, parsed
from svcdns.plugins.template.go_template.values import Struct

__all__ = ["RenderError", "Struct", "Text", "TextError", "parsed"]
