"""The root of every error that svcdns raises on purpose.

Each folder defines its own children beside the code that raises them. Nothing here knows what went wrong.
"""


class SvcdnsError(Exception):
    """An expected failure; its text is one line that a user can act on."""
