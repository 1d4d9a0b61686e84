"""svcdns: cluster DNS for Kubernetes, compiled from a watched cache of Services and EndpointSlices."""

__version__ = "0.1.0"
