"""Options by environment: what CoreDNS would refuse in a Corefile that both are to read.

SVCDNS_<OPTION> stands for the line `<option> <value>` in each directive of the plugin that has no such line. Its words are cut as in a
Corefile, and keep their place: an error names the variable in place of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from svcdns.corefile.blocks import Corefile, Directive, Position, Token
from svcdns.corefile.lexer import tokens

PREFIX: Final = "SVCDNS_"


def variable(option: str) -> str:
    """The variable that sets an option."""
    return PREFIX + option.upper()


def completed(corefile: Corefile, options: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> Corefile:
    """The Corefile with the options that the environment sets; `options` are those that can be, by directive. Raises CorefileError."""
    lines = {name: [line for option in known if (line := _line(option, environ)) is not None] for name, known in options.items()}
    if not any(lines.values()):
        return corefile
    blocks = [
        msgspec.structs.replace(
            block, directives=tuple(_with(directive, lines.get(directive.name.text, [])) for directive in block.directives)
        )
        for block in corefile.blocks
    ]
    return msgspec.structs.replace(corefile, blocks=tuple(blocks))


def is_from_environment(line: Directive) -> bool:
    """Whether a line stands for a variable."""
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
