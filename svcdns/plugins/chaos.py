"""`chaos`: answers queries of class CH for version, authors and host name (RFC 4892,
docs/behaviour/plugins.md#chaos).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from svcdns import __version__
from svcdns.corefile import arguments
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.wire.codes import Class, Type
from svcdns.wire.names import from_text
from svcdns.wire.record import Record

VERSION: Final = f"svcdns-{__version__}"
AUTHORS: Final = ("The svcdns authors",)

_VERSION_NAMES: Final = frozenset({from_text("version.bind."), from_text("version.server.")})
_HOST_NAMES: Final = frozenset({from_text("hostname.bind."), from_text("id.server.")})
_AUTHORS_NAME: Final = from_text("authors.bind.")


@dataclass(frozen=True, slots=True)
class Options:
    """The version and the authors that are sent to clients. The authors are sorted, without duplicates."""

    version: str = VERSION
    authors: tuple[str, ...] = AUTHORS
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `chaos` directive. Raises CorefileError."""
    directive = block.directives[0]
    if directive.body:
        arguments.no_body(directive)
    words = [word.text for word in directive.arguments]
    return Options(
        words[0] if words else VERSION, tuple(sorted(set(words[1:]))) or AUTHORS, arguments.ignored_body(directive)
    )


class Chaos(Plugin):
    """Answers TXT queries of class CH for a fixed set of names. The following plugins answer all other queries."""

    name = "chaos"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Looks up the name of the host."""
        self._version, self._host = _string(options.version), _string(socket.gethostname())
        self._random = environment.random
        self._authors = [_string(author) for author in options.authors]

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings that pass queries of every class to the plugin chain, and warn about words that have no
        effect.
        """
        return Settings(any_class=True, warnings=options.warnings)

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because queries of class CH never take the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because queries of class CH never take the cold path (replies without the plugin chain)."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers TXT queries with the text for the name. The order of the authors is random in every answer."""
        if query.rclass != Class.CH or query.rtype != Type.TXT:
            return following(query)
        if query.key in _VERSION_NAMES:
            texts = [self._version]
        elif query.key in _HOST_NAMES:
            texts = [self._host]
        elif query.key == _AUTHORS_NAME:
            texts = self._random.sample(self._authors, len(self._authors))
        else:
            return following(query)
        records = tuple(Record(query.name, Type.TXT, 0, text, Class.CH) for text in texts)
        return Reply(flags=query.reply_flags, answer=records, lifetime=UNTIL_CHANGED)


def _string(text: str) -> bytes:
    """Returns the RDATA of a TXT record with one character string, cut to 255 octets (RFC 1035 §3.3)."""
    data = text.encode()[:255]
    return bytes((len(data),)) + data


PLUGIN: Final = Chaos
