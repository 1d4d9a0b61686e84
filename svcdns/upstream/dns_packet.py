"""The message `DnsPacket` of DNS over gRPC: a DNS message in a protobuf field, as in CoreDNS (`pb/dns.proto`)."""

from __future__ import annotations

from typing import Final

from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.protobuf import ProtobufError, decode, encode

METHOD: Final = "/coredns.dns.DnsService/Query"
"""The path of the only method of the service."""
MAX_PACKET: Final = MAX_MESSAGE + 4
"""The largest DnsPacket in octets: a DNS message, the number of the field, and the length."""
_MESSAGE: Final = 1


def to_packet(message: bytes) -> bytes:
    """Encodes a DNS message as a DnsPacket."""
    return encode(((_MESSAGE, message),))


def from_packet(packet: bytes) -> bytes:
    """Returns the DNS message in a DnsPacket. Raises ProtobufError."""
    found = b""
    for number, value in decode(packet):
        if number == _MESSAGE:
            if not isinstance(value, bytes):
                raise ProtobufError("the message of a DnsPacket is a number")
            found = value
    if len(found) > MAX_MESSAGE:
        raise ProtobufError(f"a DNS message of {len(found)} octets")
    return found
