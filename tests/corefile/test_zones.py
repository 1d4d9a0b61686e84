"""Zone names and CIDRs in server block keys (docs/behaviour/corefile.md#server-block-keys)."""

from __future__ import annotations

import pytest

from svcdns.corefile.errors import ZoneError
from svcdns.corefile.zones import is_reverse, normalise_argument, normalise_zone


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        pytest.param("Example.ORG", ("example.org.",), id="name"),
        pytest.param(".", (".",), id="root"),
        pytest.param("10.0.0.0/24", ("0.0.10.in-addr.arpa.",), id="on the boundary"),
        pytest.param("10.1.2.3/8", ("10.in-addr.arpa.",), id="host bits masked"),
        pytest.param("10.0.0.0/23", ("0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa."), id="two zones"),
        pytest.param("2001:db8::/32", ("8.b.d.0.1.0.0.2.ip6.arpa.",), id="IPv6"),
        pytest.param(
            "2001:db8::/31", ("8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."), id="IPv6 off the boundary"
        ),
    ],
)
def test_zones_are_in_lower_case_and_networks_become_reverse_zones(text: str, zones: tuple[str, ...]) -> None:
    assert normalise_zone(text) == zones


def test_a_zone_of_rfc_2317_is_a_name() -> None:
    """The name of a zone of RFC 2317 contains a slash, although it is not a network."""
    assert normalise_zone("32/27.2.0.192.in-addr.arpa") == ("32/27.2.0.192.in-addr.arpa.",)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0/8", "a/b"])
def test_other_words_with_a_slash_are_names(text: str) -> None:
    """As in CoreDNS, a word with a slash is a name if it is not a network."""
    assert normalise_zone(text) == (f"{text}.",)


@pytest.mark.parametrize("text", ["a.test", "a.test:53", "dns://a.test", "tls://A.test:853", "a.test.:053"])
def test_an_argument_may_be_a_whole_key(text: str) -> None:
    assert normalise_argument(text) == ("a.test.",)


def test_a_network_may_become_many_zones() -> None:
    assert (len(normalise_zone("10.0.0.0/20")), len(normalise_zone("10.0.0.0/27"))) == (16, 32)


@pytest.mark.parametrize("text", ["a..b", "::/0", ""])
def test_refuses_text_that_is_neither_a_name_nor_a_network(text: str) -> None:
    with pytest.raises(ZoneError):
        normalise_zone(text)


def test_reverse_zones_are_below_the_arpa_zones() -> None:
    zones = ("10.in-addr.arpa.", "1.ip6.arpa.", "in-addr.arpa.", "arpa.", "x-in-addr.arpa.")
    assert [is_reverse(zone) for zone in zones] == [True, True, False, False, False]
