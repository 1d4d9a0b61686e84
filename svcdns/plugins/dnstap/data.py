"""The part of the `dnstap` plugin that runs in the control process: looks up addresses, and reads certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.plugins.dnstap.options import Endpoint, Options

PERIOD: Final = 10.0
"""The seconds between two look-ups of the addresses of a host name."""
AUTHORITIES: Final = "authorities"
"""The key of the authorities that this machine trusts."""


def addresses_key(endpoint: Endpoint) -> str:
    """Returns the key of the addresses of an endpoint's host name."""
    return f"addresses {endpoint.host}"


def inlet_key(endpoint: Endpoint) -> str:
    """Returns the key of the socket on which the control process takes the messages for a listener.

    The data are the abstract name of the socket, and empty while no reader is connected.
    """
    return f"inlet {endpoint.text}"


def drops_key(endpoint: Endpoint) -> str:
    """Returns the key of the number of messages that the control process has dropped for the readers of a listener."""
    return f"drops {endpoint.text}"


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the addresses of host names, and the authorities for outputs over TLS. Blocks.

    A host name without an address is looked up again later, as CoreDNS starts without its dnstap reader.
    """
    out: dict[str, bytes] = {}
    for output in options.outputs:
        endpoint = output.endpoint
        if endpoint.listens:
            out |= {key: known.get(key, b"") for key in (inlet_key(endpoint), drops_key(endpoint))}
        elif endpoint.is_name:
            out[addresses_key(endpoint)] = _addresses(endpoint) or known.get(addresses_key(endpoint), b"")
        if endpoint.scheme == "tls" and endpoint.verifies and not endpoint.listens:
            from svcdns.tls.material import system_authorities

            out[AUTHORITIES] = system_authorities()
    return out


def period(options: Options) -> float:
    """Returns the seconds between two look-ups, or 0 if no endpoint has a host name."""
    return PERIOD if any(output.endpoint.is_name for output in options.outputs) else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a hook
    """Looks up the host names again. Returns the addresses; the previous ones for a name without addresses."""
    named = [output.endpoint for output in options.outputs if output.endpoint.is_name]
    return {addresses_key(one): found for one in named if (found := _addresses(one))}


def _addresses(endpoint: Endpoint) -> bytes:
    from svcdns.upstream.blocking_resolver import ResolveError, addresses_of

    try:
        return " ".join(addresses_of(endpoint.host)).encode()
    except ResolveError:
        return b""
