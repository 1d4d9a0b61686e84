"""Reading the arguments of directives: numbers, durations, addresses and zones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Position, Token
from svcdns.corefile.errors import CorefileError
from tests.support import world


def token(text: str) -> Token:
    return Token(text, Position("Corefile", 3, 7))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("2h45m", 9900.0),
        ("300ms", 0.3),
        ("1.5h", 5400.0),
        ("0", 0.0),
        ("-5s", -5.0),
        ("10us", 1e-5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations have Go's notation."""
    assert arguments.duration(token(text)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        pytest.param(
            arguments.duration,
            "30",
            "'30' is not a duration; a number with a unit such as 30s, 5m or 300ms was expected",
            id="bare",
        ),
        pytest.param(
            arguments.duration,
            "5x",
            "'5x' is not a duration; a number with a unit such as 30s, 5m or 300ms was expected",
            id="unit",
        ),
        pytest.param(arguments.integer, "x", "'x' is not a whole number", id="integer"),
        pytest.param(lambda t: arguments.integer(t, 1, 5), "6", "6 is out of range; 1 to 5 was expected", id="range"),
        pytest.param(
            lambda t: arguments.one_of(t, ("a", "b")), "c", "'c' is unknown; one of a, b was expected", id="choice"
        ),
        pytest.param(
            arguments.host_port, "80", "'80' is not an address; HOST:PORT or :PORT was expected", id="no colon"
        ),
        pytest.param(
            arguments.host_port, "::1:80", "'::1:80' is not an address; HOST:PORT or :PORT was expected", id="IPv6 bare"
        ),
    ],
)
def test_errors_point_at_the_word(read: Callable[[Token], Any], text: str, message: str) -> None:
    """An error has the position, the text found and the text expected."""
    with pytest.raises(CorefileError) as caught:
        read(token(text))
    assert str(caught.value) == f"Corefile:3:7 - Error during parsing: {message}"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", ("", 8080)),
        ("127.0.0.1:53", ("127.0.0.1", 53)),
        ("[::1]:53", ("::1", 53)),
        ("localhost:1", ("localhost", 1)),
        ("localhost:", ("localhost", 0)),
        (":", ("", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert arguments.host_port(token(text)) == address


def test_invalid_zones_are_skipped() -> None:
    """docs/behaviour/corefile.md#set-up-rules has the rule."""
    assert arguments.zones([token("A.org"), token("a..b"), token("10.0.0.0/8")]) == ("a.org.", "10.in-addr.arpa.")
    assert arguments.zones([], ("x.",)) == ("x.",)


def test_the_nearest_name_is_suggested() -> None:
    assert arguments.nearest("fallthru", ("fallthrough", "ttl")) == " (did you mean 'fallthrough'?)"
    assert arguments.nearest("zzz", ("fallthrough", "ttl")) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Example.org", "example.org.", id="a name"),
        pytest.param("10.0.0.0/8", "10.in-addr.arpa.", id="a network of one zone"),
    ],
)
def test_one_zone(text: str, expected: str) -> None:
    assert arguments.zone(token(text)) == expected


@pytest.mark.parametrize("text", ["exa..mple", "10.0.0.0/12"])
def test_an_argument_that_is_not_exactly_one_zone_is_an_error(text: str) -> None:
    with pytest.raises(CorefileError, match=f"'{text}' is not a zone; one zone name was expected"):
        arguments.zone(token(text))


ON_ONE_LINE = [
    pytest.param("forward", "forward . ::1 {\n%s\n}", "max_fails 3 expire 5s policy sequential", id="forward"),
    pytest.param("forward", "forward . ::1 { %s }", "max_fails 3 expire 5s", id="forward, all on one line"),
    pytest.param("errors", "errors {\n%s\n}", 'stacktrace consolidate 5m ".*"', id="errors"),
    pytest.param("dns64", "dns64 {\n%s\n}", "prefix 64:ff9b::/96 translate_all allow_ipv4", id="dns64"),
    pytest.param("hosts", "hosts {\n%s\n}", "no_reverse ttl 7", id="hosts"),
    pytest.param("template", "template IN A {\n%s\n}", "rcode NXDOMAIN fallthrough", id="template"),
    pytest.param("file", "file db {\n%s\n}", "reload_by_mtime reload 7s", id="file"),
]


@pytest.mark.parametrize(("plugin", "block", "line"), ON_ONE_LINE)
def test_options_on_one_line(plugin: str, block: str, line: str) -> None:
    """As in CoreDNS, an option with a fixed number of words may be followed by another option."""
    names = ("expire", "policy", "consolidate", "translate_all", "allow_ipv4", "ttl", "fallthrough", "reload")
    lines = line
    for name in names:
        lines = lines.replace(f" {name}", f"\n{name}")
    assert world.options(plugin, block % line) == world.options(plugin, block % lines)


@pytest.mark.parametrize(
    ("plugin", "text", "message"),
    [
        ("forward", "forward . ::1 {\n max_fails 3 x\n}", "3:14 unknown property 'x'"),
        ("errors", "errors {\n stacktrace x\n}", "3:13 unknown property 'x'"),
        ("hosts", "hosts {\n no_reverse fallthrough a\n 192.0.2.1 x\n}", "4:2 unknown property '192.0.2.1'"),
    ],
)
def test_an_unknown_word_after_an_option_is_an_error(plugin: str, text: str, message: str) -> None:
    assert world.rejection(plugin, text).startswith(message)


@pytest.mark.parametrize(
    ("plugin", "text", "warning"),
    [
        ("kubernetes", "kubernetes a {\n ttl 30 60\n}", "3:9 - '60' behind 'ttl' is ignored"),
        ("kubernetes", "kubernetes a {\n startup_timeout 5s 6s\n}", "3:21 - '6s' behind 'startup_timeout' is ignored"),
        ("cache", "cache 30 {\n success 1 2 3 4\n}", "3:16 - '4' behind 'success' is ignored"),
        ("hosts", "hosts {\n ttl 5 6\n}", "3:8 - '6' behind 'ttl' is ignored"),
        ("hosts", "hosts h a..b a", "2:9 - 'a..b' is not a zone and is ignored"),
        ("cache", "cache 30 {$UNSET}", "2:10 - '' is not a zone and is ignored; no zone is left"),
        ("cache", "cache {\n disable success a..b\n}", "3:18 - 'a..b' is not a zone and is ignored; no zone is left"),
        ("kubernetes", "kubernetes a {$UNSET}", "2:14 - '' is not a zone and is ignored"),
        ("kubernetes", "kubernetes a {\n fallthrough a..b b\n}", "3:14 - 'a..b' is not a zone and is ignored"),
        ("log", "log a a..b", "2:7 - 'a..b' is not a zone and is ignored"),
        ("acl", "acl {$UNSET} {\n block\n}", "2:5 - '' is not a zone and is ignored; no zone is left"),
        (
            "forward",
            "forward . 1.1.1.1 {\n except {$UNSET} b\n}",
            "3:9 - '' is not a zone and is ignored",
        ),
        ("autopath", "autopath a..b a resolv.conf", "2:10 - 'a..b' is not a zone and is ignored"),
        ("autopath", "autopath {$UNSET} @kubernetes", "2:10 - '' is not a zone and is ignored; no zone is left"),
        (
            "template",
            "template IN A {\n fallthrough {$UNSET}\n}",
            "3:14 - '' is not a zone and is ignored; no zone is left",
        ),
        ("transfer", "transfer a {$UNSET} {\n to *\n}", "2:12 - '' is not a zone and is ignored"),
        ("file", "file db {\n fallthrough {$UNSET}\n}", "3:14 - '' is not a zone and is ignored; no zone is left"),
        ("file", "file db {\n reload 5s 6s\n}", "3:12 - '6s' behind 'reload' is ignored"),
        ("reload", "reload 9s {\n x\n}", "2:1 - the block of 'reload' is ignored"),
        ("bufsize", "bufsize 512 {\n}", "2:1 - the block of 'bufsize' is ignored"),
        ("chaos", "chaos a {\n}", "2:1 - the block of 'chaos' is ignored"),
    ],
)
def test_ignored_words_are_warnings(plugin: str, text: str, warning: str) -> None:
    module = importlib.import_module(f"svcdns.plugins.{plugin}")
    assert module.PLUGIN.settings(world.options(plugin, text)).warnings == (f"Corefile:{warning}",)


@pytest.mark.parametrize("text", ["1_0", "0x1", "", "1.0", "ä"])
def test_numbers_are_written_as_in_go(text: str) -> None:
    """A number has only decimal digits and a sign."""
    with pytest.raises(CorefileError, match="is not a whole number"):
        arguments.integer(token(text))
    assert arguments.integer(token("+5")) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("192.0.2.1:", ("192.0.2.1", 53)),
        ("2001:DB8:0::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
        ("fe80::1%eth0", ("fe80::1", 53)),
    ],
)
def test_addresses_of_name_servers(text: str, expected: tuple[str, int]) -> None:
    assert arguments.server_address(token(text), 1) == expected


@pytest.mark.parametrize("text", ["ns.example", "192.0.2.1:0", "192.0.2.1:65536", "[2001:db8::1]:x", "[x]:53", ""])
def test_texts_that_are_no_addresses_of_name_servers(text: str) -> None:
    with pytest.raises(CorefileError, match=r"is not an IP address|is not a port; 1 to 65535 was expected"):
        arguments.server_address(token(text), 1)
