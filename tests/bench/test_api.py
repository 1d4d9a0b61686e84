"""The API server of the benches, read by the change source of svcdns."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from bench.cluster import Cluster, moved
from bench.processes import Helper

SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


@pytest.fixture(scope="module")
def api() -> Iterator[Helper]:
    """A running one."""
    made = Helper("bench.api", "--services", "30", "--endpoints", "2", cpus=sorted(os.sched_getaffinity(0)))
    yield made
    made.close()


def get(api: Helper, path: str) -> Any:
    """A page of it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{api.port}{path}", timeout=10) as response:
        return json.load(response)


def test_lists_come_in_pages(api: Helper) -> None:
    """Pages of one list have one version, and together every object once."""
    first = get(api, f"{SLICES}?limit=20")
    second = get(api, f"{SLICES}?limit=20&continue={first['metadata']['continue']}")
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert len({item["metadata"]["name"] for item in first["items"] + second["items"]}) == 30
    assert len(get(api, f"{SLICES}?limit=20&resourceVersion=0")["items"]) == 30


def test_a_watch_tells_a_change_and_ends_with_410(api: Helper) -> None:
    """From the list's version on: the event; after a relist, 410 in the stream and for who comes from before."""
    version = get(api, f"{SLICES}?limit=1&resourceVersion=0")["metadata"]["resourceVersion"]
    url = f"http://127.0.0.1:{api.port}{SLICES}?watch=true&resourceVersion={version}"
    [address] = api.ask("change 10")
    with urllib.request.urlopen(url, timeout=10) as stream:
        event = json.loads(stream.readline())
        assert event["object"]["endpoints"][0]["addresses"] == [address]
        assert api.ask("watches")["endpointslices"] == 1
        assert api.ask("relist") == 1
        assert json.loads(stream.readline())["object"]["code"] == 410
        assert stream.readline() == b""
    with pytest.raises(urllib.error.HTTPError, match="410"):
        urllib.request.urlopen(url, timeout=10)


def test_changes_are_counted(api: Helper) -> None:
    """A flood answers when all of it is done."""
    before = api.ask("changes")
    assert api.ask("flood 150") == 150
    assert api.ask("changes") == before + 150


def test_no_moved_address_is_an_endpoints() -> None:
    """So that a new answer cannot be mistaken for an old one."""
    cluster = Cluster(30, 2)
    assert moved(1) not in {pod for number in range(30) for pod in cluster.pods(number)}


@pytest.fixture
def broken() -> Iterator[Helper]:
    """One of a test's own, to break; it offers streamed lists."""
    made = Helper("bench.api", "--services", "30", "--endpoints", "2", "--streams", cpus=sorted(os.sched_getaffinity(0)))
    yield made
    made.close()


def status(api: Helper, timeout: float = 10) -> int:
    """Of the answer to a list; 0 for none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{api.port}{SLICES}?limit=1", timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@pytest.mark.parametrize(("fault", "met"), [("429", 429), ("401", 401), ("refused", 0), ("half-open", 0), ("cut", 200)])
def test_a_fault_lasts_until_it_is_mended(broken: Helper, fault: str, met: int) -> None:
    """Watches end at its beginning, or fall silent; a new connection is answered as ever at its end."""
    version = get(broken, f"{SLICES}?limit=1&resourceVersion=0")["metadata"]["resourceVersion"]
    url = f"http://127.0.0.1:{broken.port}{SLICES}?watch=true&resourceVersion={version}"
    with urllib.request.urlopen(url, timeout=0.3) as stream:
        assert broken.ask(f"break {fault}")
        assert broken.ask("watches")["endpointslices"] == 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert stream.readline() == b""
    assert status(broken, 0.3) == met
    address = broken.ask("mend 10")
    assert status(broken) == 200
    assert address in json.dumps(get(broken, f"{SLICES}?limit=30")["items"])


def test_a_streamed_list(broken: Helper) -> None:
    """All objects, a bookmark that says so, then changes."""
    url = f"http://127.0.0.1:{broken.port}{SLICES}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    with urllib.request.urlopen(url, timeout=10) as stream:
        events = [json.loads(stream.readline()) for _ in range(31)]
        assert [event["type"] for event in events] == ["ADDED"] * 30 + ["BOOKMARK"]
        assert {event["object"]["kind"] for event in events} == {"EndpointSlice"}
        assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        [address] = broken.ask("change 10")
        assert address in stream.readline().decode()
