"""The records that the Kubernetes DNS specification 1.1.0 requires for a model of the cluster.

Names are absolute text in lower case, and RDATA is as in `replies.Line` in lower case. Where the specification leaves a
choice (the name of an endpoint without hostname, SRV priority and weight) nothing is expected.
"""

from __future__ import annotations

import ipaddress

from svcdns.conformance.cluster_model import Endpoint, Port, Service


def service_name(service: Service, zone: str) -> str:
    """`<service>.<ns>.svc.<zone>.` (§2.3.1, §2.4.1, §2.5)."""
    return f"{service.name}.{service.namespace}.svc.{zone}".lower()


def port_name(port: Port, service: Service, zone: str) -> str:
    """`_<port>._<proto>.<service>.<ns>.svc.<zone>.` (§2.3.2, §2.4.2)."""
    return f"_{port.name}._{port.protocol}.{service_name(service, zone)}".lower()


def endpoint_name(hostname: str, service: Service, zone: str) -> str:
    """`<hostname>.<service>.<ns>.svc.<zone>.` (§2.4.1)."""
    return f"{hostname}.{service_name(service, zone)}".lower()


def reverse_name(address: str) -> str:
    """The owner name of the PTR record of an address (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return ipaddress.ip_address(address).reverse_pointer + "."


def addresses(service: Service, version: int) -> set[str]:
    """The addresses in A (4) or AAAA (6) at the Service's name: ClusterIPs (§2.3.1), or the ready
    endpoints (§2.4.1).
    """
    given = (e.address for e in service.endpoints) if service.headless else service.cluster_ips
    return {str(ip) for ip in map(ipaddress.ip_address, given) if ip.version == version}


def hostname_addresses(service: Service, hostname: str, version: int) -> set[str]:
    """The addresses in A or AAAA at an endpoint's name: one record for each address with that hostname (§2.4.1)."""
    given = (ipaddress.ip_address(e.address) for e in service.endpoints if e.hostname.lower() == hostname.lower())
    return {str(ip) for ip in given if ip.version == version}


def named_ports(service: Service) -> list[Port]:
    """Ports with SRV records: those with names (§2.3.2, §2.4.2). A headless Service has those of its endpoints."""
    given = [port for e in service.endpoints for port in e.ports] if service.headless else service.ports
    return list(dict.fromkeys(Port(p.name, p.protocol, 0) for p in given if p.name))


def cluster_srv(service: Service, port: Port, zone: str) -> set[tuple[int, str]]:
    """Port numbers and targets of the SRV records of a ClusterIP Service's port (§2.3.2)."""
    return {
        (p.number, service_name(service, zone))
        for p in service.ports
        if (p.name, p.protocol) == (port.name, port.protocol)
    }


def endpoint_ports(endpoint: Endpoint, port: Port) -> set[int]:
    """The numbers that a named port has at an endpoint (§2.4.2)."""
    return {p.number for p in endpoint.ports if (p.name, p.protocol) == (port.name, port.protocol)}


def headless_srv(service: Service, port: Port, zone: str) -> set[tuple[int, str]]:
    """Port numbers and targets of a headless Service's SRV records for the endpoints that have hostnames (§2.4.2)."""
    return {
        (n, endpoint_name(e.hostname, service, zone))
        for e in service.endpoints
        if e.hostname
        for n in endpoint_ports(e, port)
    }


def nameless_srv(service: Service, port: Port) -> int:
    """The number of SRV records for endpoints without hostname: one for each address and port number (§2.4.2)."""
    return len({(e.address, n) for e in service.endpoints if not e.hostname for n in endpoint_ports(e, port)})


def absolute(name: str) -> str:
    """An externalName as a CNAME's target (§2.5)."""
    return name.rstrip(".").lower() + "."
