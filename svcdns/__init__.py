"""svcdns: a cluster DNS server for Kubernetes, which answers from a watched copy of Services and EndpointSlices."""

__version__ = "0.2.0"
