"""A cluster view turns lists and watch events into differences."""

from __future__ import annotations

import msgspec

from svcdns.cluster.changes import Begin, Complete, Gone, Kind, Put, Serials
from svcdns.cluster.objects import EndpointSlice, Namespace, Service
from svcdns.control.cluster_view import ClusterView, ViewKey

WEB, API = Service("d", "web", ("10.0.0.1",)), Service("d", "api", ("10.0.0.2",))


def key(name: str, kind: Kind = Kind.SERVICE) -> ViewKey:
    """Returns the key of an object in view 7."""
    return ViewKey(7, kind, "d", name)


def view() -> ClusterView:
    """Returns a view at Unix time 1000."""
    return ClusterView(7, (Kind.SERVICE, Kind.ENDPOINT_SLICE), lambda: 1000.9)


STAMPED = Serials(ordinary=1000)


def test_a_first_list_is_a_difference_for_each_object() -> None:
    """The changes have the order of the list. The serials change once."""
    one = view()
    differences = [one.apply(change) for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE))]
    assert differences == [[], [key("web"), STAMPED], [key("api")], [Complete(Kind.SERVICE)]]
    assert one.object(key("web")) == WEB
    assert list(one.keys(Kind.SERVICE)) == [key("web"), key("api")]


def test_a_second_list_gives_only_differences() -> None:
    """Objects that are missing in the new list are removed when the list is complete."""
    one = view()
    for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE)):
        one.apply(change)
    changed = Service("d", "api", ("10.0.0.9",))
    differences = [one.apply(change) for change in (Begin(Kind.SERVICE), Put(changed), Complete(Kind.SERVICE))]
    assert differences == [[], [key("api")], [key("web")]]
    assert one.object(key("web")) is None
    assert one.object(key("api")) == changed


def test_nothing_is_removed_before_the_list_is_complete() -> None:
    one = view()
    for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE), Begin(Kind.SERVICE), Put(API)):
        one.apply(change)
    assert one.object(key("web")) == WEB


def test_watch_events() -> None:
    """`apply` returns the keys of changed objects. An event that changes nothing returns nothing."""
    one = view()
    assert one.apply(Put(WEB)) == [key("web"), STAMPED]
    assert one.apply(Put(WEB)) == []
    assert one.apply(Gone(Kind.SERVICE, "d", "web")) == [key("web")]
    assert one.apply(Gone(Kind.SERVICE, "d", "web")) == []


def test_changes_of_services_set_serials() -> None:
    """A change of a Namespace does not. Serials that come from the source are used unchanged."""
    one = view()
    assert one.apply(Put(Namespace("d"))) == [ViewKey(7, Kind.NAMESPACE, "", "d")]
    assert one.apply(Put(WEB))[-1] == STAMPED
    assert one.apply(Serials(5, 6, 7)) == [Serials(5, 6, 7)]
    assert one.serials == Serials(5, 6, 7)


def test_objects_are_stored_encoded() -> None:
    """A new worker gets the stored octets."""
    one = view()
    slice_ = EndpointSlice("d", "web-1", "web")
    one.apply(Put(slice_))
    data = one.encoded(key("web-1", Kind.ENDPOINT_SLICE))
    assert data is not None
    assert msgspec.msgpack.decode(data, type=EndpointSlice) == slice_


ENCODED = {
    Kind.SERVICE: {("d", item.name): msgspec.msgpack.encode(item) for item in (WEB, API)},
    Kind.ENDPOINT_SLICE: {},
}


def test_a_snapshot_fills_an_empty_view() -> None:
    """The view then has all objects, but its kinds do not count as listed. The first list sends only
    the differences.
    """
    one = view()
    restored = Serials(5, 6, 7)
    assert one.restore(ENCODED, restored) == [key("web"), key("api"), *map(Complete, one.kinds), restored]
    assert (one.is_whole, one.is_listed, one.changes, one.serials) == (True, False, 0, restored)
    changed = Service("d", "api", ("10.0.0.9",))
    differences = [one.apply(change) for change in (Begin(Kind.SERVICE), Put(changed), Complete(Kind.SERVICE))]
    assert differences == [[], [key("api")], [key("web"), Serials(1000, 6, 7)]]
    one.apply(Begin(Kind.ENDPOINT_SLICE))
    assert one.apply(Complete(Kind.ENDPOINT_SLICE)) == []
    assert one.is_listed
    assert one.changes == 2


def test_a_snapshot_never_replaces_an_object_of_the_source() -> None:
    """If a kind is listed, or its list is in progress, the snapshot does not change its objects."""
    one = view()
    changed = Service("d", "api", ("10.0.0.9",))
    one.apply(Begin(Kind.SERVICE))
    one.apply(Put(changed))
    assert one.restore(ENCODED, Serials()) == [key("web"), *map(Complete, one.kinds)]
    assert one.object(key("api")) == changed
    assert one.apply(Complete(Kind.SERVICE)) == [key("web")]
    assert one.restore(ENCODED, Serials()) == []
    assert list(one.keys(Kind.SERVICE)) == [key("api")]
