"""`multisocket`: how many workers serve, each with sockets of its own (spec C-multisocket). Configures only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from svcdns.chain.environment import Block
from svcdns.corefile import reading
from svcdns.corefile.errors import CorefileError

MOST: Final = 1024
"""The largest number that the directive takes."""


@dataclass(frozen=True, slots=True)
class Options:
    """Workers, at least 1."""

    workers: int


def parse(block: Block) -> Options:
    """The options of the block's last `multisocket` directive. Raises CorefileError."""
    workers = 1
    for directive in block.directives:
        words = reading.arguments(directive, 0, 1)
        reading.no_body(directive)
        workers = os.cpu_count() or 1
        if words:
            text = words[0].text
            if not text.isdecimal() or not 1 <= int(text) <= MOST:
                raise CorefileError(words[0].position, f"'{text}' is not a number of sockets; 1 to {MOST} was expected")
            workers = int(text)
    return Options(workers)


PLUGIN: Final = None
