"""Reads plugin options from environment variables.

The variables set options that CoreDNS does not have: CoreDNS refuses them in a Corefile, but ignores the variables.
SVCDNS_<OPTION> stands for a line `<option> <value>` in each directive of the plugin that has no such line. In the
position of an error, the name of the variable takes the place of the file name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from svcdns.corefile.blocks import Corefile, Directive, Position, Token
from svcdns.corefile.lexer import tokens

PREFIX: Final = "SVCDNS_"


def variable(option: str) -> str:
    """Returns the name of the environment variable that sets an option."""
    return PREFIX + option.upper()


def with_options(corefile: Corefile, options: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Corefile:
    """Returns the Corefile with the options that environment variables set. Raises CorefileError.

    `options` has, for each directive, the options that variables can set.
    """
    lines = {
        name: [line for option in known if (line := _line(option, environ)) is not None]
        for name, known in options.items()
    }
    if not any(lines.values()):
        return corefile
    blocks = [
        msgspec.structs.replace(
            block,
            directives=tuple(_with(directive, lines.get(directive.name.text, [])) for directive in block.directives),
        )
        for block in corefile.blocks
    ]
    return msgspec.structs.replace(corefile, blocks=tuple(blocks))


def is_from_environment(line: Directive) -> bool:
    """Returns True if the line was made from an environment variable."""
    return line.position.file == variable(line.name.text)


def _line(option: str, environ: Mapping[str, str]) -> Directive | None:
    name = variable(option)
    words = tokens(environ.get(name, ""), name)
    return Directive(Token(option, Position(name, 1, 1)), tuple(words)) if words else None


def _with(directive: Directive, lines: Sequence[Directive]) -> Directive:
    body = directive.body or ()
    there = {line.name.text for line in body}
    missing = tuple(line for line in lines if line.name.text not in there)
    return msgspec.structs.replace(directive, body=body + missing) if missing else directive
