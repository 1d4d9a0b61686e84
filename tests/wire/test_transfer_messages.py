"""Zone transfers of several messages, read by dnspython."""

from __future__ import annotations

import dns.flags
import dns.message
import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import AA, RD
from svcdns.wire.request import Request, accept
from svcdns.wire.transfer_messages import TransferMessages
from tests.support.world import records

ZONE = records(*(f"host-{number}.sub.example.org. 5 IN A 192.0.2.{number}" for number in range(100)))


def transfer(full: int, **options: object) -> list[dns.message.Message]:
    """Returns the messages of a zone transfer, each with at most `full` octets of records."""
    request = accept(dns.message.make_query("Example.org.", "AXFR", id=7, **options).to_wire())  # type: ignore[arg-type]
    assert isinstance(request, Request)
    messages = TransferMessages(request, Reply(flags=AA | RD), full=full)
    wires = [wire for wire in map(messages.add, ZONE) if wire is not None]
    return [dns.message.from_wire(wire, one_rr_per_rrset=True) for wire in (*wires, messages.last())]


@pytest.mark.parametrize(
    "full",
    [pytest.param(63000, id="all in one"), pytest.param(512, id="several"), pytest.param(1, id="one record each")],
)
def test_every_record_is_sent_once_and_in_order(full: int) -> None:
    found = [rrset.to_text() for message in transfer(full) for rrset in message.answer]
    assert found == [f"host-{number}.sub.example.org. 5 IN A 192.0.2.{number}" for number in range(100)]


def test_messages_are_filled_up_to_the_limit() -> None:
    messages = transfer(512)
    sizes = [len(message.to_wire()) for message in messages]
    assert len(messages) > 3
    assert all(480 < size <= 512 for size in sizes[:-1])
    assert sizes[-1] <= 512


def test_each_message_is_complete_by_itself() -> None:
    """Each message of a transfer has its own ID, flags, question and EDNS, and can be parsed separately."""
    for message in transfer(512, use_edns=0, payload=1400):
        assert message.id == 7
        assert message.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
        assert message.question[0].to_text() == "Example.org. IN AXFR"
        assert message.payload == 1232
