"""Builds the upstream group of a forward rule, and builds a new group when the addresses of its upstreams change.

After a reload, a server whose address and options stay the same keeps its Server object, and so its health, sockets and
connections. This module reads no files and looks up no host names.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.log_line import LogLine
from svcdns.plugin_api.environment import Environment
from svcdns.plugins.forward import tls_files
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.plugins.forward.rebind_guard import rebind_guard
from svcdns.plugins.forward.upstream_addresses import HTTPS_PORT, NamedUpstream, TlsUpstream
from svcdns.plugins.forward.upstream_files import decode
from svcdns.plugins.forward.upstream_group import UpstreamGroup
from svcdns.tls.errors import TlsError
from svcdns.upstream.query import Address, address_text
from svcdns.upstream.server import Server, ServerOptions
from svcdns.upstream.tcp import ConnectionOptions
from svcdns.upstream.tls import ClientTls, TlsConnector
from svcdns.wire import names


class _Secured(NamedTuple):
    """The encrypted transport of an upstream: `tls`, `https` or `quic`.

    The upstream's certificate must have the name `name`, or the upstream's address if `name` is empty.
    """

    name: str
    transport: str


class GroupBuilder:
    """Builds the upstream group of one rule, and replaces `group` when the upstreams change.

    Running exchanges keep their group.
    """

    def __init__(self, rule: Rule, environment: Environment, cells: Cells) -> None:
        """Builds the first group. Raises TlsError if certificates cannot be used."""
        self._rule, self._environment, self._cells = rule, environment, cells
        self._options = _server_options(rule)
        self._timer_wheel: TimerWheel = environment.kept(
            ("forward", "timer wheel"), partial(TimerWheel, environment.clock)
        )
        self._rebind_guard = rebind_guard(rule, environment, cells)
        self._client_tls = self._make_client_tls()
        self.group = self._build()
        for upstream in rule.upstreams:
            if isinstance(upstream, NamedUpstream):
                environment.on_data("forward", rule.data_key(upstream), self._addresses_changed)
        if rule.tls_key:
            environment.on_data("forward", rule.tls_key, self._tls_files_changed)

    def _addresses_changed(self, _: bytes) -> None:
        before, self.group = self.group, self._build()
        for server in before.servers:
            if server not in self.group.servers:
                server.pause()

    def _tls_files_changed(self, payload: bytes) -> None:
        assert self._client_tls is not None
        try:
            self._client_tls.replace(tls_files.decode(payload))
        except TlsError as error:
            self._environment.log.error(LogLine("tls: the previous certificates stay in use", error=error))

    def _make_client_tls(self) -> ClientTls | None:
        """Returns the ClientTls object of the rule, or None if the rule has no upstream over TLS.

        After a reload, the previous ClientTls object is used again, with the new certificates.
        """
        environment, key = self._environment, self._rule.tls_key
        content = environment.data("forward", key) if key else None
        if content is None:
            return None
        material = tls_files.decode(content)
        kept: ClientTls = environment.kept(
            ("forward", "trust", key), partial(ClientTls, material, environment.poll_sockets)
        )
        kept.replace(material)
        return kept

    def _build(self) -> UpstreamGroup:
        servers = []
        for address, secured in self._targets().items():
            tls = () if secured is None else (secured, self._rule.tls_key)
            if secured is not None and secured.transport == "https":
                tls = (*tls, self._rule.doh_method)
            key = ("forward", address, self._options, *tls)
            servers.append(self._environment.kept(key, partial(self._make_server, address, secured)))
        return UpstreamGroup(self._rule, servers, self._cells, self._timer_wheel, self._rebind_guard)

    def _targets(self) -> dict[Address, _Secured | None]:
        """Returns the addresses of the upstreams, each with its use of TLS, or None for an upstream without TLS."""
        rule, targets = self._rule, dict[Address, _Secured | None]()
        for upstream in rule.upstreams:
            if isinstance(upstream, NamedUpstream):
                content = self._environment.data("forward", rule.data_key(upstream))
                name = rule.server_name or upstream.server_name
                secured = _Secured(name, upstream.transport) if upstream.server_name else None
                for address in decode(content) if content else []:
                    targets.setdefault(address, secured)
            elif isinstance(upstream, TlsUpstream):
                name = upstream.server_name or rule.server_name
                targets.setdefault(upstream.address, _Secured(name, upstream.transport))
            else:
                targets.setdefault(upstream, None)
        return targets

    def _make_server(self, address: Address, secured: _Secured | None) -> Server:
        make = partial(Server, address, self._options, self._environment.counters, self._timer_wheel)
        if secured is None:
            return make()
        if self._client_tls is None:
            raise TlsError("forward: control has not sent the certificates for upstreams over TLS")
        if secured.transport == "quic":
            from svcdns.upstream.quic import QuicConnector  # only rules with such upstreams pay for QUIC

            over_quic = QuicConnector(address, secured.name, self._client_tls, self._options.source)
            return make(connector=over_quic, proto="quic")
        alpn = ("h2",) if secured.transport == "https" else ()
        connector = TlsConnector(address, secured.name, self._client_tls, self._options.source, alpn)
        if secured.transport == "tls":
            return make(connector=connector)
        from svcdns.upstream.https import HttpsConnection  # only rules with such upstreams pay for HTTP/2

        host = (
            secured.name
            if secured.name and address[1] == HTTPS_PORT
            else address_text((secured.name or address[0], address[1]))
        )
        connection = partial(HttpsConnection, host=host, method=self._rule.doh_method)
        return make(connector=connector, connection=connection, proto="https")


def _server_options(rule: Rule) -> ServerOptions:
    return ServerOptions(
        read_timeout=rule.read_timeout,
        connections=ConnectionOptions(expire=rule.expire, max_age=rule.max_age, max_idle=rule.max_idle_conns),
        max_fails=rule.max_fails,
        probe_interval=rule.health_check,
        probe_name=names.from_text(rule.health_domain),
        probe_recursion=rule.health_recursion,
        probe_tcp=rule.force_tcp,
        source=rule.source_address,
    )
