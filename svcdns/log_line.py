"""The form of svcdns's own log lines: a fixed text, then `key=value` for each value (docs/operating.md#logs).

Lines that CoreDNS also writes have CoreDNS's text instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

_QUOTED: Final = frozenset(' "=')
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class LogLine(str):
    """The text of a log line with its fields. As a string, it has the form `text key=value key="another value"`.

    A field with the value None is left out.
    """

    __slots__ = ("fields", "text")

    text: str
    """The fixed text."""
    fields: Mapping[str, object]
    """The values, with their types."""

    def __new__(cls, text: str, /, **fields: object) -> Self:
        """Builds the string. `text` must be a constant in the source code."""
        used = {key: value for key, value in fields.items() if value is not None}
        self = super().__new__(cls, " ".join([text, *(f"{key}={shown(value)}" for key, value in used.items())]))
        self.text, self.fields = text, used
        return self


def shown(value: object) -> str:
    """Returns the text of a field's value.

    - A number with a fraction is rounded to three digits after the point.
    - An error without a text is shown as the name of its class.
    - The elements of a collection are separated by commas.
    - A text with a space, a quote, `=` or a control character is written as a JSON string.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, BaseException):
        text = str(value) or type(value).__name__
    elif isinstance(value, Iterable) and not isinstance(value, str):
        text = ",".join(map(str, value))
    else:
        text = str(value)
    if text and text.isprintable() and _QUOTED.isdisjoint(text):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def printable(text: str) -> str:
    """Returns the text with escapes for its control characters, so that it has one line."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    octets = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{octets[at]:02x}{octets[at + 1]:02x}" for at in range(0, len(octets), 2))
