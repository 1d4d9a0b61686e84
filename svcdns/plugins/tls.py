"""`tls`: the certificate of the block's `tls://` listeners, and whether clients need a certificate.

The plugin handles no queries. The control process reads the files at start and again every PERIOD seconds, and sends
their content to the workers. If changed files cannot be used, the previous content stays in use. A new certificate is
used for new connections.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, expiry, read, system_authorities

PERIOD: Final = 10.0
"""Seconds between two reads of the files."""
CLIENT_AUTH: Final = {
    "nocert": ssl.CERT_NONE,
    "verify_if_given": ssl.CERT_OPTIONAL,
    "require_and_verify": ssl.CERT_REQUIRED,
}
UNCHECKED: Final = ("request", "require")
"""The values of `client_auth` that request client certificates without verifying them."""
ACME: Final = ("acme", "email", "ca", "url", "storage", "ca_root", "resolver")
OWN: Final = ("client_auth", "keylog")

EXPIRY: Final = Family(
    "svcdns_tls_certificate_expiry_timestamp_seconds",
    MetricKind.GAUGE,
    "Expiry of the served certificate chain (its first certificate to expire), in Unix seconds.",
    ("certificate",),
    uniform=True,
)
REFUSED: Final = Family(
    "svcdns_tls_certificate_refused",
    MetricKind.GAUGE,
    "1 while the certificate files cannot be used and the certificate read before is served.",
    ("certificate",),
    uniform=True,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The paths of the certificate and key files. Relative paths start from the folder of *root*.

    `client_auth` is one of CLIENT_AUTH and UNCHECKED. `authorities` and `keylog` are empty if not configured.
    """

    position: Position
    certificate: str
    key: str
    authorities: str = ""
    client_auth: str = "nocert"
    keylog: str = ""

    @property
    def data_key(self) -> str:
        """Returns the key of the files' content in the data that the control process sends to the workers."""
        return f"{self.certificate} {self.key} {self.authorities} {self.client_auth} {self.keylog}"


class ServerTls(msgspec.Struct, frozen=True, array_like=True):
    """The certificates and keys that the control process sends to the workers, and how to use them.

    `expires` is the expiry of the certificate in Unix seconds. `refused` is the error text of newer files that cannot
    be used, otherwise empty.
    """

    certificate: str
    material: Material
    client_auth: str
    keylog: str
    expires: float
    refused: bytes = b""

    @property
    def verify(self) -> ssl.VerifyMode:
        """Returns the `ssl` module's constant for whether clients may or must present a certificate."""
        return CLIENT_AUTH.get(self.client_auth, ssl.CERT_NONE)


def parse(block: Block) -> Options:
    """Returns the options of the block's last `tls` directive. Raises CorefileError."""
    return [_options(directive, block.root) for directive in block.directives][-1]


def _options(directive: Directive, root: str) -> Options:
    for line in arguments.body(directive):
        if line.name.text in ACME and (line.name.text == "acme" or not directive.arguments):
            text = "certificates by ACME are not supported; give the files CERT and KEY, which are read again when they change"
            raise CorefileError(line.position, f"plugin/tls: {text}")
    words = [str(Path(root) / word.text) for word in arguments.arguments(directive, 2, 3)]
    options = Options(directive.position, *words)
    for line in arguments.body(directive):
        arguments.no_body(line)
        options = replace(options, **_line(line, root))
    return options


def _line(line: Directive, root: str) -> dict[str, Any]:
    match line.name.text:
        case "client_auth":
            word = arguments.argument(line)
            return {"client_auth": arguments.one_of(word, (*CLIENT_AUTH, *UNCHECKED))}
        case "keylog":
            return {"keylog": str(Path(root) / arguments.argument(line).text)}
    raise arguments.unknown_option(line, OWN)


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a new Corefile reads anew
    """Reads the certificate and key files, and returns their content as data for the workers.

    Raises CorefileError if the content cannot be used.
    """
    log = plugin_logger("tls")
    try:
        served = _read(options)
    except TlsError as error:
        raise CorefileError(options.position, f"plugin/tls: {error}") from error
    if options.keylog:
        try:
            Path(options.keylog).open("ab").close()
        except OSError as error:
            raise CorefileError(
                options.position, f"plugin/tls: open {options.keylog}: {(error.strerror or '').lower()}"
            ) from error
        log.warning("keylog: whoever can read %s can decrypt the TLS connections", options.keylog)
    if served.expires < time.time():
        log.warning("the certificate %s expired on %s", options.certificate, _day(served.expires))
    return {options.data_key: msgspec.msgpack.encode(served)}


def period(options: Options) -> float:  # noqa: ARG001 - the same for all
    """Returns the seconds between two reads of the certificate and key files."""
    return PERIOD


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the certificate and key files again. Returns their content if it has changed, otherwise an empty mapping.

    If the new content cannot be used, logs the error and returns the previous content with `refused` set.
    """
    payload = known.get(options.data_key)
    if payload is None:
        return {}
    before, log = decode(payload), plugin_logger("tls")
    try:
        now = _read(options)
    except TlsError as error:
        refused = str(error).encode()
        if before.refused == refused:
            return {}
        log.error("%s; the previous certificate, valid until %s, stays in use", error, _day(before.expires))
        return {options.data_key: msgspec.msgpack.encode(msgspec.structs.replace(before, refused=refused))}
    if now == before:
        return {}
    if now.material != before.material:
        log.info("certificate %s was read again, valid until %s", options.certificate, _day(now.expires))
    return {options.data_key: msgspec.msgpack.encode(now)}


def decode(payload: bytes) -> ServerTls:
    """Returns the ServerTls object that `gather` encoded."""
    return msgspec.msgpack.decode(payload, type=ServerTls)


def _read(options: Options) -> ServerTls:
    material = read(options.certificate, options.key, options.authorities)
    if CLIENT_AUTH.get(options.client_auth, ssl.CERT_NONE) != ssl.CERT_NONE and not options.authorities:
        material = msgspec.structs.replace(material, authorities=system_authorities())
    return ServerTls(options.certificate, material, options.client_auth, options.keylog, expiry(material.certificates))


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


class Tls(Plugin):
    """Sets the certificate of the block's `tls://` listeners. Handles no queries."""

    name = "tls"
    configures_only = True
    holds_certificates = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the data key of the certificate for the block's `tls://` listeners."""
        return Settings(certificate=options.data_key, verifies_clients=options.client_auth != "nocert")


PLUGIN: Final = Tls
