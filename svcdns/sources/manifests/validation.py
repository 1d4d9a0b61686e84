"""Finds the fields that an API server would refuse, and makes a warning for each.

Rules:

1. An object with such a field is served as CoreDNS would serve it, without the parts that no answer can contain. If
   that is impossible, it is skipped.
2. A check changes the object in place.
3. Only fields on which DNS names and answers depend are checked.

Source: Kubernetes' validation of core/v1, apps/v1, batch/v1 and discovery.k8s.io/v1; Kubernetes documentation, "Object
Names and IDs", "Labels and Selectors", "IPv4/IPv6 dual-stack".
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from svcdns.cluster.objects import HEADLESS
from svcdns.sources.api.decoding import ApiEndpoint, ApiPort, ApiSlice
from svcdns.sources.manifests.address_pool import MAX_PODS
from svcdns.sources.manifests.documents import Document, Field
from svcdns.sources.manifests.errors import ManifestError, WrongTypeError
from svcdns.sources.manifests.schemas import (
    EndpointPort,
    EndpointsObject,
    ObjectMeta,
    PodObject,
    PodSpec,
    ServiceObject,
    ServicePort,
    ServiceSpec,
    WorkloadObject,
)

SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
FAMILIES: Final = ("IPv4", "IPv6")
ADDRESS_TYPES: Final = (*FAMILIES, "FQDN")
COMPLETION_MODES: Final = ("NonIndexed", "Indexed")
FAMILY_POLICIES: Final = ("SingleStack", "PreferDualStack", "RequireDualStack")
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
MAX_ENDPOINTS: Final = 1000
MAX_ADDRESSES: Final = 100
MAX_PORTS: Final = 100

LABEL_TEXT: Final = "a DNS label (a-z, 0-9, -)"
NAME_TEXT: Final = "a DNS name (a-z, 0-9, -, .)"
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ONE_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
"""Texts that can be one label of a query name in lower case, even if no API server takes them."""
_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Refusals:
    """Collects the errors for the fields of one object that an API server would refuse.

    `reason` is the error for which the object is skipped. `reason` is None if the object is served.
    """

    def __init__(self, document: Document) -> None:
        """`document` is the object that is checked."""
        self.document = document
        self.errors: list[ManifestError] = []
        self.reason: ManifestError | None = None

    def add(self, field: Field, text: str) -> None:
        """Adds an error for a field that an API server would refuse. The object is still served."""
        self.errors.append(self.document.error(field, f"{text}; {self._refused}"))

    @property
    def _refused(self) -> str:
        return f"an API server would refuse this {self.document.kind}"

    def add_wrong_type(self, error: WrongTypeError) -> None:
        """Adds an error for a part of a wrong type that is left out. The object is still served."""
        self.errors.append(WrongTypeError(error.position, f"{error.text}; {self._refused}"))

    def skip(self) -> None:
        """Marks the object as skipped. The reason is the error that was added last."""
        last = self.errors.pop()
        self.reason = ManifestError(last.position, f"{last.text}, so it is skipped")
        self.errors.append(self.reason)

    def choice(self, field: Field, found: str, choices: tuple[str, ...]) -> bool:
        """Returns True if `found` is one of `choices`. Otherwise adds an error for `field`."""
        if found not in choices:
            self.add(field, f"expected {', '.join(choices[:-1])} or {choices[-1]}, found {found!r}")
        return found in choices

    def address(self, field: Field, found: str, *, part: str = "") -> bool:
        """Returns True if `found` is an IP address. Otherwise adds an error for `field`.

        `part` names the part of the object that is left out, for the error text.
        """
        if _family(found) is None:
            self.add(field, f"expected an IPv4 or IPv6 address, found {found!r}{_left_out(part)}")
            return False
        return True

    def port(self, field: Field, found: int, *, part: str = "") -> bool:
        """Returns True if `found` is a port number. Otherwise adds an error for `field`.

        `part` names the part of the object that is left out, for the error text.
        """
        if not 0 < found <= 65535:
            self.add(field, f"expected a port number from 1 to 65535, found {found}{_left_out(part)}")
            return False
        return True

    def label(self, field: Field, found: str, *, part: str = "") -> bool:
        """Returns True if `found` can be one label of a query name. Adds an error for `field` if Kubernetes refuses it.

        `part` names the part of the object that is left out, for the error text.
        """
        usable = _ONE_LABEL.fullmatch(found) is not None
        if not _LABEL.fullmatch(found):
            self.add(field, f"expected {LABEL_TEXT}, found {found!r}{'' if usable else _left_out(part)}")
        return usable

    def labels(self, field: Field, labels: Mapping[str, str]) -> None:
        """Adds an error for each key and each value of `labels` that Kubernetes does not allow."""
        for key, value in labels.items():
            if not _LABEL_KEY.fullmatch(key):
                self.add((*field, key), f"expected the key of a label, found {key!r}")
            if not _LABEL_VALUE.fullmatch(value):
                self.add(
                    (*field, key), f"expected the value of a label (63 of a-z, A-Z, 0-9, -, _, .), found {value!r}"
                )


def _left_out(part: str) -> str:
    return f"; the {part} is left out" if part else ""


def _family(address: str) -> str | None:
    is_6 = ":" in address
    try:
        socket.inet_pton(socket.AF_INET6 if is_6 else socket.AF_INET, address)
    except (OSError, ValueError):
        return None
    return FAMILIES[is_6]


def check_metadata(refusals: Refusals, metadata: ObjectMeta) -> None:
    """Checks the name, the namespace and the labels of an object in a manifest."""
    one_label = refusals.document.kind in {"Namespace", "Service"}
    name, field = metadata.name, ("metadata", "name")
    if not (_LABEL if one_label else _NAME).fullmatch(name):
        text = f"expected {LABEL_TEXT if one_label else NAME_TEXT}, found {name!r}"
        refusals.add(field, text)
        if not _ONE_LABEL.fullmatch(name):
            refusals.skip()
    namespace, field = metadata.namespace, ("metadata", "namespace")
    if namespace and not refusals.label(field, namespace):
        refusals.skip()
    refusals.labels(("metadata", "labels"), metadata.labels)


def check_service(refusals: Refusals, service: ServiceObject) -> None:
    """Checks type, selector, addresses and ports of a Service in a manifest, and removes what is invalid."""
    spec = service.spec
    refusals.labels(("spec", "selector"), spec.selector)
    if not refusals.choice(("spec", "type"), spec.type, SERVICE_TYPES):
        spec.type = "ClusterIP"
    if spec.type == "ExternalName":
        _check_external_name(refusals, spec)
    else:
        _check_cluster_ips(refusals, spec)
        _check_families(refusals, spec)
    spec.externalIPs = [
        address
        for at, address in enumerate(spec.externalIPs)
        if refusals.address(("spec", "externalIPs", at), address, part="address")
    ]
    _check_service_ports(refusals, spec)


def _check_external_name(refusals: Refusals, spec: ServiceSpec) -> None:
    if spec.clusterIP or spec.clusterIPs:
        at = ("spec", "clusterIP" if spec.clusterIP else "clusterIPs")
        refusals.add(at, "expected no cluster IP for a Service of type ExternalName")
    field, name = ("spec", "externalName"), spec.externalName.removesuffix(".")
    if not name:
        refusals.add(field, "expected the name that a Service of type ExternalName points to")
        refusals.skip()
    elif not _NAME.fullmatch(name):
        text = f"expected {NAME_TEXT}, found {spec.externalName!r}"
        refusals.add(field, text)
        if not _HOST.fullmatch(name):
            refusals.skip()


def _check_cluster_ips(refusals: Refusals, spec: ServiceSpec) -> None:
    if spec.clusterIP not in {"", HEADLESS} and not refusals.address(("spec", "clusterIP"), spec.clusterIP):
        refusals.skip()
    for at, address in enumerate(spec.clusterIPs):
        if address != HEADLESS and not refusals.address(("spec", "clusterIPs", at), address):
            refusals.skip()
    if refusals.reason is not None:
        return
    every = spec.clusterIPs or [spec.clusterIP]
    if spec.clusterIP and every[0] != spec.clusterIP:
        refusals.add(("spec", "clusterIPs", 0), f"expected {spec.clusterIP}, as in spec.clusterIP, found {every[0]}")
    if HEADLESS in every:
        if len(every) > 1:
            refusals.add(("spec", "clusterIPs"), "expected no cluster IP beside None")
        if spec.type != "ClusterIP":
            refusals.add(("spec", "type"), f"expected type ClusterIP for a cluster IP of None, found {spec.type}")
    elif len(every) > len({_family(address) for address in every}):
        refusals.add(("spec", "clusterIPs"), "expected at most one cluster IP of each address family")


def _check_families(refusals: Refusals, spec: ServiceSpec) -> None:
    if spec.ipFamilyPolicy and not refusals.choice(("spec", "ipFamilyPolicy"), spec.ipFamilyPolicy, FAMILY_POLICIES):
        spec.ipFamilyPolicy = ""
    given = spec.ipFamilies
    spec.ipFamilies = [
        family for at, family in enumerate(given) if refusals.choice(("spec", "ipFamilies", at), family, FAMILIES)
    ]
    if len(set(spec.ipFamilies)) < len(spec.ipFamilies):
        refusals.add(("spec", "ipFamilies"), "expected each address family once")
    written = [family for address in spec.clusterIPs or [spec.clusterIP] if (family := _family(address))]
    if written and spec.ipFamilies and written != spec.ipFamilies[: len(written)]:
        expected = " and ".join(written)
        refusals.add(("spec", "ipFamilies"), f"expected {expected}, as the cluster IP, found {', '.join(given)}")
        spec.ipFamilies = list(written)
    if spec.ipFamilyPolicy in {"", "SingleStack"} and max(len(set(written)), len(set(spec.ipFamilies))) > 1:
        field = ("spec", "ipFamilyPolicy" if spec.ipFamilyPolicy else "ipFamilies" if spec.ipFamilies else "clusterIPs")
        refusals.add(field, "expected ipFamilyPolicy PreferDualStack or RequireDualStack for two address families")
        if len(set(written)) > 1:
            spec.ipFamilyPolicy = "PreferDualStack"


def _check_service_ports(refusals: Refusals, spec: ServiceSpec) -> None:
    every, first_ip = spec.ports, (spec.clusterIPs or [spec.clusterIP])[0]
    if not every and spec.type != "ExternalName" and first_ip != HEADLESS:
        refusals.add(("spec",), "expected ports, which are missing")
    spec.ports = _usable(refusals, ("spec", "ports"), every)
    numbers: set[tuple[int, str]] = set()
    for at, port in enumerate(every):
        if isinstance(port.targetPort, int) and port.targetPort:
            refusals.port(("spec", "ports", at, "targetPort"), port.targetPort)
        if len(every) > 1 and not port.name:
            refusals.add(("spec", "ports", at), "expected name, as there are several ports")
        if (port.port, port.protocol) in numbers:
            refusals.add(("spec", "ports", at), f"expected each port once, found {port.port}/{port.protocol} again")
        numbers.add((port.port, port.protocol))


def _usable(refusals: Refusals, field: Field, ports: Sequence[Any]) -> list[Any]:
    """Checks number, name and protocol of each port. Returns the ports that DNS answers can contain."""
    usable: list[ServicePort | EndpointPort | ApiPort] = []
    names: set[str] = set()
    for at, port in enumerate(ports):
        here = (*field, at)
        is_usable = port.port is None or refusals.port((*here, "port"), port.port, part="port")
        if port.name:
            is_usable &= refusals.label((*here, "name"), port.name, part="port")
            if port.name in names:
                refusals.add((*here, "name"), f"expected each name once, found {port.name!r} again")
            names.add(port.name)
        if port.protocol:
            refusals.choice((*here, "protocol"), port.protocol, PROTOCOLS)
            is_usable &= _ONE_LABEL.fullmatch(port.protocol.lower()) is not None
        if is_usable:
            usable.append(port)
    return usable


def check_slice(refusals: Refusals, given: ApiSlice) -> None:
    """Checks ports and endpoints of an EndpointSlice in a manifest, and removes invalid ports."""
    for port in given.ports or ():
        port.protocol = port.protocol or "TCP"
    found = refusals.document.fields.get("addressType", "")
    address_type = found if isinstance(found, str) else ""
    refusals.choice(("addressType",), address_type, ADDRESS_TYPES)
    endpoints = given.endpoints or []
    if len(endpoints) > MAX_ENDPOINTS:
        refusals.add(("endpoints",), f"expected at most {MAX_ENDPOINTS} endpoints, found {len(endpoints)}")
    if len(given.ports or ()) > MAX_PORTS:
        refusals.add(("ports",), f"expected at most {MAX_PORTS} ports, found {len(given.ports or ())}")
    if given.ports:
        given.ports = _usable(refusals, ("ports",), given.ports)
    for at, endpoint in enumerate(endpoints):
        _check_endpoint(refusals, ("endpoints", at), endpoint, address_type)


def _check_endpoint(refusals: Refusals, field: Field, endpoint: ApiEndpoint, address_type: str) -> None:
    addresses = endpoint.addresses or []
    if not 0 < len(addresses) <= MAX_ADDRESSES:
        refusals.add((*field, "addresses"), f"expected 1 to {MAX_ADDRESSES} addresses, found {len(addresses)}")
    if address_type != "FQDN":
        usable = []
        for at, address in enumerate(addresses):
            here = (*field, "addresses", at)
            if refusals.address(here, address, part="address"):
                usable.append(address)
                if address_type in FAMILIES and _family(address) != address_type:
                    refusals.add(here, f"expected an address of the addressType {address_type}, found {address}")
        endpoint.addresses = usable
    if endpoint.hostname and not refusals.label((*field, "hostname"), endpoint.hostname, part="hostname"):
        endpoint.hostname = None


def check_endpoints(refusals: Refusals, given: EndpointsObject) -> None:
    """Checks ports and addresses of an Endpoints object in a manifest, and removes the invalid ones."""
    for at, subset in enumerate(given.subsets):
        here: Field = ("subsets", at)
        subset.ports = _usable(refusals, (*here, "ports"), subset.ports)
        usable = []
        for index, address in enumerate(subset.addresses):
            place = (*here, "addresses", index)
            if address.hostname and not refusals.label((*place, "hostname"), address.hostname, part="hostname"):
                address.hostname = ""
            if refusals.address((*place, "ip"), address.ip, part="address"):
                usable.append(address)
                parsed = ip_address(address.ip)
                if parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast:
                    refusals.add((*place, "ip"), f"expected an address that other hosts reach, found {address.ip}")
        subset.addresses = usable


def check_pod(refusals: Refusals, pod: PodObject) -> None:
    """Checks the addresses and the spec of a Pod in a manifest, and removes invalid addresses."""
    status = pod.status
    if status.podIP and not refusals.address(("status", "podIP"), status.podIP, part="address"):
        status.podIP = ""
    status.podIPs = [
        address
        for at, address in enumerate(status.podIPs)
        if refusals.address(("status", "podIPs", at, "ip"), address.ip, part="address")
    ]
    _check_pod_spec(refusals, ("spec",), pod.spec)


def _check_pod_spec(refusals: Refusals, field: Field, spec: PodSpec) -> None:
    if spec.hostname and not refusals.label((*field, "hostname"), spec.hostname, part="hostname"):
        spec.hostname = ""
    if spec.subdomain and not refusals.label((*field, "subdomain"), spec.subdomain, part="subdomain"):
        spec.subdomain = ""
    for kind, containers in (("containers", spec.containers), ("initContainers", spec.initContainers)):
        for at, container in enumerate(containers):
            container.ports = [
                port
                for index, port in enumerate(container.ports)
                if refusals.port((*field, kind, at, "ports", index, "containerPort"), port.containerPort, part="port")
            ]


def check_workload(refusals: Refusals, workload: WorkloadObject) -> None:
    """Checks the spec of a workload in a manifest. Not for Jobs; see `check_job`.

    Raises ManifestError if the workload has more Pods than the address range has addresses.
    """
    spec = workload.spec
    spec.replicas = _count(refusals, ("spec", "replicas"), spec.replicas)
    if spec.ordinals.start < 0:
        refusals.add(("spec", "ordinals", "start"), f"expected a number from 0, found {spec.ordinals.start}")
        spec.ordinals.start = 0
    _check_pod_spec(refusals, ("spec", "template", "spec"), spec.template.spec)
    labels = spec.template.metadata.labels
    refusals.labels(("spec", "template", "metadata", "labels"), labels)
    selector = (refusals.document.fields.get("spec") or {}).get("selector")
    wanted = (
        selector.get("matchLabels")
        if isinstance(selector, dict) and refusals.document.api_version != "v1"
        else selector
    )
    if selector is None and refusals.document.api_version != "v1":
        refusals.add(("spec",), "expected selector, which is missing")
    elif isinstance(wanted, dict) and not wanted.items() <= labels.items():
        refusals.add(("spec", "selector"), "expected labels that the template has")


def check_job(refusals: Refusals, job: WorkloadObject) -> None:
    """Checks a Job in a manifest. Raises ManifestError if the Job has more Pods than the address range has
    addresses.
    """
    spec = job.spec
    spec.parallelism = _count(refusals, ("spec", "parallelism"), spec.parallelism)
    if spec.completions is not None:
        spec.completions = _count(refusals, ("spec", "completions"), spec.completions)
    _check_pod_spec(refusals, ("spec", "template", "spec"), spec.template.spec)
    refusals.labels(("spec", "template", "metadata", "labels"), spec.template.metadata.labels)
    if not refusals.choice(("spec", "completionMode"), spec.completionMode, COMPLETION_MODES):
        refusals.skip()
    if spec.completionMode == "Indexed" and spec.completions is None:
        refusals.add(("spec",), "expected completions, which an Indexed Job needs")
        refusals.skip()


def _count(refusals: Refusals, field: Field, found: int) -> int:
    """Returns the number of Pods in a field. For a negative number, adds an error for the field and returns 0."""
    text = f"expected a number from 0 to {MAX_PODS}, found {found}"
    if found > MAX_PODS:
        raise refusals.document.error(field, text)
    if found < 0:
        refusals.add(field, text)
    return max(found, 0)


Check = Callable[[Refusals, Any], None]
"""Checks one object. The second argument is the object in the shape of its kind."""
