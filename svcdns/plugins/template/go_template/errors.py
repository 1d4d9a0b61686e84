"""The errors of templates."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class TemplateError(SvcdnsError):
    """The text is not a valid template."""


class RenderError(SvcdnsError):
    """The template cannot be rendered with the given data."""
