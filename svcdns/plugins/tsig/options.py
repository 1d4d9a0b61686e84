"""The options of `tsig` (docs/plugins/tsig.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.tsig import TsigRules
from svcdns.wire import names
from svcdns.wire.codes import Opcode, Type
from svcdns.wire.errors import NameTextError

OPTIONS = ("secret", "secrets", "require", "require_opcode")


@dataclass(frozen=True, slots=True)
class Options:
    """The rules, the secrets in the Corefile, and the files with further secrets.

    `secrets` has the wire name of each key in lower case, with the octets of its secret; None for a secret that is not
    base64.
    """

    rules: TsigRules
    secrets: tuple[tuple[bytes, bytes | None], ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    position: Position | None = field(default=None, compare=False)


def parse(block: Block) -> Options:
    """Returns the options of the block's only `tsig` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    zones = arguments.zones(directive.arguments, block.zones)
    warnings = list(arguments.ignored_zones(directive.arguments))
    secrets: dict[bytes, bytes | None] = {}
    files: list[str] = []
    types: frozenset[int] | None = frozenset()
    opcodes: frozenset[int] | None = frozenset()
    for line in arguments.body(directive):
        match line.name.text:
            case "secret":
                name, text = arguments.arguments(line, 2, 2)
                key = key_name(name.text, name.position)
                if key in secrets:
                    raise CorefileError(name.position, f"the key '{names.to_text(key)}' is defined twice")
                secrets[key] = decoded(text.text)
                if secrets[key] is None:
                    shown = f"the secret of '{name.text}' is not base64: no message with this key can be verified"
                    warnings.append(arguments.warning(text.position, shown))
            case "secrets":
                files.append(arguments.argument(line).text)
            case "require":
                types = None if types is None else _numbers(line, Type.__members__, "a query type")
            case "require_opcode":
                opcodes = None if opcodes is None else _numbers(line, Opcode.__members__, "an opcode")
            case _:
                raise arguments.unknown_option(line, OPTIONS)
    rules = TsigRules(tuple(names.from_text(zone).lower() for zone in zones), types, opcodes)
    return Options(rules, tuple(secrets.items()), tuple(files), tuple(warnings), directive.position)


def key_name(text: str, position: Position) -> bytes:
    """Returns the wire name of a key in lower case. Raises CorefileError."""
    try:
        return names.from_text(text).lower()
    except NameTextError as error:
        raise CorefileError(position, f"'{text}' is not the name of a key: {error}") from error


def decoded(text: str) -> bytes | None:
    """Returns the octets of a secret in base64, or None if the text is not base64."""
    try:
        return base64.b64decode(text, validate=True) or None
    except binascii.Error:
        return None


def _numbers(line: Directive, known: Mapping[str, int], what: str) -> frozenset[int] | None:
    """Returns the numbers of a line's words; None if the first word is `all`, and no numbers if it is `none`."""
    words = arguments.arguments(line, 1, 1000)
    if words[0].text == "all":
        return None
    return frozenset() if words[0].text == "none" else frozenset(_number(word, known, what) for word in words)


def _number(word: Token, known: Mapping[str, int], what: str) -> int:
    found = known.get(word.text)
    if found is None:
        hint = arguments.nearest(word.text.upper(), known)
        raise CorefileError(word.position, f"'{word.text}' is not {what}{hint}; one in capitals was expected")
    return found
