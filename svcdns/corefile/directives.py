"""Checks that svcdns knows and implements each directive of a Corefile."""

from __future__ import annotations

from collections.abc import Collection

from svcdns.corefile.arguments import nearest
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.errors import CorefileError


def check_directives(corefile: Corefile, known: Collection[str], built: Collection[str]) -> None:
    """Raises CorefileError for a directive that does not exist or is not implemented.

    `known` has the names of all directives, and `built` the names of those that svcdns implements.
    """
    for block in corefile.blocks:
        for directive in block.directives:
            name = directive.name.text
            if name not in known:
                raise CorefileError(directive.position, f"Unknown directive '{name}'{nearest(name, known)}")
            if name not in built:
                raise CorefileError(
                    directive.position,
                    f"directive '{name}' is one of CoreDNS's that svcdns does not have yet",
                )
