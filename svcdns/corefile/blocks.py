"""A parsed Corefile as frozen values: tokens with their positions, directives, server blocks.

The control process sends these values to workers as msgpack: the fields are part of the hand-over format
(`svcdns.feed.format`).
"""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A position in a file. Lines and columns are counted from 1."""

    file: str
    line: int
    column: int


class Token(msgspec.Struct, frozen=True, array_like=True):
    """One word, after the replacement of environment variables.

    If `quoted` is True, the word is an ordinary word even if it is a brace.
    """

    text: str
    position: Position
    quoted: bool = False


class Directive(msgspec.Struct, frozen=True, array_like=True):
    """A line of a Corefile: its first word, its other words, and the lines in its braces.

    `body` is None for a line without braces.
    """

    name: Token
    arguments: tuple[Token, ...] = ()
    body: tuple[Directive, ...] | None = None

    @property
    def position(self) -> Position:
        """Returns the position of the line's first word."""
        return self.name.position


class ServerKey(msgspec.Struct, frozen=True, array_like=True):
    """A key of a server block. `zone` is in lower case and absolute. `transport` is, for example, `dns` or `tls`."""

    transport: str
    zone: str
    port: int
    position: Position


class ServerBlock(msgspec.Struct, frozen=True, array_like=True):
    """A server block. Keys and directives are in the order of the file. A CIDR has one key for each reverse zone."""

    keys: tuple[ServerKey, ...]
    directives: tuple[Directive, ...]


class Corefile(msgspec.Struct, frozen=True, array_like=True):
    """A parsed Corefile.

    `digest` is the SHA-512 of the server blocks after imports and environment variables have been replaced.
    """

    path: str
    blocks: tuple[ServerBlock, ...]
    warnings: tuple[str, ...] = ()
    digest: str = ""
