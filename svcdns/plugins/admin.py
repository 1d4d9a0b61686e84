"""`admin`: a Unix socket by which tools such as `svcdns cache` talk to a running server (docs/plugins/admin.md).

The plugin handles no queries. The control process listens on the socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import UNIX, HttpPage, Settings

DEFAULT: Final = "/run/svcdns/admin.sock"
PAGES: Final = "/v1/"
READY: Final = "/ready"
"""The page of the plugin *ready*, which the socket has too."""
MAX_PATH: Final = 92
"""The longest path in octets. A Unix socket's path has at most 107 octets, and the socket is first made under a longer,
temporary name.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The absolute path of the socket."""

    path: str = DEFAULT


def parse(block: Block) -> Options:
    """Returns the options of the block's `admin` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.no_body(directive)
    words = arguments.arguments(directive, 0, 1)
    if not words:
        return Options()
    path = str(Path(block.root, words[0].text).absolute())
    if len(path.encode()) > MAX_PATH:
        raise CorefileError(words[0].position, f"the path of the socket has more than {MAX_PATH} octets")
    return Options(path)


class Admin(Plugin):
    """Sets the path of the socket. Handles no queries."""

    name = "admin"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the pages for tools."""
        return Settings(page=HttpPage(PAGES, (UNIX + options.path, 0), "plugin/admin: no tool can connect"))


PLUGIN: Final = Admin
