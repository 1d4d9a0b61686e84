"""Computes the records that the Kubernetes DNS specification 1.1.0 requires for a model of the cluster.

Names are absolute text in lower case. RDATA has the form of `replies.Line.data`, in lower case. The specification
leaves the name of an endpoint without hostname, and SRV priority and weight, to the server.
"""

from __future__ import annotations

import ipaddress

from svcdns.conformance.cluster_model import Endpoint, Port, Service


def service_name(service: Service, zone: str) -> str:
    """Returns `<service>.<ns>.svc.<zone>.` (Kubernetes DNS specification §2.3.1, §2.4.1, §2.5)."""
    return f"{service.name}.{service.namespace}.svc.{zone}".lower()


def port_name(port: Port, service: Service, zone: str) -> str:
    """Returns `_<port>._<proto>.<service>.<ns>.svc.<zone>.` (Kubernetes DNS specification §2.3.2, §2.4.2)."""
    return f"_{port.name}._{port.protocol}.{service_name(service, zone)}".lower()


def endpoint_name(hostname: str, service: Service, zone: str) -> str:
    """Returns `<hostname>.<service>.<ns>.svc.<zone>.` (Kubernetes DNS specification §2.4.1)."""
    return f"{hostname}.{service_name(service, zone)}".lower()


def reverse_name(address: str) -> str:
    """Returns the owner name of an address's PTR record (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return ipaddress.ip_address(address).reverse_pointer + "."


def addresses(service: Service, version: int) -> set[str]:
    """Returns the addresses in the A records (version 4) or AAAA records (version 6) of a Service's name.

    These are the ClusterIPs (Kubernetes DNS specification §2.3.1). For a headless Service, they are the addresses of
    the ready endpoints (§2.4.1).
    """
    given = (e.address for e in service.endpoints) if service.headless else service.cluster_ips
    return {str(ip) for ip in map(ipaddress.ip_address, given) if ip.version == version}


def hostname_addresses(service: Service, hostname: str, version: int) -> set[str]:
    """Returns the addresses in the A or AAAA records of an endpoint's name (Kubernetes DNS specification §2.4.1).

    These are the addresses of all endpoints with this hostname.
    """
    given = (ipaddress.ip_address(e.address) for e in service.endpoints if e.hostname.lower() == hostname.lower())
    return {str(ip) for ip in given if ip.version == version}


def named_ports(service: Service) -> list[Port]:
    """Returns the ports that have SRV records: those with a name (Kubernetes DNS specification §2.3.2, §2.4.2).

    For a headless Service, these are the ports of its endpoints. The field `number` of each result is 0.
    """
    given = [port for e in service.endpoints for port in e.ports] if service.headless else service.ports
    return list(dict.fromkeys(Port(p.name, p.protocol, 0) for p in given if p.name))


def cluster_srv(service: Service, port: Port, zone: str) -> set[tuple[int, str]]:
    """Returns port number and target of each SRV record of a port (Kubernetes DNS specification §2.3.2).

    Call it only for a Service that has a ClusterIP.
    """
    return {
        (p.number, service_name(service, zone))
        for p in service.ports
        if (p.name, p.protocol) == (port.name, port.protocol)
    }


def endpoint_ports(endpoint: Endpoint, port: Port) -> set[int]:
    """Returns the numbers that a named port has at an endpoint (Kubernetes DNS specification §2.4.2)."""
    return {p.number for p in endpoint.ports if (p.name, p.protocol) == (port.name, port.protocol)}


def headless_srv(service: Service, port: Port, zone: str) -> set[tuple[int, str]]:
    """Returns port number and target of each SRV record of a headless Service's port (Kubernetes DNS specification
    §2.4.2).

    Endpoints without a hostname are left out.
    """
    return {
        (n, endpoint_name(e.hostname, service, zone))
        for e in service.endpoints
        if e.hostname
        for n in endpoint_ports(e, port)
    }


def nameless_srv(service: Service, port: Port) -> int:
    """Returns the number of SRV records for endpoints without hostname (Kubernetes DNS specification §2.4.2).

    There is one record for each address and port number.
    """
    return len({(e.address, n) for e in service.endpoints if not e.hostname for n in endpoint_ports(e, port)})


def absolute(name: str) -> str:
    """Returns an externalName as the target of a CNAME record, absolute and in lower case.

    Source: Kubernetes DNS specification §2.5.
    """
    return name.rstrip(".").lower() + "."
