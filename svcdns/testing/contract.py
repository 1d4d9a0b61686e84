"""The contract check: a server with an answer table must give the same replies as a server without one.

Both servers have the plugin in their chain. Both get the same packets at the same virtual times, from several clients,
over several transports and listeners, while the plugin's files change. If the replies differ, the table sent a stored
reply that was wrong for this client or time. Names are compared without letter case (RFC 4343).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from svcdns.cluster.changes import Change
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.errors import ContractError, HookError
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.testing.author import Failures, check_module, place
from svcdns.testing.rest import DEFAULTS, Rest
from svcdns.testing.server import PORTS, Server
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Class, Type, class_text, rcode_text, type_text
from svcdns.wire.message import Message, encode_query, parse_message
from svcdns.wire.record import Edns, Record

CLIENTS: Final = (
    Client("10.1.2.3", 40001, "192.0.2.53", 53, "udp"),
    Client("10.1.2.4", 40002, "192.0.2.54", 53, "udp"),
    Client("192.0.2.7", 40003, "192.0.2.53", 53, "udp"),
    Client("2001:db8::7", 40004, "2001:db8::53", 53, "udp", 2),
)
"""Clients in three networks; two clients are in the same network."""
STEPS: Final = (0.0, 0.5, 4.25, 20.0, 60.0)
"""The seconds that pass before each round of queries."""
TIMES: Final = 3
"""How often each query is sent in a round.

The table stores a reply when its query comes for the second time, and uses it from the third time on.
"""

_WAYS: Final = (("udp", PORTS[0]), ("tcp", PORTS[0]), ("udp", PORTS[1]))
_NAMES: Final = frozenset({Type.CNAME, Type.NS, Type.PTR, Type.DNAME})
"""Types whose RDATA is a name, and is compared without letter case."""
_PAGE: Final = "the page 'Writing a plugin' of svcdns has the rules under 'What makes a reply reusable'"


def check_contract(
    module: Any,
    block: str,
    queries: Sequence[tuple[str, str]],
    *,
    rest: Callable[[Query], Answer] | None = None,
    changes: Sequence[Callable[[], object]] = (),
    cluster: Iterable[Change] = (),
    clients: Sequence[Client] = CLIENTS,
) -> int:
    """Checks a plugin module, and returns how many replies came from the answer table.

    - `block` is the text of a server block without its braces: the plugin's directive, and any other directives.
    - `queries` has pairs of a name and a type as text. The type `CH TXT` is TXT in class CH.
    - `rest` answers the queries that no plugin of the block answers. `rest` returns a reply, or an awaitable for a
      reply, which may depend only on the query. If it is None, three kinds of replies are used: as from the cluster,
      from an upstream and from a cache. In these replies, every name has address records and a TXT record.
    - `changes` has functions that change the files of the plugin, and that are called one by one, between rounds of
      queries. After each of them, the check calls the plugin's `refresh`, or else its `gather`.
    - `cluster` has the objects of the cluster.

    Do not call this function while an event loop runs. Raises AssertionError with one line of text if the plugin fails
    the check, or if the check cannot use the arguments.
    """
    __tracebackhide__ = True
    rests: Sequence[Rest] = DEFAULTS if rest is None else (lambda query, _clock: rest(query),)
    try:
        check_module(module)
        _packets(queries, lower=False)
        if _loop_runs():
            raise ContractError("call check_contract in a test that is no coroutine: an event loop runs here")
        return asyncio.run(_check(module, block, queries, rests, changes, tuple(cluster), clients))
    except HookError as error:
        raise AssertionError(f"{error}{place(error.__cause__, getattr(module, '__file__', None))}") from None
    except (SvcdnsError, AssertionError) as error:
        raise AssertionError(str(error)) from None


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _packets(queries: Sequence[tuple[str, str]], *, lower: bool) -> list[tuple[str, bytes]]:
    """Returns the text of each query, and its packet with message id 0. Raises ContractError.

    If `lower` is true, the names are in lower case.
    """
    if not queries:
        raise ContractError("there are no queries: pairs such as ('www.example.org.', 'A') were expected")
    out = []
    for query in queries:
        try:
            name, rtype = query
            rclass, _, kind = rtype.rpartition(" ")
            owner = names.from_text(name)
            packet = encode_query(
                0, RD, owner.lower() if lower else owner, Type[kind], Class[rclass or "IN"], Edns(1232)
            )
        except (KeyError, ValueError, AttributeError, SvcdnsError):
            raise ContractError(
                f"{query!r} is no query: a pair such as ('www.example.org.', 'A') was expected"
            ) from None
        out.append((f"{name} {rtype}", packet))
    return out


async def _check(
    module: Any,
    block: str,
    queries: Sequence[tuple[str, str]],
    rests: Sequence[Rest],
    changes: Sequence[Callable[[], object]],
    cluster: Sequence[Change],
    clients: Sequence[Client],
) -> int:
    """Makes the check with all kinds of replies in `rests` at the same time."""
    with ExitStack() as closing:
        failures = closing.enter_context(Failures(module))
        servers = [
            Server(module, block, rest, cluster, failures, stores=stores) for rest in rests for stores in (True, False)
        ]
        pairs = tuple(zip(servers[::2], servers[1::2], strict=True))
        for server in servers:
            closing.callback(server.chains.stop)
            server.check_classes([client.address for client in clients])
        packets = _packets(queries, lower=servers[0].has("cache"))
        for change in (None, *changes):
            if change is not None:
                change()
                for server in servers:
                    server.refresh(changed=True)
            for seconds in STEPS:
                for with_table, without in pairs:
                    await _round(with_table, without, seconds, packets, clients)
        hits = sum(with_table.hits for with_table, _ in pairs)
    failures.check()
    return hits


async def _round(
    with_table: Server, without: Server, seconds: float, packets: Sequence[tuple[str, bytes]], clients: Sequence[Client]
) -> None:
    """Lets `seconds` pass, and then sends each query several times from each client. Raises ContractError."""
    for server in (with_table, without):
        server.advance(seconds)
        server.refresh()
    ident = 0
    for number in range(TIMES * len(packets)):
        text, packet = packets[number % len(packets)]
        for client in clients:
            for protocol, port in _WAYS:
                ident = ident + 1 & 0xFFFF
                at = Client(client.address, client.port, client.local_address, port, protocol, client.family)
                sent = ident.to_bytes(2, "big") + packet[2:]
                where = f"{text} from {at.address} to port {port} over {protocol}"
                try:
                    found, stored = await with_table.answer(sent, at)
                    expected, _ = await without.answer(sent, at)
                except SvcdnsError as error:
                    raise ContractError(f"{error} [{where}]") from error
                if found != expected and _compared(found) != _compared(expected):
                    source = "came from the answer table" if stored else "is the reply with an answer table"
                    text = f"{_text(found)} {source}, {_text(expected)} was expected; {_PAGE}"
                    raise ContractError(f"{where}: {text}")


def _compared(wire: bytes) -> object:
    """Returns the reply in a form that can be compared: without letter case of names, and without order of records."""
    if not wire:
        return None
    message = parse_message(wire)
    sections = [sorted(map(_lowered, section)) for section in (message.answer, message.authority, message.additional)]
    return message.ident, message.flags, sections, message.edns


def _lowered(record: Record) -> tuple[bytes, int, int, int, bytes]:
    rdata = record.rdata.lower() if record.rtype in _NAMES else record.rdata
    return record.owner.lower(), record.rtype, record.rclass, record.ttl, rdata


def _text(wire: bytes) -> str:
    if not wire:
        return "no reply"
    message = parse_message(wire)
    sections = (("answer", message.answer), ("authority", message.authority), ("additional", message.additional))
    records = "".join(f"; {name}: {', '.join(map(_record, found))}" for name, found in sections if found)
    return f"[{_header(message)}{records}]"


def _header(message: Message) -> str:
    bits = [
        name
        for bit, name in ((AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (AD, "ad"), (CD, "cd"))
        if message.flags & bit
    ]
    return " ".join((rcode_text(message.flags & 15), *bits))


def _record(record: Record) -> str:
    rdata = record.rdata.hex()
    if record.rtype in (Type.A, Type.AAAA) and len(record.rdata) in (4, 16):
        rdata = str(ipaddress.ip_address(record.rdata))
    elif record.rtype == Type.TXT:
        rdata = repr(record.rdata[1:])[1:]
    kind = f"{class_text(record.rclass)} {type_text(record.rtype)}"
    return f"{names.to_text(record.owner)} {record.ttl} {kind} {rdata}"
