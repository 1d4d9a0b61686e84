"""The files of `grpc`: certificates, and files with name servers. The control process reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugins.grpc.options import File, Options, Upstream
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, read, system_authorities
from svcdns.upstream.resolv_conf import nameservers

PERIOD: Final = 5.0
"""The seconds between two reads of the certificates."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - all is read anew
    """Reads the files. Raises CorefileError."""
    if options.left_out:
        line = LogLine(
            "Unsupported CIDR notation: one of its zones is forwarded", zone=options.zone, left_out=options.left_out
        )
        plugin_logger("grpc").warning(line)
    out = {one.key: _servers(options, one) for one in options.upstreams if isinstance(one, File)}
    if options.tls is not None:
        try:
            out[options.tls_key] = _certificates(options.tls)
        except TlsError as error:
            raise CorefileError(options.position, f"plugin/grpc: {error}") from error
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the certificates; 0 if there are none."""
    return PERIOD if any(options.tls or ()) else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001
    """Reads the certificates again. Raises CorefileError."""
    if options.tls is None:
        return {}
    try:
        return {options.tls_key: _certificates(options.tls)}
    except TlsError as error:
        raise CorefileError(options.position, f"plugin/grpc: {error}") from error


def _servers(options: Options, file: File) -> bytes:
    try:
        found = nameservers(Path(file.path).read_bytes())
    except OSError as error:
        text = f'not an IP address or file "{file.path}": {(error.strerror or str(error)).lower()}'
        raise CorefileError(options.position, f"plugin/grpc: {text}") from error
    if not found:
        raise CorefileError(options.position, f"plugin/grpc: no nameservers found in {file.path}")
    return msgspec.msgpack.encode(found)


def _certificates(paths: tuple[str, str, str]) -> bytes:
    material = read(*paths)
    if not material.authorities:
        material = msgspec.structs.replace(material, authorities=system_authorities())
    return msgspec.msgpack.encode(material)


def servers(payload: bytes) -> list[Upstream]:
    """Decodes the name servers of a file."""
    return [Upstream(host, port) for host, port in msgspec.msgpack.decode(payload, type=list[tuple[str, int]])]


def material(payload: bytes) -> Material:
    """Decodes certificates."""
    return msgspec.msgpack.decode(payload, type=Material)
