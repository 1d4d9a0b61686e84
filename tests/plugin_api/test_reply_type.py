"""Types of replies (docs/behaviour/server.md#kinds-of-replies)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, class_of, classify
from svcdns.wire.codes import Rcode
from tests.support import world

A = world.records("a. 5 IN A 10.0.0.1")
CNAME = world.records("a. 5 IN CNAME b.")
SOA = world.records("a. 5 IN SOA ns. root. 1 2 3 4 5")
NS = world.records("a. 5 IN NS ns.")


@pytest.mark.parametrize(
    ("reply", "fields", "kind", "name"),
    [
        pytest.param(Reply(answer=A), {}, MessageType.NOERROR, "success", id="answer"),
        pytest.param(Reply(authority=SOA), {}, MessageType.NODATA, "denial", id="nodata"),
        pytest.param(Reply(authority=NS), {}, MessageType.DELEGATION, "success", id="delegation"),
        pytest.param(Reply(), {}, MessageType.NOERROR, "success", id="empty"),
        pytest.param(Reply(rcode=Rcode.NXDOMAIN), {}, MessageType.NXDOMAIN, "denial", id="nxdomain"),
        pytest.param(
            Reply(rcode=Rcode.NXDOMAIN, answer=CNAME),
            {},
            MessageType.OTHERERROR,
            "error",
            id="nxdomain behind an alias",
        ),
        pytest.param(
            Reply(rcode=Rcode.NXDOMAIN, answer=A), {}, MessageType.OTHERERROR, "error", id="nxdomain with an answer"
        ),
        pytest.param(Reply(rcode=Rcode.SERVFAIL), {}, MessageType.SERVERERROR, "error", id="servfail"),
        pytest.param(Reply(rcode=Rcode.NOTIMP), {}, MessageType.SERVERERROR, "error", id="notimp"),
        pytest.param(Reply(rcode=Rcode.REFUSED), {}, MessageType.OTHERERROR, "error", id="refused"),
        pytest.param(Reply(answer=A), {"flags": 5 << 11}, MessageType.UPDATE, "error", id="update"),
        pytest.param(Reply(answer=A), {"flags": 4 << 11}, MessageType.META, "error", id="notify"),
        pytest.param(Reply(answer=A), {"rtype": 252}, MessageType.META, "error", id="transfer"),
    ],
)
def test_classify(reply: Reply, fields: dict[str, int], kind: MessageType, name: str) -> None:
    """If several conditions hold, the first one determines the type of the reply."""
    query = world.query("a.").changed(**fields)
    assert classify(query, reply) is kind
    assert class_of(query, reply) == name
