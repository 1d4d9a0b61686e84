"""Addresses of servers."""

from __future__ import annotations

import pytest

from svcdns.shadow.asking import address
from svcdns.shadow.errors import ShadowError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("dns.test", ("dns.test", 53)),
        ("dns.test:54", ("dns.test", 54)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "a:x", "a:0", ":53", "a:70000"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ShadowError, match="HOST:PORT"):
        address(text)
