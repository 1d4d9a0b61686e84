"""`header`: sets and clears flags in the header of queries and replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import AA, RA, RD

FLAGS: Final = {"aa": AA, "ra": RA, "rd": RD}


@dataclass(frozen=True, slots=True)
class Change:
    """The header bits to set, and the header bits to clear. No bit is in both."""

    set: int = 0
    clear: int = 0

    def to(self, flags: int) -> int:
        """Returns `flags` after setting and clearing the bits of this change."""
        return (flags | self.set) & ~self.clear

    def and_then(self, bit: int, *, on: bool) -> Change:
        """Returns a copy that also sets `bit` if `on` is true, otherwise also clears `bit`."""
        return Change(self.set | bit, self.clear & ~bit) if on else Change(self.set & ~bit, self.clear | bit)


@dataclass(frozen=True, slots=True)
class Options:
    """The header bits that the `header` directive changes in queries, and those that it changes in replies."""

    query: Change = Change()
    response: Change = Change()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `header` directive that has a rule. Raises CorefileError."""
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        changes = {"query": Change(), "response": Change()}
        for line in arguments.body(directive):
            which = line.name.text.lower()
            if which not in changes:
                raise arguments.unknown_option(line, tuple(changes))
            changes[which] = _with_line(changes[which], line)
        if arguments.body(directive):
            return Options(**changes)
    raise CorefileError(block.directives[0].position, "header needs at least one line such as 'response set ra'")


def _with_line(change: Change, line: Directive) -> Change:
    action, *flags = arguments.arguments(line, 2, arguments.UNBOUNDED)
    if action.text.lower() not in ("set", "clear"):
        raise CorefileError(action.position, f"unknown action '{action.text}'; set or clear was expected")
    for flag in flags:
        bit = FLAGS.get(flag.text.lower())
        if bit is None:
            raise CorefileError(flag.position, f"unknown flag '{flag.text}'; one of {', '.join(FLAGS)} was expected")
        change = change.and_then(bit, on=action.text.lower() == "set")
    return change


class Header(Plugin):
    """Changes the flags of queries and replies."""

    name = "header"

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        self._query, self._response = options.query, options.response

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Changes the flags of the query and of the reply. A reply that is only a response code stays unchanged."""
        query.flags = self._query.to(query.flags)
        return then(following(query), self._changed)

    def _changed(self, reply: Reply) -> Reply:
        return msgspec.structs.replace(reply, flags=self._response.to(reply.flags)) if reply.has_message else reply


PLUGIN: Final = Header
