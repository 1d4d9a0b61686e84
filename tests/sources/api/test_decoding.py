"""Decoding the JSON of the API server, and removing the fields that svcdns does not need."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec
import pytest

from svcdns.cluster.objects import (
    NO_PORT,
    PLACEHOLDER_PORTS,
    Endpoint,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
)
from svcdns.sources.api import decoding
from svcdns.sources.api.decoding import ItemDecoder

SERVICES = ItemDecoder(decoding.ApiService, decoding.service)
SLICES = ItemDecoder(decoding.ApiSlice, decoding.endpoint_slice)
META = {"namespace": "d", "name": "x", "resourceVersion": "7"}


def decode(decoder: ItemDecoder, **fields: Any) -> object:
    """Returns the object with the needed fields."""
    metadata = META | fields.pop("metadata", {})
    return decoder.object(msgspec.Raw(json.dumps({"metadata": metadata, **fields}).encode())).trimmed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, Service("d", "x", ("",)), id="nothing but its name"),
        pytest.param({"spec": None, "status": None}, Service("d", "x", ("",)), id="nulls"),
        pytest.param({"spec": {"clusterIP": "10.0.0.1"}}, Service("d", "x", ("10.0.0.1",)), id="clusterIP alone"),
        pytest.param(
            {"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}},
            Service("d", "x", ("10.0.0.1", "fd00::1")),
            id="dual",
        ),
        pytest.param({"spec": {"clusterIP": "None"}}, Service("d", "x", ("None",)), id="headless"),
        pytest.param({"spec": {"type": "ClusterIP"}}, Service("d", "x", ("",)), id="no address yet"),
        pytest.param(
            {"spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 53}]}},
            Service("d", "x", ("",), (Port("http", "TCP", 80), Port("", "", 53))),
            id="ports",
        ),
        pytest.param(
            {"spec": {"type": "ExternalName", "externalName": "a.b"}},
            Service("d", "x", (), external_name="a.b"),
            id="ExternalName",
        ),
        pytest.param(
            {"spec": {"type": "ExternalName"}}, Service("d", "x", (), external_name=""), id="ExternalName without one"
        ),
        pytest.param(
            {"spec": {"type": "ClusterIP", "externalName": "a.b"}},
            Service("d", "x", ("",)),
            id="external name of another type",
        ),
        pytest.param(
            {
                "spec": {"externalIPs": ["192.0.2.1"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}, {}]}},
            },
            Service("d", "x", ("",), external_ips=("192.0.2.1", "192.0.2.2", "lb.example")),
            id="external addresses",
        ),
    ],
)
def test_services(fields: dict[str, Any], expected: Service) -> None:
    """A Service keeps only the fields that its records need."""
    assert decode(SERVICES, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, EndpointSlice("d", "x"), id="nothing but its name"),
        pytest.param({"metadata": {"labels": {decoding.SERVICE_LABEL: "s"}}}, EndpointSlice("d", "x", "s"), id="label"),
        pytest.param(
            {
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": False, "serving": True}},
                    {"addresses": ["10.0.0.3"], "conditions": {}},
                    {"addresses": ["10.0.0.4"]},
                    {"addresses": None},
                ]
            },
            EndpointSlice(
                "d", "x", "", PLACEHOLDER_PORTS, (Endpoint("10.0.0.1"), Endpoint("10.0.0.3"), Endpoint("10.0.0.4"))
            ),
            id="ready unless it says no",
        ),
        pytest.param(
            {
                "endpoints": [
                    {"addresses": ["10.0.0.1", "10.0.0.2"], "hostname": "h", "targetRef": {"name": "p"}, "zone": "z"}
                ]
            },
            EndpointSlice(
                "d", "x", "", PLACEHOLDER_PORTS, (Endpoint("10.0.0.1", "h", "p"), Endpoint("10.0.0.2", "h", "p"))
            ),
            id="several addresses; the zone is left out",
        ),
        pytest.param(
            {"ports": [{"name": None, "port": None}]},
            EndpointSlice("d", "x", "", (Port("", "", NO_PORT),)),
            id="any port",
        ),
    ],
)
def test_slices(fields: dict[str, Any], expected: EndpointSlice) -> None:
    """A decoded EndpointSlice has only the ready endpoints."""
    assert decode(SLICES, **fields) == expected


def test_other_kinds() -> None:
    endpoint = [{"addresses": ["10.0.0.1"], "zone": "z", "targetRef": {"name": "p"}}]
    zonal = ItemDecoder(decoding.ApiSlice, partial(decoding.endpoint_slice, zones=True, targets=False))
    assert decode(zonal, endpoints=endpoint) == EndpointSlice(
        "d", "x", "", PLACEHOLDER_PORTS, (Endpoint("10.0.0.1", zone="z"),)
    )
    labels = {decoding.IMPORTED_SERVICE_LABEL: "s", decoding.SOURCE_CLUSTER_LABEL: "c"}
    imported = ItemDecoder(decoding.ApiSlice, partial(decoding.imported_slice, targets=False))
    assert decode(imported, metadata={"labels": labels}, endpoints=endpoint) == ImportedSlice(
        "d", "x", "s", PLACEHOLDER_PORTS, (Endpoint("10.0.0.1"),), "c"
    )
    assert decode(ItemDecoder(decoding.ApiNamespace, decoding.namespace)) == Namespace("x")
    pods = ItemDecoder(decoding.ApiPod, decoding.pod)
    assert decode(pods, status={"podIP": "10.0.0.1"}) == Pod("d", "x", "10.0.0.1")
    assert decode(pods, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}) is None
    clients = ItemDecoder(decoding.ApiPod, partial(decoding.pod, clients=True))
    addresses = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    assert decode(clients, status=addresses) == Pod("d", "x", "10.0.0.1", ("fd00::1",))
    assert decode(clients, spec={"hostNetwork": True}, status=addresses) == Pod(
        "d", "x", "10.0.0.1", ("fd00::1",), True
    )
    assert decode(pods, spec={"hostNetwork": True}, status=addresses) == Pod("d", "x", "10.0.0.1")
    assert decode(clients, spec=None, status=None) == Pod("d", "x")
    without_clients = ItemDecoder(decoding.ApiPod, partial(decoding.pod, labels=("*",)))
    labels = {"b": "2", "a": "1"}
    assert decode(without_clients, metadata={"labels": labels}, status={"podIP": "10.0.0.1"}) == Pod(
        "d", "x", "10.0.0.1", labels=(("a", "1"), ("b", "2"))
    )
    keep_app = ItemDecoder(decoding.ApiPod, partial(decoding.pod, clients=True, labels=("tier", "app")))
    assert decode(keep_app, metadata={"labels": {"tier": "x", "app": "web", "hash": "1"}}) == Pod(
        "d", "x", labels=(("app", "web"), ("tier", "x"))
    )
    assert decode(keep_app, metadata={"labels": None}) == Pod("d", "x")
    labelled = ItemDecoder(decoding.ApiNamespace, partial(decoding.namespace, labels=True))
    assert decode(labelled, metadata={"labels": {"b": "2", "a": "1"}}) == Namespace("x", "", (("a", "1"), ("b", "2")))
    assert decode(labelled) == Namespace("x")
    imports = ItemDecoder(decoding.ApiServiceImport, decoding.service_import)
    assert decode(imports, spec={"type": "Headless", "ips": ["10.0.0.1"]}) == ServiceImport(
        "d", "x", headless=True, ips=("10.0.0.1",)
    )


def test_an_item_of_a_wrong_shape_is_left_out() -> None:
    """The item is counted. The other items of the page are used."""
    page = {
        "metadata": {"resourceVersion": "9", "continue": "t"},
        "items": [{"metadata": META}, {"metadata": 5}, {"metadata": META}],
    }
    objects, metadata, left_out = SERVICES.page(json.dumps(page).encode())
    assert (len(objects), metadata.resourceVersion, metadata.token, left_out) == (2, "9", "t", 1)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"items": []}', b'{"metadata": {}, "items": 5}'])
def test_a_body_that_is_not_a_page_is_an_error(body: bytes) -> None:
    """The error makes the reflector list again."""
    with pytest.raises(msgspec.DecodeError):
        SERVICES.page(body)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-01-02T03:04:05Z", 1767323045.0), ("2026-01-02T04:04:05.5+01:00", 1767323045.5), (None, 0.0)],
)
def test_trigger_time(text: str | None, seconds: float) -> None:
    """The annotation has RFC 3339 form. Without the annotation, the trigger time is 0."""
    assert decoding.trigger_time({decoding.TRIGGER_TIME_ANNOTATION: text} if text else None) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-02T03:04:05"])
def test_a_trigger_time_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"time zone|format"):
        decoding.trigger_time({decoding.TRIGGER_TIME_ANNOTATION: text})
