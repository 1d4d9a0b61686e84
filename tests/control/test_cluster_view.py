"""What control knows of a cluster: lists become differences."""

from __future__ import annotations

import msgspec

from svcdns.cluster.changes import Begin, Complete, Gone, Kind, Put, Serials
from svcdns.cluster.objects import EndpointSlice, Namespace, Service
from svcdns.control.cluster_view import Key, View

WEB, API = Service("d", "web", ("10.0.0.1",)), Service("d", "api", ("10.0.0.2",))


def key(name: str, kind: Kind = Kind.SERVICE) -> Key:
    """An object's key in view 7."""
    return Key(7, kind, "d", name)


def view() -> View:
    """A view at Unix time 1000."""
    return View(7, (Kind.SERVICE, Kind.ENDPOINT_SLICE), lambda: 1000.9)


def test_a_first_list_tells_every_object_and_its_end() -> None:
    """In the order it came."""
    one = view()
    told = [one.take(change) for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE))]
    assert told == [[], [key("web")], [key("api")], [Complete(Kind.SERVICE)]]
    assert one.object(key("web")) == WEB
    assert list(one.keys(Kind.SERVICE)) == [key("web"), key("api")]


def test_a_relist_tells_differences_alone() -> None:
    """What is as it was is no change; what the list does not name is gone; its end is told once."""
    one = view()
    for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE)):
        one.take(change)
    changed = Service("d", "api", ("10.0.0.9",))
    told = [one.take(change) for change in (Begin(Kind.SERVICE), Put(changed), Complete(Kind.SERVICE))]
    assert told == [[], [key("api")], [key("web")]]
    assert one.object(key("web")) is None
    assert one.object(key("api")) == changed


def test_nothing_is_taken_back_before_the_list_is_through() -> None:
    """A relist that breaks off in its middle changes nothing."""
    one = view()
    for change in (Begin(Kind.SERVICE), Put(WEB), Put(API), Complete(Kind.SERVICE), Begin(Kind.SERVICE), Put(API)):
        one.take(change)
    assert one.object(key("web")) == WEB


def test_watch_events() -> None:
    """One that changes nothing is told to nobody."""
    one = view()
    assert one.take(Put(WEB)) == [key("web")]
    assert one.take(Put(WEB)) == []
    assert one.take(Gone(Kind.SERVICE, "d", "web")) == [key("web")]
    assert one.take(Gone(Kind.SERVICE, "d", "web")) == []


def test_serials_are_stamped_with_changes() -> None:
    """Those that the kind of the object moves; a slice of a new object, as CoreDNS does."""
    one = view()
    one.take(Put(Namespace("d")))
    before = one.serials
    one.take(Put(WEB))
    assert one.serials.ordinary == 1000
    assert before == Serials() or before.ordinary <= 1000
    one.take(Serials(5, 6, 7))
    assert one.serials == Serials(5, 6, 7)


def test_objects_are_kept_encoded() -> None:
    """So that a worker that starts can be told all without encoding again."""
    one = view()
    slice_ = EndpointSlice("d", "web-1", "web")
    one.take(Put(slice_))
    data = one.encoded(key("web-1", Kind.ENDPOINT_SLICE))
    assert data is not None
    assert msgspec.msgpack.decode(data, type=EndpointSlice) == slice_


ENCODED = {Kind.SERVICE: {("d", item.name): msgspec.msgpack.encode(item) for item in (WEB, API)}, Kind.ENDPOINT_SLICE: {}}


def test_a_snapshot_fills_an_empty_view() -> None:
    """It is known whole then, and not listed; the first list is told as differences, and its end to nobody."""
    one = view()
    assert one.restore(ENCODED, Serials(5, 6, 7)) == [key("web"), key("api"), *map(Complete, one.kinds)]
    assert (one.is_whole, one.is_listed, one.changes, one.serials) == (True, False, 0, Serials(5, 6, 7))
    changed = Service("d", "api", ("10.0.0.9",))
    told = [one.take(change) for change in (Begin(Kind.SERVICE), Put(changed), Complete(Kind.SERVICE))]
    assert told == [[], [key("api")], [key("web")]]
    one.take(Begin(Kind.ENDPOINT_SLICE))
    assert one.take(Complete(Kind.ENDPOINT_SLICE)) == []
    assert one.is_listed
    assert one.changes == 2


def test_a_snapshot_never_takes_the_place_of_what_the_source_said() -> None:
    """Of a kind that is listed nothing is taken; in the middle of a list what that has not named yet, which goes if it does not."""
    one = view()
    changed = Service("d", "api", ("10.0.0.9",))
    one.take(Begin(Kind.SERVICE))
    one.take(Put(changed))
    assert one.restore(ENCODED, Serials()) == [key("web"), *map(Complete, one.kinds)]
    assert one.object(key("api")) == changed
    assert one.take(Complete(Kind.SERVICE)) == [key("web")]
    assert one.restore(ENCODED, Serials()) == []
    assert list(one.keys(Kind.SERVICE)) == [key("api")]
