"""The index: lists that replace its content, lookups after each change, and the dependencies that a
change invalidates.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from svcdns.cluster.changes import Begin, Complete, EncodedPut, Gone, Kind, Put, Serials
from svcdns.cluster.consistent_copy import ClusterCopy
from svcdns.cluster.index import SERIAL, SYNC, Index
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Pod, Port, Service


def synced(*kinds: Kind) -> Index:
    index = Index(kinds or (Kind.SERVICE,))
    for kind in kinds or (Kind.SERVICE,):
        index.apply(Complete(kind))
    return index


def test_an_encoded_object_is_applied_like_a_decoded_one() -> None:
    slice_ = EndpointSlice("n", "s", "Web", (Port("a", "TCP", 1),), (Endpoint("10.0.0.1"),))
    plain, encoded = synced(Kind.ENDPOINT_SLICE), synced(Kind.ENDPOINT_SLICE)
    message = msgspec.msgpack.encode(Put(slice_))
    change = msgspec.msgpack.decode(message, type=EncodedPut)
    assert encoded.apply(change) == plain.apply(Put(slice_))
    assert encoded.slices("n", "web") == (slice_,)
    assert encoded.apply(change) == plain.apply(Put(slice_)) == set()
    assert all(type(stored.data) is bytes for stored in encoded._objects[Kind.ENDPOINT_SLICE].values())


def test_is_synced_once_every_kind_is_listed() -> None:
    index = Index((Kind.SERVICE, Kind.NAMESPACE))
    assert index.apply(Complete(Kind.SERVICE)) == set()
    assert not index.synced
    assert index.apply(Complete(Kind.NAMESPACE)) == {SYNC}
    index.apply(Begin(Kind.SERVICE))
    assert index.synced


def test_a_relist_removes_objects_only_at_its_end() -> None:
    """An object that is missing in the new list stays until the message Complete."""
    index = synced()
    index.apply(Put(Service("n", "a", ("10.0.0.1",))))
    index.apply(Put(Service("n", "b", ("10.0.0.2",))))
    index.apply(Begin(Kind.SERVICE))
    assert index.apply(Put(Service("n", "a", ("10.0.0.1",)))) == set()
    assert index.service("n", "b") is not None
    assert index.apply(Complete(Kind.SERVICE)) == {("service", "n", "b"), ("address", "10.0.0.2")}
    assert index.service("n", "b") is None
    assert index.services_at("10.0.0.2") == ()


def test_names_are_compared_in_lower_case() -> None:
    index = synced()
    index.apply(Put(Service("NS", "Web")))
    index.apply(Put(EndpointSlice("NS", "s", "Web", (), (Endpoint("10.0.0.1"),))))
    assert index.service("ns", "web") is not None
    assert len(index.slices("ns", "web")) == 1
    index.apply(Gone(Kind.SERVICE, "ns", "WEB"))
    assert index.service("ns", "web") is None


def test_an_unchanged_object_affects_nothing() -> None:
    index = synced()
    slice_ = EndpointSlice("n", "s", "web", (Port("a", "TCP", 1),), (Endpoint("10.0.0.1"),))
    assert index.apply(Put(slice_))
    assert index.apply(Put(EndpointSlice("n", "s", "web", (Port("a", "TCP", 1),), (Endpoint("10.0.0.1"),)))) == set()


def test_a_slice_affects_its_service_and_the_addresses_that_changed() -> None:
    index = synced()
    index.apply(Put(EndpointSlice("n", "s", "web", (), (Endpoint("10.0.0.1"), Endpoint("10.0.0.2", "x")))))
    affected = index.apply(
        Put(EndpointSlice("n", "s", "web", (), (Endpoint("10.0.0.1"), Endpoint("10.0.0.2", "y"), Endpoint("10.0.0.3"))))
    )
    assert affected == {("endpoints", "n", "web"), ("address", "10.0.0.2"), ("address", "10.0.0.3")}


def test_the_order_of_endpoints_with_the_same_address() -> None:
    """The order decides which of their names comes first in replies about the address."""
    index = synced()
    first, named, other = Endpoint("10.0.0.2"), Endpoint("10.0.0.2", "h"), Endpoint("10.0.0.3")
    index.apply(Put(EndpointSlice("b", "s", "a", (), (first, named, other))))
    affected = index.apply(Put(EndpointSlice("b", "s", "a", (), (named, first, other))))
    assert affected == {("endpoints", "b", "a"), ("address", "10.0.0.2")}


def test_a_slice_that_moves_affects_both_services() -> None:
    index = synced()
    index.apply(Put(EndpointSlice("n", "s", "a", (), (Endpoint("10.0.0.1"),))))
    assert index.apply(Put(EndpointSlice("n", "s", "b", (), (Endpoint("10.0.0.1"),)))) == {
        ("endpoints", "n", "a"), ("endpoints", "n", "b"), ("address", "10.0.0.1"),
    }  # fmt: skip
    assert index.slices("n", "a") == ()
    assert [s.service for s in index.slices_at("10.0.0.1")] == ["b"]


def test_lookups_do_not_depend_on_the_order_of_events() -> None:
    slices = [EndpointSlice("n", name, "web", (), (Endpoint("10.0.0.1"),)) for name in "abc"]
    seen = []
    for order in (slices, slices[::-1]):
        index = synced()
        for slice_ in order:
            index.apply(Put(slice_))
        seen.append((index.slices("n", "web"), index.slices_at("10.0.0.1")))
    assert seen[0] == seen[1]


def test_pods_by_address() -> None:
    index = synced()
    index.apply(Put(Pod("n", "p", "10.0.0.1")))
    assert index.apply(Put(Pod("n", "p", "10.0.0.2"))) == {("pod", "10.0.0.1"), ("pod", "10.0.0.2")}
    assert index.pods_at("10.0.0.1") == ()
    assert [pod.name for pod in index.pods_at("10.0.0.2")] == ["p"]


def test_pods_with_several_addresses() -> None:
    """`pods_with` finds a Pod by each of its addresses, `pods_at` only by the primary address."""
    index = Index((Kind.POD,))
    index.apply(Put(Pod("n", "p", "10.0.0.1", ("fd00::1",))))
    assert [pod.name for pod in index.pods_with("fd00::1")] == ["p"]
    assert index.pods_at("fd00::1") == ()
    changed = index.apply(Put(Pod("n", "p", "10.0.0.1", ("fd00::2",), host_network=True)))
    assert changed == {("pod", "10.0.0.1"), ("pod", "fd00::1"), ("pod", "fd00::2")}
    assert index.pods_with("fd00::1") == ()
    assert index.pods_with("10.0.0.1") == index.pods_at("10.0.0.1") != ()


def test_labels_of_namespaces() -> None:
    index = Index((Kind.NAMESPACE,))
    index.apply(Put(Namespace("n", labels=(("a", "b"),))))
    assert index.namespace_labels("n") == {"a": "b"}
    assert index.apply(Put(Namespace("n"))) == {("namespace", "n")}
    assert index.namespace_labels("n") == index.namespace_labels("other") == {}


def test_objects_of_older_programs() -> None:
    """An object without the newer fields is decoded with the default values of these fields."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(("Pod", "n", "p", "10.0.0.1")), type=ClusterObject) == Pod(
        "n", "p", "10.0.0.1"
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(("Namespace", "n", "")), type=ClusterObject) == Namespace("n")
    older = msgspec.defstruct("Pod", ["namespace", "name", ("ip", str, "")], array_like=True, tag="Pod")
    encoded = msgspec.msgpack.encode(Pod("n", "p", "10.0.0.1", ("fd00::1",), host_network=True))
    assert msgspec.msgpack.decode(encoded, type=older) == older("n", "p", "10.0.0.1")


def test_namespaces_and_serials_are_dependencies() -> None:
    index = synced()
    assert index.apply(Put(Namespace("n"))) == {("namespace", "n")}
    assert index.has_namespace("n")
    assert index.apply(Serials(5, 6, 7)) == {SERIAL}
    assert index.apply(Serials(5, 6, 7)) == set()
    assert index.serials == Serials(5, 6, 7)


def test_services_are_found_by_external_address() -> None:
    index = synced()
    index.apply(Put(Service("n", "web", external_ips=("192.0.2.1", "lb.example."))))
    affected = index.apply(Put(Service("n", "web", external_ips=("192.0.2.2", "lb.example."))))
    assert affected == {
        ("service", "n", "web"),
        ("external", "192.0.2.1"),
        ("external", "192.0.2.2"),
        ("external", "lb.example."),
    }
    assert index.services_at_external("192.0.2.1") == ()
    assert [service.name for service in index.services_at_external("192.0.2.2")] == ["web"]
    index.apply(Gone(Kind.SERVICE, "n", "web"))
    assert index.services_at_external("192.0.2.2") == ()


def copy_of(index: Index) -> ClusterCopy:
    """Returns a copy of the index. No change happens during the copy."""
    found: list[ClusterCopy] = []

    def run() -> Iterator[tuple[()]]:
        found.append((yield from index.copy()))

    assert len(list(run())) <= 2
    return found[0]


def test_a_copy_is_of_one_moment() -> None:
    index = synced()
    slice_ = EndpointSlice("n", "s", "Web", (), (Endpoint("10.0.0.1"),))
    for item in (Namespace("n"), Service("n", "web"), slice_):
        index.apply(Put(item))
    copy = copy_of(index)
    index.apply(Gone(Kind.SERVICE, "n", "web"))
    index.apply(Gone(Kind.ENDPOINT_SLICE, "n", "s"))
    index.apply(Gone(Kind.NAMESPACE, "", "n"))
    assert list(copy.services) == [Service("n", "web")]
    assert (copy.namespaces, copy.slices) == ({"n"}, {("n", "web"): (slice_,)})
    assert [len(part) for part in copy_of(index)] == [0, 0, 0, 0, 0]


def test_addresses_with_a_common_beginning_are_distinguished() -> None:
    """Addresses share a key of the index if they differ only in their last two characters."""
    index = synced()
    texts = (
        "10.0.0.1",
        "10.0.0.11",
        "10.0.0.111",
        "10.0.0.2",
        "fd00::1",
        "fd00::11",
        "FD00::1",
        "::ffff:10.0.0.1",
        "host.example",
    )
    for number, text in enumerate(texts):
        index.apply(Put(EndpointSlice("n", f"s{number}", "web", (), (Endpoint(text, "10.0.0.9"),))))
        index.apply(Put(Service("n", f"v{number}", (text,))))
        index.apply(Put(Pod("n", f"p{number}", text)))
    for number, text in enumerate(texts):
        assert [found.name for found in index.slices_at(text)] == [f"s{number}"]
        assert [found.name for found in index.services_at(text)] == [f"v{number}"]
        assert [found.name for found in index.pods_at(text)] == [f"p{number}"]
    for text in ("10.0.0.9", "10.0.0.10", "fd00:0::1", "1", "", "None"):
        assert index.slices_at(text) == index.services_at(text) == index.pods_at(text) == ()


def test_an_address_of_many_slices() -> None:
    index = synced()
    expected = {f"s{number:03}" for number in range(200)}
    for name in sorted(expected, key=lambda name: name[::-1]):
        index.apply(Put(EndpointSlice("n", name, name, (), (Endpoint("10.0.0.1"), Endpoint("10.0.0.2")))))
    for name in sorted(expected)[::3]:
        assert index.apply(Put(EndpointSlice("n", name, name, (), (Endpoint("10.0.0.2"),)))) == {
            ("endpoints", "n", name), ("address", "10.0.0.1"),
        }  # fmt: skip
        expected.remove(name)
    index.apply(Gone(Kind.ENDPOINT_SLICE, "n", "s100"))
    assert [slice_.name for slice_ in index.slices_at("10.0.0.1")] == sorted(expected - {"s100"})
    assert len(index.slices_at("10.0.0.2")) == 199


def test_a_change_shows_in_every_lookup() -> None:
    index = synced()
    for number in (1, 2):
        index.apply(Put(EndpointSlice("n", "s", "web", (Port("p", "TCP", number),), (Endpoint("10.0.0.1"),))))
        index.apply(Put(Service("n", "web", ("10.0.0.1",), (Port("p", "TCP", number),), external_ips=("192.0.2.1",))))
        slices = index.slices("n", "web") + index.slices_at("10.0.0.1")
        services = index.services_at("10.0.0.1") + index.services_at_external("192.0.2.1")
        found: list[EndpointSlice | Service] = [*slices, *services]
        assert [port.number for item in found for port in item.ports] == [number] * 4
