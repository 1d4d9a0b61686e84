"""Compares an explanation with the replies of a running server."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Final

from svcdns.cli.conformance import address
from svcdns.cli.errors import CannotRun
from svcdns.conformance.client import NoReply, Server
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.replies import Reply, read_reply
from svcdns.inspection.explanation import ExplainedQuery
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, ExtendedError, Rcode, rcode_text
from svcdns.wire.errors import FormError
from svcdns.wire.tool_messages import OptRecord, Question, query

_EXTENDED: Final = 15
"""The option code of an extended DNS error (RFC 8914 §2)."""
_CAUSES: Final = {
    ExtendedError.STALE_ANSWER: "the server's state of the cluster is old (Stale Answer): it has no contact with its "
    "API server, and answers from what it knew last",
    ExtendedError.STALE_NXDOMAIN_ANSWER: "the server's answer is old (Stale NXDOMAIN Answer): its upstreams are down",
    ExtendedError.NO_REACHABLE_AUTHORITY: "no upstream of the server answers (No Reachable Authority)",
    ExtendedError.NETWORK_ERROR: "no upstream of the server answers (Network Error)",
    ExtendedError.NOT_READY: "the server has not read the cluster yet (Not Ready)",
    ExtendedError.BLOCKED: "a rule of the server blocks this query (Blocked)",
    ExtendedError.FILTERED: "a rule of the server filters this query (Filtered)",
}
_STALE: Final = (ExtendedError.STALE_ANSWER, ExtendedError.STALE_NXDOMAIN_ANSWER)
"""The extended errors that say something about a reply which equals that of the explanation."""


async def compared(text: str, explained: Sequence[ExplainedQuery], rtype: int) -> tuple[str, list[str]]:
    """Sends each explained query to the server `HOST[:PORT]`. Raises CannotRun, also if the server
    does not answer.

    Returns the cause that the replies show, and a line for each reply. The cause is an empty text if the replies are
    those of the explanation. The cause is a remark in brackets if the replies are those, but from old data.
    """
    try:
        host, port = address(text)
        server = Server(host, port)
        await server.resolve()
    except ConformanceError as failure:
        raise CannotRun(str(failure)) from failure
    cause = ""
    lines: list[str] = []
    for one in explained:
        packet = query(
            secrets.randbits(16), RD, [Question(names.from_text(one.name), rtype, Class.IN)], [OptRecord(1232, 0)]
        )
        try:
            data, _ = await server.udp(packet)
            reply = read_reply(data)
        except (NoReply, FormError) as failure:
            raise CannotRun(f"the server {text} does not answer {one.name}: {failure}") from failure
        extended = _extended(reply)
        records = "; ".join(str(line) for line in reply.answer)
        rcode = rcode_text(reply.rcode)
        lines.append(
            f"{one.name}: {rcode}{f', extended error {extended}' if extended is not None else ''} {records}".rstrip()
        )
        differs = rcode != one.rcode or bool(reply.answer) != bool(one.records)
        if extended in _STALE and not differs:
            cause = cause or f"({_CAUSES[extended]})"
        elif extended in _CAUSES and differs:
            cause = cause or _CAUSES[extended]
        elif not cause and differs:
            cause = (
                f"the server answers {one.name} with {rcode} and {len(reply.answer)} records, but this Corefile and "
                f"cluster give {one.rcode} and {len(one.records)}"
            )
        if reply.answer or reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            break
    return cause, lines


def _extended(reply: Reply) -> int | None:
    """Returns the code of the extended error, or None."""
    for code, data in reply.opt.options if reply.opt is not None else ():
        if code == _EXTENDED and len(data) >= 2:
            return int(struct.unpack("!H", data[:2])[0])
    return None
