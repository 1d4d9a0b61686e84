"""The API server that the bench uses."""

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
    made = Helper("bench.api", "--services", "30", "--endpoints", "2", cpus=sorted(os.sched_getaffinity(0)))
    yield made
    made.close()


def get(api: Helper, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{api.port}{path}", timeout=10) as response:
        return json.load(response)


def test_lists_come_in_pages(api: Helper) -> None:
    first = get(api, f"{SLICES}?limit=20")
    second = get(api, f"{SLICES}?limit=20&continue={first['metadata']['continue']}")
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert len({item["metadata"]["name"] for item in first["items"] + second["items"]}) == 30
    assert len(get(api, f"{SLICES}?limit=20&resourceVersion=0")["items"]) == 30


def test_a_watch_gets_changes_and_ends_with_410(api: Helper) -> None:
    """A relist ends the watch with status 410. A watch from an older version gets 410, too."""
    version = get(api, f"{SLICES}?limit=1&resourceVersion=0")["metadata"]["resourceVersion"]
    url = f"http://127.0.0.1:{api.port}{SLICES}?watch=true&resourceVersion={version}"
    [address] = api.request("change 10")
    with urllib.request.urlopen(url, timeout=10) as stream:
        event = json.loads(stream.readline())
        assert event["object"]["endpoints"][0]["addresses"] == [address]
        assert api.request("watches")["endpointslices"] == 1
        assert api.request("relist") == 1
        assert json.loads(stream.readline())["object"]["code"] == 410
        assert stream.readline() == b""
    with pytest.raises(urllib.error.HTTPError, match="410"):
        urllib.request.urlopen(url, timeout=10)


def test_flood_returns_after_all_changes(api: Helper) -> None:
    before = api.request("changes")
    assert api.request("flood 150") == 150
    assert api.request("changes") == before + 150


def test_a_new_address_is_not_that_of_another_endpoint() -> None:
    cluster = Cluster(30, 2)
    assert moved(1) not in {pod for number in range(30) for pod in cluster.pods(number)}


@pytest.fixture
def faulty_api() -> Iterator[Helper]:
    """An API server with streamed lists, for one test."""
    made = Helper(
        "bench.api", "--services", "30", "--endpoints", "2", "--streams", cpus=sorted(os.sched_getaffinity(0))
    )
    yield made
    made.close()


def status(api: Helper, timeout: float = 10) -> int:
    """Returns the HTTP status of a list request, or 0 without a response."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{api.port}{SLICES}?limit=1", timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("fault", "expected_status"), [("429", 429), ("401", 401), ("refused", 0), ("half-open", 0), ("cut", 200)]
)
def test_a_fault_lasts_until_repair(faulty_api: Helper, fault: str, expected_status: int) -> None:
    version = get(faulty_api, f"{SLICES}?limit=1&resourceVersion=0")["metadata"]["resourceVersion"]
    path = f"{SLICES}?watch=true&resourceVersion={version}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", faulty_api.port, timeout=20)) as connection:
        connection.request("GET", path)
        stream = connection.getresponse()
        assert faulty_api.request(f"break {fault}")
        assert faulty_api.request("watches")["endpointslices"] == 0
        if fault == "half-open":
            connection.sock.settimeout(0.3)
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert stream.readline() == b""
    assert status(faulty_api, 20 if expected_status else 0.3) == expected_status
    address = faulty_api.request("repair 10")
    assert status(faulty_api) == 200
    assert address in json.dumps(get(faulty_api, f"{SLICES}?limit=30")["items"])


def test_a_streamed_list_has_objects_a_bookmark_and_changes(faulty_api: Helper) -> None:
    url = f"http://127.0.0.1:{faulty_api.port}{SLICES}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    with urllib.request.urlopen(url, timeout=10) as stream:
        events = [json.loads(stream.readline()) for _ in range(31)]
        assert [event["type"] for event in events] == ["ADDED"] * 30 + ["BOOKMARK"]
        assert {event["object"]["kind"] for event in events} == {"EndpointSlice"}
        assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        [address] = faulty_api.request("change 10")
        assert address in stream.readline().decode()
