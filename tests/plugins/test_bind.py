"""The options of *bind*."""

from __future__ import annotations

from svcdns.plugins.bind import Line, Options
from tests.support import world


def test_directives_add_up() -> None:
    """Each *bind* directive has its own addresses and exceptions."""
    read = world.options("bind", "bind 127.0.0.1 lo {\n  except ::1\n  except 127.0.0.2\n}\nbind ::1")
    assert read == Options((Line(("127.0.0.1", "lo"), ("::1", "127.0.0.2")), Line(("::1",))))


def test_an_address_is_needed() -> None:
    assert world.rejection("bind", "bind").startswith("2:1 Wrong argument count")
    assert (
        world.rejection("bind", "bind lo {\n  excpt ::1\n}") == "3:3 unknown property 'excpt' (did you mean 'except'?)"
    )
