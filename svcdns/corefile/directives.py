"""The check that each directive of a Corefile exists and is implemented."""

from __future__ import annotations

from collections.abc import Collection

from svcdns.corefile.arguments import nearest
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.errors import CorefileError


def check_directives(corefile: Corefile, known: Collection[str], built: Collection[str]) -> None:
    """Raises CorefileError for a directive that is not in `known`, or in `known` but not in `built`."""
    for block in corefile.blocks:
        for directive in block.directives:
            name = directive.name.text
            if name not in known:
                raise CorefileError(directive.position, f"Unknown directive '{name}'{nearest(name, known)}")
            if name not in built:
                raise CorefileError(
                    directive.position,
                    f"directive '{name}' is one of CoreDNS's that svcdns does not have yet; see docs/supported.md",
                )
