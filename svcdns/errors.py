"""The base class of all errors that svcdns raises on purpose.

Each package defines its subclasses next to the code that raises them.
"""


class SvcdnsError(Exception):
    """An expected error. Its text is one line that tells a user what to correct."""
