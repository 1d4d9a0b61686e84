"""The plugin *any* (docs/behaviour/plugins.md#any)."""

from __future__ import annotations

from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.any import Any, Options
from svcdns.wire.codes import RD
from tests.support import world


def test_answers_type_any() -> None:
    """The reply is the HINFO record of RFC 8482, without AA. It can be reused without a time limit."""
    reply = world.now(Any(Options(), world.environment()).handle(world.query("X.y.", "ANY"), world.following()))
    assert world.summary(reply) == ["NOERROR", 'X.y. 8482 IN HINFO "ANY obsoleted" "See RFC 8482"']
    assert (reply.flags, reply.lifetime) == (RD, UNTIL_CHANGED)


def test_the_following_plugins_answer_other_types() -> None:
    reply = Reply()
    for rtype in ("A", "HINFO"):
        assert Any(Options(), world.environment()).handle(world.query("x.", rtype), world.following(reply)) is reply


def test_takes_no_arguments() -> None:
    assert world.options("any", "any") == Options()
    assert world.rejection("any", "any x").startswith("2:5 Wrong argument count")
