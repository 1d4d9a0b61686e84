"""`shed`: limits the replies of a UDP socket that wait to be sent (docs/plugins/shed.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """The directive has no options."""


def parse(block: Block) -> Options:
    """Checks the block's `shed` directive. Raises CorefileError, also if a key of the block is not for plain DNS."""
    directive = arguments.once(block.directives)
    arguments.arguments(directive, 0, 0)
    if arguments.body(directive):
        raise CorefileError(arguments.body(directive)[0].position, "shed takes no options")
    for key in block.keys:
        if key.transport != "dns":
            shown = f"{key.transport}://{key.zone}:{key.port}"
            text = f'only plain DNS server blocks are supported; "{shown}" uses transport "{key.transport}"'
            raise CorefileError(directive.position, text)
    return Options()


class Shed(Plugin):
    """Passes every query on. The readers of the listeners' UDP sockets do the work of the plugin."""

    name = "shed"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:  # noqa: ARG003 - there are none
        """Returns settings for the listeners of the block."""
        return Settings(sheds=True)

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002
        """Returns True: negative answers pass unchanged."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002
        """Returns True: *shed* also works for replies of the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002
        """Returns True: *shed* also works for replies of the cold path (replies without the plugin chain)."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the answer of the following plugins."""
        return following(query)


PLUGIN: Final = Shed
