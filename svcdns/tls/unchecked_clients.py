"""TLS for listeners that request certificates of clients without verifying them (`client_auth` request and require).

Python's `ssl` verifies each certificate that it requests. The library pyOpenSSL lets the caller accept any certificate.
The classes have the methods of `ssl.SSLContext` and `ssl.SSLObject` that `tls.transport` calls, and raise its errors.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from OpenSSL import SSL

from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, memory_path

T = TypeVar("T")
CHUNK: Final = 16384
_RECORD_HEADER: Final = 5
_SESSION_CONTEXT: Final = b"svcdns"


class UncheckedContext:
    """Makes the server's side of connections. With `required`, a client without a certificate is refused."""

    def __init__(self, material: Material, keylog: str = "", *, required: bool) -> None:
        """Raises TlsError if the certificate and the key cannot be used."""
        self._context = context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_RENEGOTIATION)
        context.set_session_id(_SESSION_CONTEXT)
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0)
        context.set_verify(mode, lambda *_: True)
        try:
            with memory_path(material.certificates) as certificates, memory_path(material.key) as key:
                context.use_certificate_chain_file(certificates)
                context.use_privatekey_file(key)
            context.check_privatekey()
        except SSL.Error as error:
            raise TlsError(_reason(error)) from error
        if keylog:
            context.set_keylog_callback(lambda _connection, line: _append(keylog, line))

    def set_alpn_protocols(self, protocols: Sequence[str]) -> None:
        """Offers protocols (RFC 7301), the preferred one first."""
        ours = [name.encode() for name in protocols]

        def select(_connection: object, theirs: list[bytes]) -> Any:
            return next((name for name in ours if name in theirs), SSL.NO_OVERLAPPING_PROTOCOLS)

        self._context.set_alpn_select_callback(select)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_side: bool) -> UncheckedConnection:
        """Returns the server's side of a connection. `incoming` and `outgoing` have the encrypted octets."""
        assert server_side
        return UncheckedConnection(SSL.Connection(self._context, None), incoming, outgoing)


class UncheckedConnection:
    """The server's side of one connection."""

    def __init__(self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._connection, self._incoming, self._outgoing = connection, incoming, outgoing
        self._header, self._left = b"", 0
        """The octets of an incomplete record header, and the octets of the present record that have not arrived."""
        connection.set_accept_state()

    session_reused: Final = False
    """pyOpenSSL does not tell whether a session was resumed."""

    def do_handshake(self) -> None:
        """Continues the handshake. Raises ssl.SSLError."""
        self._call(self._connection.do_handshake)

    def read(self, size: int) -> bytes:
        """Returns decrypted data. Raises ssl.SSLError."""
        return self._call(lambda: self._connection.recv(size))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts data. Raises ssl.SSLError."""
        self._call(lambda: self._connection.sendall(bytes(data)))

    def unwrap(self) -> None:
        """Sends close_notify."""
        self._call(self._connection.shutdown)

    def selected_alpn_protocol(self) -> str | None:
        """Returns the protocol that was chosen in the handshake (RFC 7301), or None."""
        return self._connection.get_alpn_proto_negotiated().decode() or None

    def _call(self, operation: Callable[[], T]) -> T:
        try:
            while True:
                try:
                    return operation()
                except SSL.WantReadError as error:
                    if not self._feed():
                        raise ssl.SSLWantReadError from error
        except SSL.ZeroReturnError as error:
            raise ssl.SSLZeroReturnError from error
        except SSL.Error as error:
            raise ssl.SSLError(_reason(error)) from error
        finally:
            self._take_outgoing()

    def _feed(self) -> bool:
        """Passes the header or the rest of one record to pyOpenSSL. Returns False if nothing has arrived.

        Later records stay in the buffer, from which the caller sees that there is more to read.
        """
        if self._left:
            data = self._incoming.read(self._left)
            self._left -= len(data)
        else:
            self._header += self._incoming.read(_RECORD_HEADER - len(self._header))
            if len(self._header) < _RECORD_HEADER:
                return False
            data, self._header = self._header, b""
            self._left = int.from_bytes(data[3:], "big")
        if data:
            self._connection.bio_write(data)
        return bool(data)

    def _take_outgoing(self) -> None:
        try:
            while True:
                self._outgoing.write(self._connection.bio_read(CHUNK))
        except SSL.Error:  # WantReadError: nothing is left
            return


def _append(path: str, line: bytes) -> None:
    with Path(path).open("ab") as file:
        file.write(line + b"\n")


def _reason(error: SSL.Error) -> str:
    found = error.args[0] if error.args and isinstance(error.args[0], list) and error.args[0] else None
    return str(found[0][-1]) if found else (str(error) or "the connection ended")
