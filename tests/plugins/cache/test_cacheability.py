"""Which replies *cache* may store (docs/behaviour/plugins.md#cache)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.cacheability import has_answer, is_answer, is_cacheable, message_type
from svcdns.wire.codes import TC, Rcode
from tests.support import world

SOA = world.records("example.org. 300 IN SOA ns. root. 1 2 3 4 90")
ALIAS = "a. 60 IN CNAME b."


@pytest.mark.parametrize(
    ("rtype", "lines", "answered"),
    [
        pytest.param("A", ["A. 60 IN A 10.0.0.1"], True, id="the type"),
        pytest.param("A", ["b. 60 IN A 10.0.0.1"], False, id="another name"),
        pytest.param("A", ["a. 60 IN AAAA ::1"], False, id="another type"),
        pytest.param("A", [ALIAS, "B. 60 IN A 10.0.0.1"], True, id="at the end of a CNAME"),
        pytest.param(
            "A", ["b. 60 IN CNAME c.", "c. 60 IN A 10.0.0.1", ALIAS], True, id="at the end of two CNAMEs, in any order"
        ),
        pytest.param("A", [ALIAS], False, id="an alias to nothing"),
        pytest.param("A", [ALIAS, "a. 60 IN CNAME c.", "b. 60 IN A 10.0.0.1"], False, id="two ways"),
        pytest.param("A", [ALIAS, "a. 30 IN CNAME B.", "b. 60 IN A 10.0.0.1"], True, id="one way twice"),
        pytest.param("A", [ALIAS, "b. 60 IN CNAME a."], False, id="a loop"),
        pytest.param("CNAME", [ALIAS], True, id="the alias itself"),
        pytest.param("ANY", ["a. 60 IN TXT x"], True, id="anything"),
        pytest.param("ANY", ["b. 60 IN TXT x"], False, id="anything of another name"),
        pytest.param("A", [], False, id="nothing"),
    ],
)
def test_has_answer(rtype: str, lines: list[str], answered: bool) -> None:
    """A reply has an answer if records of the queried type are at the end of its CNAME records. A reply without an
    answer is a denial if it has an SOA record, and otherwise is not cached.
    """
    query, reply = world.query("a.", rtype), Reply(answer=world.records(*lines) if lines else ())
    assert has_answer(query, reply) is answered
    assert is_answer(query, reply) is answered
    if lines:
        assert is_cacheable(query, reply, message_type(query, reply)) is answered
        denied = Reply(answer=reply.answer, authority=SOA)
        assert message_type(query, denied) == (MessageType.NOERROR if answered else MessageType.NODATA)
        assert is_cacheable(query, denied, message_type(query, denied))


def test_errors_and_truncated_replies_are_not_answers() -> None:
    query, answer = world.query("a."), world.records("a. 60 IN A 10.0.0.1")
    assert not has_answer(query, Reply(rcode=Rcode.SERVFAIL, answer=answer))
    assert not is_answer(query, Reply(flags=TC, answer=answer))
