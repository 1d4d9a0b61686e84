"""`on`: runs commands at the start and at the stop of the server. Control runs them (`control.event_commands`)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import EventCommand, Settings

EVENTS: Final = ("startup", "shutdown", "certrenew")
_BACKGROUND: Final = "&"


@dataclass(frozen=True, slots=True)
class Options:
    """The commands of all `on` directives of a server block, in the order of the Corefile."""

    commands: tuple[EventCommand, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `on` directives. Raises CorefileError."""
    return Options(tuple(map(_command, block.directives)))


def _command(directive: Directive) -> EventCommand:
    arguments.no_body(directive)
    event, *words = arguments.arguments(directive, 1, arguments.UNBOUNDED)
    if event.text.lower() not in EVENTS:
        raise CorefileError(event.position, f"Wrong event name or event not supported: '{event.text}'")
    text = " ".join(word.text for word in words)
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise CorefileError(event.position, f"error parsing command: {error}") from error
    if not command:
        raise CorefileError(event.position, f"no command contained in '{text}'")
    waits = len(command) == 1 or command[-1] != _BACKGROUND
    return EventCommand(event.text.lower(), tuple(command if waits else command[:-1]), waits=waits)


class On(Plugin):
    """Sets the commands that control runs. Handles no queries."""

    name = "on"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the commands."""
        return Settings(commands=options.commands)


PLUGIN: Final = On
