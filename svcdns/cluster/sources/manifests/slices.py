"""EndpointSlices of Services, built from Pods and from Endpoints objects as the controllers of Kubernetes build them.

A Service with a selector gets slices of its ready Pods, one set per address family and per set of resolved ports, at most 100 endpoints
each; an Endpoints object is mirrored where its Service has no selector. Endpoints that are not ready are left out at once,
since no answer can hold them.

Source: Kubernetes documentation, "EndpointSlices", "Service" (publishNotReadyAddresses, targetPort), "DNS for Services and Pods"
(hostname and subdomain).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import batched
from typing import Final

from svcdns.cluster.objects import PLACEHOLDER_PORTS, Endpoint, EndpointSlice, Port
from svcdns.cluster.sources.manifests.addresses import ending
from svcdns.cluster.sources.manifests.shapes import EndpointsObject, ServiceSpec
from svcdns.cluster.sources.manifests.workloads import OVER, ClusterPod
