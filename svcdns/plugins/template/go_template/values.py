"""The values in templates: their fields, truth values and text, as in Go's `text/template` and `fmt`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from svcdns.errors import SvcdnsError


class Struct:
    """A value with fields.

    If a field is a function, it is called with the arguments that the template has after the field.
    """

    __slots__ = ("fields",)

    def __init__(self, **fields: Any) -> None:
        self.fields: Mapping[str, Any] = fields


class NoValue:
    """The value of a key that a map does not have."""

    __slots__ = ()


NO_VALUE: Final = NoValue()


def field(value: Any, name: str) -> Any:
    """Returns a field of a struct, or the value for a key of a map. Raises RenderError."""
    if isinstance(value, Struct):
        if name not in value.fields:
            raise RenderError(f"can't evaluate field {name}")
        return value.fields[name]
    if isinstance(value, dict):
        return value.get(name, NO_VALUE)
    raise RenderError(f"can't evaluate field {name} of {kind(value)}")


def truth(value: Any) -> bool:
    """Returns False for false, nil, 0 and empty values, otherwise True."""
    return isinstance(value, Struct) or (bool(value) and value is not NO_VALUE)


def kind(value: Any) -> str:
    """Returns the name of the value's type. Values of different types cannot be compared."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, list):
        return "list"
    return {int: "int", float: "float", str: "string", dict: "map", Struct: "struct"}.get(type(value), "nothing")


def to_text(value: Any) -> str:
    """Returns the text that Go's verb `%v` prints for the value. Raises RenderError."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if value is NO_VALUE:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list):
        return "[" + " ".join(to_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{to_text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, int):
        return str(value)
    raise RenderError(f"a {kind(value)} has no text")


def _float(value: float) -> str:
    text = repr(value)
    if abs(value) < 1e21 and (abs(value) >= 1e-4 or value == 0):
        return text.removesuffix(".0") if "e" not in text else f"{value:.0f}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    mantissa, _, exponent = text.partition("e") if "e" in text else (mantissa.rstrip("0").rstrip("."), "e", exponent)
    return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].zfill(2)}"


_VERB: Final = re.compile(r"%([-+# 0]*)(\d+|\*)?(?:\.(\d+))?(.)", re.DOTALL)


def printf(template: str, *values: Any) -> str:
    """Formats values like Go's `Printf`. Raises RenderError.

    The verbs are %v %s %q %d %x %X %o %b %c %t %f %e %g and %%.
    """
    rest = list(values)

    def replaced(found: re.Match[str]) -> str:
        flags, width, precision, verb = found[1], found[2], found[3], found[4]
        if verb == "%":
            return "%"
        if width == "*":
            raise RenderError("printf: a width of * is not supported")
        if not rest:
            return f"%!{verb}(MISSING)"
        text = _verb(verb, rest.pop(0), flags, precision)
        size = int(width or 0)
        if size > 1000:
            raise RenderError(f"printf: a width of {size}")
        if "-" in flags:
            return text.ljust(size)
        if "0" in flags and verb in "dxXobfeg":
            sign = text[0] if text[:1] in ("-", "+") else ""
            return sign + text[len(sign) :].rjust(size - len(sign), "0")
        return text.rjust(size)

    text = _VERB.sub(replaced, template)
    if rest:
        text += "%!(EXTRA " + ", ".join(f"{kind(value)}={to_text(value)}" for value in rest) + ")"
    return text


_INTEGERS: Final[dict[str, Callable[[int], str]]] = {
    "d": str,
    "x": lambda n: format(n, "x"),
    "X": lambda n: format(n, "X"),
    "o": lambda n: format(n, "o"),
    "b": lambda n: format(n, "b"),
    "c": chr,
}


def _verb(verb: str, value: Any, flags: str, precision: str | None) -> str:
    text: str | None = None
    if verb == "v":
        text = to_text(value)
    elif verb in "sq" and (isinstance(value, str | list) or value is NO_VALUE):
        text = to_text(value)[: None if precision is None else int(precision)]
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if verb == "q" else text
    elif verb == "t" and isinstance(value, bool):
        text = to_text(value)
    elif verb in _INTEGERS and kind(value) == "int":
        text = _INTEGERS[verb](value)
    elif verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        text = text.upper() if verb == "X" else text
    elif verb in "feg" and isinstance(value, float):
        text = to_text(value) if verb == "g" and precision is None else format(value, f".{precision or 6}{verb}")
    if text is None:
        return f"%!{verb}({kind(value)}={to_text(value)})"
    return "+" + text if "+" in flags and kind(value) in ("int", "float") and value >= 0 else text


class RenderError(SvcdnsError):
    """Raised if a template cannot be rendered with the given data."""
