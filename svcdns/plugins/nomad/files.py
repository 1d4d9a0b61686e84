"""The certificates for Nomad's HTTP API, which the control process reads for the workers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.nomad.options import Options, Tls
from svcdns.tls.contexts import client_context
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, read, system_authorities

KEY: Final = "certificates"


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - all is read anew
    """Reads the certificates if an address has the scheme https. Raises CorefileError."""
    if not any(one.is_secure for one in options.addresses):
        return {}
    try:
        return {KEY: msgspec.msgpack.encode(_read(options.tls))}
    except TlsError as error:
        raise CorefileError(options.position, f"plugin/nomad: {error}") from error


def _read(tls: Tls) -> Material:
    material = read(tls.certificate, tls.key, tls.authorities)
    if material.authorities:
        return material
    if tls.folder:
        try:
            paths = sorted(path for path in Path(tls.folder).iterdir() if path.is_file())
        except OSError as error:
            raise TlsError(f"open {tls.folder}: {(error.strerror or str(error)).lower()}") from error
        authorities = b"\n".join(read("", "", str(path)).authorities for path in paths)
    else:
        authorities = system_authorities()
    return msgspec.structs.replace(material, authorities=authorities)


def context(payload: bytes | None, tls: Tls) -> ssl.SSLContext:
    """Returns the TLS context for the certificates that `gather` read. Raises TlsError."""
    made = client_context(msgspec.msgpack.decode(payload, type=Material) if payload else Material())
    if not tls.is_verified:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
