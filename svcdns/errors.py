"""The base class of all errors that svcdns raises on purpose, and the exceptions of msgspec for octets from outside.

Each package defines its subclasses next to the code that raises them.
"""

from __future__ import annotations

from typing import Final

import msgspec

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a msgspec decoder raises for octets that it cannot decode.

The second exception stands for text that is not UTF-8, and the third one for data that are nested too deeply.
"""


class SvcdnsError(Exception):
    """The base class of expected errors. The text of an error is one line that tells a user what to correct."""
