"""Opens the connections of writers. The control process looks up addresses and reads certificates (`data`)."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import suppress

from svcdns.plugin_api.environment import Environment
from svcdns.plugins.dnstap.data import AUTHORITIES, addresses_key, drops_key, inlet_key
from svcdns.plugins.dnstap.options import Endpoint
from svcdns.plugins.dnstap.writer import Writer


class Connector:
    """Opens connections to one endpoint. For a listener, connects to the inlet in the control process."""

    def __init__(self, endpoint: Endpoint, environment: Environment) -> None:
        self._endpoint, self._environment = endpoint, environment

    def follow(self, writer: Writer) -> None:
        """For a listener: lets `writer` take messages only while a reader is connected."""
        if not self._endpoint.listens:
            return
        key = inlet_key(self._endpoint)
        environment = self._environment
        environment.on_data("dnstap", key, lambda payload: writer.admit(bool(payload)))
        writer.admit(bool(environment.data("dnstap", key)))
        if environment.first:
            drops = drops_key(self._endpoint)
            environment.on_data("dnstap", drops, lambda payload: writer.set_reader_drops(int(payload or 0)))

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> object:
        """Opens a connection. Raises OSError or TlsError."""
        loop, endpoint, environment = asyncio.get_running_loop(), self._endpoint, self._environment
        if endpoint.listens:
            inlet = environment.data("dnstap", inlet_key(endpoint))
            if not inlet:
                raise ConnectionRefusedError("no reader is connected")
            return await loop.create_unix_connection(make, b"\0" + inlet)  # type: ignore[arg-type]
        if endpoint.scheme == "unix":
            return await loop.create_unix_connection(make, endpoint.path)
        hosts = [endpoint.host]
        if endpoint.is_name:
            found = environment.data("dnstap", addresses_key(endpoint)) or b""
            hosts = found.decode().split()
            if not hosts:
                raise ConnectionRefusedError(f"no addresses found for {endpoint.host}")
        transport, protocol = await self._connect_tcp(make, random.choice(hosts))
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # the kernel limits the size
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, endpoint.buffer << 20)
        return protocol

    async def _connect_tcp(
        self, make: Callable[[], asyncio.Protocol], host: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        loop, endpoint = asyncio.get_running_loop(), self._endpoint
        if endpoint.scheme == "tcp":
            return await loop.create_connection(make, host, endpoint.port)
        import ssl

        from svcdns.tls.contexts import client_context
        from svcdns.tls.material import Material

        authorities = self._environment.data("dnstap", AUTHORITIES) or b""
        context = client_context(Material(authorities=authorities), self._environment.poll_sockets)
        if not endpoint.verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return await loop.create_connection(make, host, endpoint.port, ssl=context, server_hostname=endpoint.host)
