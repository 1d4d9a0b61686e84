"""Builds the upstream group of a forward rule, and builds a new group when the addresses of its upstreams change.

After a reload, a server whose address and options stay the same keeps its Server object, and so its health, sockets and
connections. This module reads no files and looks up no host names.
"""

from __future__ import annotations

from functools import partial

from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.plugin_api.environment import Environment
from svcdns.plugins.forward import tls_files
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.plugins.forward.rebind_guard import rebind_guard
from svcdns.plugins.forward.upstream_addresses import NamedUpstream, TlsUpstream
from svcdns.plugins.forward.upstream_files import decode
from svcdns.plugins.forward.upstream_group import UpstreamGroup
from svcdns.tls.errors import TlsError
from svcdns.upstream.query import Address
from svcdns.upstream.server import Server, ServerOptions
from svcdns.upstream.tcp import ConnectionOptions
from svcdns.upstream.tls import ClientTls, TlsConnector
from svcdns.wire import names


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
            self._environment.log.error("tls: %s; the previous certificates stay in use", error)

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
        for address, name in self._targets().items():
            tls = () if name is None else (name, self._rule.tls_key)
            key = ("forward", address, self._options, *tls)
            servers.append(self._environment.kept(key, partial(self._make_server, address, name)))
        return UpstreamGroup(self._rule, servers, self._cells, self._timer_wheel, self._rebind_guard)

    def _targets(self) -> dict[Address, str | None]:
        """Returns the addresses of the upstreams, each with the name that its TLS certificate must have.

        The name is None for an upstream without TLS. The name is empty if the certificate must be valid for the
        address.
        """
        rule, targets = self._rule, dict[Address, str | None]()
        for upstream in rule.upstreams:
            if isinstance(upstream, NamedUpstream):
                content = self._environment.data("forward", rule.data_key(upstream))
                name = rule.server_name or upstream.server_name if upstream.server_name else None
                for address in decode(content) if content else []:
                    targets.setdefault(address, name)
            elif isinstance(upstream, TlsUpstream):
                targets.setdefault(upstream.address, upstream.server_name or rule.server_name)
            else:
                targets.setdefault(upstream, None)
        return targets

    def _make_server(self, address: Address, name: str | None) -> Server:
        connector = None
        if name is not None:
            if self._client_tls is None:
                raise TlsError("forward: control has not sent the certificates for upstreams over TLS")
            connector = TlsConnector(address, name, self._client_tls, self._options.source)
        return Server(address, self._options, self._environment.counters, self._timer_wheel, connector=connector)


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
