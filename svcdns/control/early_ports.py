"""Finds the addresses of the DNS ports early in a start, before the plugins are imported.

The supervisor opens these ports, and queries wait in the sockets until the workers answer. No port is opened early if
the start depends on a list from an API server. The module checks nothing: `configuration` checks the Corefile later.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Mapping
from typing import Final

from svcdns.corefile.blocks import Corefile, Directive, ServerBlock
from svcdns.corefile.env_options import variable
from svcdns.corefile.load import load
from svcdns.corefile.transports import ENCRYPTED, PROTOCOLS
from svcdns.errors import SvcdnsError

Address = tuple[str, int, str]
"""Host (empty for all), port, and `udp` or `tcp`."""
LIMIT: Final = 1.0
"""Seconds that the early read may take. If it takes longer, the start goes on, and reads the Corefile once more."""


def read(conf: str | None, port: int) -> tuple[Corefile | SvcdnsError | None, list[Address]]:
    """Reads and parses the Corefile, and returns it with the addresses to open early.

    The first value is the error if the Corefile cannot be used, and None if the read takes longer than LIMIT. `conf`
    and `port` are the options of the command line.
    """
    found: list[tuple[Corefile | SvcdnsError, list[Address]]] = []

    def run() -> None:
        try:
            corefile = load(conf, environ=os.environ, default_port=port)
            found.append((corefile, addresses(corefile, os.environ)))
        except SvcdnsError as error:
            found.append((error, []))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    return found[0] if found else (None, [])


def addresses(corefile: Corefile, environ: Mapping[str, str]) -> list[Address]:
    """Returns the addresses of all server blocks, to be opened early.

    The list is empty if the ports must not be opened early, or if the addresses do not follow from the Corefile.
    """
    out: dict[Address, None] = {}
    for block in corefile.blocks:
        hosts = _hosts(block)
        if not hosts or any(key.port == 0 for key in block.keys):
            return []
        if any(_waits_for_lists(directive, environ) for directive in block.directives):
            return []
        for key in (one for one in block.keys if one.transport not in ENCRYPTED):
            out |= {(host, key.port, protocol): None for host in hosts for protocol in PROTOCOLS[key.transport]}
    return list(out)


def _hosts(block: ServerBlock) -> list[str]:
    """Returns the addresses that a block is bound to; `[""]` means all addresses of the machine.

    The list is empty if `bind` names an interface or has `except`.
    """
    lines = [directive for directive in block.directives if directive.name.text == "bind"]
    words = [word.text for line in lines for word in line.arguments]
    if not lines:
        return [""]
    try:
        for word in words:
            ipaddress.ip_address(word)
    except ValueError:
        return []
    return [] if any(line.body for line in lines) else words


def _waits_for_lists(directive: Directive, environ: Mapping[str, str]) -> bool:
    """Returns True if a directive makes the start wait for lists from an API server."""
    if directive.name.text != "kubernetes":
        return False
    options = {line.name.text: [word.text for word in line.arguments] for line in directive.body or ()}
    for name in ("manifests", "snapshot"):
        if value := environ.get(variable(name)):
            options.setdefault(name, value.split())
    return "manifests" not in options and not _has_files(*options.get("snapshot", [])[:1])


def _has_files(folder: str = "") -> bool:
    """Returns True if the folder has a file. Returns False for a relative path."""
    try:
        return os.path.isabs(folder) and bool(os.listdir(folder))  # noqa: PTH117, PTH208 - one call, no objects
    except OSError:
        return False
