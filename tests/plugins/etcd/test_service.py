"""The values of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugins.etcd.service import MAX_VALUE, Service, entry


@pytest.mark.parametrize(
    ("value", "service"),
    [
        pytest.param(
            '{"host":"a","port":1,"priority":2,"weight":3,"text":"t","mail":true,"ttl":4,"targetstrip":5,"group":"g"}',
            Service("a", 1, 2, 3, "t", True, 4, 5, "g"),
            id="all fields",
        ),
        pytest.param('{"HOST":"a","Ttl":4,"other":[1,{}]}', Service("a", ttl=4), id="letter case, unknown fields"),
        pytest.param('{"host":"a","host":null,"port":null}', Service(), id="null, and a field twice"),
        pytest.param("null", Service(), id="nothing"),
        pytest.param(' {"host" : "\\u00e4"} ', Service("ä"), id="white space and escapes"),
    ],
)
def test_reads_services(value: str, service: Service) -> None:
    found = entry(b"/skydns/a", value.encode(), 9)
    assert (found.key, found.service, found.lease, found.error) == ("/skydns/a", service, 9, "")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param(b"{", "invalid JSON: ", id="cut off"),
        pytest.param(b"[]", "a JSON object was expected", id="list"),
        pytest.param(b"", "invalid JSON: ", id="empty"),
        pytest.param(b'{"host":5}', "the field 'host' has a value of a wrong type", id="number for a text"),
        pytest.param(b'{"port":1.5}', "the field 'port' has a value of a wrong type", id="fraction"),
        pytest.param(b'{"mail":1}', "the field 'mail' has a value of a wrong type", id="number for a truth value"),
        pytest.param(b'{"port":true}', "the field 'port' has a value of a wrong type", id="truth value for a number"),
        pytest.param(b'{"ttl":-1}', "the field 'ttl' has a value of a wrong type", id="negative TTL"),
        pytest.param(b'{"ttl":4294967296}', "the field 'ttl' has a value of a wrong type", id="large TTL"),
        pytest.param(b"[" * 50000, "invalid JSON: ", id="deeply nested"),
        pytest.param(
            b" " * (MAX_VALUE + 1), f"the value has {MAX_VALUE + 1} octets; at most {MAX_VALUE} are", id="large"
        ),
    ],
)
def test_values_that_cannot_be_used(value: bytes, error: str) -> None:
    """The entry has the reason, and an empty service."""
    found = entry(b"k", value, 0)
    assert found.error.startswith(error)
    assert found.service == Service()


@given(st.binary(max_size=60))
def test_any_value_makes_an_entry(value: bytes) -> None:
    assert entry(value, value, 0).key == value.decode(errors="replace")
