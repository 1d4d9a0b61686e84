"""What can go wrong with a template's text: as it is read, or as it meets its data."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class TextError(SvcdnsError):
    """Text that is no template."""


class RenderError(SvcdnsError):
    """A template that cannot be rendered with this data."""
