"""The files of `tls`, which the control process reads: certificates, keys and authorities.

If changed files cannot be used, the previous content stays in use.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugins.tls.acme import data
from svcdns.plugins.tls.options import CLIENT_AUTH, Options
from svcdns.plugins.tls.served import ServerTls, day, decode
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import expiry, read, system_authorities

PERIOD: Final = 10.0
"""Seconds between two reads of the files."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the certificate and key files, and returns their content as data for the workers.

    With ACME, returns the certificate in `known`, or else the stored certificate. Raises CorefileError if a file cannot
    be used.
    """
    log = plugin_logger("tls")
    try:
        if options.acme is not None:
            return data.gather(options.acme, known)
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
        log.warning(LogLine("keylog: whoever can read the file can decrypt the TLS connections", path=options.keylog))
    if served.expires < time.time():
        log.warning(LogLine("the certificate has expired", path=options.certificate, expired=day(served.expires)))
    return {options.data_key: msgspec.msgpack.encode(served)}


def period(options: Options) -> float:
    """Returns the seconds between two reads of the certificate and key files; 0 with ACME."""
    return PERIOD if options.acme is None else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the certificate and key files again. Returns their content if it has changed, otherwise an empty mapping.

    If the new content cannot be used, logs the error and returns the previous content with `refused` set.
    """
    payload = known.get(options.data_key)
    if payload is None or options.acme is not None:
        return {}
    before, log = decode(payload), plugin_logger("tls")
    try:
        now = _read(options)
    except TlsError as error:
        refused = str(error).encode()
        if before.refused == refused:
            return {}
        log.error(LogLine("the previous certificate stays in use", error=error, valid_until=day(before.expires)))
        return {options.data_key: msgspec.msgpack.encode(msgspec.structs.replace(before, refused=refused))}
    if now == before:
        return {}
    if now.material != before.material:
        until = day(now.expires)
        log.info(LogLine("the certificate was read again", path=options.certificate, valid_until=until))
    return {options.data_key: msgspec.msgpack.encode(now)}


def _read(options: Options) -> ServerTls:
    material = read(options.certificate, options.key, options.authorities)
    if CLIENT_AUTH.get(options.client_auth, ssl.CERT_NONE) != ssl.CERT_NONE and not options.authorities:
        material = msgspec.structs.replace(material, authorities=system_authorities())
    return ServerTls(options.certificate, material, options.client_auth, options.keylog, expiry(material.certificates))
