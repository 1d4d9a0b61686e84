"""A correct cluster DNS server, built on dnspython and a dictionary, and faults for it.

The zone is computed from API objects. The conformance suite's own code is not used. A `Fault` changes the zone, a
reply, its octets, or its transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from svcdns.conformance.api import Api, MissingError
from tests.support.sockets import udp_and_tcp

Object = dict[str, Any]
Zone = dict[tuple[str, str], list[str]]
"""RDATA texts by name in lower case and type."""
Reply = dns.message.Message

ZONE = "cluster.local."
SOA = f"ns.dns.{ZONE} hostmaster.{ZONE} 1 7200 1800 86400 5"


@dataclass
class Fault:
    """A fault of a server. Each function changes its argument, or returns the replacement."""

    zone: Callable[[Zone], Any] | None = None
    reply: Callable[[Reply, str], Reply | None] | None = None
    packet: Callable[[bytes, bytes | None, str], bytes | None] | None = None
    ignores: tuple[str, str] | None = None
    """A verb and the name of an object: the server does not see the change."""
    other_port: bool = False
    one_reply_a_connection: bool = False
    whole_segments_only: bool = False
    drops_after: int = 0
    """The number of datagrams from one address that are answered."""


def zone_of(objects: Iterable[Object]) -> Zone:
    """Returns the DNS records of these objects."""
    zone: Zone = {(ZONE, "SOA"): [SOA], (f"dns-version.{ZONE}", "TXT"): ['"1.1.0"']}

    def add(name: str, rtype: str, text: str) -> None:
        zone.setdefault((name, rtype), []).append(text)

    slices: dict[tuple[str, str], list[Object]] = {}
    for item in objects:
        if item["kind"] == "EndpointSlice":
            slices.setdefault(
                (item["metadata"]["namespace"], item["metadata"]["labels"]["kubernetes.io/service-name"]), []
            ).append(item)
    for item in objects:
        meta, spec = item["metadata"], item.get("spec", {})
        if item["kind"] == "Namespace":
            zone.setdefault((f"{meta['name']}.svc.{ZONE}", "NONE"), [])
        if item["kind"] != "Service":
            continue
        own = f"{meta['name']}.{meta['namespace']}.svc.{ZONE}"
        if spec.get("type") == "ExternalName":
            add(own, "CNAME", spec["externalName"] + ".")
        elif spec.get("clusterIP") == "None":
            _headless(add, own, slices.get((meta["namespace"], meta["name"]), []))
        else:
            for ip in spec["clusterIPs"]:
                add(own, "AAAA" if ":" in ip else "A", ip)
                add(ipaddress.ip_address(ip).reverse_pointer + ".", "PTR", own)
            for port in spec["ports"]:
                if "name" in port:
                    add(f"_{port['name']}._{port['protocol'].lower()}.{own}", "SRV", f"0 100 {port['port']} {own}")
    return zone


def _headless(add: Callable[[str, str, str], None], own: str, slices: list[Object]) -> None:
    for part in slices:
        for one in part["endpoints"]:
            if not one["conditions"]["ready"]:
                continue
            for ip in one["addresses"]:
                name = f"{one.get('hostname') or ip.replace('.', '-').replace(':', '-')}.{own}"
                for owner in (own, name):
                    add(owner, "AAAA" if ":" in ip else "A", ip)
                add(ipaddress.ip_address(ip).reverse_pointer + ".", "PTR", name)
                for port in part["ports"]:
                    add(f"_{port['name']}._{port['protocol'].lower()}.{own}", "SRV", f"0 1 {port['port']} {name}")


class FakeApi(Api):
    """A fake API server with the methods of `svcdns.conformance.api.Api`. `seen` has the objects that the model DNS
    server knows.
    """

    def __init__(self, *objects: Object, ignores: tuple[str, str] | None = None) -> None:
        """Creates an API server with these objects. Requests with the verb and the object in `ignores`
        have no effect.
        """
        self.objects: dict[str, Object] = {}
        self.seen: dict[str, Object] = {}
        self.refuse = ""
        self._ignores = ignores
        self._ips = 0
        for item in objects:
            path = {"Service": "/api/v1/namespaces/{}/services/{}", "Namespace": "/api/v1/namespaces{}/{}"}[
                item["kind"]
            ]
            self._store(path.format(item["metadata"].get("namespace", ""), item["metadata"]["name"]), item, "create")

    async def get(self, path: str) -> Object:
        if path not in self.objects:
            raise MissingError(f"404 {path}")
        return self.objects[path]

    async def listed(self, path: str, kind: str) -> list[Mapping[str, Any]]:
        return [item for item in self.objects.values() if item["kind"] == kind]

    async def create(self, path: str, content: Mapping[str, Any]) -> Object:
        if self.refuse and self.refuse in path:
            raise MissingError(f"403 {path}")
        item = copy.deepcopy(dict(content))
        if "/namespaces/" in path:
            item["metadata"]["namespace"] = path.split("/namespaces/")[1].partition("/")[0]
        return self._store(f"{path}/{item['metadata']['name']}", item, "create")

    async def patch(self, path: str, change: Mapping[str, Any]) -> Object:
        """Applies a JSON merge patch (RFC 7386) to an object, and returns the object."""
        return self._store(path, _merged(self.objects[path], change), "patch")

    async def delete(self, path: str) -> None:
        self.objects.pop(path, None)
        if self._ignores != ("delete", path.rpartition("/")[2]):
            self.seen.pop(path, None)

    def _store(self, path: str, item: Object, verb: str) -> Object:
        if (
            item["kind"] == "Service"
            and item["spec"].get("type") != "ExternalName"
            and not item["spec"].get("clusterIP")
        ):
            self._ips += 1
            item["spec"]["clusterIP"] = f"10.96.1.{self._ips}"
            extra = [f"fd00::{self._ips:x}"] if item["spec"].get("ipFamilyPolicy") else []
            item["spec"]["clusterIPs"] = [item["spec"]["clusterIP"], *extra]
        item["spec"] = item.get("spec", {})
        if item["spec"].get("clusterIP") == "None":
            item["spec"]["clusterIPs"] = ["None"]
        self.objects[path] = item
        if self._ignores != (verb, item["metadata"]["name"]):
            self.seen[path] = copy.deepcopy(item)
        return copy.deepcopy(item)


def _merged(target: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    out = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), value)
    return out


@dataclass
class ModelServer:
    """A model DNS server that is correct except for its fault."""

    api: FakeApi
    fault: Fault = field(default_factory=Fault)
    port: int = 0
    counts: dict[Any, int] = field(default_factory=dict)

    def zone(self) -> Zone:
        """Returns the current records, with the fault applied."""
        zone = zone_of(self.api.seen.values())
        if self.fault.zone:
            self.fault.zone(zone)
        return zone

    def answer(self, packet: bytes, transport: str) -> bytes | None:
        """Returns the octets of the reply, or None for no reply."""
        reply = self._correct_reply(packet, transport)
        return self.fault.packet(packet, reply, transport) if self.fault.packet else reply

    def _correct_reply(self, packet: bytes, transport: str) -> bytes | None:
        if len(packet) < 12 or packet[2] & 0x80:
            return None
        if packet[2] >> 3 & 15:
            return _header_only(packet, 4)
        try:
            query = dns.message.from_wire(packet)
        except (dns.exception.DNSException, ValueError):
            return _header_only(packet, 1)
        if len(query.question) != 1 or packet[4:6] != b"\0\1":
            return _header_only(packet, 1)
        reply: Reply | None = self._reply(query)
        if self.fault.reply and reply is not None:
            reply = self.fault.reply(reply, transport)
        if reply is None:
            return None
        limit = 65535 if transport == "tcp" else max(512, query.payload) if query.edns >= 0 else 512
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            reply.answer, reply.authority, reply.additional = [], [], []
            reply.flags |= dns.flags.TC
            return reply.to_wire(max_size=limit)

    def _reply(self, query: Reply) -> Reply:
        asked = query.question[0]
        reply = dns.message.make_response(query)
        if query.edns >= 0:
            reply.use_edns(0, ednsflags=query.ednsflags & dns.flags.DO, payload=1232)
        reply.flags &= ~(dns.flags.AD | dns.flags.CD)
        if query.edns > 0:
            reply.set_rcode(dns.rcode.BADVERS)
        elif asked.rdclass != dns.rdataclass.IN or asked.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            reply.set_rcode(dns.rcode.REFUSED)
        else:
            reply.flags |= dns.flags.AA
            self._fill(reply, asked.name, dns.rdatatype.to_text(asked.rdtype))
        return reply

    def _fill(self, reply: Reply, name: dns.name.Name, rtype: str) -> None:
        zone, key = self.zone(), name.to_text().lower()
        labels = key.split(".")
        if key.endswith(f".pod.{ZONE}") and labels[0].count("-") == 3 and (f"{labels[1]}.svc.{ZONE}", "NONE") in zone:
            zone[key, "A"] = [labels[0].replace("-", ".")]
        found = zone.get((key, rtype)) or zone.get((key, "CNAME"))
        if found:
            shown = rtype if (key, rtype) in zone else "CNAME"
            reply.answer.append(dns.rrset.from_text_list(name, 5, "IN", shown, found))
            return
        if not any(owner == key or owner.endswith("." + key) for owner, _ in zone) and key not in (
            f"svc.{ZONE}",
            f"pod.{ZONE}",
        ):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        origin = ZONE if key.endswith(ZONE) else ".".join(labels[-3:])
        reply.authority.append(dns.rrset.from_text(origin, 5, "IN", "SOA", SOA))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ModelServer]:
        """Serves on loopback, over UDP and TCP on one port, while the context is open."""
        loop = asyncio.get_running_loop()
        datagrams, listener = udp_and_tcp()
        self.port = datagrams.getsockname()[1]
        udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        tcp = await asyncio.start_server(self._stream, sock=listener)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.other = other
        try:
            yield self
        finally:
            other.close()
            udp.close()
            tcp.close()
            await asyncio.sleep(0)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = b""
        try:
            while chunk := await reader.read(65535):
                if self.fault.whole_segments_only and len(chunk) < 12:
                    break
                buffer += chunk
                while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                    end = 2 + int.from_bytes(buffer[:2], "big")
                    packet, buffer = buffer[2:end], buffer[end:]
                    reply = self.answer(packet, "tcp")
                    if reply is not None:
                        writer.write(len(reply).to_bytes(2, "big") + reply)
                    if self.fault.one_reply_a_connection:
                        await writer.drain()
                        return
        except ConnectionError:
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ModelServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        server = self._server
        server.counts[addr] = server.counts.get(addr, 0) + 1
        if server.fault.drops_after and server.counts[addr] > server.fault.drops_after:
            return
        reply = server.answer(data, "udp")
        if reply is None:
            return
        if server.fault.other_port:
            server.other.sendto(reply, addr)
        else:
            self._transport.sendto(reply, addr)


def _header_only(packet: bytes, rcode: int) -> bytes:
    """Returns a reply that is only a header, with the query's ID and opcode and this response code."""
    return packet[:2] + bytes([0x80 | packet[2] & 0x79, rcode]) + bytes(8)
